//! The anchor file: written once however often it is called, whole after every crash, and not to be changed unseen.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![forbid(unsafe_code)]

mod crashes;
mod driver;
mod entries;

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use zeroauth_audit_anchor::batch::{Batch, Hash, Moment};
use zeroauth_audit_anchor::failure::Failure;
use zeroauth_audit_anchor::file::entry::{Contents, read};
use zeroauth_audit_anchor::file::{Config, FileDriver};
use zeroauth_audit_anchor::machine::{Action, Notice, Policy, State};
use zeroauth_audit_anchor::pursue::{Store, pursue};
use zeroauth_audit_core::note::SigningKey;

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed("example.org/audit", &[seed; 32]).unwrap()
}

pub fn batch(epoch: u64) -> Batch {
    Batch {
        log_id: Batch::log_id("example.org/audit"),
        epoch,
        root: Hash::sha256(format!("root {epoch}").as_bytes()),
        size: 10_000,
        batch_time: Moment(1_790_000_000),
    }
}

#[derive(Default)]
pub struct Memory {
    pub notices: Vec<Notice>,
    pub evidence: Option<Value>,
}

impl Store for Memory {
    type Error = Infallible;

    fn state(&mut self, _: &State, notices: &[Notice]) -> Result<(), Infallible> {
        self.notices.extend_from_slice(notices);
        Ok(())
    }

    fn evidence(&mut self, evidence: &Value) -> Result<(), Infallible> {
        self.evidence = Some(evidence.clone());
        Ok(())
    }
}

pub struct Folder {
    pub folder: TempDir,
}

impl Folder {
    pub fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let this = Self { folder };
        this.use_key(1);
        this
    }

    pub fn use_key(&self, seed: u8) {
        let path = self.folder.path().join("key");
        fs::write(&path, key(seed).to_key_file()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("anchors")
    }

    pub fn config(&self) -> Value {
        json!({ "path": self.path(), "key_file": self.folder.path().join("key") })
    }

    pub fn driver(&self) -> FileDriver {
        Self::open(self.config()).unwrap()
    }

    pub fn open(config: Value) -> Result<FileDriver, Failure> {
        FileDriver::open(&serde_json::from_value::<Config>(config).unwrap())
    }

    pub fn anchor(&self, batch: &Batch) -> (State, Action, Memory) {
        anchor(&self.driver(), batch)
    }

    pub fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    #[track_caller]
    pub fn contents(&self) -> Contents {
        read(&self.bytes(), &[key(1).verifier_key()]).unwrap()
    }
}

pub fn anchor(driver: &FileDriver, batch: &Batch) -> (State, Action, Memory) {
    let mut memory = Memory::default();
    let state = State::planned(Moment(5));
    let (state, action) =
        pursue(&Policy::default(), batch, driver, state, &mut memory, || Moment(5)).unwrap();
    (state, action, memory)
}
