//! Answers of a node, read strictly: JSON-RPC 2.0 and the few objects that are queried. Everything in them is untrusted.

use std::fmt;

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The error object of an answer. The node's message only serves to distinguish cases and is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeError {
    /// The code.
    pub code: i64,
    message: String,
    /// What a contract gave as its reason.
    pub data: Option<Bytes>,
}

impl fmt::Debug for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeError")
            .field("code", &self.code)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

/// What a node means by an error, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It has the transaction already.
    Known,
    /// The nonce is used.
    NonceUsed,
    /// The fees are too low.
    Underpriced,
    /// The account cannot pay.
    NoFunds,
    /// The call would fail in the contract.
    Reverted,
    /// Anything else.
    Other,
}

/// Keys of a block that are no fields of its header, or are known as such; with any other one a fork may have added a field.
const BLOCK_KEYS: [&str; 32] = [
    "hash",
    "parentHash",
    "sha3Uncles",
    "miner",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "logsBloom",
    "difficulty",
    "number",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "extraData",
    "mixHash",
    "nonce",
    "baseFeePerGas",
    "withdrawalsRoot",
    "blobGasUsed",
    "excessBlobGas",
    "parentBeaconBlockRoot",
    "requestsHash",
    "blockAccessListHash",
    "slotNumber",
    "transactions",
    "withdrawals",
    "uncles",
    "size",
    "totalDifficulty",
    "author",
    "blockAccessList",
    "requests",
];

/// Whether a block has keys that are not known here.
#[must_use]
pub fn has_unknown_keys(block: &Value) -> bool {
    block.as_object().is_some_and(|fields| fields.keys().any(|key| !BLOCK_KEYS.contains(&key.as_str())))
}

/// Reads an object, or several, of a result. Null counts as a field that is not there. The error ends the sentence "the answer ..": it has the name
/// of a field that is lacking, and nothing that the node said.
pub fn form<T: DeserializeOwned>(mut result: Value) -> Result<T, String> {
    if let Value::Object(fields) = &mut result {
        fields.retain(|_, value| !value.is_null());
    }
    serde_json::from_value(result).map_err(|error| {
        // The only message of serde that has nothing of the input in it: the name is one of ours.
        let text = error.to_string();
        let name = text.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
        name.map_or("is not of the expected form".into(), |(name, _)| format!("has no {name}"))
    })
}

impl NodeError {
    /// Whether the node has no time for the request now, whatever was asked for.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        const WORDS: [&str; 8] =
            ["rate", "limit", "too many", "capacity", "timeout", "timed out", "busy", "quota"];
        let message = self.message.to_lowercase();
        // EIP-1474: limit exceeded, internal error.
        [-32005, -32603, -32097, 429].contains(&self.code)
            || WORDS.iter().any(|words| message.contains(words))
    }

    /// The meaning, by the words that geth, erigon, nethermind, besu, reth and anvil use: there are no codes for it.
    #[must_use]
    pub fn meaning(&self) -> Meaning {
        const WORDS: [(&str, Meaning); 16] = [
            ("already known", Meaning::Known),
            ("known transaction", Meaning::Known),
            ("alreadyknown", Meaning::Known),
            ("already imported", Meaning::Known),
            ("nonce too low", Meaning::NonceUsed),
            ("nonce is too low", Meaning::NonceUsed),
            ("oldnonce", Meaning::NonceUsed),
            ("old nonce", Meaning::NonceUsed),
            ("underpriced", Meaning::Underpriced),
            ("base fee", Meaning::Underpriced),
            ("feetoolow", Meaning::Underpriced),
            ("fee too low", Meaning::Underpriced),
            ("insufficient funds", Meaning::NoFunds),
            ("insufficientfunds", Meaning::NoFunds),
            ("insufficient balance", Meaning::NoFunds),
            ("revert", Meaning::Reverted),
        ];
        let message = self.message.to_lowercase();
        let found = WORDS.iter().find(|(words, _)| message.contains(words)).map(|(_, meaning)| *meaning);
        // Code 3 is an execution that failed, whatever the words.
        if self.code == 3 { Meaning::Reverted } else { found.unwrap_or(Meaning::Other) }
    }
}

/// Reads the answer to the request with this id: the result, or the node's error. The outer error says why the text is no answer.
pub fn read(body: &[u8], id: u64) -> Result<Result<Value, NodeError>, &'static str> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| "is no JSON")?;
    let Value::Object(mut answer) = answer else { return Err("is no JSON-RPC") };
    if let Some(error) = answer.remove("error").filter(|error| !error.is_null()) {
        let code = error.get("code").and_then(Value::as_i64).ok_or("is no JSON-RPC")?;
        let message = error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
        // Some nodes put the reason one level deeper.
        let data = error.get("data").and_then(|data| data.get("data").or(Some(data))).and_then(Value::as_str);
        let data = data.and_then(|data| data.parse().ok());
        return Ok(Err(NodeError { code, message, data }));
    }
    if answer.get("id").and_then(Value::as_u64) != Some(id) {
        return Err("is for another request");
    }
    answer.remove("result").map(Ok).ok_or("is no JSON-RPC")
}

/// A block, with the hashes of its transactions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the fields of the header, by their usual names")]
pub struct Block {
    pub hash: B256,
    pub parent_hash: B256,
    pub sha3_uncles: B256,
    pub miner: Address,
    pub state_root: B256,
    pub transactions_root: B256,
    pub receipts_root: B256,
    pub logs_bloom: Bytes,
    pub difficulty: U256,
    pub number: U64,
    pub gas_limit: U64,
    pub gas_used: U64,
    pub timestamp: U64,
    pub extra_data: Bytes,
    pub mix_hash: B256,
    pub nonce: Bytes,
    pub base_fee_per_gas: Option<U256>,
    pub withdrawals_root: Option<B256>,
    pub blob_gas_used: Option<U64>,
    pub excess_blob_gas: Option<U64>,
    pub parent_beacon_block_root: Option<B256>,
    pub requests_hash: Option<B256>,
    /// EIP-7928.
    pub block_access_list_hash: Option<B256>,
    /// EIP-7843.
    pub slot_number: Option<U64>,
    #[serde(default)]
    pub transactions: Vec<B256>,
}

/// An event in a receipt or in the answer to `eth_getLogs`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "by their usual names")]
pub struct Log {
    pub address: Address,
    pub topics: Vec<B256>,
    pub data: Bytes,
    pub block_number: U64,
    pub block_hash: B256,
    pub transaction_hash: B256,
    pub log_index: U64,
    #[serde(default)]
    pub removed: bool,
}

/// A receipt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "by their usual names")]
pub struct Receipt {
    #[serde(default, rename = "type")]
    pub kind: U64,
    pub status: U64,
    pub cumulative_gas_used: U64,
    pub logs_bloom: Bytes,
    pub logs: Vec<Log>,
    pub transaction_hash: B256,
    pub transaction_index: U64,
    pub block_hash: B256,
    pub block_number: U64,
    pub from: Address,
    pub to: Option<Address>,
    /// Deposits of optimistic rollups have two more fields.
    pub deposit_nonce: Option<U64>,
    pub deposit_receipt_version: Option<U64>,
}

/// A transaction of EIP-1559.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "by their usual names")]
pub struct Transaction {
    #[serde(rename = "type")]
    pub kind: U64,
    pub hash: B256,
    pub chain_id: U64,
    pub nonce: U64,
    pub max_priority_fee_per_gas: U256,
    pub max_fee_per_gas: U256,
    pub gas: U64,
    pub to: Option<Address>,
    pub value: U256,
    pub input: Bytes,
    pub v: U64,
    pub r: U256,
    pub s: U256,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_a_result_or_an_error_and_nothing_else() {
        assert_eq!(read(br#"{"jsonrpc":"2.0","id":1,"result":"0x1"}"#, 1), Ok(Ok(json!("0x1"))));
        assert_eq!(read(br#"{"jsonrpc":"2.0","id":1,"result":null}"#, 1), Ok(Ok(Value::Null)));
        assert_eq!(read(br#"{"jsonrpc":"2.0","id":2,"result":"0x1"}"#, 1), Err("is for another request"));
        assert_eq!(read(br#"{"jsonrpc":"2.0","id":1}"#, 1), Err("is no JSON-RPC"));
        assert_eq!(read(b"[]", 1), Err("is no JSON-RPC"));
        assert_eq!(read(b"<html>", 1), Err("is no JSON"));
        assert_eq!(read(&[b'['; 100_000], 1), Err("is no JSON"));
    }

    #[test]
    fn what_nodes_say_has_one_of_a_few_meanings_and_is_not_shown() {
        let meaning = |message: &str| {
            let body = json!({ "id": 1, "error": { "code": -32000, "message": message } }).to_string();
            let error = read(body.as_bytes(), 1).unwrap().unwrap_err();
            assert!(!format!("{error:?}").contains(message));
            error.meaning()
        };
        assert_eq!(meaning("already known"), Meaning::Known);
        assert_eq!(meaning("transaction already imported"), Meaning::Known);
        assert_eq!(meaning("nonce too low: next nonce 5, tx nonce 4"), Meaning::NonceUsed);
        assert_eq!(meaning("replacement transaction underpriced"), Meaning::Underpriced);
        assert_eq!(meaning("max fee per gas less than block base fee"), Meaning::Underpriced);
        assert_eq!(meaning("Insufficient funds for gas * price + value"), Meaning::NoFunds);
        assert_eq!(meaning("execution reverted"), Meaning::Reverted);
        assert_eq!(meaning("boom"), Meaning::Other);
    }

    #[test]
    fn a_field_that_is_lacking_is_named_and_nothing_that_a_node_said_is() {
        let hash = format!("0x{}", "11".repeat(32));
        let receipt = json!({ "status": "0x1", "cumulativeGasUsed": "0x1", "logsBloom": "0x", "logs": [], "transactionHash": hash,
            "transactionIndex": "0x0", "blockHash": hash, "blockNumber": "0x1", "from": format!("0x{}", "22".repeat(20)), "to": null });
        assert!(form::<Receipt>(receipt.clone()).is_ok());
        for key in ["status", "from", "logs"] {
            for lacking in [None, Some(Value::Null)] {
                let mut receipt = receipt.clone();
                match lacking {
                    None => drop(receipt.as_object_mut().unwrap().remove(key)),
                    Some(null) => receipt[key] = null,
                }
                assert_eq!(form::<Receipt>(receipt.clone()), Err(format!("has no {key}")));
                assert!(form::<Vec<Receipt>>(json!([receipt])).is_err());
            }
        }
        let said = Err("is not of the expected form".to_owned());
        for wrong in ["s3cret", "missing field `s3cret`"] {
            let mut receipt = receipt.clone();
            receipt["status"] = json!(wrong);
            assert_eq!(form::<Receipt>(receipt), said);
            assert_eq!(form::<Receipt>(json!(wrong)), said);
        }
    }

    #[test]
    fn the_reason_of_a_contract_is_found_where_nodes_put_it() {
        let data = |data: Value| {
            let body = json!({ "id": 1, "error": { "code": 3, "message": "", "data": data } }).to_string();
            read(body.as_bytes(), 1).unwrap().unwrap_err().data.map(|data| data.to_vec())
        };
        assert_eq!(data(json!("0x0102")), Some(vec![1, 2]));
        assert_eq!(data(json!({ "data": "0x03" })), Some(vec![3]));
        assert_eq!(data(json!("zz")), None);
        assert_eq!(data(json!(7)), None);
    }
}
