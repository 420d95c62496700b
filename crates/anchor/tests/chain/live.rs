//! A worker with the real driver on a real chain, in virtual time: what it stored, and nothing else, survives from run to run.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use zeroauth_audit_anchor::batch::{Batch, Hash, Moment};
use zeroauth_audit_anchor::evm::{Config, EvmDriver};
use zeroauth_audit_anchor::machine::{Action, Notice, Phase, Policy, State};
use zeroauth_audit_anchor::pursue::{Store, pursue};
use zeroauth_audit_tests::wait_until;

use super::anvil::{Anvil, PATIENCE};
use super::contract::deploy;
use super::proxy::{Behaviour, Proxy};

/// The key of anvil's second account, as everybody knows it.
pub const KEY: &str = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

pub fn secret(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
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
    pub state: String,
    pub notices: Vec<Notice>,
    pub evidence: Option<Value>,
    /// The worker dies right before it stores for the time of this number.
    pub crash_before: Option<usize>,
    pub stores: usize,
}

#[derive(Debug)]
pub struct Crashed;

impl Store for Memory {
    type Error = Crashed;

    fn state(&mut self, state: &State, notices: &[Notice]) -> Result<(), Crashed> {
        if self.crash_before == Some(self.stores) {
            return Err(Crashed);
        }
        self.stores += 1;
        self.state = serde_json::to_string(state).unwrap();
        self.notices.extend_from_slice(notices);
        Ok(())
    }

    fn evidence(&mut self, evidence: &Value) -> Result<(), Crashed> {
        self.evidence = Some(evidence.clone());
        Ok(())
    }
}

pub struct Live {
    pub anvil: Anvil,
    /// The two endpoints.
    pub first: Proxy,
    pub second: Proxy,
    pub contract: String,
    pub owner: String,
    pub anchorer: String,
    folder: TempDir,
    pub batch: Batch,
    pub memory: Memory,
    pub now: i64,
}

impl Live {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(arguments: &[&str]) -> Self {
        let anvil = Anvil::start_with(arguments);
        let (owner, anchorer) = (anvil.account(0), anvil.account(1));
        let contract = deploy(&anvil, &owner, &owner, batch(1).log_id, &anchorer);
        // The contract itself is final.
        anvil.mine(4);
        let (first, second) = (Proxy::of(&anvil), Proxy::of(&anvil));
        let mut live = Self {
            anvil,
            first,
            second,
            contract,
            owner,
            anchorer,
            folder: tempfile::tempdir().unwrap(),
            batch: batch(1),
            memory: Memory::default(),
            now: 1_790_000_000,
        };
        live.plan(batch(1));
        live
    }

    pub fn plan(&mut self, batch: Batch) {
        self.batch = batch;
        self.memory = Memory::default();
        self.memory.state = serde_json::to_string(&State::planned(Moment(self.now))).unwrap();
    }

    pub fn config(&self) -> Value {
        json!({
            "chain_id": 31337,
            "contract": self.contract,
            "rpc_url_files": [
                secret(self.folder.path(), "first", &self.first.url()),
                secret(self.folder.path(), "second", &self.second.url()),
            ],
            "signer": { "kind": "raw", "key_file": secret(self.folder.path(), "key", KEY) },
            "timeout_seconds": 5,
        })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn driver(&self) -> EvmDriver {
        Self::driver_of(self.config())
    }

    pub fn driver_of(config: Value) -> EvmDriver {
        EvmDriver::open(serde_json::from_value::<Config>(config).unwrap()).unwrap()
    }

    pub fn state(&self) -> State {
        serde_json::from_str(&self.memory.state).unwrap()
    }

    /// Runs until there is nothing to do for now.
    pub fn run(&mut self) -> Action {
        let driver = self.driver();
        self.run_with(&driver)
    }

    pub fn run_with(&mut self, driver: &EvmDriver) -> Action {
        let now = Moment(self.now);
        let (state, batch) = (self.state(), self.batch);
        let done = pursue(&Policy::default(), &batch, driver, state, &mut self.memory, || now);
        let text = format!("{} {:?}", self.memory.state, self.memory.notices);
        for secret in ["u53r", "pa55", "s3cret", &self.second.address.to_string(), KEY] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        done.expect("nothing crashes here").1
    }

    /// Both endpoints behave like this.
    pub fn behave(&self, behaviour: &Behaviour) {
        self.first.behave(behaviour.clone());
        self.second.behave(behaviour.clone());
    }

    /// The failure that the worker is in trouble by.
    #[track_caller]
    pub fn trouble(&self) -> String {
        self.state().trouble.expect("there is trouble").last.to_string()
    }

    /// To the next moment at which there is something to do.
    pub fn sleep(&mut self) {
        self.now = self.now.max(self.state().next.0);
    }

    /// Waits until the chain has the newest attempt in a block.
    pub fn wait_included(&self) {
        let id = self.state().attempt.unwrap().id;
        self.anvil.receipt(&id);
    }

    /// Runs on, with blocks in between, until the batch is over.
    #[track_caller]
    pub fn finish(&mut self) -> Phase {
        let mut rounds = 0;
        wait_until(PATIENCE, "the batch is over", || {
            self.run();
            self.anvil.mine(1);
            self.sleep();
            rounds += 1;
            self.state().is_over()
        });
        self.state().phase
    }

    /// Events of the contract in the log of the batch: (epoch, transaction).
    pub fn events(&self) -> Vec<(u64, String)> {
        let filter = json!([{ "address": self.contract, "fromBlock": "0x0",
            "topics": [zeroauth_audit_anchor::evm::contract::topic(zeroauth_audit_anchor::evm::contract::ANCHORED)] }]);
        let logs = self.anvil.call("eth_getLogs", filter);
        let event = |log: &Value| {
            (super::anvil::number(&log["topics"][2]), log["transactionHash"].as_str().unwrap().to_owned())
        };
        logs.as_array().unwrap().iter().map(event).collect()
    }

    #[track_caller]
    pub fn assert_anchored_once(&mut self) {
        assert_eq!(self.finish(), Phase::Finalized, "{:?}", self.state());
        let id = self.state().inclusion.unwrap().id;
        assert_eq!(self.events(), [(self.batch.epoch, id)]);
        assert!(self.memory.evidence.is_some());
    }
}
