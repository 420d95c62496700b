//! From the package to `target/stage`, which clusters load the extension from.
//!
//! A running server may have the library mapped, so a file is replaced by a rename and never written over. Whoever holds
//! `target/setup.lock` owns the folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use zeroauth_audit_tests::{Installation, workspace};

/// Makes `target/stage` equal to the package and the SQL scripts that pgrx does not package.
pub(crate) fn publish(package: &Path, installation: &Installation) -> Result<()> {
    let stage = workspace().join("target/stage");
    let mut wanted = Vec::new();
    for source in files_below(package)? {
        let below = source.strip_prefix(package)?.to_path_buf();
        wanted.push((source, below));
    }
    let extensions =
        installation.sharedir.strip_prefix("/").unwrap_or(&installation.sharedir).join("extension");
    for source in scripts()? {
        let name = source.file_name().context("a script without a name")?;
        let below = extensions.join(name);
        // The newest install script comes from the build, also if a frozen one of the same version exists.
        if !wanted.iter().any(|(_, known)| *known == below) {
            wanted.push((source, below));
        }
    }
    for (source, below) in &wanted {
        replace(source, &stage.join(below))?;
    }
    let keep: BTreeSet<PathBuf> = wanted.into_iter().map(|(_, below)| stage.join(below)).collect();
    for file in files_below(&stage)? {
        if !keep.contains(&file) {
            fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
    }
    Ok(())
}

/// Upgrade scripts in sql/, and install scripts of released versions in sql/install/.
fn scripts() -> Result<Vec<PathBuf>> {
    let sql = workspace().join("sql");
    let mut found = Vec::new();
    for folder in [sql.clone(), sql.join("install")] {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_script(&name) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// `zeroauth_audit--A--B.sql` or `zeroauth_audit--A.sql`.
fn is_script(name: &str) -> bool {
    name.strip_prefix("zeroauth_audit--").and_then(|rest| rest.strip_suffix(".sql")).is_some_and(|versions| {
        !versions.is_empty() && versions.split("--").all(|version| !version.is_empty())
    })
}

fn replace(source: &Path, destination: &Path) -> Result<()> {
    let new = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    if fs::read(destination).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let folder = destination.parent().context("a staged file without a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let draft = destination.with_extension("draft");
    fs::write(&draft, new).with_context(|| format!("cannot write {}", draft.display()))?;
    fs::rename(&draft, destination).with_context(|| format!("cannot replace {}", destination.display()))
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::is_script;

    #[test]
    fn only_versioned_scripts_of_the_extension_are_staged() {
        assert!(is_script("zeroauth_audit--0.1.0--0.2.0.sql"));
        assert!(is_script("zeroauth_audit--0.1.0.sql"));
        for other in ["zeroauth_audit.sql", "zeroauth_audit--.sql", "zeroauth_audit--1--.sql", "other--1.sql"]
        {
            assert!(!is_script(other), "{other}");
        }
    }
}
