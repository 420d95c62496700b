//! One event of a log of 300 and more, its proof, and anchors of two of the log's checkpoints, as the database hands them out.

use std::cell::Cell;
use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use zeroauth_audit_anchor::batch::{Batch, Hash, Moment};
use zeroauth_audit_anchor::machine::{Action, Notice, Policy, State};
use zeroauth_audit_anchor::pursue::{Store, pursue};
use zeroauth_audit_anchor::targets;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::note::SigningKey;
use zeroauth_audit_core::proof::{Anchor, Bundle};
use zeroauth_audit_tests::wait_until;

use super::anvil::{Anvil, PATIENCE};
use super::registry::Registry;
use super::run;
use super::trail::{self, Trail};
use super::tsa::{Authority, Options, Server};

/// The keys of the chain's second account, as everybody knows it.
pub const KEY: &str = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

/// What is anchored, and where files are.
pub struct Made {
    pub folder: TempDir,
    pub bundle: Bundle,
    registry: Registry,
    /// The state that is anchored: older than the bundle's.
    anchored: Checkpoint,
    newest: Checkpoint,
    epoch: Cell<u64>,
}

/// What a driver stores.
#[derive(Default)]
struct Memory(Option<Value>);

impl Store for Memory {
    type Error = Infallible;

    fn state(&mut self, _: &State, _: &[Notice]) -> Result<(), Infallible> {
        Ok(())
    }

    fn evidence(&mut self, evidence: &Value) -> Result<(), Infallible> {
        self.0 = Some(evidence.clone());
        Ok(())
    }
}

impl Made {
    pub fn new() -> Self {
        let (mut trail, mut registry) = (Trail::new("a b"), Registry::new());
        trail.append(0, 200);
        trail.append(1, 90);
        let (entry, anchored) = registry.log("a b", &trail.seal());
        trail.append(0, 41);
        let (_, newest) = registry.log("a b", &trail.seal());
        let bundle = registry.bundle(&newest, entry, &trail, 205, &trail.chains[1].0[5]);
        let folder = tempfile::tempdir().unwrap();
        let made = Self { folder, bundle, registry, anchored, newest, epoch: Cell::new(0) };
        made.write("log.pub", &format!("{}\n", trail::key().verifier_key()));
        made
    }

    pub fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub fn write(&self, name: &str, content: &str) -> String {
        fs::write(self.folder.path().join(name), content).unwrap();
        self.at(name)
    }

    pub fn secret(&self, name: &str, content: &str) -> PathBuf {
        secret(self.folder.path(), name, content)
    }

    /// The bundle with these anchors, as a file.
    pub fn with(&self, name: &str, anchors: Vec<Anchor>) -> String {
        self.write(name, &Bundle { anchors, ..self.bundle.clone() }.format())
    }

    /// The next batch.
    pub fn batch(&self) -> Batch {
        self.epoch.set(self.epoch.get() + 1);
        Batch {
            log_id: Batch::log_id(trail::BASE),
            epoch: self.epoch.get(),
            root: Hash(*self.anchored.root.as_bytes()),
            size: self.anchored.size,
            batch_time: Moment(trail::BEGIN as i64),
        }
    }

    /// The anchor with this evidence.
    pub fn anchor(&self, kind: &str, evidence: &Value) -> Anchor {
        Anchor {
            kind: kind.into(),
            tree_size: self.anchored.size,
            root: self.anchored.root,
            consistency: self.registry.consistency(&self.anchored, &self.newest),
            payload: jsonb(evidence),
        }
    }

    pub fn file_evidence(&self, key: &SigningKey, batch: &Batch) -> Value {
        let key_file = self.secret("anchor.key", &key.to_key_file());
        let config = json!({ "path": self.folder.path().join("anchors"), "key_file": key_file });
        drive("file", &config, batch, || {})
    }

    pub fn file(&self) -> Anchor {
        self.anchor("file", &self.file_evidence(&trail::key(), &self.batch()))
    }

    /// With a certificate between the authority's and the trusted one, which is in the file `tsa.pem`.
    pub fn stamp(&self) -> Anchor {
        let authority = Authority::new(&Options { intermediate: true, ..Options::default() });
        let roots = self.write("tsa.pem", &authority.root);
        let server = Server::of(authority);
        let url_file = self.secret("tsa.url", &server.url);
        let config = json!({ "url_file": url_file, "authorities_file": roots });
        self.anchor("rfc3161", &drive("rfc3161", &config, &self.batch(), || {}))
    }

    /// The contract, deployed by the program: what it prints as JSON.
    pub fn deploy(&self, anvil: &Anvil) -> Value {
        let key = self.secret("evm.key", KEY);
        let url = self.secret("rpc.url", &anvil.url());
        let second = self.secret("rpc2.url", &other_url(anvil));
        let (code, out, error) = run(&[
            "--json",
            "deploy-contract",
            "--rpc-file",
            url.to_str().unwrap(),
            "--rpc-file",
            second.to_str().unwrap(),
            "--chain-id",
            "31337",
            "--origin",
            trail::BASE,
            "--owner",
            &anvil.account(2),
            "--anchorer",
            &anvil.account(1),
            "--key-file",
            key.to_str().unwrap(),
            "--keep",
            &self.at("deployment"),
        ]);
        assert_eq!(code, 0, "{error}");
        serde_json::from_str(&out).unwrap()
    }

    pub fn evm_evidence(&self, anvil: &Anvil, config: &Value, batch: &Batch) -> Value {
        // The contract itself is final.
        anvil.mine(4);
        drive("evm", config, batch, || anvil.mine(1))
    }

    /// In the contract with this configuration.
    pub fn evm(&self, anvil: &Anvil, config: &Value) -> Anchor {
        self.anchor("evm", &self.evm_evidence(anvil, config, &self.batch()))
    }
}

pub fn secret(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// The same chain by another name: for the program that is another endpoint.
pub fn other_url(anvil: &Anvil) -> String {
    format!("http://localhost:{}", anvil.port)
}

/// Takes a batch to its end, in virtual time; the evidence.
fn drive(kind: &str, config: &Value, batch: &Batch, between: impl Fn()) -> Value {
    let driver = targets::open(kind, config).unwrap();
    let (mut state, mut memory) = (State::planned(Moment(0)), Memory::default());
    wait_until(PATIENCE, "the batch is over", || {
        let now = state.next;
        let (next, action) =
            pursue(&Policy::default(), batch, &*driver, state.clone(), &mut memory, || now).unwrap();
        state = next;
        between();
        action == Action::Done
    });
    memory.0.unwrap_or_else(|| panic!("{state:?}"))
}

/// As PostgreSQL writes `jsonb`: the shorter keys first, and a space after each colon and comma.
fn jsonb(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| (key.len(), *key));
            let written: Vec<_> =
                fields.iter().map(|(key, value)| format!("{}: {}", json!(key), jsonb(value))).collect();
            format!("{{{}}}", written.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(jsonb).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
