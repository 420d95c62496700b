//! The tiles of a log in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::tile::builder::{Builder, Grown};
use zeroauth_audit_core::tile::{Tile, TileSource, edge};

/// Keeps every tile, and which were read.
#[derive(Default)]
pub struct Store {
    pub tiles: BTreeMap<(u8, u64), Vec<Digest>>,
    pub size: u64,
    pub reads: RefCell<Vec<(u8, u64, u16)>>,
}

impl TileSource for Store {
    type Error = String;

    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<Digest>, String> {
        self.reads.borrow_mut().push((level, index, width));
        self.tiles.get(&(level, index)).cloned().ok_or_else(|| format!("no tile {level}/{index}"))
    }
}

impl Store {
    /// The log of these leaves, made in one go.
    pub fn of(leaves: &[Digest]) -> Self {
        let mut store = Self::default();
        store.grow(leaves);
        store
    }

    /// Appends as a worker does: from the partial tiles of the edge alone.
    pub fn grow(&mut self, leaves: &[Digest]) -> Grown {
        let edge = edge(self.size).map(|edge| Tile {
            level: edge.level,
            index: edge.index,
            hashes: self.tiles[&(edge.level, edge.index)].clone(),
        });
        let mut builder = Builder::resume(self.size, edge).unwrap();
        leaves.iter().for_each(|leaf| builder.push(*leaf));
        let grown = builder.finish();
        for tile in &grown.tiles {
            let before = self.tiles.insert((tile.level, tile.index), tile.hashes.clone());
            let before = before.unwrap_or_default();
            assert!(
                before.len() < tile.hashes.len() && tile.hashes.starts_with(&before),
                "a tile only grows"
            );
        }
        self.size = grown.size;
        grown
    }
}
