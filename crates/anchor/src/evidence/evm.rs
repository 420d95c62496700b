//! Evidence of an anchor in a contract. From the block's hash down: header, receipts trie, receipt, event; and the transaction that
//! the account signed.
//!
//! The transaction is linked to the event by its sender and its call, not by a proof of its own: the contract names its caller in the
//! event, and takes an epoch only once.

use alloy_primitives::{Address, B256, Bytes, keccak256};
use serde::{Deserialize, Serialize};

use super::{Error, RestsOn, Verdict};
use crate::batch::{Hash, Moment};
use crate::evm::contract;
use crate::evm::seals::Rule;
use crate::evm::signed::SignedTransaction;
use crate::evm::trie;

/// Evidence of an anchor in a contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Of this format.
    pub version: u32,
    /// EIP-155's number of the chain.
    pub chain_id: u64,
    /// The contract.
    pub contract: Address,
    /// The log.
    pub log_id: Hash,
    /// Its epoch.
    pub epoch: u64,
    /// Hash of the block: all that must be trusted.
    pub block_hash: B256,
    /// How the chain hashes its headers, if not as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_hash_rule: Option<Rule>,
    /// The header, as RLP, as it is hashed.
    pub header: Bytes,
    /// Place of the transaction in the block.
    pub receipt_index: u64,
    /// Its receipt, as the trie has it.
    pub receipt: Bytes,
    /// Nodes of the trie, from the root down.
    pub receipt_proof: Vec<Bytes>,
    /// Place of the event in the receipt.
    pub log_index: usize,
    /// The signed transaction.
    pub transaction: Bytes,
}

impl Evidence {
    /// Checks all of it; `root` is the root that must be anchored.
    pub fn verify(&self, root: &Hash) -> Result<Verdict, Error> {
        use Error::DoesNotHold as Bad;
        if self.version != 1 {
            return Err(Error::Unknown);
        }
        // 1. The header is the block's.
        if keccak256(&self.header) != self.block_hash {
            return Err(Bad("the header is of another block"));
        }
        if self.block_hash_rule.is_some_and(|rule| !rule.is_hashed(&self.header)) {
            return Err(Bad("the header is not one of the rule that the evidence names"));
        }
        let header = trie::read_header(&self.header).ok_or(Error::Malformed("the header"))?;
        // 2. The receipt is in the block.
        if !trie::is_proven(header.receipts_root, self.receipt_index, &self.receipt, &self.receipt_proof) {
            return Err(Bad("the receipt is not in the block"));
        }
        // 3. The event is in the receipt, of a transaction that succeeded.
        let events = trie::read_receipt(&self.receipt).ok_or(Bad("the receipt is of no success"))?;
        let event = events.get(self.log_index).ok_or(Bad("the receipt does not have the event"))?;
        if event.address != self.contract {
            return Err(Bad("the event is of another contract"));
        }
        let topics: Vec<Hash> = event.topics.iter().map(|topic| Hash(topic.0)).collect();
        let anchored = contract::read_anchored(&topics, &event.data).ok_or(Bad("the event is no anchor"))?;
        if (anchored.log_id, anchored.epoch) != (self.log_id, self.epoch) {
            return Err(Bad("the event is of another log or epoch"));
        }
        // 4. The anchorer signed it.
        let transaction =
            SignedTransaction::from_bytes(&self.transaction).ok_or(Error::Malformed("the transaction"))?;
        let sender = transaction.sender().ok_or(Bad("the transaction is not signed"))?;
        if sender != anchored.anchorer {
            return Err(Bad("the transaction is by another account than the anchor"));
        }
        let call = contract::read_anchor_call(&transaction.input);
        let same = call == Some((anchored.log_id, anchored.epoch, anchored.seal))
            && transaction.to[..] == self.contract[..]
            && transaction.chain_id == self.chain_id;
        if !same {
            return Err(Bad("the transaction anchors something else"));
        }
        // 5. It is the expected anchor.
        if anchored.seal.root != *root {
            return Err(Error::OtherRoot { found: anchored.seal.root });
        }
        let anchored_at =
            i64::try_from(header.timestamp).map_err(|_| Error::Malformed("the time of the block"))?;
        Ok(Verdict {
            log_id: Some(self.log_id),
            epoch: Some(self.epoch),
            seal: anchored.seal,
            anchored_at: Moment(anchored_at),
            rests_on: RestsOn::Block {
                chain_id: self.chain_id,
                block_number: header.number,
                block_hash: Hash(self.block_hash.0),
                contract: self.contract.to_string(),
                anchorer: sender.to_string(),
                transaction: Hash(transaction.hash().0),
            },
        })
    }
}
