//! The contract as bytes: `contracts/AuditAnchor.sol` by the ABI of Solidity, read strictly. Only static types occur, so everything is
//! words of 32 bytes at fixed places.

use alloy_primitives::{Address, keccak256};

use crate::batch::{Batch, Hash, Moment, Seal};
use crate::failure::Refusal;

/// `anchor(..)` of a batch.
pub const ANCHOR: &str = "anchor(bytes32,uint64,bytes32,uint64,uint64)";
/// The anchor of an epoch.
pub const ANCHOR_OF: &str = "anchorOf(bytes32,uint64)";
/// The newest epoch, and its anchor.
pub const LATEST: &str = "latest(bytes32)";
/// Whether an address may anchor.
pub const IS_ANCHORER: &str = "isAnchorer(bytes32,address)";
/// The event of each anchor.
pub const ANCHORED: &str = "Anchored(bytes32,uint64,address,bytes32,uint64,uint64)";

type Word = [u8; 32];

/// The first four bytes of a call or an error.
#[must_use]
pub fn selector(signature: &str) -> [u8; 4] {
    let [a, b, c, d, ..] = keccak256(signature).0;
    [a, b, c, d]
}

/// The first topic of an event.
#[must_use]
pub fn topic(signature: &str) -> Hash {
    Hash(keccak256(signature).0)
}

/// A number as a word.
#[must_use]
pub fn word(number: u64) -> Word {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&number.to_be_bytes());
    word
}

fn number(word: &Word) -> Option<u64> {
    let (high, low) = word.split_at(24);
    high.iter().all(|byte| *byte == 0).then(|| u64::from_be_bytes(low.try_into().unwrap_or_default()))
}

fn moment(word: &Word) -> Option<Moment> {
    number(word).and_then(|seconds| i64::try_from(seconds).ok()).map(Moment)
}

/// Exactly `N` words.
fn words<const N: usize>(data: &[u8]) -> Option<[Word; N]> {
    let (words, rest) = data.as_chunks::<32>();
    if rest.is_empty() { words.try_into().ok() } else { None }
}

fn seal([root, size, batch_time]: [&Word; 3]) -> Option<Seal> {
    Some(Seal { root: Hash(*root), size: number(size)?, batch_time: moment(batch_time)? })
}

/// A call with words as its arguments.
#[must_use]
pub fn call(signature: &str, arguments: &[Word]) -> Vec<u8> {
    [selector(signature).as_slice(), arguments.as_flattened()].concat()
}

/// The call that anchors `batch`.
#[must_use]
pub fn anchor_call(batch: &Batch) -> Vec<u8> {
    let seconds = u64::try_from(batch.batch_time.0).unwrap_or(0);
    call(ANCHOR, &[batch.log_id.0, word(batch.epoch), batch.root.0, word(batch.size), word(seconds)])
}

/// What a call of [`ANCHOR`] anchors: log, epoch, seal.
#[must_use]
pub fn read_anchor_call(data: &[u8]) -> Option<(Hash, u64, Seal)> {
    let arguments = data.strip_prefix(&selector(ANCHOR))?;
    let [log_id, epoch, root, size, batch_time] = words::<5>(arguments)?;
    Some((Hash(log_id), number(&epoch)?, seal([&root, &size, &batch_time])?))
}

/// An anchor as the contract keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Of the batch.
    pub seal: Seal,
    /// Time of the block.
    pub anchored_at: Moment,
    /// Number of the block.
    pub block_number: u64,
}

/// The answer to [`ANCHOR_OF`]; the inner None says that there is no such anchor.
#[must_use]
pub fn read_anchor_of(data: &[u8]) -> Option<Option<Kept>> {
    kept(words::<5>(data)?)
}

/// The answer to [`LATEST`].
#[must_use]
pub fn read_latest(data: &[u8]) -> Option<u64> {
    let [epoch, rest @ ..] = words::<6>(data)?;
    kept(rest)?;
    number(&epoch)
}

fn kept([root, size, batch_time, anchored_at, block_number]: [Word; 5]) -> Option<Option<Kept>> {
    let kept = Kept {
        seal: seal([&root, &size, &batch_time])?,
        anchored_at: moment(&anchored_at)?,
        block_number: number(&block_number)?,
    };
    Some((kept.anchored_at.0 != 0).then_some(kept))
}

/// The event of one anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchored {
    /// The log.
    pub log_id: Hash,
    /// Its epoch.
    pub epoch: u64,
    /// Who anchored: the sender of the call.
    pub anchorer: Address,
    /// What.
    pub seal: Seal,
}

/// Reads [`ANCHORED`].
#[must_use]
pub fn read_anchored(topics: &[Hash], data: &[u8]) -> Option<Anchored> {
    let [signature, log_id, epoch, anchorer] = topics else { return None };
    if *signature != topic(ANCHORED) || anchorer.0[..12] != [0; 12] {
        return None;
    }
    let [root, size, batch_time] = words::<3>(data)?;
    Some(Anchored {
        log_id: *log_id,
        epoch: number(&epoch.0)?,
        anchorer: Address::from_slice(&anchorer.0[12..]),
        seal: seal([&root, &size, &batch_time])?,
    })
}

/// Why the contract refused, by the data of its error.
#[must_use]
pub fn refusal(data: &[u8]) -> Refusal {
    let Some((found, arguments)) = data.split_first_chunk::<4>() else { return Refusal::Unknown };
    let latest = || words::<2>(arguments).and_then(|[latest, _]| number(&latest));
    let is = |signature| *found == selector(signature);
    if is("IsPaused()") {
        return Refusal::Paused;
    }
    if is("NotAnchorer(bytes32,address)") {
        return Refusal::NotAnchorer;
    }
    match latest() {
        Some(latest) if is("EpochNotRising(uint64,uint64)") => Refusal::EpochNotRising { latest },
        Some(latest) if is("EpochTooFar(uint64,uint64)") => Refusal::EpochTooFar { latest },
        _ => Refusal::Unknown,
    }
}
