//! One JSON-RPC endpoint: a call within a deadline, an answer of bounded size, and no word of the URL in any error.

use std::path::Path;
use std::time::Duration;

use alloy_primitives::{B256, Bytes, U64};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::Agent;
use zeroauth_audit_transport::agent::agent;
use zeroauth_audit_transport::{Endpoint, failure, file};

use super::answer::{self, Block, NodeError};
use crate::failure::Failure;

const BLOCK: &str = "eth_getBlockByNumber";
/// More than any answer but the next one.
const MOST_BYTES: u64 = 1 << 20;
/// All receipts of a block.
const MOST_RECEIPTS: u64 = 64 << 20;

/// Why a call failed.
#[derive(Debug)]
pub enum CallError {
    /// No answer, or none that can be read.
    Failure(Failure),
    /// The node answered with an error.
    Node(NodeError),
}

/// One endpoint.
pub struct Rpc {
    /// Its place among the configured ones, from 1: how errors name it.
    number: usize,
    endpoint: Endpoint,
    agent: Agent,
}

impl Rpc {
    /// Reads the file with the URL.
    pub fn open(
        number: usize,
        url_file: &Path,
        ca_file: Option<&Path>,
        deadline: Duration,
    ) -> Result<Self, Failure> {
        let secret = file::secret(url_file, "URL").map_err(|reason| Failure::File { reason })?;
        Self::to(number, secret.text().unwrap_or_default(), ca_file, deadline)
    }

    /// The endpoint at this URL.
    pub fn to(number: usize, url: &str, ca_file: Option<&Path>, deadline: Duration) -> Result<Self, Failure> {
        let open = || {
            let endpoint = Endpoint::parse(url, "")?;
            let agent = agent(&endpoint, ca_file, deadline)?;
            Ok::<_, String>(Self { number, endpoint, agent })
        };
        open().map_err(|reason| Failure::File { reason })
    }

    /// The failure that it has no receipt of a transaction that is in a block.
    pub fn no_receipt(&self) -> Failure {
        Failure::NoReceipt { endpoint: self.number }
    }

    /// Whether both are the same URL: a second opinion needs another URL.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.endpoint.uri == other.endpoint.uri
    }

    /// Calls `method`.
    pub fn call(&self, method: &'static str, params: Value) -> Result<Value, CallError> {
        // One request a connection: any id will do, as long as the answer has it, too.
        const ID: u64 = 1;
        let body = json!({ "jsonrpc": "2.0", "id": ID, "method": method, "params": params }).to_string();
        let mut request = self.agent.post(&self.endpoint.uri).header("Content-Type", "application/json");
        if let Some(authorization) = &self.endpoint.authorization {
            request = request.header("Authorization", authorization);
        }
        let most = if method == "eth_getBlockReceipts" { MOST_RECEIPTS } else { MOST_BYTES };
        let mut response = request.send(body).map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let body = match response.body_mut().with_config().limit(most).read_to_vec() {
            Ok(body) => body,
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                return Err(CallError::Failure(self.bad(method, "is too large")));
            }
            Err(error) => return Err(self.unreachable(&error)),
        };
        match answer::read(&body, ID) {
            Ok(Ok(result)) if status == 200 => Ok(result),
            // Some nodes give an error object with a status of its own.
            Ok(Err(error)) => Err(CallError::Node(error)),
            Ok(Ok(_)) => Err(CallError::Failure(self.bad(method, &format!("has status {status}")))),
            Err(_) if status != 200 => {
                Err(CallError::Failure(self.bad(method, &format!("has status {status}"))))
            }
            Err(problem) => Err(CallError::Failure(self.bad(method, problem))),
        }
    }

    /// As [`Rpc::call`], with the result read as `T`; an error of the node is a failure.
    pub fn get<T: DeserializeOwned>(&self, method: &'static str, params: Value) -> Result<T, Failure> {
        let result = self.call(method, params).map_err(|error| self.failure(method, error))?;
        answer::form(result).map_err(|problem| self.bad(method, &problem))
    }

    /// The failure that an error is.
    pub fn failure(&self, method: &str, error: CallError) -> Failure {
        match error {
            CallError::Failure(failure) => failure,
            CallError::Node(error) => {
                Failure::CallFailed { endpoint: self.number, method: method.into(), code: error.code }
            }
        }
    }

    /// Fails unless the endpoint is on this chain.
    pub fn require_chain(&self, expected: u64) -> Result<(), Failure> {
        let found: u64 = self.get::<U64>("eth_chainId", json!([]))?.to();
        if found == expected {
            return Ok(());
        }
        Err(Failure::WrongChain { endpoint: self.number, expected, found })
    }

    /// A block by its number or tag.
    pub fn block(&self, at: &str) -> Result<Block, Failure> {
        self.block_and_keys(at).map(|(block, _)| block)
    }

    /// As [`Rpc::block`], and whether it has keys that are not known here.
    pub fn block_and_keys(&self, at: &str) -> Result<(Block, bool), Failure> {
        let found = self.call(BLOCK, json!([at, false])).map_err(|error| self.failure(BLOCK, error))?;
        self.read_block(found)
    }

    /// The newest final block, by the tag.
    pub fn finalized(&self) -> Result<Block, Failure> {
        let unknown = Failure::NoFinalTag { endpoint: self.number };
        match self.call(BLOCK, json!(["finalized", false])) {
            // Nodes say it in many ways: null, an unknown block, an invalid parameter.
            Ok(Value::Null) => Err(unknown),
            Err(CallError::Node(error)) if !error.is_busy() => Err(unknown),
            Ok(found) => self.read_block(found).map(|(block, _)| block),
            Err(error) => Err(self.failure(BLOCK, error)),
        }
    }

    fn read_block(&self, found: Value) -> Result<(Block, bool), Failure> {
        if found.is_null() {
            return Err(self.bad(BLOCK, "has no block"));
        }
        // AuRa has these in the place of mixHash and nonce, and hashes them.
        let seals_of_its_own = found.get("mixHash").is_none_or(Value::is_null)
            && ["sealFields", "step"].iter().any(|key| found.get(key).is_some());
        if seals_of_its_own {
            return Err(Failure::OtherHashes);
        }
        let unknown = answer::has_unknown_keys(&found);
        let block = answer::form(found).map_err(|problem| self.bad(BLOCK, &problem))?;
        Ok((block, unknown))
    }

    /// A block by its hash; None if the endpoint has none.
    pub fn block_by_hash(&self, hash: B256) -> Result<Option<Block>, Failure> {
        const METHOD: &str = "eth_getBlockByHash";
        match self.call(METHOD, json!([hash, false])).map_err(|error| self.failure(METHOD, error))? {
            Value::Null => Ok(None),
            found => answer::form(found).map(Some).map_err(|problem| self.bad(METHOD, &problem)),
        }
    }

    /// Calls a contract without a transaction.
    pub fn view(&self, to: &impl serde::Serialize, data: Vec<u8>, at: &str) -> Result<Bytes, Failure> {
        self.get("eth_call", json!([{ "to": to, "data": Bytes::from(data) }, at]))
    }

    /// An answer that is of no use.
    pub fn bad(&self, method: &str, problem: &str) -> Failure {
        Failure::BadAnswer { endpoint: self.number, method: method.into(), problem: problem.into() }
    }

    fn unreachable(&self, error: &ureq::Error) -> CallError {
        CallError::Failure(Failure::Unreachable { endpoint: self.number, reason: failure::describe(error) })
    }
}

/// A number as JSON-RPC wants it.
#[must_use]
pub fn quantity(number: u64) -> String {
    format!("{number:#x}")
}
