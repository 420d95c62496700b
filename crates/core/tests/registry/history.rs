//! Makes histories, as a database would: logs that grow, and run files of them. Reads files, as an auditor would.

use std::collections::BTreeMap;

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::intervals::Interval;
use zeroauth_audit_core::merkle::leaf_hash;
use zeroauth_audit_core::note::{Note, SigningKey};
use zeroauth_audit_core::range::{Frontier, Range};
use zeroauth_audit_core::registry::entry::{Entry, Log, Restored};
use zeroauth_audit_core::registry::label::{Label, NameKey};
use zeroauth_audit_core::registry::replay::{Problem, Replay, Said};
use zeroauth_audit_core::registry::run::{self, Head, Reader, Writer, Written};

pub const ORIGIN: &str = "log.example/audit";

pub fn names() -> NameKey {
    NameKey::new([9; 32])
}

pub fn label(tenant: u8) -> Label {
    names().label(&format!("tenant {tenant}"))
}

/// A database with a registry.
pub struct Database {
    pub entries: Vec<Entry>,
    edge: Frontier,
    pub logs: BTreeMap<Label, Sealed>,
    files: Vec<String>,
    blocks: Vec<Made>,
    begun: (u64, Option<Vec<Digest>>),
}

/// The newest state of a log, and all leaves.
pub struct Sealed {
    pub index: u64,
    pub epoch: u32,
    pub leaves: Vec<Digest>,
    /// The leaves at each entry.
    pub trees: Vec<(u64, Vec<Digest>)>,
}

struct Made {
    text: String,
    intervals: Vec<Interval>,
    edge: Option<Vec<Digest>>,
    growth: Option<Vec<Digest>>,
}

impl Database {
    pub fn new() -> Self {
        let mut database = Self {
            entries: Vec::new(),
            edge: Frontier::new(),
            logs: BTreeMap::new(),
            files: Vec::new(),
            blocks: Vec::new(),
            begun: (0, None),
        };
        database.say(Entry::Names(names().digest()));
        database
    }

    /// Appends an entry that has nothing beside it.
    pub fn say(&mut self, entry: Entry) {
        self.append(entry, Vec::new(), None, None);
    }

    /// Appends an entry with whatever beside it.
    pub fn append(
        &mut self,
        entry: Entry,
        intervals: Vec<Interval>,
        edge: Option<Vec<Digest>>,
        growth: Option<Vec<Digest>>,
    ) {
        if self.blocks.is_empty() {
            let before = (entry == Entry::SnapshotBegin).then(|| self.edge.parts().1.to_vec());
            self.begun = (self.edge.size(), before);
        }
        let text = entry.text();
        self.edge.push(Entry::leaf(&text));
        self.entries.push(entry);
        self.blocks.push(Made { text, intervals, edge, growth });
    }

    /// A log gets so many events, all in chain 0.
    pub fn grow(&mut self, label: Label, events: u64) {
        self.state(label, events, None);
    }

    /// A restore to the state at this older entry, or to nothing, and so many events since.
    pub fn restore(&mut self, label: Label, to: Option<u64>, events: u64) {
        self.state(label, events, Some(to));
    }

    fn state(&mut self, label: Label, events: u64, restored: Option<Option<u64>>) {
        let index = self.edge.size();
        let known = self.logs.get(&label);
        let previous = known.map(|known| known.index);
        let mut leaves = known.map(|known| known.leaves.clone()).unwrap_or_default();
        let mut trees = known.map(|known| known.trees.clone()).unwrap_or_default();
        if let Some(to) = restored {
            let tree = to.map(|to| trees.iter().find(|(entry, _)| *entry == to).unwrap());
            leaves = tree.map(|tree| tree.1.clone()).unwrap_or_default();
        }
        let epoch = known.map_or(0, |known| known.epoch) + u32::from(restored.is_some());
        let old = leaves.len() as u64;
        for number in 0..events {
            leaves.push(leaf_hash(format!("{label} {epoch} {index} {number}").as_bytes()));
        }
        let (edge, root) = frontier(&leaves);
        let base = restored.map(|_| frontier(&leaves[..old as usize]).0.parts().1.to_vec());
        let growth = range(old, &leaves);
        let restored = restored.map(|to| to.map_or(Restored::Nothing, Restored::Entry));
        let entry = Entry::Log(Log { label, epoch, size: edge.size(), root, previous, restored });
        let (from, to) = (old as i64, edge.size() as i64);
        let intervals = if events > 0 { vec![Interval { chain: 0, from, to }] } else { Vec::new() };
        self.append(entry, intervals, base, Some(growth));
        trees.push((index, leaves.clone()));
        self.logs.insert(label, Sealed { index, epoch, leaves, trees });
    }

    /// States every log again.
    pub fn snapshot(&mut self) {
        self.say(Entry::SnapshotBegin);
        let labels: Vec<Label> = self.logs.keys().copied().collect();
        for label in &labels {
            let index = self.edge.size();
            let known = self.logs.get_mut(label).unwrap();
            let (edge, root) = frontier(&known.leaves);
            let (epoch, previous) = (known.epoch, Some(known.index));
            known.index = index;
            known.trees.push((index, known.leaves.clone()));
            let log = Log { label: *label, epoch, size: edge.size(), root, previous, restored: None };
            self.append(Entry::Log(log), Vec::new(), Some(edge.parts().1.to_vec()), None);
        }
        self.say(Entry::SnapshotEnd(labels.len() as u64));
    }

    /// The tenant is gone.
    pub fn close(&mut self, label: Label) {
        self.logs.remove(&label);
        self.say(Entry::Close(label));
    }

    /// Signs, and writes a file.
    pub fn run(&mut self) {
        if self.blocks.is_empty() {
            self.begun = (self.edge.size(), None);
        }
        let head = Head {
            number: self.files.len() as u64 + 1,
            after: self.files.last().map(|file| run::digest(file.as_bytes())),
            written: Written { system: 7, database: 16384 },
            size: (self.begun.0, self.edge.size()),
            edge: self.begun.1.take(),
        };
        let mut writer = Writer::new(&head);
        for block in self.blocks.drain(..) {
            writer.entry(&block.text, block.edge.as_deref(), &block.intervals, block.growth.as_deref());
        }
        let (size, root) = (self.edge.size(), self.edge.root());
        let checkpoint = Checkpoint { origin: ORIGIN.into(), size, root };
        let note = checkpoint.sign(&key(), 1_700_000_000 + head.number).unwrap();
        self.files.push(writer.finish(&note, &[], &[]));
    }

    pub fn files(&self) -> &[String] {
        &self.files
    }
}

pub fn frontier(leaves: &[Digest]) -> (Frontier, Digest) {
    let mut frontier = Frontier::new();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    let root = frontier.root();
    (frontier, root)
}

/// The compact range of the leaves from `begin` on.
pub fn range(begin: u64, leaves: &[Digest]) -> Vec<Digest> {
    let mut range = Range::empty(begin);
    leaves[begin as usize..].iter().for_each(|leaf| range.push(*leaf));
    range.parts().to_vec()
}

pub fn key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[7; 32]).unwrap()
}

fn words(problem: &Problem) -> String {
    format!("{}: {problem}", problem.class())
}

/// What an auditor says of files, who believes one key: in words, nothing when all is well; and what restores lost.
pub fn read(files: &[String], first: usize) -> (Vec<String>, u64) {
    let mut wrong = Vec::new();
    let mut lost = 0;
    let mut replay: Option<Replay> = (first == 0).then(|| Replay::new(ORIGIN));
    let mut logs: BTreeMap<u64, Log> = BTreeMap::new();
    for (n, file) in files.iter().enumerate().skip(first) {
        let mut say = |what: String| wrong.push(format!("{}: {what}", n + 1));
        let mut reader = match Reader::new(file.as_bytes()) {
            Ok(reader) => reader,
            Err(error) => {
                say(error.to_string());
                break;
            }
        };
        let head = reader.head().clone();
        if head.number != n as u64 + 1
            || n > first && head.after != Some(run::digest(files[n - 1].as_bytes()))
        {
            say("not the file that follows".into());
        }
        let replay = replay
            .get_or_insert_with(|| Replay::at_snapshot(ORIGIN, head.size.0, head.edge.clone().unwrap()).0);
        if head.size.0 != replay.size() {
            say("another size before".into());
        }
        let end = loop {
            let index = replay.size();
            let block = match reader.block() {
                Ok(Some(block)) => block,
                Ok(None) => break reader.tail(),
                Err(error) => break Err(error),
            };
            if let Entry::Log(log) = &block.entry {
                logs.insert(index, *log);
            }
            let older = Replay::needs(&block.entry).and_then(|older| logs.get(&older));
            match replay.add(&block, older) {
                Ok(Said::Restored { lost: events, .. }) => lost += events,
                Ok(_) => {}
                Err(problem) => say(words(&problem)),
            }
            replay.missing().iter().for_each(|label| say(format!("tenant_missing: {label}")));
        };
        let tail = match end {
            Ok(tail) => tail,
            Err(error) => {
                say(error.to_string());
                break;
            }
        };
        match Note::parse(tail.checkpoint.as_bytes()) {
            Ok(note) if note.verify(&[key().verifier_key()]).is_ok() => {
                match Checkpoint::parse(note.text()) {
                    Ok(checkpoint) if checkpoint.origin == ORIGIN => {
                        if let Err(problem) = replay.checkpoint(checkpoint.size, &checkpoint.root) {
                            say(words(&problem));
                        }
                    }
                    _ => say("no checkpoint of this registry".into()),
                }
            }
            _ => say("not signed".into()),
        }
    }
    (wrong, lost)
}
