//! The views that the endpoints have of a batch, combined: a fact counts only if every endpoint confirms it.

use alloy_primitives::{Address, B256};
use serde_json::{Value, json};

use super::answer::{self, Log, Receipt};
use super::contract::{self, ANCHORED, Kept};
use super::nodes::{Nodes, Sight, hash};
use super::rpc::{Rpc, quantity};
use crate::batch::Batch;
use crate::driver::{Attempt, Inclusion, Nonces, Place, View};
use crate::failure::Failure;

/// Looks at a batch.
pub(super) fn look(
    nodes: &Nodes,
    contract: Address,
    account: Address,
    batch: &Batch,
    attempts: &[&Attempt],
) -> Result<View, Failure> {
    nodes.require_chain()?;
    nodes.require_contract()?;
    let sights = nodes.sights(batch, account)?;
    // A nonce counts as used when any endpoint says so, and as finally used when all do: both errors only cost time.
    let nonces = Nonces {
        latest: sights.iter().map(|sight| sight.nonces.latest).max().unwrap_or(0),
        finalized: sights.iter().map(|sight| sight.nonces.finalized).min().unwrap_or(0),
    };
    let place = place(nodes, contract, batch, &sights)?;
    let mut view = View { place, waiting: false, nonces: Some(nonces), reverted: false };
    if view.place == Place::Free
        && let Some(newest) = attempts.first()
    {
        view.waiting = nodes.each(|rpc| is_waiting(rpc, newest))?.contains(&true);
        if newest.nonce.is_some_and(|nonce| nonces.finalized > nonce) {
            view.reverted = any_reverted(nodes, attempts)?;
        }
    }
    Ok(view)
}

fn place(nodes: &Nodes, contract: Address, batch: &Batch, sights: &[Sight]) -> Result<Place, Failure> {
    let kept: Vec<Kept> = sights.iter().filter_map(|sight| sight.kept).collect();
    let Some(first) = kept.first() else {
        let latest = sights.iter().map(|sight| sight.latest_epoch).max().unwrap_or(0);
        let finalized = sights.iter().all(|sight| sight.final_epoch > batch.epoch);
        return Ok(if latest > batch.epoch { Place::Passed { latest, finalized } } else { Place::Free });
    };
    if kept.iter().any(|other| other != first) {
        return Err(Failure::Disagreement { about: "what is anchored under this epoch".into() });
    }
    if kept.len() < sights.len() {
        // One that has the block and does not have the anchor lies, or is on a branch of its own; one that lacks the block lags.
        let contradicts = |sight: &Sight| sight.kept.is_none() && sight.head >= first.block_number;
        return match sights.iter().any(contradicts) {
            true => Err(Failure::Disagreement { about: "whether this epoch is anchored".into() }),
            false => Ok(Place::Unsettled),
        };
    }
    included(nodes, contract, batch, first, sights).map(Place::Included)
}

/// The anchor that the contract has, from its block, its transaction and its event.
fn included(
    nodes: &Nodes,
    contract: Address,
    batch: &Batch,
    kept: &Kept,
    sights: &[Sight],
) -> Result<Inclusion, Failure> {
    let at = quantity(kept.block_number);
    let topics = [contract::topic(ANCHORED), batch.log_id, crate::batch::Hash(contract::word(batch.epoch))];
    let filter = json!([{ "fromBlock": at, "toBlock": at, "address": contract, "topics": topics }]);
    let log = nodes.agreed("the event of the anchor", |rpc| {
        let logs: Vec<Log> = rpc.get("eth_getLogs", filter.clone())?;
        let [log] = <[Log; 1]>::try_from(logs).map_err(|_| rpc.bad("eth_getLogs", "is not one event"))?;
        Ok(log)
    })?;
    let topics: Vec<_> = log.topics.iter().map(|topic| hash(*topic)).collect();
    let event = contract::read_anchored(&topics, &log.data);
    let fits = event.is_some_and(|event| {
        event.log_id == batch.log_id && event.epoch == batch.epoch && event.seal == kept.seal
    });
    if !fits || log.address != contract || log.removed || log.block_number.to::<u64>() != kept.block_number {
        return Err(Failure::Disagreement { about: "the event and the storage of the contract".into() });
    }
    let id = log.transaction_hash;
    // An index of receipts may lag behind the blocks and their events.
    let receipt = nodes.agreed("the receipt", |rpc| receipt(rpc, id)?.ok_or_else(|| rpc.no_receipt()))?;
    let holds = receipt.status.to::<u64>() == 1
        && receipt.block_hash == log.block_hash
        && receipt.logs.contains(&log);
    if !holds {
        return Err(Failure::Disagreement { about: "the event and the receipt".into() });
    }
    let block = nodes.agreed("the block of the anchor", |rpc| rpc.block(&at))?;
    if block.hash != log.block_hash || block.timestamp.to::<u64>() != kept.anchored_at.0.unsigned_abs() {
        return Err(Failure::Disagreement { about: "the block of the anchor".into() });
    }
    Ok(Inclusion {
        seal: kept.seal,
        id: id.to_string(),
        block_number: Some(kept.block_number),
        block_hash: Some(block.hash.to_string()),
        anchored_at: kept.anchored_at,
        finalized: sights.iter().all(|sight| sight.finalized >= kept.block_number),
        token: None,
    })
}

/// The receipt of a transaction, if the endpoint has one.
pub(super) fn receipt(rpc: &Rpc, id: B256) -> Result<Option<Receipt>, Failure> {
    const METHOD: &str = "eth_getTransactionReceipt";
    match rpc.call(METHOD, json!([id])).map_err(|error| rpc.failure(METHOD, error))? {
        Value::Null => Ok(None),
        found => answer::form(found).map(Some).map_err(|problem| rpc.bad(METHOD, &problem)),
    }
}

/// Whether the endpoint has it, and in no block yet.
fn is_waiting(rpc: &Rpc, attempt: &Attempt) -> Result<bool, Failure> {
    let found: Value = rpc.get("eth_getTransactionByHash", json!([attempt.id]))?;
    Ok(found.is_object() && found.get("blockNumber").is_none_or(Value::is_null))
}

fn any_reverted(nodes: &Nodes, attempts: &[&Attempt]) -> Result<bool, Failure> {
    for attempt in attempts {
        let id: B256 =
            attempt.id.parse().map_err(|_| Failure::Defect { what: "an attempt has no hash".into() })?;
        let found = nodes.agreed("the receipt", |rpc| receipt(rpc, id))?;
        if found.is_some_and(|receipt| receipt.status.to::<u64>() == 0) {
            return Ok(true);
        }
    }
    Ok(false)
}
