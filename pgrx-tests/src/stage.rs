//! The staged extension: the files of an installation, in a folder of their own instead of under `/usr`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::environment::{BadEnvironment, OsUser, workspace};
use crate::installation::Installation;
use crate::postmaster::run;

/// Where the staged extension is: `ZEROAUTH_AUDIT_STAGE`, else `target/stage` of the workspace.
#[must_use]
pub fn staged_folder() -> PathBuf {
    env::var_os("ZEROAUTH_AUDIT_STAGE").map_or_else(|| workspace().join("target/stage"), PathBuf::from)
}

/// The folder `stage` as the server's user can read it: itself, or a copy in `home` when it is closed to that user. None when
/// nothing is staged there.
pub(crate) fn readable(
    stage: PathBuf,
    home: &Path,
    user: OsUser,
    installation: &Installation,
) -> Result<Option<PathBuf>> {
    if !library(&stage, installation).exists() {
        return Ok(None);
    }
    if user.can("-r", &library(&stage, installation))? {
        return Ok(Some(stage));
    }
    let copy = home.join("stage");
    run(
        Command::new("cp").args(["-r", "--no-preserve=mode,ownership"]).arg(&stage).arg(&copy),
        "copy of the staged extension",
    )?;
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&copy), "chmod of the staged extension")?;
    Ok(Some(copy))
}

/// The error for a cluster that needs the extension while none is staged.
pub(crate) fn missing() -> BadEnvironment {
    BadEnvironment(format!(
        "the extension is not staged in {}: run cargo xtask setup",
        staged_folder().display()
    ))
}

/// The folder of libraries inside a stage.
pub(crate) fn library_folder(stage: &Path, installation: &Installation) -> PathBuf {
    below(stage, &installation.pkglibdir)
}

/// Where a stage has what an installation has in `folder`.
pub(crate) fn below(stage: &Path, folder: &Path) -> PathBuf {
    stage.join(folder.strip_prefix("/").unwrap_or(folder))
}

fn library(stage: &Path, installation: &Installation) -> PathBuf {
    library_folder(stage, installation).join("zeroauth_audit.so")
}
