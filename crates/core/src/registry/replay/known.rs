//! The newest state of one log, and whether an entry follows from it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::problem::{Index, Problem, Said};
use crate::digest::Digest;
use crate::intervals::{self, Interval};
use crate::merkle::EMPTY_ROOT;
use crate::range::{Frontier, Range};
use crate::registry::entry::{Log, Restored};
use crate::registry::run::Block;

/// The newest state of a log.
#[derive(Clone, Debug)]
pub struct Known {
    /// Index of the entry.
    pub index: u64,
    /// What it says.
    pub epoch: u32,
    /// Leaves.
    pub size: u64,
    /// Root hash.
    pub root: Digest,
    /// The tree; `None` after an entry that did not follow from it.
    pub(super) edge: Option<Frontier>,
    /// Where its chains end; `None` where a reader that began later does not know.
    pub(super) ends: Option<BTreeMap<i16, i64>>,
    /// Of each epoch above that of the first entry that was read: epoch and size of the tree that it continues.
    pub(super) bases: Vec<(u32, u64)>,
    pub(super) closed: bool,
}

/// A tree and its chains; of what was not as it must be, nothing is known.
#[derive(Default)]
pub(super) struct Grown {
    pub(super) edge: Option<Frontier>,
    pub(super) ends: Option<BTreeMap<i16, i64>>,
}

pub(super) fn apart<T>(result: Result<(Grown, T), Problem>) -> (Grown, Result<T, Problem>) {
    match result {
        Ok((grown, said)) => (grown, Ok(said)),
        Err(problem) => (Grown::default(), Err(problem)),
    }
}

impl Known {
    pub(super) fn of(index: u64, log: &Log, Grown { edge, ends }: Grown) -> Self {
        let Log { epoch, size, root, .. } = *log;
        Self { index, epoch, size, root, edge, ends, bases: Vec::new(), closed: false }
    }

    /// A further entry of the same epoch. After a problem there is nothing to compare the growth with: it was told.
    pub(super) fn grown(&self, log: &Log, block: &Block<'_>) -> Result<Grown, Problem> {
        // Whatever else is wrong: that events are gone is what counts.
        if log.epoch == self.epoch && log.size < self.size {
            return Err(Problem::Shrunk { old: self.size, new: log.size });
        }
        self.is_previous_of(log)?;
        if log.epoch != self.epoch {
            return Err(Problem::Epoch { epoch: log.epoch });
        }
        if log.size == self.size {
            return Err(Problem::NotGrown { size: log.size });
        }
        match &self.edge {
            Some(edge) => grows(edge.clone(), self.ends.clone(), log, block),
            None => Ok(Grown::default()),
        }
    }

    /// The first entry of the next epoch, which goes on from `older`, or from nothing.
    pub(super) fn restored(
        &mut self,
        first: u64,
        log: &Log,
        block: &Block<'_>,
        restored: Restored,
        older: Option<&Log>,
    ) -> Result<(Grown, Said), Problem> {
        self.is_previous_of(log)?;
        if self.epoch.checked_add(1) != Some(log.epoch) {
            return Err(Problem::Epoch { epoch: log.epoch });
        }
        let parts = block.edge.clone().unwrap_or_default();
        let label = log.label;
        let (base, ends) = match restored {
            Restored::Nothing => (Some((0, 0, EMPTY_ROOT)), Some(BTreeMap::new())),
            Restored::Entry(index) if index < first && index <= self.index => (None, None),
            Restored::Entry(index) => {
                let older = older.filter(|older| older.label == label && index <= self.index);
                let older = older.ok_or(Problem::Restored(index))?;
                (Some((older.epoch, older.size, older.root)), None)
            }
        };
        let Some((epoch, size, root)) = base else {
            // Its size follows from the events since, and nothing but the new root vouches for its edge.
            let events = block.intervals.iter().fold(0, |sum: u64, next| sum.saturating_add(next.events()));
            let size = log.size.saturating_sub(events);
            self.bases.push((0, 0));
            let edge = Frontier::from_parts(size, parts).map_err(|_| Problem::Edge(log.root))?;
            let grown = grows(edge, None, log, block)?;
            return Ok((
                grown,
                Said::Restored { label, lost: self.size.saturating_sub(size), proven: false },
            ));
        };
        let kept = self.in_common(epoch, size);
        self.bases.push((epoch, size));
        let edge = Frontier::from_parts(size, parts).ok().filter(|edge| edge.root() == root);
        let edge = edge.ok_or(Problem::Edge(root))?;
        let grown = grows(edge, ends, log, block)?;
        Ok((grown, Said::Restored { label, lost: self.size.saturating_sub(kept), proven: true }))
    }

    /// Stated again in a snapshot.
    pub(super) fn stated(&self, log: &Log) -> Result<(), Problem> {
        if self.closed {
            return Err(Problem::NoLog(log.label));
        }
        if log.epoch == self.epoch && log.size < self.size {
            return Err(Problem::Shrunk { old: self.size, new: log.size });
        }
        self.is_previous_of(log)?;
        if (log.epoch, log.size, log.root) == (self.epoch, self.size, self.root) {
            Ok(())
        } else {
            Err(Problem::Stated { new: log.size, root: log.root, old: self.size })
        }
    }

    /// Stated in the first snapshot behind what could not be read: it may have grown since.
    pub(super) fn remembered(&self, log: &Log) -> Result<(), Problem> {
        if self.closed {
            return Err(Problem::NoLog(log.label));
        }
        if log.epoch == self.epoch && log.size < self.size {
            return Err(Problem::Shrunk { old: self.size, new: log.size });
        }
        if log.previous < Some(self.index) {
            let newest = Index(Some(self.index));
            return Err(Problem::Previous { said: Index(log.previous), newest });
        }
        if log.epoch < self.epoch {
            return Err(Problem::Epoch { epoch: log.epoch });
        }
        if (log.epoch, log.size) == (self.epoch, self.size) && log.root != self.root {
            return Err(Problem::Stated { new: log.size, root: log.root, old: self.size });
        }
        Ok(())
    }

    pub(super) fn is_previous_of(&self, log: &Log) -> Result<(), Problem> {
        let newest = Index(Some(self.index));
        if log.previous == newest.0 {
            Ok(())
        } else {
            Err(Problem::Previous { said: Index(log.previous), newest })
        }
    }

    /// How many leaves the newest tree has in common with one of `size` leaves of an earlier `epoch`: back from epoch to epoch, what
    /// each went on from, until both are in the same.
    fn in_common(&self, epoch: u32, size: u64) -> u64 {
        let (mut one, mut other) = ((self.epoch, self.size), (epoch, size));
        while one.0 != other.0 {
            let later = if one.0 > other.0 { &mut one } else { &mut other };
            // The newest epoch's is the last.
            let back = self.epoch.checked_sub(later.0).and_then(|back| usize::try_from(back).ok());
            let base = back.and_then(|back| self.bases.iter().nth_back(back));
            // An epoch that is not known, after a problem: no leaf is known to be the same.
            let Some(&(epoch, size)) = base else { return 0 };
            *later = (epoch, later.1.min(size));
        }
        one.1.min(other.1)
    }

    /// Whether the tenant is gone for good.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }
}

/// The first entry of a label.
pub(super) fn begins(log: &Log, block: &Block<'_>, any_epoch: bool) -> Result<Grown, Problem> {
    if log.previous.is_some() {
        return Err(Problem::Previous { said: Index(log.previous), newest: Index(None) });
    }
    if log.restored.is_some() || log.epoch > 0 && !any_epoch {
        return Err(Problem::Epoch { epoch: log.epoch });
    }
    grows(Frontier::new(), Some(BTreeMap::new()), log, block)
}

/// The tree with the growth, if that leads to the entry's root, and is that of its intervals. `ends`: where its chains end; `None`: that
/// is not known, and each chain may go on from anywhere.
fn grows(
    mut edge: Frontier,
    ends: Option<BTreeMap<i16, i64>>,
    log: &Log,
    block: &Block<'_>,
) -> Result<Grown, Problem> {
    let old = edge.size();
    let length = Problem::GrowthLength { old, new: log.size };
    let growth = Range::from_parts(old, log.size, block.growth.clone().unwrap_or_default());
    edge.append(&growth.map_err(|_| length.clone())?).map_err(|_| length)?;
    let computed = edge.root();
    if computed != log.root {
        return Err(Problem::Growth { root: log.root, computed });
    }
    intervals::check(&block.intervals, old, log.size)?;
    let Some(mut ends) = ends else { return Ok(Grown { edge: Some(edge), ends: None }) };
    for Interval { chain, from, to } in &block.intervals {
        let ended = ends.insert(*chain, *to).unwrap_or(0);
        if ended != *from {
            return Err(Problem::Chain { chain: *chain, from: *from, ended });
        }
    }
    Ok(Grown { edge: Some(edge), ends: Some(ends) })
}
