//! Putting the committed contract on a chain, with its first anchorer appointed, in one transaction.

use alloy_primitives::{Address, B256, Bytes};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answer::Receipt;
use super::config::{Config, Finality, Signer};
use super::driver::EvmDriver;
use super::nodes::artifact;
use super::signed::SignedTransaction;
use super::transaction::{Unsigned, creation};
use super::{fees, rpc::Rpc};
use crate::batch::Hash;
use crate::driver::Sent;
use crate::failure::Failure;

/// The code is large: a deployment costs more gas than any cap on anchors.
const MOST_GAS: u64 = 5_000_000;

fn most_gas() -> u64 {
    MOST_GAS
}

/// What to deploy, and by whom: read from JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// EIP-155's number of the chain.
    pub chain_id: u64,
    /// Files with the URL of a JSON-RPC endpoint each.
    pub rpc_url_files: Vec<std::path::PathBuf>,
    /// The only authorities that may vouch for the endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<std::path::PathBuf>,
    /// Who pays. Needs no rights afterwards, unless it is the owner.
    pub signer: Signer,
    /// Who may appoint anchorers and pause: better an account that is kept offline.
    pub owner: Address,
    /// The log of the first anchorer.
    pub log_id: Hash,
    /// Who may anchor in it.
    pub anchorer: Address,
    /// No more is offered, in wei per gas.
    pub max_fee_per_gas: u64,
    /// No more gas is used.
    #[serde(default = "most_gas")]
    pub max_gas: u64,
}

/// A deployment that is ready to be sent. Signed first and sent afterwards, so that a caller can keep it: sent again it deploys
/// nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Where the contract will be.
    pub contract: Address,
    /// The transaction's hash.
    pub id: B256,
    /// The bytes to send.
    pub transaction: SignedTransaction,
}

/// Who deploys, with the files read.
pub struct Deployer {
    deployment: Deployment,
    driver: EvmDriver,
}

impl Deployer {
    /// Reads the files, and makes no call.
    pub fn open(deployment: Deployment) -> Result<Self, Failure> {
        let config = Config {
            chain_id: deployment.chain_id,
            contract: Address::ZERO,
            rpc_url_files: deployment.rpc_url_files.clone(),
            // A person looks at the result of a deployment, and nothing rests on it afterwards.
            allow_single_endpoint: true,
            ca_file: deployment.ca_file.clone(),
            signer: deployment.signer.clone(),
            max_fee_per_gas: deployment.max_fee_per_gas,
            min_priority_fee_per_gas: 1_000_000,
            max_gas: deployment.max_gas,
            finality: Finality::Tag,
            timeout_seconds: 20,
        };
        Ok(Self { deployment, driver: EvmDriver::open(config)? })
    }

    /// Signs the deployment, and sends nothing.
    pub fn prepare(&self) -> Result<Prepared, Failure> {
        let wanted = &self.deployment;
        if wanted.owner == Address::ZERO || wanted.anchorer == Address::ZERO {
            return Err(Failure::Configuration { problem: "names the zero address".into() });
        }
        self.driver.nodes.require_chain()?;
        let input = self.code()?;
        let gas = self.driver.gas(None, &input, wanted.max_gas)?;
        let fees = fees::choose(self.driver.market()?, wanted.max_fee_per_gas, None)?;
        self.driver.require_funds(gas, fees)?;
        let nonce = self.driver.nonce("pending")?;
        let unsigned = Unsigned { chain_id: wanted.chain_id, nonce, fees, gas, to: None, input };
        let transaction = self.driver.signer.sign(&unsigned)?;
        Ok(Prepared { contract: self.driver.account().create(nonce), id: transaction.hash(), transaction })
    }

    /// The account that signs and pays.
    #[must_use]
    pub fn account(&self) -> Address {
        self.driver.account()
    }

    /// The deployment that was prepared and kept before: `transaction` is the signed one. Refused unless it is exactly this one, by
    /// this account.
    pub fn resume(&self, transaction: &[u8]) -> Result<Prepared, Failure> {
        let other = |problem: &str| Failure::Configuration { problem: problem.into() };
        let signed = SignedTransaction::from_bytes(transaction)
            .ok_or_else(|| other("has a kept transaction that is none"))?;
        let same = signed.chain_id == self.deployment.chain_id
            && signed.to.is_empty()
            && signed.value.is_zero()
            && signed.input == self.code()?
            && signed.sender() == Some(self.account());
        if !same {
            return Err(other("is of another deployment than the kept transaction"));
        }
        let contract = self.account().create(signed.nonce);
        Ok(Prepared { contract, id: signed.hash(), transaction: signed })
    }

    fn code(&self) -> Result<Bytes, Failure> {
        let wanted = &self.deployment;
        creation(&artifact()?, wanted.owner, wanted.log_id.0, wanted.anchorer)
            .ok_or_else(|| Failure::Defect { what: "the artifact is none".into() })
    }

    /// Sends it. Accepted does not mean included: see [`Deployer::is_there`].
    pub fn send(&self, prepared: &Prepared) -> Result<(), Failure> {
        match self.driver.broadcast(&prepared.transaction)? {
            Sent::Underpriced => Err(Failure::Stuck),
            // A used nonce is ours, or the transaction will not be there.
            _ => Ok(()),
        }
    }

    /// Whether every endpoint has it included, with the requested code and anchorer.
    pub fn is_there(&self, prepared: &Prepared) -> Result<bool, Failure> {
        let receipts = self
            .driver
            .nodes
            .each(|rpc| rpc.get::<Option<Receipt>>("eth_getTransactionReceipt", json!([prepared.id])))?;
        if receipts.iter().any(Option::is_none) {
            return Ok(false);
        }
        if receipts.iter().flatten().any(|receipt| receipt.status.to::<u64>() != 1) {
            return Err(Failure::Reverted);
        }
        self.driver.nodes.require_contract_at(prepared.contract)?;
        let appointed = self.driver.nodes.each(|rpc| self.is_anchorer(rpc, prepared.contract))?;
        if appointed.contains(&false) {
            return Err(Failure::NoContract);
        }
        Ok(true)
    }

    fn is_anchorer(&self, rpc: &Rpc, contract: Address) -> Result<bool, Failure> {
        use super::contract::{IS_ANCHORER, call, word};
        let log_id = self.deployment.log_id.0;
        let answer: Bytes = rpc.view(
            &contract,
            call(IS_ANCHORER, &[log_id, self.deployment.anchorer.into_word().0]),
            "latest",
        )?;
        Ok(answer[..] == word(1))
    }
}
