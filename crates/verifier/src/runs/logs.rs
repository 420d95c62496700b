//! What run files say of each log beside that it grew: its states, and in which order its events are leaves. For holding an export against
//! them.

use std::collections::BTreeMap;

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::registry::Label;
use zeroauth_audit_core::registry::entry::{Log, Restored};
use zeroauth_audit_core::registry::run::Block;

use crate::intervals;

/// One log.
#[derive(Default)]
pub struct OfLog {
    /// The newest state: the entry's index, and what it says.
    pub newest: Option<(u64, Log)>,
    /// States on the way to the newest, ascending by entry and by size.
    pub states: Vec<State>,
    /// Intervals on the way to the newest; `None` where a reader that began later does not know them all.
    pub intervals: Option<intervals::Log>,
    /// Trees that were left, by their last entry.
    left: BTreeMap<u64, Kept>,
}

/// What an entry says.
#[derive(Clone, Copy)]
pub struct State {
    /// Its index.
    pub entry: u64,
    /// Leaves.
    pub size: u64,
    /// Root hash.
    pub root: Digest,
}

/// A tree that was left: a later epoch may go on from any state of it.
#[derive(Clone)]
struct Kept {
    states: Vec<State>,
    intervals: Option<intervals::Log>,
}

/// Every log that was read, by label.
#[derive(Default)]
pub struct Logs(pub(super) BTreeMap<Label, OfLog>);

impl Logs {
    /// Those that are not closed.
    #[must_use]
    pub fn into_open(self) -> BTreeMap<Label, OfLog> {
        self.0
    }

    /// The tenant is gone for good.
    pub(super) fn close(&mut self, label: &Label) {
        self.0.remove(label);
    }

    /// Takes an entry that follows from those before.
    pub(super) fn add(&mut self, index: u64, log: &Log, block: &Block<'_>, in_snapshot: bool) {
        let of = self.0.entry(log.label).or_default();
        if in_snapshot {
            // Where the reader begins: the order of what is there already is not known.
            if of.newest.is_none() {
                of.states.push(State { entry: index, size: log.size, root: log.root });
            }
            of.newest = Some((index, *log));
            return;
        }
        match (log.restored, of.newest) {
            (None, None) => of.intervals = Some(Vec::new()),
            (None, Some(_)) => {}
            (Some(restored), newest) => {
                if let Some((at, _)) = newest {
                    let kept =
                        Kept { states: std::mem::take(&mut of.states), intervals: of.intervals.take() };
                    of.left.insert(at, kept);
                }
                (of.states, of.intervals) = of.base(restored);
            }
        }
        if let Some(intervals) = &mut of.intervals {
            intervals.extend(block.intervals.iter().map(|interval| (log.size, *interval)));
        }
        of.states.push(State { entry: index, size: log.size, root: log.root });
        of.newest = Some((index, *log));
    }
}

impl OfLog {
    /// What a new epoch goes on from.
    fn base(&self, restored: Restored) -> (Vec<State>, Option<intervals::Log>) {
        let Restored::Entry(entry) = restored else { return (Vec::new(), Some(Vec::new())) };
        // The tree that had this entry, or a snapshot's that repeats a state of it.
        let Some((_, kept)) = self.left.range(entry..).next() else { return (Vec::new(), None) };
        let Kept { mut states, mut intervals } = kept.clone();
        states.retain(|state| state.entry <= entry);
        let size = states.last().map_or(0, |state| state.size);
        if let Some(intervals) = &mut intervals {
            intervals.retain(|(known, _)| *known <= size);
        }
        (states, intervals)
    }
}
