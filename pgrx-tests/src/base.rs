//! The folder that clusters and their template lie in.
//!
//! It is `target/clusters` of the workspace when the server's user can work there. A checkout below a private home is
//! closed to `postgres`; then it is a folder of `/var/tmp` with the workspace's own name.

use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::environment::{BadEnvironment, OsUser, workspace};

/// Returns the folder for clusters, made and writable for `user`.
pub(crate) fn folder(user: OsUser) -> Result<PathBuf> {
    let near = workspace().join("target/clusters");
    if make(&near, user).is_ok() && user.can("-w", &near)? && user.can("-x", &near)? {
        return Ok(near);
    }
    let far = fallback();
    make(&far, user).map_err(|e| {
        BadEnvironment(format!(
            "no folder for clusters, neither {} nor {}: {e:#}",
            near.display(),
            far.display()
        ))
    })?;
    Ok(far)
}

/// Takes the lock of `base`; it is given back when the file is dropped, also by a crash.
pub(crate) fn lock(base: &Path) -> Result<File> {
    let path = base.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Makes a folder of mode 0755 that belongs to `user`. An existing one is taken only from `user` or from ourselves: a
/// stranger may have put one in `/var/tmp` before us.
fn make(path: &Path, user: OsUser) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o755).create(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e.into()),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let us = rustix::process::geteuid().as_raw();
    let trusted = match user {
        OsUser::Ourselves => found.uid() == us,
        OsUser::Postgres { uid, .. } => found.uid() == us || found.uid() == uid,
    };
    anyhow::ensure!(
        found.is_dir() && trusted,
        "{} exists and belongs to somebody else: remove it",
        path.display()
    );
    user.own(path)
}

fn fallback() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    workspace().hash(&mut hasher);
    rustix::process::geteuid().as_raw().hash(&mut hasher);
    PathBuf::from(format!("/var/tmp/zeroauth-audit-{:016x}", hasher.finish()))
}
