//! Removing what a killed process left: pg_ctl detaches the server from its terminal, so Ctrl-C does not end it.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::kept::sockets_of;
use crate::postmaster;

/// Stops and removes every cluster in `base` whose process is gone. The caller holds the lock of `base`. What cannot be
/// removed now is left for the next sweep.
pub(crate) fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(owner) = owner_of(&name.to_string_lossy()) else {
            continue;
        };
        if Path::new(&format!("/proc/{owner}")).exists() {
            continue;
        }
        let home = entry.path();
        let data = home.join("data");
        if let Some(pid) = postmaster::pid_of(&data) {
            let _ = postmaster::stop(pid, &data, Signal::QUIT);
        }
        if let Some(sockets) = sockets_of(&home) {
            let _ = fs::remove_dir_all(sockets);
        }
        let _ = fs::remove_dir_all(home);
    }
}

/// The process id in a cluster folder's name, `<name>-<pid>-<number>`.
fn owner_of(folder: &str) -> Option<u32> {
    let mut parts = folder.rsplitn(3, '-');
    let _number: u32 = parts.next()?.parse().ok()?;
    let owner = parts.next()?.parse().ok()?;
    parts.next().map(|_| owner)
}

#[cfg(test)]
mod tests {
    use super::owner_of;

    #[test]
    fn only_folders_named_after_a_process_are_swept() {
        assert_eq!(owner_of("storm-4711-0"), Some(4711));
        assert_eq!(owner_of("two-words-4711-12"), Some(4711));
        assert_eq!(owner_of("template_15_20"), None, "a template has no process");
        assert_eq!(owner_of("lock"), None);
    }
}
