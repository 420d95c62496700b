//! Replays the entries of a registry: whether every log only grew.
//!
//! [`Replay`] holds the compact range of the registry, and of each log its newest state. It is handed each entry with what shows the
//! growth of its log, and each checkpoint, in order; it says what does not follow from what came before. Section 22 of
//! `docs/format.md`; signatures, files and their order are the caller's.

mod known;
mod problem;

use alloc::collections::btree_map::Entry as Slot;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::entry::{Entry, Log, Restored};
use super::label::Label;
use super::run::Block;
use crate::digest::Digest;
use crate::merkle::EMPTY_ROOT;
use crate::range::Frontier;
pub use known::Known;
use known::{Grown, apart};
pub use problem::{Index, Problem, Said};

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

    /// Whether the next entry is one of a snapshot that has begun.
    #[must_use]
    pub const fn in_snapshot(&self) -> bool {
        self.snapshot.is_some()
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
                let begun = known::begins(log, block, any_epoch);
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

    /// Rule 6, an entry, and rule 11.
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
            // Taken over from the registry that this one continues: rule 11.
            (Slot::Vacant(_), None) if self.continues && begun == 2 && log.previous.is_none() => Ok(()),
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
