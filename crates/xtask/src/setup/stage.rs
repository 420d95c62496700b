//! From the package to `target/stage`, which clusters load the extension from.
//!
//! A running server may have the library mapped, so a file is replaced by a rename and never written over. Whoever holds
//! `target/setup.lock` owns the folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use zeroauth_audit_tests::{Installation, workspace};

use super::script;

/// Makes `target/stage` equal to the package and the install scripts of released versions, from which tests upgrade.
pub(crate) fn publish(package: &Path, installation: &Installation) -> Result<()> {
    let stage = workspace().join("target/stage");
    let mut wanted = Vec::new();
    for source in files_below(package)? {
        let below = source.strip_prefix(package)?.to_path_buf();
        wanted.push((source, below));
    }
    let extensions =
        installation.sharedir.strip_prefix("/").unwrap_or(&installation.sharedir).join("extension");
    for source in script::released_scripts(&workspace())? {
        let below = extensions.join(source.file_name().context("a script without a name")?);
        // That of the present version comes from the build, also once it is released.
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
