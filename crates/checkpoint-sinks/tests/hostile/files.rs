//! A witness with its files, and what no error may contain.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zeroauth_audit_checkpoint_sinks::{Answer, Shown, Witness};
use zeroauth_audit_test_servers::Server;

/// User, path and query of every URL here.
pub const SECRETS: [&str; 4] = ["ann", "pa55", "w1tness", "t0ken"];
/// Short enough for many tests, long enough for a slow machine.
const DEADLINE: Duration = Duration::from_secs(4);
/// A call has long ended, however busy the machine is; a witness that hangs does so for longer.
const LONGEST: Duration = Duration::from_secs(20);

/// The checkpoint that is shown.
pub const NOTE: &str =
    "log.example/a\n7\nqvMVvBrTFGu2xTEiUBVZTvSK0jvkRp7XPmVMOLB4Rmw=\n\n\u{2014} log.example/a AAAAAA==\n";

pub struct Files {
    folder: TempDir,
    url_file: PathBuf,
    ca_file: Option<PathBuf>,
}

impl Files {
    /// A witness at `base`, such as `http://127.0.0.1:80`.
    pub fn at(base: &str) -> Self {
        let (scheme, host) = base.split_once("://").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let url_file = folder.path().join("url");
        fs::write(&url_file, format!("{scheme}://ann:pa55@{host}/w1tness?t0ken=1\n")).unwrap();
        fs::set_permissions(&url_file, Permissions::from_mode(0o600)).unwrap();
        Self { folder, url_file, ca_file: None }
    }

    pub fn to(server: &Server) -> Self {
        Self::at(&format!("http://{}", server.address))
    }

    pub fn trusting(mut self, pem: &str) -> Self {
        let path = self.folder.path().join("ca.pem");
        fs::write(&path, pem).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        self.ca_file = Some(path);
        self
    }

    /// Shows a checkpoint: it keeps the deadline, and what comes of it keeps the secrets.
    #[track_caller]
    pub fn show(&self) -> Result<Answer, String> {
        self.show_this(&shown())
    }

    #[track_caller]
    pub fn show_this(&self, shown: &Shown) -> Result<Answer, String> {
        let begun = Instant::now();
        let witness = Witness::open_within(&self.url_file, self.ca_file.as_deref(), DEADLINE).unwrap();
        let answer = witness.add_checkpoint(shown);
        assert!(begun.elapsed() < LONGEST, "took {:?}", begun.elapsed());
        let debug = format!("{witness:?} {answer:?}");
        for secret in SECRETS.iter().chain(&["127.0.0.1"]) {
            assert!(!debug.contains(secret), "{secret} in {debug}");
        }
        answer
    }

    /// Why nothing came of it.
    #[track_caller]
    pub fn trouble(&self) -> String {
        self.show().unwrap_err()
    }
}

pub fn shown() -> Shown {
    Shown { old_size: 4, proof: vec![[1; 32], [2; 32]], note: NOTE.into() }
}
