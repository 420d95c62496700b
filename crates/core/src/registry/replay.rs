//! Replays the entries of a registry: whether every log only grew.
//!
//! [`Replay`] holds the compact range of the registry, and of each log its newest state. It is handed each entry with what shows the
//! growth of its log, and each checkpoint, in order; it says what does not follow from what came before. Section 22 of
//! `docs/format.md`; signatures, files and their order are the caller's.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry as Slot;
use alloc::string::String;
use alloc::vec::Vec;

use super::entry::{Entry, Log, Restored};
use super::label::Label;
use super::run::Block;
use crate::digest::Digest;
use crate::intervals;
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
    snapshot: Option<Snapshot>,
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
    /// Of each epoch above that of the first entry that was read: epoch and size of the tree that it continues.
    bases: Vec<(u32, u64)>,
    closed: bool,
}

/// A snapshot that is being read.
#[derive(Clone, Debug)]
struct Snapshot {
    stated: u64,
    last: Option<Label>,
    /// It is where the reader begins: its entries are taken as they are.
    first: bool,
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
    /// What a new epoch continues is an entry from before what was read: it could not be checked.
    #[error("the epoch continues entry {0}, which is before the first that was read")]
    NotRead(u64),
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
    /// Logs are missing in a snapshot.
    #[error("{logs} logs are missing in the snapshot, the first with the label {first}")]
    Missing {
        /// How many.
        logs: u64,
        /// The first by label.
        first: Label,
    },
    /// There is no log with this label, or not any more.
    #[error("there is no open log with the label {0}")]
    NoLog(Label),
    /// What is going to be erased or purged is not in the log.
    #[error("it is about events that are not in the log")]
    Beyond,
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
    /// The class of a finding; `None` when it is none, because something could not be checked.
    #[must_use]
    pub const fn class(&self) -> Option<&'static str> {
        match self {
            Self::NotRead(_) => None,
            Self::Shrunk { .. } => Some("tail_truncated"),
            Self::Missing { .. } => Some("tenant_missing"),
            _ => Some("checkpoint_mismatch"),
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
            snapshot: None,
        }
    }

    /// Before a snapshot: `edge` is the compact range of the entries before it. `None` when there is none of this size.
    #[must_use]
    pub fn at_snapshot(origin: &str, size: u64, edge: Vec<Digest>) -> Option<Self> {
        let edge = Frontier::from_parts(size, edge).ok()?;
        Some(Self { edge, first: size, ..Self::new(origin) })
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
                let first = !self.is_whole() && self.logs.is_empty();
                let within = self.snapshot.replace(Snapshot { stated: 0, last: None, first });
                if within.is_some() { Err(Problem::Snapshot) } else { Ok(Said::Other) }
            }
            Entry::SnapshotEnd(count) => self.snapshot_ends(*count),
            _ if self.snapshot.is_some() => Err(Problem::Snapshot),
            Entry::Key(key) if key.name() != self.origin => Err(Problem::KeyName),
            Entry::Key(key) => Ok(Said::Key(key.clone())),
            Entry::Erase { label, epoch, leaf, .. } => self.about(label, *epoch, |size| *leaf < size),
            Entry::Purge { label, epoch, minimum, .. } => self.about(label, *epoch, |size| *minimum <= size),
            Entry::Close(label) => {
                let known = self.logs.get_mut(label).filter(|known| !known.closed);
                known.ok_or(Problem::NoLog(*label))?.closed = true;
                Ok(Said::Other)
            }
            Entry::Names(_) | Entry::After { .. } => Ok(Said::Other),
        }
    }

    /// Takes the checkpoint of the entries so far.
    ///
    /// # Errors
    /// [`Problem::Size`] or [`Problem::Root`].
    pub fn checkpoint(&self, size: u64, root: &Digest) -> Result<(), Problem> {
        if size != self.edge.size() {
            return Err(Problem::Size { checkpoint: size, entries: self.edge.size() });
        }
        let computed = self.edge.root();
        if computed == *root { Ok(()) } else { Err(Problem::Root { checkpoint: *root, computed }) }
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
                let (edge, said) = apart(begun.map(|edge| (Some(edge), Said::Grew)));
                slot.insert(Known::of(index, log, edge));
                said
            }
            Slot::Occupied(mut slot) => {
                let known = slot.get_mut();
                if known.closed {
                    return Err(Problem::NoLog(log.label));
                }
                let followed = match log.restored {
                    None => known.grown(log, block).map(|edge| (edge, Said::Grew)),
                    Some(restored) => {
                        let older = Self::older(self.first, known, log, restored, older);
                        older.and_then(|older| known.restored(log, block, older))
                    }
                };
                let (edge, said) = apart(followed);
                let bases = core::mem::take(&mut known.bases);
                *known = Known { bases, ..Known::of(index, log, edge) };
                said
            }
        }
    }

    /// What a new epoch goes on from; `None`: from nothing.
    fn older<'l>(
        first: u64,
        known: &Known,
        log: &Log,
        restored: Restored,
        older: Option<&'l Log>,
    ) -> Result<Option<&'l Log>, Problem> {
        known.is_previous_of(log)?;
        if known.epoch.checked_add(1) != Some(log.epoch) {
            return Err(Problem::Epoch { epoch: log.epoch });
        }
        match restored {
            Restored::Nothing => Ok(None),
            Restored::Entry(index) if index < first => Err(Problem::NotRead(index)),
            Restored::Entry(index) => {
                let older = older.filter(|older| older.label == log.label && index <= known.index);
                older.map(Some).ok_or(Problem::Restored(index))
            }
        }
    }

    /// Rule 6, an entry.
    fn state(&mut self, index: u64, log: &Log, edge: Option<&[Digest]>) -> Result<Said, Problem> {
        let Some(snapshot) = &mut self.snapshot else { return Err(Problem::Snapshot) };
        snapshot.stated += 1;
        let (last, first) = (snapshot.last.replace(log.label), snapshot.first);
        let edge = edge.and_then(|edge| Frontier::from_parts(log.size, edge.to_vec()).ok());
        let edge = edge.filter(|edge| edge.root() == log.root).ok_or(Problem::Edge(log.root))?;
        let stated = Known::of(index, log, Some(edge));
        if last.is_some_and(|last| last >= log.label) {
            return Err(Problem::Order);
        }
        match self.logs.entry(log.label) {
            Slot::Vacant(slot) if first && log.previous.is_some() => {
                slot.insert(stated);
                Ok(Said::Other)
            }
            Slot::Vacant(slot) => {
                slot.insert(stated);
                Err(Problem::Previous { said: Index(log.previous), newest: Index(None) })
            }
            Slot::Occupied(mut slot) => {
                let bases = slot.get().bases.clone();
                let known = slot.insert(Known { bases, ..stated });
                if known.closed {
                    slot.get_mut().closed = true;
                    return Err(Problem::NoLog(log.label));
                }
                if log.previous != Some(known.index) {
                    return Err(Problem::Previous {
                        said: Index(log.previous),
                        newest: Index(Some(known.index)),
                    });
                }
                if (log.epoch, log.size, log.root) != (known.epoch, known.size, known.root) {
                    return Err(Problem::Stated { new: log.size, root: log.root, old: known.size });
                }
                if log.restored.is_some() {
                    Err(Problem::Epoch { epoch: log.epoch })
                } else {
                    Ok(Said::Other)
                }
            }
        }
    }

    /// Rule 6, the end.
    fn snapshot_ends(&mut self, said: u64) -> Result<Said, Problem> {
        let Some(snapshot) = self.snapshot.take() else { return Err(Problem::Snapshot) };
        let begun = self.edge.size() - 1 - snapshot.stated;
        if snapshot.stated != said {
            return Err(Problem::Count { said, found: snapshot.stated });
        }
        let mut left_out = self.logs.iter().filter(|(_, known)| !known.closed && known.index < begun);
        match left_out.next() {
            None => Ok(Said::Other),
            Some((first, _)) => Err(Problem::Missing { first: *first, logs: 1 + left_out.count() as u64 }),
        }
    }

    /// Rule 7, of erasures and purges.
    fn about(&self, label: &Label, epoch: u32, within: impl Fn(u64) -> bool) -> Result<Said, Problem> {
        let known = self.logs.get(label).filter(|known| !known.closed).ok_or(Problem::NoLog(*label))?;
        if known.epoch != epoch {
            return Err(Problem::Epoch { epoch });
        }
        if within(known.size) { Ok(Said::Other) } else { Err(Problem::Beyond) }
    }
}

impl Known {
    const fn of(index: u64, log: &Log, edge: Option<Frontier>) -> Self {
        let Log { epoch, size, root, .. } = *log;
        Self { index, epoch, size, root, edge, bases: Vec::new(), closed: false }
    }

    /// A further entry of the same epoch. After a problem there is nothing to compare the growth with: it was told.
    fn grown(&self, log: &Log, block: &Block<'_>) -> Result<Option<Frontier>, Problem> {
        self.is_previous_of(log)?;
        if log.epoch != self.epoch {
            return Err(Problem::Epoch { epoch: log.epoch });
        }
        if log.size < self.size {
            return Err(Problem::Shrunk { old: self.size, new: log.size });
        }
        if log.size == self.size {
            return Err(Problem::NotGrown { size: log.size });
        }
        self.edge.clone().map(|edge| grows(edge, log, block)).transpose()
    }

    /// The first entry of the next epoch, which goes on from `older`, or from nothing.
    fn restored(
        &mut self,
        log: &Log,
        block: &Block<'_>,
        older: Option<&Log>,
    ) -> Result<(Option<Frontier>, Said), Problem> {
        let (epoch, size, root) =
            older.map_or((0, 0, EMPTY_ROOT), |older| (older.epoch, older.size, older.root));
        let kept = self.in_common(epoch, size);
        self.bases.push((epoch, size));
        let edge = Frontier::from_parts(size, block.edge.clone().unwrap_or_default());
        let edge = edge.ok().filter(|edge| edge.root() == root).ok_or(Problem::Edge(root))?;
        if log.size < size {
            return Err(Problem::Shrunk { old: size, new: log.size });
        }
        let edge = grows(edge, log, block)?;
        Ok((Some(edge), Said::Restored { label: log.label, lost: self.size - kept }))
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

fn apart<T>(result: Result<(Option<Frontier>, T), Problem>) -> (Option<Frontier>, Result<T, Problem>) {
    match result {
        Ok((edge, said)) => (edge, Ok(said)),
        Err(problem) => (None, Err(problem)),
    }
}

/// The first entry of a label.
fn begins(log: &Log, block: &Block<'_>, any_epoch: bool) -> Result<Frontier, Problem> {
    if log.previous.is_some() {
        return Err(Problem::Previous { said: Index(log.previous), newest: Index(None) });
    }
    if log.restored.is_some() || log.epoch > 0 && !any_epoch {
        return Err(Problem::Epoch { epoch: log.epoch });
    }
    grows(Frontier::new(), log, block)
}

/// The tree with the growth, if that leads to the entry's root, and is that of its intervals.
fn grows(mut edge: Frontier, log: &Log, block: &Block<'_>) -> Result<Frontier, Problem> {
    let old = edge.size();
    let length = Problem::GrowthLength { old, new: log.size };
    let growth = Range::from_parts(old, log.size, block.growth.clone().unwrap_or_default())
        .map_err(|_| length.clone())?;
    edge.append(&growth).map_err(|_| length)?;
    let computed = edge.root();
    if computed != log.root {
        return Err(Problem::Growth { root: log.root, computed });
    }
    intervals::check(&block.intervals, old, log.size)?;
    Ok(edge)
}
