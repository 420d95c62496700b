//! The demo's folder: one per workspace, so that `stop` finds what `demo --keep` left.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use zeroauth_audit_tests::{clusters_folder, is_running, stop_kept};

use crate::failure;

/// The folder, held for one demo. Dropping it lets the next demo in; it removes nothing.
pub(crate) struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes a file in the demo's folder that nobody but its owner can read.
pub(crate) fn secret(folder: &Path, name: &str, content: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, format!("{content}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

/// Takes the folder for a new demo. What an interrupted one left is removed; a running one is an error.
pub(crate) fn claim() -> Result<Home> {
    let (path, lock) = locked()?;
    if is_running(&path) {
        return Err(failure::environment("a demo is already running: cargo xtask stop ends it"));
    }
    if path.exists() {
        if !path.join("data/PG_VERSION").exists() && !path.join("socket").is_symlink() && !is_empty(&path) {
            return Err(failure::environment(format!("{} is not a demo's: move it away", path.display())));
        }
        stop_kept(&path)?;
    }
    Ok(Home { path, _lock: lock })
}

/// Stops and removes a kept demo; returns whether one was running.
pub(crate) fn stop() -> Result<bool> {
    let (path, _lock) = locked()?;
    stop_kept(&path)
}

fn locked() -> Result<(PathBuf, File)> {
    let folder = clusters_folder()?;
    let file = folder.join("demo.lock");
    let lock = File::create(&file).with_context(|| format!("cannot write {}", file.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok((folder.join("demo"), lock)),
        Err(TryLockError::WouldBlock) => {
            Err(failure::environment("a demo is being run right now: wait for it, or end it with Ctrl-C"))
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", file.display()))
        }
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}
