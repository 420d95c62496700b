//! The endpoints of a target together: their common answer, or a failure.

use alloy_primitives::{Address, B256, Bytes, U64, keccak256};
use serde_json::{Value, json};

use super::config::{Config, Finality};
use super::contract::{self, Kept};
use super::rpc::{Rpc, quantity};
use crate::batch::{Batch, Hash};
use crate::driver::Nonces;
use crate::failure::Failure;

/// The committed artifact of the contract.
const ARTIFACT: &str = include_str!("../../../../contracts/AuditAnchor.json");

/// The artifact, read.
pub fn artifact() -> Result<Value, Failure> {
    serde_json::from_str(ARTIFACT).map_err(|_| Failure::Defect { what: "the artifact is no JSON".into() })
}

/// Keccak of the code that the contract has on a chain. A released contract's digest is added here, never replaced: its
/// users keep anchoring in it.
fn is_our_code(code: &Bytes) -> Result<bool, Failure> {
    let artifact = artifact()?;
    let ours = artifact["deployedBytecode"].as_str().and_then(|code| code.parse::<Bytes>().ok());
    Ok(ours.is_some_and(|ours| keccak256(ours) == keccak256(code)))
}

/// What one endpoint sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) head: u64,
    pub(super) finalized: u64,
    pub(super) kept: Option<Kept>,
    pub(super) latest_epoch: u64,
    pub(super) final_epoch: u64,
    pub(super) nonces: Nonces,
}

pub(super) struct Nodes {
    pub(super) rpcs: Vec<Rpc>,
    chain_id: u64,
    contract: Address,
    finality: Finality,
}

impl Nodes {
    pub(super) fn open(config: &Config) -> Result<Self, Failure> {
        config.check()?;
        let files = config.rpc_url_files.iter().enumerate();
        let rpcs = files
            .map(|(at, file)| Rpc::open(at + 1, file, config.ca_file.as_deref(), config.deadline()))
            .collect::<Result<Vec<_>, _>>()?;
        if rpcs.iter().enumerate().any(|(at, rpc)| rpcs[..at].iter().any(|other| other.is_same(rpc))) {
            return Err(Failure::Configuration { problem: "names one endpoint twice".into() });
        }
        Ok(Self { rpcs, chain_id: config.chain_id, contract: config.contract, finality: config.finality })
    }

    /// Fails unless every endpoint is on the configured chain.
    pub(super) fn require_chain(&self) -> Result<(), Failure> {
        self.rpcs.iter().try_for_each(|rpc| rpc.require_chain(self.chain_id))
    }

    /// Fails unless the contract is there, and is ours.
    pub(super) fn require_contract(&self) -> Result<(), Failure> {
        self.require_contract_at(self.contract)
    }

    /// Fails unless our contract is at this address.
    pub(super) fn require_contract_at(&self, address: Address) -> Result<(), Failure> {
        for rpc in &self.rpcs {
            let code: Bytes = rpc.get("eth_getCode", json!([address, "latest"]))?;
            if !is_our_code(&code)? {
                return Err(Failure::NoContract);
            }
        }
        Ok(())
    }

    /// The answers of the endpoints to `ask`, in their order.
    pub(super) fn each<T>(&self, ask: impl Fn(&Rpc) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
        self.rpcs.iter().map(ask).collect()
    }

    /// The answer of every endpoint to `ask`, which must be the same.
    pub(super) fn agreed<T: PartialEq>(
        &self,
        about: &str,
        ask: impl Fn(&Rpc) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut answers = self.each(ask)?.into_iter();
        let first = answers.next().ok_or(Failure::Configuration { problem: "names no endpoint".into() })?;
        if answers.all(|answer| answer == first) {
            return Ok(first);
        }
        Err(Failure::Disagreement { about: about.into() })
    }

    /// What every endpoint sees of a batch and of an account.
    pub(super) fn sights(&self, batch: &Batch, account: Address) -> Result<Vec<Sight>, Failure> {
        self.each(|rpc| self.sight(rpc, batch, account))
    }

    fn sight(&self, rpc: &Rpc, batch: &Batch, account: Address) -> Result<Sight, Failure> {
        let head = rpc.block("latest")?.number.to::<u64>();
        let finalized = match self.finality {
            Finality::Tag => rpc.finalized()?.number.to::<u64>().min(head),
            Finality::Blocks { blocks } => head.saturating_sub(blocks),
        };
        let (at, final_at) = (quantity(head), quantity(finalized));
        let key = [batch.log_id.0, contract::word(batch.epoch)];
        let kept = rpc.view(&self.contract, contract::call(contract::ANCHOR_OF, &key), &at)?;
        let kept = contract::read_anchor_of(&kept).ok_or_else(|| rpc.bad("eth_call", "is no anchor"))?;
        let latest = |at: &str| {
            let epoch = rpc.view(&self.contract, contract::call(contract::LATEST, &[batch.log_id.0]), at)?;
            match contract::read_latest(&epoch) {
                Some(epoch) => Ok(epoch),
                // Before the contract was made there is nothing at its address.
                None if epoch.is_empty() => Ok(0),
                None => Err(rpc.bad("eth_call", "is no epoch")),
            }
        };
        let nonce = |at: &str| {
            rpc.get::<U64>("eth_getTransactionCount", json!([account, at])).map(|nonce| nonce.to::<u64>())
        };
        Ok(Sight {
            head,
            finalized,
            kept,
            latest_epoch: latest(&at)?,
            final_epoch: latest(&final_at)?,
            nonces: Nonces { latest: nonce(&at)?, finalized: nonce(&final_at)? },
        })
    }
}

/// A hash of the chain as ours.
pub(super) fn hash(hash: B256) -> Hash {
    Hash(hash.0)
}
