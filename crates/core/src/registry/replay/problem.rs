//! What a replay says of an entry: what it means, or why it does not follow.

use crate::digest::Digest;
use crate::intervals;
use crate::note::VerifierKey;
use crate::registry::label::Label;

/// What an entry means beside the growth of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Said {
    /// A log has events that it did not have.
    Grew,
    /// A tenant was restored to an earlier state.
    Restored {
        /// Whose.
        label: Label,
        /// How many events of the newest entry before are not in what the log goes on from.
        lost: u64,
        /// Whether it goes on from a state that was read. If not, the number is only what is claimed.
        proven: bool,
    },
    /// Another key signs.
    Key(VerifierKey),
    /// Nothing that needs to be looked at.
    Other,
}

/// Why an entry, or a checkpoint, does not follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// `names` and `after` have their places.
    #[error("the registry does not begin as a registry must, or begins again")]
    Beginning,
    /// Another entry is the newest of the label.
    #[error("it names {said} as the entry before, which is {newest}")]
    Previous {
        /// In the entry.
        said: Index,
        /// The newest.
        newest: Index,
    },
    /// The epoch is neither the same nor the next, or the sixth line is not where it must be.
    #[error("epoch {epoch} does not follow, or says not what it continues")]
    Epoch {
        /// In the entry.
        epoch: u32,
    },
    /// The log shrank.
    #[error("the log had {old} events, and has {new}")]
    Shrunk {
        /// Before.
        old: u64,
        /// In the entry.
        new: u64,
    },
    /// The same size again, outside a snapshot.
    #[error("the log had {size} events before")]
    NotGrown {
        /// Before, and in the entry.
        size: u64,
    },
    /// What a new epoch continues is no older state of the log.
    #[error("the epoch continues entry {0}, which is no earlier state of the log")]
    Restored(u64),
    /// The roots given as the tree that is continued are not its.
    #[error("the given edge leads to another root than {0}")]
    Edge(Digest),
    /// The tree does not continue the one before.
    #[error("the growth leads to root {computed} instead of {root}")]
    Growth {
        /// In the entry.
        root: Digest,
        /// Where the growth leads.
        computed: Digest,
    },
    /// The growth is not that of so many leaves.
    #[error("the growth is not that from {old} to {new} events")]
    GrowthLength {
        /// Before.
        old: u64,
        /// In the entry.
        new: u64,
    },
    /// The intervals are not those of the new events.
    #[error(transparent)]
    Intervals(#[from] intervals::Error),
    /// Something else than states of logs is in a snapshot, or one begins or ends in another.
    #[error("a snapshot is not whole")]
    Snapshot,
    /// The labels of a snapshot do not ascend.
    #[error("the labels of the snapshot do not ascend")]
    Order,
    /// A snapshot states another state than the newest.
    #[error("the snapshot says {new} events, root {root}, and the newest entry {old}")]
    Stated {
        /// Size in the snapshot.
        new: u64,
        /// Root there.
        root: Digest,
        /// Size in the newest entry.
        old: u64,
    },
    /// The number at the end of a snapshot is another.
    #[error("the snapshot says that it has {said} logs, and has {found}")]
    Count {
        /// In the entry.
        said: u64,
        /// In the snapshot.
        found: u64,
    },
    /// There is no log with this label, or not any more.
    #[error("there is no open log with the label {0}")]
    NoLog(Label),
    /// What is going to be erased or purged is not in the log, or nothing.
    #[error("it is about no events of the log")]
    Beyond,
    /// What is going to be purged is another tree.
    #[error("the tree that is going to be purged has root {root}, and not {said}")]
    Purged {
        /// In the entry.
        said: Digest,
        /// Of the log.
        root: Digest,
    },
    /// An interval does not begin where the chain ended.
    #[error("the events of chain {chain} begin behind {from}, and the ones before end with {ended}")]
    Chain {
        /// Which.
        chain: i16,
        /// In the interval.
        from: i64,
        /// The `to` of the interval before.
        ended: i64,
    },
    /// A key under another name.
    #[error("the key has another name than the registry")]
    KeyName,
    /// The checkpoint is of another size.
    #[error("the checkpoint is of {checkpoint} entries, and there are {entries}")]
    Size {
        /// In the checkpoint.
        checkpoint: u64,
        /// Read.
        entries: u64,
    },
    /// The checkpoint has another root.
    #[error("the checkpoint has root {checkpoint}, and the entries {computed}")]
    Root {
        /// In the checkpoint.
        checkpoint: Digest,
        /// Of the entries.
        computed: Digest,
    },
}

/// The index of an entry, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index(pub Option<u64>);

impl core::fmt::Display for Index {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some(index) => write!(f, "{index}"),
            None => f.write_str("none"),
        }
    }
}

impl Problem {
    /// The class of a finding.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Shrunk { .. } => "tail_truncated",
            _ => "checkpoint_mismatch",
        }
    }
}
