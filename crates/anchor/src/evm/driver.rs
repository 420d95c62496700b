//! The driver: prepares, sends, and collects what proves an anchor. Nothing is kept between calls but what the configuration said.

use alloy_primitives::{Address, B256, Bytes, U64, U256, keccak256};
use serde_json::{Value, json};

use super::answer::{self, Block, Meaning, Receipt, Transaction};
use super::config::Config;
use super::fees::{self, Market};
use super::nodes::Nodes;
use super::rpc::{CallError, Rpc, quantity};
use super::seals::Rule;
use super::signed::SignedTransaction;
use super::transaction::{Signer, Unsigned, signer};
use super::{contract, look, trie};
use crate::batch::{Batch, Moment};
use crate::driver::{Attempt, Driver, Fees, Inclusion, Need, Sent, View};
use crate::evidence::evm::Evidence;
use crate::failure::{Failure, Refusal};

/// An EVM target.
pub struct EvmDriver {
    config: Config,
    pub(super) nodes: Nodes,
    pub(super) signer: Box<dyn Signer>,
}

impl EvmDriver {
    /// Reads the files of the configuration, and makes no call.
    pub fn open(config: Config) -> Result<Self, Failure> {
        let nodes = Nodes::open(&config)?;
        let signer = signer(&config)?;
        Ok(Self { config, nodes, signer })
    }

    /// The account that anchors.
    #[must_use]
    pub fn account(&self) -> Address {
        self.signer.address()
    }

    /// The fees that the chain asks for: the highest base fee and the lowest priority fee that an endpoint names.
    pub(super) fn market(&self) -> Result<Market, Failure> {
        let base_fee = self.nodes.each(|rpc| {
            let fee = rpc.block("latest")?.base_fee_per_gas;
            fee.ok_or_else(|| rpc.bad("eth_getBlockByNumber", "has no base fee: the chain lacks EIP-1559"))
        })?;
        let priority_fee = self.nodes.each(|rpc| match rpc.call("eth_maxPriorityFeePerGas", json!([])) {
            Ok(fee) => serde_json::from_value::<U256>(fee)
                .map_err(|_| rpc.bad("eth_maxPriorityFeePerGas", "is no number")),
            // Not every node has it.
            Err(CallError::Node(_)) => Ok(U256::ZERO),
            Err(CallError::Failure(failure)) => Err(failure),
        })?;
        let lowest = priority_fee.iter().min().copied().unwrap_or_default().saturating_to::<u64>();
        Ok(Market {
            base_fee: base_fee.iter().max().copied().unwrap_or_default().saturating_to(),
            priority_fee: lowest.max(self.config.min_priority_fee_per_gas),
        })
    }

    /// The gas that a call needs and a quarter more, by the endpoint that asks for most.
    pub(super) fn gas(&self, to: Option<Address>, input: &Bytes, cap: u64) -> Result<u64, Failure> {
        let mut call = json!({ "from": self.account(), "data": input, "value": "0x0" });
        if let Some(to) = to {
            call["to"] = json!(to);
        }
        let estimates = self.nodes.each(|rpc| {
            let estimate = rpc.call("eth_estimateGas", json!([call, "latest"]));
            let estimate = estimate.map_err(|error| estimate_failed(rpc, error))?;
            let gas: U64 =
                serde_json::from_value(estimate).map_err(|_| rpc.bad("eth_estimateGas", "is no number"))?;
            Ok(gas.to::<u64>())
        })?;
        let most = estimates.into_iter().max().unwrap_or(0);
        let needed = most.saturating_add(most / 4);
        if needed > cap {
            return Err(Failure::GasAboveCap { needed, cap });
        }
        Ok(needed)
    }

    /// Whether the account can pay at most `gas` at these fees.
    pub(super) fn require_funds(&self, gas: u64, fees: Fees) -> Result<(), Failure> {
        let balances =
            self.nodes.each(|rpc| rpc.get::<U256>("eth_getBalance", json!([self.account(), "latest"])))?;
        let price = U256::from(gas).saturating_mul(U256::from(fees.max_fee));
        if balances.iter().any(|balance| *balance < price) {
            return Err(Failure::NoFunds);
        }
        Ok(())
    }

    pub(super) fn nonce(&self, at: &str) -> Result<u64, Failure> {
        let nonces = self.nodes.each(|rpc| {
            rpc.get::<U64>("eth_getTransactionCount", json!([self.account(), at]))
                .map(|nonce| nonce.to::<u64>())
        })?;
        // A lagging endpoint does not know of the newest included transactions.
        Ok(nonces.into_iter().max().unwrap_or(0))
    }

    /// Sends to every endpoint: one that accepts is enough.
    pub(super) fn broadcast(&self, transaction: &SignedTransaction) -> Result<Sent, Failure> {
        self.nodes.require_chain()?;
        let (raw, id) = (Bytes::from(transaction.to_bytes()), transaction.hash());
        let mut sent = Vec::new();
        let mut failures = Vec::new();
        for rpc in &self.nodes.rpcs {
            match rpc.call("eth_sendRawTransaction", json!([raw])) {
                Ok(hash) if serde_json::from_value(hash.clone()).is_ok_and(|hash: B256| hash == id) => {
                    sent.push(Sent::Accepted);
                }
                Ok(_) => failures.push(rpc.bad("eth_sendRawTransaction", "is another hash")),
                Err(CallError::Failure(failure)) => failures.push(failure),
                Err(CallError::Node(error)) => match error.meaning() {
                    Meaning::Known => sent.push(Sent::Accepted),
                    Meaning::NonceUsed => sent.push(Sent::NonceUsed),
                    Meaning::Underpriced => sent.push(Sent::Underpriced),
                    Meaning::NoFunds => failures.push(Failure::NoFunds),
                    _ => failures.push(rpc.failure("eth_sendRawTransaction", CallError::Node(error))),
                },
            }
        }
        for best in [Sent::Accepted, Sent::NonceUsed, Sent::Underpriced] {
            if sent.contains(&best) {
                return Ok(best);
            }
        }
        Err(failures.into_iter().next().unwrap_or(Failure::Defect { what: "no endpoint was queried".into() }))
    }
}

/// Why a call could not be estimated: mostly why it would fail.
fn estimate_failed(rpc: &Rpc, error: CallError) -> Failure {
    let CallError::Node(node) = &error else { return rpc.failure("eth_estimateGas", error) };
    match (node.meaning(), &node.data) {
        (Meaning::NoFunds, _) => Failure::NoFunds,
        (_, Some(data)) if data.len() >= 4 => Failure::Refused { refusal: contract::refusal(data) },
        (Meaning::Reverted, _) => Failure::Refused { refusal: Refusal::Unknown },
        _ => rpc.failure("eth_estimateGas", error),
    }
}

impl Driver for EvmDriver {
    fn look(&self, batch: &Batch, attempts: &[&Attempt]) -> Result<View, Failure> {
        look::look(&self.nodes, self.config.contract, self.account(), batch, attempts)
    }

    fn prepare(&self, batch: &Batch, need: &Need, now: Moment) -> Result<Attempt, Failure> {
        self.nodes.require_chain()?;
        self.nodes.require_contract()?;
        let input = Bytes::from(contract::anchor_call(batch));
        let gas = self.gas(Some(self.config.contract), &input, self.config.max_gas)?;
        let above = match need {
            Need::Fresh { .. } => None,
            Need::Replace { above, .. } => Some(*above),
        };
        let market = self.market()?;
        if above.is_none() {
            self.require_hashes()?;
        }
        let fees = fees::choose(market, self.config.max_fee_per_gas, above)?;
        self.require_funds(gas, fees)?;
        let nonce = match need {
            Need::Fresh { behind_pending: true } => self.nonce("pending")?,
            Need::Fresh { behind_pending: false } => self.nonce("latest")?,
            Need::Replace { nonce, .. } => *nonce,
        };
        let unsigned = Unsigned {
            chain_id: self.config.chain_id,
            nonce,
            fees,
            gas,
            to: Some(self.config.contract),
            input,
        };
        let signed = self.signer.sign(&unsigned)?;
        Ok(Attempt {
            id: signed.hash().to_string(),
            bytes: hex::encode(signed.to_bytes()),
            nonce: Some(nonce),
            fees: Some(fees),
            prepared_at: now,
            sent_at: None,
            sends: 0,
            underpriced: false,
        })
    }

    fn send(&self, batch: &Batch, attempt: &Attempt) -> Result<Sent, Failure> {
        let stored = hex::decode(&attempt.bytes).ok().and_then(|bytes| SignedTransaction::from_bytes(&bytes));
        let Some(transaction) = stored else {
            return Err(Failure::Defect { what: "the stored bytes are no transaction".into() });
        };
        // The database's superuser can change a stored attempt; this sends this batch's anchor or nothing.
        let ours = transaction.chain_id == self.config.chain_id
            && transaction.to[..] == self.config.contract[..]
            && transaction.input[..] == contract::anchor_call(batch)
            && transaction.value.is_zero()
            && transaction.hash().to_string() == attempt.id;
        if !ours {
            return Err(Failure::Defect { what: "the stored transaction is not for this batch".into() });
        }
        self.broadcast(&transaction)
    }

    fn evidence(&self, batch: &Batch, inclusion: &Inclusion) -> Result<Value, Failure> {
        let mut last = Failure::Defect { what: "no endpoint was queried".into() };
        // Every byte of it is checked against the block's hash, which all endpoints agreed on: any one of them will do.
        for rpc in &self.nodes.rpcs {
            match self.evidence_of(rpc, batch, inclusion) {
                Ok(evidence) => return Ok(evidence),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }
}

impl EvmDriver {
    fn evidence_of(&self, rpc: &Rpc, batch: &Batch, inclusion: &Inclusion) -> Result<Value, Failure> {
        let unverified = |problem: &str| Failure::Unverified { problem: problem.into() };
        let parsed = |text: Option<&String>| text.and_then(|text| text.parse().ok());
        let (Some(block_hash), Some(id)) =
            (parsed(inclusion.block_hash.as_ref()), parsed(Some(&inclusion.id)))
        else {
            return Err(Failure::Defect { what: "the inclusion names no block".into() });
        };
        let block = rpc.block_by_hash(block_hash)?.ok_or_else(|| unverified("the block is gone"))?;
        let (header, block_hash_rule) =
            self.header(rpc, &block).ok_or_else(|| unverified("the header has another hash"))?;
        let receipts = self.receipts(rpc, &block)?;
        let found = receipts.iter().position(|receipt| receipt.transaction_hash == id);
        let (index, receipt) = found
            .and_then(|at| receipts.get(at).map(|receipt| (at as u64, receipt)))
            .ok_or_else(|| unverified("the block does not have the receipt"))?;
        let encoded: Vec<Vec<u8>> = receipts.iter().map(trie::receipt).collect();
        let (root, proof) = trie::prove(&encoded, index);
        if root != block.receipts_root {
            return Err(unverified("the receipts have another root"));
        }
        let log_index = receipt.logs.iter().position(|log| {
            let topics: Vec<_> = log.topics.iter().map(|topic| super::nodes::hash(*topic)).collect();
            log.address == self.config.contract
                && contract::read_anchored(&topics, &log.data)
                    .is_some_and(|event| event.log_id == batch.log_id && event.epoch == batch.epoch)
        });
        let log_index = log_index.ok_or_else(|| unverified("the receipt does not have the event"))?;
        let evidence = Evidence {
            version: 1,
            chain_id: self.config.chain_id,
            contract: self.config.contract,
            log_id: batch.log_id,
            epoch: batch.epoch,
            block_hash,
            block_hash_rule,
            header: header.into(),
            receipt_index: index,
            receipt: trie::receipt(receipt).into(),
            receipt_proof: proof,
            log_index,
            transaction: self.transaction(rpc, id)?.to_bytes().into(),
        };
        let verdict = evidence.verify(&batch.root).map_err(|error| unverified(&error.to_string()))?;
        if !batch.is(&verdict.seal) {
            return Err(unverified("it is of another batch"));
        }
        serde_json::to_value(&evidence).map_err(|_| Failure::Defect { what: "evidence is no JSON".into() })
    }

    /// The header's bytes as they are hashed, and the rule if that is not as they are; from the node if a fork has added fields that are not
    /// known here.
    fn header(&self, rpc: &Rpc, block: &Block) -> Option<(Vec<u8>, Option<Rule>)> {
        let is_hashed = |header: &Vec<u8>| keccak256(header) == block.hash;
        let by_a_rule = |header: Vec<u8>| {
            let sealed = |rule: Rule| Some((rule.hashed(&header).filter(is_hashed)?, Some(rule)));
            let sealed = Rule::ALL.into_iter().find_map(sealed);
            sealed.or_else(|| is_hashed(&header).then_some((header, None)))
        };
        by_a_rule(trie::write_header(block)).or_else(|| {
            let number = quantity(block.number.to::<u64>());
            by_a_rule(rpc.get::<Bytes>("debug_getRawHeader", json!([number])).ok()?.to_vec())
        })
    }

    /// Fails if no endpoint has a header from which evidence could be made, unless that is for a fork of which this version knows nothing:
    /// an anchor without evidence is still one.
    fn require_hashes(&self) -> Result<(), Failure> {
        for rpc in &self.nodes.rpcs {
            let (block, unknown_keys) = rpc.block_and_keys("latest")?;
            if unknown_keys || self.header(rpc, &block).is_some() {
                return Ok(());
            }
        }
        Err(Failure::OtherHashes)
    }

    /// Every receipt of a block, in order.
    fn receipts(&self, rpc: &Rpc, block: &Block) -> Result<Vec<Receipt>, Failure> {
        const METHOD: &str = "eth_getBlockReceipts";
        let all = match rpc.call(METHOD, json!([quantity(block.number.to::<u64>())])) {
            // Not every node has that method, and some that have it lose receipts of a block that they have.
            Err(CallError::Node(_)) | Ok(Value::Null) => None,
            Ok(Value::Array(some)) if some.len() != block.transactions.len() => None,
            Ok(receipts) => Some(answer::form(receipts).map_err(|problem| rpc.bad(METHOD, &problem))?),
            Err(error) => return Err(rpc.failure(METHOD, error)),
        };
        let one = |id: &B256| look::receipt(rpc, *id)?.ok_or_else(|| rpc.no_receipt());
        let receipts: Vec<Receipt> = match all {
            Some(receipts) => receipts,
            None => block.transactions.iter().map(one).collect::<Result<_, _>>()?,
        };
        let ordered = (0u64..).zip(&receipts).all(|(at, receipt)| {
            receipt.transaction_index.to::<u64>() == at && receipt.block_hash == block.hash
        });
        if ordered { Ok(receipts) } else { Err(rpc.bad(METHOD, "is not in order")) }
    }

    /// The transaction, put together from its fields.
    fn transaction(&self, rpc: &Rpc, id: B256) -> Result<SignedTransaction, Failure> {
        const METHOD: &str = "eth_getTransactionByHash";
        let found = rpc.call(METHOD, json!([id])).map_err(|error| rpc.failure(METHOD, error))?;
        if found.is_null() {
            return Err(rpc.bad(METHOD, "has no transaction"));
        }
        let found: Transaction = answer::form(found).map_err(|problem| rpc.bad(METHOD, &problem))?;
        let transaction = SignedTransaction {
            chain_id: found.chain_id.to(),
            nonce: found.nonce.to(),
            max_priority_fee_per_gas: found.max_priority_fee_per_gas,
            max_fee_per_gas: found.max_fee_per_gas,
            gas_limit: found.gas.to(),
            to: found.to.map(|to| Bytes::from(to.to_vec())).unwrap_or_default(),
            value: found.value,
            input: found.input,
            access_list: Vec::new(),
            y_parity: found.v.to::<u64>() == 1,
            r: found.r,
            s: found.s,
        };
        if transaction.hash() != id {
            return Err(rpc.bad(METHOD, "has another hash"));
        }
        Ok(transaction)
    }
}
