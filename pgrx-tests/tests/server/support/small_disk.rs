//! A small file system of its own for a test, which has to be able to fill a disk.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use tempfile::TempDir;
use zeroauth_audit_tests::OsUser;

/// A mounted tmpfs that belongs to the server's user. Its shell waits for the end of our pipe to unmount it: also when we are
/// killed.
pub struct SmallDisk {
    folder: TempDir,
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl SmallDisk {
    /// Mounts one of `megabytes`; `None` only where `ZEROAUTH_NO_MOUNT` says that this machine cannot, which is then printed.
    #[track_caller]
    pub fn mount(megabytes: u32) -> Option<Self> {
        if std::env::var_os("ZEROAUTH_NO_MOUNT").is_some() {
            eprintln!("ZEROAUTH_NO_MOUNT is set: nothing is tested on a full disk");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("zaa-disk-").tempdir_in("/tmp").unwrap();
        let (sudo, owner) = match OsUser::current().unwrap() {
            OsUser::Postgres { uid, gid } => (None, format!("uid={uid},gid={gid}")),
            OsUser::Ourselves => (
                Some("sudo"),
                format!(
                    "uid={},gid={}",
                    rustix::process::geteuid().as_raw(),
                    rustix::process::getegid().as_raw()
                ),
            ),
        };
        let mut command = Command::new(sudo.unwrap_or("sh"));
        if sudo.is_some() {
            command.args(["-n", "sh"]);
        }
        let mut shell = command
            .args([
                "-c",
                r#"mount -t tmpfs -o "$2" zaa-disk "$1" && echo mounted && cat; umount -l "$1""#,
                "sh",
            ])
            .arg(folder.path())
            .arg(format!("size={megabytes}m,mode=0700,{owner}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell runs");
        let pipe = shell.stdin.take();
        let mut said = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(
            said.trim(),
            "mounted",
            "no file system can be mounted here: run this as root, or set ZEROAUTH_NO_MOUNT=1 to go without the tests of a full disk"
        );
        Some(Self { folder, shell, pipe })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes `megabytes` of the disk, to be freed later by removing the file.
    #[track_caller]
    pub fn filler(&self, megabytes: usize) -> PathBuf {
        let path = self.folder.path().join("filler");
        std::fs::write(&path, vec![1; megabytes << 20]).expect("there is room for the filler");
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.shell.wait();
    }
}
