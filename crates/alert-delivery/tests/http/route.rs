//! A route with its files, and what no error may contain.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zeroauth_audit_alert_delivery::{Kind, Outcome, Route, Shipment, Target};

pub const KEY: &str = "a key of twenty bytes";
/// User, path and query of every URL here.
pub const SECRETS: [&str; 4] = ["ann", "pa55", "h00k", "t0ken"];
/// Short enough for many tests, long enough for a slow machine.
pub const DEADLINE: Duration = Duration::from_secs(4);
/// An attempt has long ended, however busy the machine is; a server that hangs does so for longer.
const LONGEST: Duration = Duration::from_secs(20);

pub struct Files {
    pub folder: TempDir,
    pub route: Route,
}

impl Files {
    /// A webhook at `base`, such as `http://127.0.0.1:80`.
    pub fn webhook(base: &str) -> Self {
        let (scheme, host) = base.split_once("://").unwrap();
        Self::new(Kind::Webhook, &format!("{scheme}://ann:pa55@{host}/h00k?t0ken=1\n"))
    }

    pub fn new(kind: Kind, url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url_file = secret(folder.path(), "url", url.as_bytes());
        let secret_file = Some(secret(folder.path(), "key", format!("{KEY}\n").as_bytes()));
        let route = Route { name: "hook".into(), kind, url_file, secret_file, ca_file: None };
        Self { folder, route }
    }

    pub fn trusting(mut self, pem: &str) -> Self {
        let path = self.folder.path().join("ca.pem");
        fs::write(&path, pem).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        self.route.ca_file = Some(path);
        self
    }

    /// One attempt: it keeps the deadline, and its error keeps the secrets.
    #[track_caller]
    pub fn attempt(&self, shipment: &Shipment) -> Outcome {
        let begun = Instant::now();
        let outcome = Target::open_within(&self.route, DEADLINE).unwrap().send(shipment);
        assert!(begun.elapsed() < LONGEST, "took {:?}", begun.elapsed());
        let shown = format!("{outcome:?}");
        for secret in SECRETS.iter().chain(&[KEY, "127.0.0.1"]) {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        outcome
    }

    /// The error of an attempt that is to be repeated.
    #[track_caller]
    pub fn retried(&self) -> String {
        match self.attempt(&shipment()) {
            Outcome::Retry { error, .. } => error,
            other => panic!("{other:?}"),
        }
    }
}

pub fn secret(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

pub fn shipment() -> Shipment {
    Shipment { id: 1, key: "0d1e".into(), body: "{\"é\": 1}".into() }
}
