//! Notices for people, as data. Nothing here sends anything.

use serde::{Deserialize, Serialize};

use crate::batch::{Moment, Seal};
use crate::driver::Fees;
use crate::failure::Failure;

/// A notice for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Notice {
    /// Trouble has lasted too long: call a person. Retries continue.
    Page {
        /// Since when.
        since: Moment,
        /// Failures since then.
        failures: u32,
        /// The newest of them.
        last: Failure,
    },
    /// The trouble that a person was called for has ended.
    Recovered {
        /// Since when it lasted.
        since: Moment,
        /// Failures in that time.
        failures: u32,
    },
    /// An inclusion was undone; the attempt is sent again.
    Orphaned {
        /// The attempt that was included.
        id: String,
        /// In which block.
        block_number: Option<u64>,
    },
    /// Another holder of the key used the nonce of our transaction.
    NonceTaken {
        /// The nonce.
        nonce: u64,
    },
    /// Sent again with higher fees.
    Replaced {
        /// At this nonce.
        nonce: u64,
        /// The fees offered before.
        before: Option<Fees>,
        /// The fees offered now.
        after: Option<Fees>,
    },
    /// Another holder of the key anchored something else under our epoch.
    EpochTaken {
        /// The epoch.
        epoch: u64,
        /// The seal that is there.
        seal: Seal,
        /// The transaction's hash, or what the target has instead.
        id: String,
    },
    /// A later epoch was anchored before ours.
    EpochPassed {
        /// Our epoch.
        epoch: u64,
        /// The newest epoch of the log.
        latest: u64,
    },
}

impl Notice {
    /// 1 is the highest. Another holder's use of our key or of our epochs is as grave as no anchor at all.
    #[must_use]
    pub fn severity(&self) -> u8 {
        match self {
            Self::Page { .. }
            | Self::EpochTaken { .. }
            | Self::EpochPassed { .. }
            | Self::NonceTaken { .. } => 1,
            Self::Orphaned { .. } => 3,
            Self::Replaced { .. } | Self::Recovered { .. } => 4,
        }
    }

    /// The word for it in SQL and in alerts.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Page { .. } => "anchor_failing",
            Self::Recovered { .. } => "anchor_recovered",
            Self::Orphaned { .. } => "anchor_orphaned",
            Self::NonceTaken { .. } => "anchor_nonce_taken",
            Self::Replaced { .. } => "anchor_replaced",
            Self::EpochTaken { .. } => "anchor_epoch_taken",
            Self::EpochPassed { .. } => "anchor_epoch_passed",
        }
    }
}
