//! The interface of a target. Every method is a call to the outside: it may fail, hang until its deadline, or fail
//! after it worked. Nothing here decides anything; [`crate::machine`] does.

use serde::{Deserialize, Serialize};

use crate::batch::{Batch, Moment, Seal};
use crate::failure::Failure;

/// A target. Calls block, each within a deadline of the driver's own, and never panic.
pub trait Driver: Send {
    /// What the target has of the batch, and the fate of the attempts. Changes nothing.
    fn look(&self, batch: &Batch, attempts: &[&Attempt]) -> Result<View, Failure>;

    /// Makes an attempt, and sends nothing. May query the target (for fees, a nonce).
    fn prepare(&self, batch: &Batch, need: &Need, now: Moment) -> Result<Attempt, Failure>;

    /// Sends an attempt that was stored. Sending the same attempt twice must do no more than sending it once.
    fn send(&self, batch: &Batch, attempt: &Attempt) -> Result<Sent, Failure>;

    /// The evidence by which an auditor checks the anchor, verified before it is returned.
    fn evidence(&self, batch: &Batch, inclusion: &Inclusion) -> Result<serde_json::Value, Failure>;
}

/// What the target has of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The target's content under the batch's log and epoch.
    pub place: Place,
    /// Whether the target still has the newest attempt, waiting.
    pub waiting: bool,
    /// Nonces of the account, for targets that have them.
    pub nonces: Option<Nonces>,
    /// Whether one of the attempts was included and failed.
    pub reverted: bool,
}

/// A target's content under a log and an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing, and the epoch can still be used.
    Free,
    /// Not known yet: endpoints are at different heights.
    Unsettled,
    /// An anchor; whose it is, the seal says.
    Included(Inclusion),
    /// Nothing, and a later epoch is there: this one can never be used again.
    Passed {
        /// The newest epoch of the log.
        latest: u64,
        /// Whether that is final.
        finalized: bool,
    },
}

/// Where an anchor is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inclusion {
    /// The seal that the target keeps.
    pub seal: Seal,
    /// The transaction's hash, the token's serial number, or the link of the entry.
    pub id: String,
    /// Number of the block; None where there are no blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_number: Option<u64>,
    /// Hash of the block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_hash: Option<String>,
    /// When the target says it was anchored.
    pub anchored_at: Moment,
    /// Whether it can no longer be undone.
    pub finalized: bool,
    /// The token, where the answer itself is the anchor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// How many transactions of the account are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonces {
    /// By the newest block.
    pub latest: u64,
    /// By the newest final block.
    pub finalized: u64,
}

/// The attempt to prepare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Need {
    /// The first attempt, or one in place of an attempt that can never be included.
    Fresh {
        /// Whether to queue behind transactions of the account that are not included yet.
        behind_pending: bool,
    },
    /// The same at the same nonce, with higher fees.
    Replace {
        /// The nonce.
        nonce: u64,
        /// The fees that are to be exceeded.
        above: Fees,
    },
}

/// Fees of EIP-1559, in wei per gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fees {
    /// The maximum fee in all.
    pub max_fee: u64,
    /// The priority fee, for the block's producer.
    pub max_priority_fee: u64,
}

/// An attempt. Stored before it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The transaction's hash; for other targets whatever distinguishes attempts.
    pub id: String,
    /// The very bytes that are sent, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bytes: String,
    /// Its nonce, for targets that have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<u64>,
    /// Its fees, for targets that have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fees: Option<Fees>,
    /// When it was made.
    pub prepared_at: Moment,
    /// When it was first sent, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Moment>,
    /// How often it was sent.
    #[serde(default)]
    pub sends: u32,
    /// Whether the target refused its fees.
    #[serde(default)]
    pub underpriced: bool,
}

/// The outcome of sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Accepted, or known already.
    Accepted,
    /// The nonce is used: by this very attempt or by another transaction.
    NonceUsed,
    /// The fees are too low for now, or for replacing the pending attempt.
    Underpriced,
    /// The answer is the anchor itself.
    Anchored(Inclusion),
}
