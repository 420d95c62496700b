//! The stored state of one batch at one target. The worker owns it: it writes every state that [`super::step`] returns, in the
//! transaction that also records the notices, before it does anything else.

use serde::{Deserialize, Serialize};

use crate::batch::Moment;
use crate::driver::{Attempt, Inclusion, Need};
use crate::failure::Failure;

/// The phase of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// To be anchored; perhaps an attempt is stored, perhaps it was even sent.
    Planned,
    /// An attempt was accepted.
    Submitted,
    /// It is there, and could still be undone.
    Included,
    /// It is there for good.
    Finalized,
    /// It was there, and a reorganisation of the chain undid it.
    Orphaned,
    /// It can never be there: its epoch is used up. The same root needs a new epoch.
    Failed,
}

impl Phase {
    /// The word for it in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Submitted => "submitted",
            Self::Included => "included",
            Self::Finalized => "finalized",
            Self::Orphaned => "orphaned",
            Self::Failed => "failed",
        }
    }
}

/// Trouble that has not ended yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// When it began.
    pub since: Moment,
    /// Failures since then.
    pub failures: u32,
    /// The newest of them.
    pub last: Failure,
    /// Whether a person was called.
    pub paged: bool,
}

/// The stored state of one batch at one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Of this format.
    pub version: u32,
    /// Where the batch is.
    pub phase: Phase,
    /// When it was planned.
    pub planned_at: Moment,
    /// The newest attempt, which is sent, again and again if need be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// Earlier attempts, oldest first, without their bytes: one of them may be the included one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Attempt>,
    /// Where it is, when it is anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inclusion: Option<Inclusion>,
    /// Since when it has been included without interruption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub included_since: Option<Moment>,
    /// The current trouble.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// Nothing is to be done before.
    pub next: Moment,
    /// Nothing is to be prepared or sent before.
    pub retry_at: Moment,
    /// The attempt that is being prepared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<Need>,
    /// How often a reorganisation undid it.
    #[serde(default)]
    pub orphaned: u32,
    /// Whether the evidence is stored.
    #[serde(default)]
    pub evidence: bool,
}

/// The version of [`State`] that is written.
pub const VERSION: u32 = 1;
/// No more earlier attempts are remembered, and so no more replacements are made. At an eighth more each time, fees would
/// have risen to forty times the first ones.
pub const MOST_REPLACED: usize = 32;

impl State {
    /// A batch that is to be anchored from now on.
    #[must_use]
    pub fn planned(now: Moment) -> Self {
        Self {
            version: VERSION,
            phase: Phase::Planned,
            planned_at: now,
            attempt: None,
            replaced: Vec::new(),
            inclusion: None,
            included_since: None,
            trouble: None,
            next: now,
            retry_at: now,
            need: None,
            orphaned: 0,
            evidence: false,
        }
    }

    /// Every attempt, the newest first: the argument of [`crate::driver::Driver::look`].
    #[must_use]
    pub fn attempts(&self) -> Vec<&Attempt> {
        self.attempt.iter().chain(self.replaced.iter().rev()).collect()
    }

    /// Whether there is nothing left to do.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self.phase {
            Phase::Failed => true,
            Phase::Finalized => self.evidence,
            _ => false,
        }
    }

    /// Whether the next epoch of the same log may be started at this target. An epoch that overtakes an earlier one makes that
    /// one impossible.
    #[must_use]
    pub fn lets_the_next_start(&self) -> bool {
        matches!(self.phase, Phase::Included | Phase::Finalized | Phase::Failed)
    }
}
