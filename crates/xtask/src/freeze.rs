//! `cargo xtask freeze`: the install script of this version, kept as the one that was released.
//!
//! It is what people have installed from then on, and what tests upgrade from; so it never changes again. What the schema becomes
//! afterwards is another version, with an upgrade script from this one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use zeroauth_audit_tests::workspace;

use crate::setup::build::VERSION;
use crate::setup::script;

/// What came of freezing.
#[derive(Debug, PartialEq, Eq)]
enum Frozen {
    /// It is now.
    New,
    /// It was, and nothing has changed since.
    Before,
}

/// Freezes the version in Cargo.toml.
pub(crate) fn run() -> Result<ExitCode> {
    let (frozen, path) = freeze(&workspace(), VERSION)?;
    let path = path.strip_prefix(workspace()).unwrap_or(&path).display();
    match frozen {
        Frozen::New => println!("{VERSION} is frozen: commit {path}. It never changes again."),
        Frozen::Before => println!("{VERSION} was frozen before, and {path} is what this checkout makes."),
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the install script of the workspace `root` as that of `version`. An error if there is another one already.
fn freeze(root: &Path, version: &str) -> Result<(Frozen, PathBuf)> {
    ensure!(
        script::control_file(root, version)?.contains(&format!("default_version = '{version}'")),
        "zeroauth_audit.control has a version of its own: default_version must be '@CARGO_VERSION@'"
    );
    let script = script::install_script(root)?;
    let path = script::releases(root).join(script::install_script_name(version));
    match fs::read_to_string(&path) {
        Ok(frozen) if frozen == script => return Ok((Frozen::Before, path)),
        Ok(_) => bail!(
            "{} was released, and sql/schema makes another script now: raise the version in Cargo.toml, and write \
             sql/zeroauth_audit--{version}--NEW.sql for those who have {version}",
            path.display()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    fs::create_dir_all(script::releases(root)).context("cannot make sql/releases")?;
    // Under another name first: half a script would be taken for the released one.
    let draft = path.with_extension("draft");
    fs::write(&draft, script).with_context(|| format!("cannot write {}", draft.display()))?;
    fs::rename(&draft, &path).with_context(|| format!("cannot rename {}", draft.display()))?;
    Ok((Frozen::New, path))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tempfile::TempDir;

    use super::*;

    /// What freezing reads, in a folder of its own.
    fn copy() -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("src")).unwrap();
        fs::create_dir(copy.path().join("sql")).unwrap();
        for part in ["zeroauth_audit.control", "src/lib.rs", "sql/schema"] {
            let copied =
                Command::new("cp").arg("-r").arg(workspace().join(part)).arg(copy.path().join(part)).status();
            assert!(copied.unwrap().success(), "{part}");
        }
        copy
    }

    fn change_the_schema(root: &Path) {
        let file = root.join("sql/schema/verify/verify.sql");
        let changed =
            fs::read_to_string(&file).unwrap() + "\nCREATE VIEW @extschema@.audit_more AS SELECT 1;\n";
        fs::write(&file, changed).unwrap();
    }

    #[test]
    fn what_is_frozen_is_the_script_of_the_build_and_stays() {
        let root = copy();
        let (frozen, path) = freeze(root.path(), "0.1.0").unwrap();
        assert_eq!(frozen, Frozen::New);
        assert_eq!(path, root.path().join("sql/releases/zeroauth_audit--0.1.0.sql"));
        let script = fs::read_to_string(&path).unwrap();
        assert_eq!(script, script::install_script(&workspace()).unwrap());
        assert_eq!(freeze(root.path(), "0.1.0").unwrap().0, Frozen::Before);
        assert_eq!(script::released_scripts(root.path()).unwrap(), [path]);
    }

    #[test]
    fn a_released_script_is_never_written_over_and_the_next_version_stands_beside_it() {
        let root = copy();
        let (_, path) = freeze(root.path(), "0.1.0").unwrap();
        let released = fs::read_to_string(&path).unwrap();
        change_the_schema(root.path());
        let error = freeze(root.path(), "0.1.0").unwrap_err().to_string();
        assert!(error.contains("sql/zeroauth_audit--0.1.0--NEW.sql"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), released);

        let (frozen, next) = freeze(root.path(), "0.2.0").unwrap();
        assert_eq!(frozen, Frozen::New);
        assert!(fs::read_to_string(&next).unwrap().contains("audit_more"));
        assert_eq!(fs::read_to_string(&path).unwrap(), released);
        assert_eq!(script::released_scripts(root.path()).unwrap(), [path, next]);
    }

    #[test]
    fn a_control_file_with_a_version_of_its_own_is_refused() {
        let root = copy();
        let control = root.path().join("zeroauth_audit.control");
        let text = fs::read_to_string(&control).unwrap().replace("@CARGO_VERSION@", "9");
        fs::write(&control, text).unwrap();
        assert!(freeze(root.path(), "0.1.0").unwrap_err().to_string().contains("@CARGO_VERSION@"));
        assert!(!script::releases(root.path()).exists());
    }

    /// Whoever changes the schema of a released version without raising it learns of it here.
    #[test]
    fn the_schema_of_this_checkout_is_that_of_its_version_once_it_is_released() {
        let path = script::releases(&workspace()).join(script::install_script_name(VERSION));
        if path.exists() {
            assert_eq!(freeze(&workspace(), VERSION).unwrap().0, Frozen::Before);
        }
    }
}
