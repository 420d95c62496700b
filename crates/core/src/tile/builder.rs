//! Growing a log: new leaves in, new and wider tiles out, O(new leaves).
//!
//! Of the existing tiles only the partial ones of the right edge are needed. Anyone may have written to their storage: compare
//! [`Builder::root`] with the newest checkpoint before adding to it.

use alloc::vec::Vec;

use super::{Extent, HEIGHT, Tile, WIDTH, edge};
use crate::digest::Digest;
use crate::range::{Frontier, subtrees};

/// Why tiles are not the edge of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tile that a tree of this size has is not given, or has another number of hashes.
    #[error("a tree of {size} leaves has {width} hashes in tile {index} of level {level}, which is not what is given", width = .edge.width, index = .edge.index, level = .edge.level)]
    Edge {
        /// Leaves.
        size: u64,
        /// What there must be.
        edge: Extent,
    },
}

/// A log that grows.
#[derive(Default)]
pub struct Builder {
    size: u64,
    /// The partial tile of each level, maybe empty.
    partial: Vec<Partial>,
    full: Vec<Tile>,
}

#[derive(Default)]
struct Partial {
    index: u64,
    hashes: Vec<Digest>,
    /// Hashes of it that were there before.
    known: usize,
}

/// The new state of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grown {
    /// Leaves.
    pub size: u64,
    /// Root hash.
    pub root: Digest,
    /// Every tile that is new or has more hashes than before, whole; those that [`Builder::take_full`] gave are not repeated.
    pub tiles: Vec<Tile>,
}

impl Builder {
    /// Continues a log of `size` leaves whose partial tiles, as [`edge`] names them, are among `tiles`; wider ones are cut.
    ///
    /// # Errors
    /// [`Error::Edge`].
    pub fn resume(size: u64, tiles: impl IntoIterator<Item = Tile>) -> Result<Self, Error> {
        let mut given: Vec<Tile> = tiles.into_iter().collect();
        let mut partial = Vec::new();
        for edge in edge(size) {
            let width = usize::from(edge.width);
            let tile = given
                .iter_mut()
                .find(|tile| {
                    tile.level == edge.level && tile.index == edge.index && tile.hashes.len() >= width
                })
                .ok_or(Error::Edge { size, edge })?;
            let mut hashes = core::mem::take(&mut tile.hashes);
            hashes.truncate(width);
            partial.resize_with(usize::from(edge.level) + 1, Partial::default);
            partial[usize::from(edge.level)] = Partial { index: edge.index, known: width, hashes };
        }
        for (level, partial) in partial.iter_mut().enumerate() {
            partial.index = size.checked_shr(HEIGHT * (level as u32 + 1)).unwrap_or(0);
        }
        Ok(Self { size, partial, full: Vec::new() })
    }

    /// Adds a leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        self.size += 1;
        let mut hash = leaf;
        for level in 0..=u8::MAX {
            let at = usize::from(level);
            if at == self.partial.len() {
                self.partial.push(Partial::default());
            }
            let partial = &mut self.partial[at];
            partial.hashes.push(hash);
            if partial.hashes.len() < usize::from(WIDTH) {
                return;
            }
            let hashes = core::mem::take(&mut partial.hashes);
            hash = super::whole(&hashes);
            self.full.push(Tile { level, index: partial.index, hashes });
            partial.index += 1;
            partial.known = 0;
        }
    }

    /// Leaves so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root hash so far.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.frontier().root()
    }

    /// What must be kept to continue without the tiles.
    #[must_use]
    pub fn frontier(&self) -> Frontier {
        // The hashes of a partial tile follow in the tree on what the partial tiles above it stand for.
        let nodes = self.partial.iter().rev().flat_map(|partial| {
            let width = partial.hashes.len() as u64;
            subtrees(0, width).map(|subtree| {
                let first = (subtree.index << subtree.height) as usize;
                super::whole(&partial.hashes[first..first + (1 << subtree.height)])
            })
        });
        Frontier::of_subtrees(self.size, nodes.collect())
    }

    /// The tiles that became full, for whom a long run of leaves would otherwise pile them up.
    pub fn take_full(&mut self) -> Vec<Tile> {
        core::mem::take(&mut self.full)
    }

    /// Every tile that is new or grew, and the new root.
    #[must_use]
    pub fn finish(mut self) -> Grown {
        let (size, root) = (self.size, self.root());
        let mut tiles = self.take_full();
        for (level, partial) in (0..).zip(self.partial) {
            if partial.hashes.len() > partial.known {
                tiles.push(Tile { level, index: partial.index, hashes: partial.hashes });
            }
        }
        Grown { size, root, tiles }
    }
}
