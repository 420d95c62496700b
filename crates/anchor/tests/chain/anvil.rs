//! A local chain: anvil, on a port of its own, ended by its process id.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use zeroauth_audit_tests::{wait_until, workspace};

/// Longer than any call takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn node_module(path: &str) -> PathBuf {
    let found = workspace().join("target/node/node_modules").join(path);
    assert!(found.exists(), "{} is missing: run `cargo xtask setup` once", found.display());
    found
}

/// A chain of its own. Its ten accounts have the keys that everybody knows, and 10,000 ether each.
pub struct Anvil {
    child: Child,
    /// Where it keeps its files, for as long as it runs.
    _folder: TempDir,
    pub port: u16,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Anvil {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let child = Command::new(node_module("@foundry-rs/anvil-linux-amd64/bin/anvil"))
            .args(["--host", "127.0.0.1", "--port", "0", "--prune-history", "1000"])
            .args(["--slots-in-an-epoch", "1", "--no-cors", "--color", "never"])
            .args(arguments)
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            // A pipe that nobody drains would stop it.
            .stdout(File::create(&log).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut anvil = Self { child, _folder: folder, port: 0 };
        wait_until(PATIENCE, "anvil listens", || {
            let text = fs::read_to_string(&log).unwrap();
            let port = text.lines().find_map(|line| line.strip_prefix("Listening on 127.0.0.1:"));
            anvil.port = port.and_then(|port| port.trim().parse().ok()).unwrap_or(0);
            anvil.port != 0
        });
        anvil
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The result of a call; panics at an error.
    #[track_caller]
    pub fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params.clone()).unwrap_or_else(|e| panic!("{method} {params}: {e}"))
    }

    /// The result of a call, or the error object.
    pub fn try_call(&self, method: &str, params: Value) -> Result<Value, Value> {
        call(&self.url(), method, params)
    }

    /// The account with this number.
    pub fn account(&self, number: usize) -> String {
        self.call("eth_accounts", json!([]))[number].as_str().unwrap().to_owned()
    }

    pub fn mine(&self, blocks: u64) {
        self.call("anvil_mine", json!([format!("{blocks:#x}")]));
    }

    /// Sends as one of anvil's own accounts and waits for the receipt.
    #[track_caller]
    pub fn send(&self, from: &str, to: Option<&str>, data: &[u8]) -> Value {
        let mut transaction = json!({ "from": from, "data": hex(data), "gas": "0x4c4b40" });
        if let Some(to) = to {
            transaction["to"] = json!(to);
        }
        let hash = self.call("eth_sendTransaction", json!([transaction]));
        self.receipt(hash.as_str().unwrap())
    }

    /// Waits for the receipt: mining is asynchronous.
    #[track_caller]
    pub fn receipt(&self, hash: &str) -> Value {
        let mut receipt = Value::Null;
        wait_until(PATIENCE, "the transaction is included", || {
            receipt = self.call("eth_getTransactionReceipt", json!([hash]));
            !receipt.is_null()
        });
        receipt
    }
}

pub fn call(url: &str, method: &str, params: Value) -> Result<Value, Value> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let mut response = agent.post(url).header("Content-Type", "application/json").send(body).unwrap();
    let mut answer: Value = serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap();
    match answer.get("error") {
        Some(error) => Err(error.clone()),
        None => Ok(answer["result"].take()),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

#[track_caller]
pub fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_else(|| panic!("no number: {value}"));
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

pub fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap()
}
