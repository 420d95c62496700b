//! Replays the entries of a registry: whether every log only grew.
//!
//! [`Replay`] holds the compact range of the registry, and of each log its newest state. It is handed each entry with what shows the
//! growth of its log, and each checkpoint, in order; it says what does not follow from what came before. Section 22 of
//! `docs/format.md`; signatures, files and their order are the caller's.

use alloc::collections::btree_map::Entry as Slot;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::entry::{Entry, Log, Restored};
use super::label::Label;
use super::run::Block;
use crate::digest::Digest;
use crate::intervals::{self, Interval};
use crate::merkle::EMPTY_ROOT;
use crate::note::VerifierKey;
use crate::range::{Frontier, Range};

/// What a reader knows of a registry.
#[derive(Clone, Debug)]
pub struct Replay {
    origin: String,
    edge: Frontier,
    logs: BTreeMap<Label, Known>,
    /// Whether entry 0 is `after`.
    continues: bool,
    /// The first entry that was read.
    first: u64,
    /// Whether `edge` is that of the registry: not after a checkpoint that contradicts it.
    is_known: bool,
    snapshot: Option<Snapshot>,
    /// What was known of logs before files that could not be read.
    before: BTreeMap<Label, Known>,
    /// Logs that the snapshot left out which ended last.
    missing: Vec<Label>,
}

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
    edge: Option<Frontier>,
    /// Where its chains end; `None` where a reader that began later does not know.
    ends: Option<BTreeMap<i16, i64>>,
    /// Of each epoch above that of the first entry that was read: epoch and size of the tree that it continues.
    bases: Vec<(u32, u64)>,
    closed: bool,
}

/// A snapshot that is being read.
#[derive(Clone, Debug)]
struct Snapshot {
    stated: u64,
    last: Option<Label>,
    /// Where the reader begins its entries are taken as they are: which entries they say are before.
    first: Option<BTreeSet<u64>>,
    /// The index of its first entry.
    begun: u64,
}

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

impl Replay {
    /// Before the first entry of the registry with this name.
    #[must_use]
    pub fn new(origin: &str) -> Self {
        Self {
            origin: origin.into(),
            edge: Frontier::new(),
            logs: BTreeMap::new(),
            continues: false,
            first: 0,
            is_known: true,
            before: BTreeMap::new(),
            missing: Vec::new(),
            snapshot: None,
        }
    }

    /// Before a snapshot: `edge` is the compact range of the entries before it. Also [`Problem::Edge`] when it is none of this size.
    pub fn at_snapshot(origin: &str, size: u64, edge: Vec<Digest>) -> (Self, Option<Problem>) {
        let (edge, problem) = match Frontier::from_parts(size, edge) {
            Ok(edge) => (edge, None),
            Err(_) => (Frontier::unknown(size), Some(Problem::Edge(EMPTY_ROOT))),
        };
        let is_known = problem.is_none();
        (Self { edge, first: size, is_known, ..Self::new(origin) }, problem)
    }

    /// Before a snapshot, after files that could not be read: what was known is held against it.
    pub fn resume(self, size: u64, edge: Vec<Digest>) -> (Self, Option<Problem>) {
        let (mut resumed, mut problem) = Self::at_snapshot(&self.origin, size, edge);
        if self.is_known && resumed.is_known {
            let (old, new) = (self.size(), resumed.size());
            if new < old {
                problem = Some(Problem::Size { checkpoint: new, entries: old });
            } else if new == old && self.root() != resumed.root() {
                problem = Some(Problem::Root { checkpoint: resumed.root(), computed: self.root() });
            }
        }
        // What an unfinished attempt remembered counts as well.
        resumed.before = self.before;
        resumed.before.extend(self.logs);
        (resumed, problem)
    }

    /// The edge of a file that begins with a snapshot, where logs are known: it is that of the entries so far, or is taken for it, where
    /// that is not known any more.
    ///
    /// # Errors
    /// [`Problem::Edge`] when it is not that of the entries so far.
    pub fn repeated(&mut self, edge: &[Digest]) -> Result<(), Problem> {
        let given = Frontier::from_parts(self.size(), edge.to_vec());
        let given = given.map_err(|_| Problem::Edge(self.root()))?;
        if !self.is_known {
            (self.edge, self.is_known) = (given, true);
            return Ok(());
        }
        let root = self.root();
        if given.root() == root { Ok(()) } else { Err(Problem::Edge(root)) }
    }

    /// A file says that so many entries were before, and there were others: the registry is not known any more.
    pub fn lose(&mut self, size: u64) {
        (self.edge, self.is_known) = (Frontier::unknown(size), false);
    }

    /// Entries so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Root of the entries so far.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.edge.root()
    }

    /// Whether every entry from the first on was replayed.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.first == 0
    }

    /// The newest state of each log, by label.
    pub fn logs(&self) -> impl Iterator<Item = (&Label, &Known)> {
        self.logs.iter()
    }

    /// The older entry that an entry must be handed over with: what a new epoch continues.
    #[must_use]
    pub const fn needs(entry: &Entry) -> Option<u64> {
        match entry {
            Entry::Log(Log { restored: Some(Restored::Entry(index)), .. }) => Some(*index),
            _ => None,
        }
    }

    /// Takes the next entry. `older` is the entry that [`Replay::needs`] names, if it is an entry `log` at all.
    ///
    /// # Errors
    /// [`Problem`]. The entry is one of the registry all the same: what follows is judged by what it says.
    pub fn add(&mut self, block: &Block<'_>, older: Option<&Log>) -> Result<Said, Problem> {
        let index = self.edge.size();
        self.edge.push(Entry::leaf(block.text));
        self.beginning(index, &block.entry)?;
        match &block.entry {
            Entry::Log(log) if self.snapshot.is_some() => self.state(index, log, block.edge.as_deref()),
            Entry::Log(log) => self.log(index, log, block, older),
            Entry::SnapshotBegin => {
                let first = (!self.is_whole() && self.logs.is_empty()).then(BTreeSet::new);
                let within = self.snapshot.replace(Snapshot { stated: 0, last: None, first, begun: index });
                if within.is_some() { Err(Problem::Snapshot) } else { Ok(Said::Other) }
            }
            Entry::SnapshotEnd(count) => self.snapshot_ends(*count),
            _ if self.snapshot.is_some() => Err(Problem::Snapshot),
            Entry::Key(key) if key.name() != self.origin => Err(Problem::KeyName),
            Entry::Key(key) => Ok(Said::Key(key.clone())),
            Entry::Erase { label, epoch, leaf, events } => {
                let known = self.about(label, *epoch)?;
                if *leaf < known.size && *events > 0 { Ok(Said::Other) } else { Err(Problem::Beyond) }
            }
            Entry::Purge { label, epoch, minimum, root } => {
                let known = self.about(label, *epoch)?;
                match known.size.cmp(minimum) {
                    Ordering::Less => Err(Problem::Beyond),
                    _ if *minimum == 0 => Err(Problem::Beyond),
                    Ordering::Equal if known.root != *root => {
                        Err(Problem::Purged { said: *root, root: known.root })
                    }
                    _ => Ok(Said::Other),
                }
            }
            Entry::Close(label) => {
                let known = self.logs.get_mut(label).filter(|known| !known.closed);
                known.ok_or(Problem::NoLog(*label))?.closed = true;
                Ok(Said::Other)
            }
            Entry::Names(_) | Entry::After { .. } => Ok(Said::Other),
        }
    }

    /// Takes the checkpoint of the entries so far, which ends a file.
    ///
    /// # Errors
    /// [`Problem::Snapshot`], [`Problem::Size`] or [`Problem::Root`]. After one of the last two, roots are compared again from the next
    /// [`Replay::repeated`] on.
    pub fn checkpoint(&mut self, size: u64, root: &Digest) -> Result<(), Problem> {
        let open = self.snapshot.take();
        if self.is_known && (size != self.size() || *root != self.root()) {
            self.is_known = false;
            return Err(match size == self.size() {
                true => Problem::Root { checkpoint: *root, computed: self.root() },
                false => Problem::Size { checkpoint: size, entries: self.size() },
            });
        }
        if open.is_some() { Err(Problem::Snapshot) } else { Ok(()) }
    }

    /// Whether the root of the entries so far is known: not after a checkpoint that contradicts them.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.is_known
    }

    /// The labels that the snapshot left out which has just ended.
    pub fn missing(&mut self) -> Vec<Label> {
        core::mem::take(&mut self.missing)
    }

    /// Rule 1.
    fn beginning(&mut self, index: u64, entry: &Entry) -> Result<(), Problem> {
        let right = match entry {
            Entry::After { .. } => {
                self.continues |= index == 0;
                index == 0
            }
            Entry::Names(_) => index == u64::from(self.continues),
            _ => index > u64::from(self.continues),
        };
        if right { Ok(()) } else { Err(Problem::Beginning) }
    }

    /// Rules 2 to 5.
    fn log(
        &mut self,
        index: u64,
        log: &Log,
        block: &Block<'_>,
        older: Option<&Log>,
    ) -> Result<Said, Problem> {
        // Whether an earlier registry had the label is not known to a reader that began later.
        let any_epoch = self.continues || !self.is_whole();
        match self.logs.entry(log.label) {
            Slot::Vacant(slot) => {
                let begun = begins(log, block, any_epoch);
                let (known, said) = apart(begun.map(|grown| (grown, Said::Grew)));
                slot.insert(Known::of(index, log, known));
                said
            }
            Slot::Occupied(mut slot) => {
                let known = slot.get_mut();
                if known.closed {
                    return Err(Problem::NoLog(log.label));
                }
                let followed = match log.restored {
                    None => known.grown(log, block).map(|grown| (grown, Said::Grew)),
                    Some(restored) => known.restored(self.first, log, block, restored, older),
                };
                let (grown, said) = apart(followed);
                let bases = core::mem::take(&mut known.bases);
                *known = Known { bases, ..Known::of(index, log, grown) };
                said
            }
        }
    }

    /// Rule 6, an entry.
    fn state(&mut self, index: u64, log: &Log, edge: Option<&[Digest]>) -> Result<Said, Problem> {
        let Some(snapshot) = &mut self.snapshot else { return Err(Problem::Snapshot) };
        snapshot.stated += 1;
        let last = snapshot.last.replace(log.label);
        let begun = snapshot.begun;
        let edge = edge.and_then(|edge| Frontier::from_parts(log.size, edge.to_vec()).ok());
        let edge = edge.filter(|edge| edge.root() == log.root);
        let has_edge = edge.is_some();
        let mut stated = Known::of(index, log, Grown { edge, ends: None });
        let slot = self.logs.entry(log.label);
        let said = match (&slot, &mut snapshot.first) {
            (Slot::Occupied(known), _) => {
                let known = known.get();
                stated.bases.clone_from(&known.bases);
                stated.ends.clone_from(&known.ends);
                stated.closed = known.closed;
                known.stated(log)
            }
            (Slot::Vacant(_), Some(said)) => {
                let new = log.previous.is_some_and(|previous| previous < begun && said.insert(previous));
                match self.before.get(&log.label) {
                    _ if !new => Err(Problem::Previous { said: Index(log.previous), newest: Index(None) }),
                    Some(before) => before.remembered(log),
                    None => Ok(()),
                }
            }
            (Slot::Vacant(_), None) => {
                Err(Problem::Previous { said: Index(log.previous), newest: Index(None) })
            }
        };
        slot.insert_entry(stated);
        if last.is_some_and(|last| last >= log.label) {
            return Err(Problem::Order);
        }
        said?;
        if log.restored.is_some() {
            return Err(Problem::Epoch { epoch: log.epoch });
        }
        if has_edge { Ok(Said::Other) } else { Err(Problem::Edge(log.root)) }
    }

    /// Rule 6, the end.
    fn snapshot_ends(&mut self, said: u64) -> Result<Said, Problem> {
        let Some(snapshot) = self.snapshot.take() else { return Err(Problem::Snapshot) };
        let left_out = self.logs.iter().filter(|(_, known)| !known.closed && known.index < snapshot.begun);
        self.missing = left_out.map(|(label, _)| *label).collect();
        if snapshot.first.is_some() {
            // What was known before and is not stated was closed where nothing could be read.
            for (label, mut known) in core::mem::take(&mut self.before) {
                known.closed = true;
                self.logs.entry(label).or_insert(known);
            }
        }
        if snapshot.stated == said {
            Ok(Said::Other)
        } else {
            Err(Problem::Count { said, found: snapshot.stated })
        }
    }

    /// Rule 7, of erasures and purges.
    fn about(&self, label: &Label, epoch: u32) -> Result<&Known, Problem> {
        let known = self.logs.get(label).filter(|known| !known.closed).ok_or(Problem::NoLog(*label))?;
        if known.epoch == epoch { Ok(known) } else { Err(Problem::Epoch { epoch }) }
    }
}

/// A tree and its chains; of what was not as it must be, nothing is known.
#[derive(Default)]
struct Grown {
    edge: Option<Frontier>,
    ends: Option<BTreeMap<i16, i64>>,
}

fn apart<T>(result: Result<(Grown, T), Problem>) -> (Grown, Result<T, Problem>) {
    match result {
        Ok((grown, said)) => (grown, Ok(said)),
        Err(problem) => (Grown::default(), Err(problem)),
    }
}

impl Known {
    fn of(index: u64, log: &Log, Grown { edge, ends }: Grown) -> Self {
        let Log { epoch, size, root, .. } = *log;
        Self { index, epoch, size, root, edge, ends, bases: Vec::new(), closed: false }
    }

    /// A further entry of the same epoch. After a problem there is nothing to compare the growth with: it was told.
    fn grown(&self, log: &Log, block: &Block<'_>) -> Result<Grown, Problem> {
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
    fn restored(
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
    fn stated(&self, log: &Log) -> Result<(), Problem> {
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
    fn remembered(&self, log: &Log) -> Result<(), Problem> {
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

    fn is_previous_of(&self, log: &Log) -> Result<(), Problem> {
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
fn begins(log: &Log, block: &Block<'_>, any_epoch: bool) -> Result<Grown, Problem> {
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
