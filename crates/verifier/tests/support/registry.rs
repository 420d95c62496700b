//! A registry that has the log of a trail among others, and bundles from it.

use std::convert::Infallible;

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::proof::{Bundle, InLog};
use zeroauth_audit_core::registry::Entry;
use zeroauth_audit_core::registry::entry::Log;
use zeroauth_audit_core::registry::label::NameKey;
use zeroauth_audit_core::tile::{TileSource, consistency_proof};
use zeroauth_audit_core::tree::Tree;

use super::trail::{self, Trail};

/// Leaves as tiles.
struct Leaves<'a>(&'a [Digest]);

impl TileSource for Leaves<'_> {
    type Error = Infallible;

    fn tile(&self, level: u8, index: u64, _width: u16) -> Result<Vec<Digest>, Self::Error> {
        let each = 256_usize.pow(u32::from(level));
        let tiles = self.0.chunks_exact(each).skip(index as usize * 256).take(256);
        Ok(tiles.map(|leaves| Tree::new(leaves.to_vec()).root()).collect())
    }
}

/// The entries of a registry.
pub struct Registry {
    pub names: NameKey,
    pub entries: Vec<Entry>,
}

impl Registry {
    /// Its first entry.
    pub fn new() -> Self {
        let names = NameKey::new([3; 32]);
        Self { entries: vec![Entry::Names(names.digest())], names }
    }

    /// Adds the state of a tenant's log: index of the entry, and what the registry is with it.
    pub fn log(&mut self, tenant: &str, sealed: &Checkpoint) -> (u64, Checkpoint) {
        let label = self.names.label(tenant);
        let index = self.entries.len() as u64;
        let before = |entry: &Entry| matches!(entry, Entry::Log(log) if log.label == label);
        let previous = self.entries.iter().rposition(before).map(|at| at as u64);
        let log = Log { label, epoch: 0, size: sealed.size, root: sealed.root, previous, restored: None };
        self.entries.push(Entry::Log(log));
        (index, self.checkpoint())
    }

    pub fn leaves(&self) -> Vec<Digest> {
        self.entries.iter().map(|entry| Entry::leaf(&entry.text())).collect()
    }

    /// What it is now.
    pub fn checkpoint(&self) -> Checkpoint {
        let leaves = self.leaves();
        Checkpoint { origin: trail::BASE.into(), size: leaves.len() as u64, root: Tree::new(leaves).root() }
    }

    /// From the smaller to the larger of two states.
    pub fn consistency(&self, one: &Checkpoint, other: &Checkpoint) -> Vec<Digest> {
        let (old, new) = (one.size.min(other.size), one.size.max(other.size));
        consistency_proof(old, new, &Leaves(&self.leaves())).unwrap()
    }

    /// The proof of leaf `index` of the log that entry `entry` is about, under the registry's state `of`.
    pub fn bundle(&self, of: &Checkpoint, entry: u64, trail: &Trail, index: u64, event: &str) -> Bundle {
        let text = &self.entries[entry as usize];
        let Entry::Log(log) = text else { panic!("{text:?}") };
        let tree = |leaves: &[Digest], size: u64| Tree::new(leaves[..size as usize].to_vec());
        Bundle {
            index: entry,
            path: tree(&self.leaves(), of.size).inclusion_proof(entry).unwrap(),
            extra: Some(text.text().into_bytes()),
            checkpoint: of.sign(&trail::key(), trail::BEGIN).unwrap(),
            log: Some(InLog {
                names: self.names.clone(),
                index,
                path: tree(&trail.leaves, log.size).inclusion_proof(index).unwrap(),
            }),
            event: Some(event.to_owned()),
            anchors: Vec::new(),
        }
    }
}
