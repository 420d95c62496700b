//! Clusters that outlive the process that made them: found again by their folder, and ended from another process.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::process::Signal;

use crate::cluster::remove;
use crate::environment::OsUser;
use crate::{base, postmaster};

/// The folder that clusters lie in; a cluster to be kept gets a name of its own choice in it.
pub fn clusters_folder() -> Result<PathBuf> {
    base::folder(OsUser::current()?)
}

/// Whether the server of the cluster in `home` runs.
#[must_use]
pub fn is_running(home: &Path) -> bool {
    postmaster::pid_of(&home.join("data")).is_some()
}

/// Stops the cluster that was made with `home` and kept, and removes its folders. Returns whether one was running.
pub fn stop_kept(home: &Path) -> Result<bool> {
    let data = home.join("data");
    let pid = postmaster::pid_of(&data);
    if let Some(pid) = pid {
        postmaster::stop(pid, &data, Signal::INT)?;
    }
    if let Some(sockets) = sockets_of(home) {
        remove(&sockets);
    }
    if home.exists() {
        remove(home);
        anyhow::ensure!(!home.exists(), "cannot remove {}", home.display());
    }
    Ok(pid.is_some())
}

/// The socket folder that the link in `home` names, if it is one of ours: the server's user could have made the link name
/// any folder, and root removes what it names.
pub(crate) fn sockets_of(home: &Path) -> Option<PathBuf> {
    let sockets = fs::read_link(home.join("socket")).ok()?;
    let name = sockets.strip_prefix("/tmp").ok()?.to_str()?;
    (name.starts_with("zaa-") && !name.contains('/')).then_some(sockets)
}
