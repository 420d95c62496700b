//! The Merkle log in tiles (C2SP tlog-tiles): where a hash is kept, and proofs read from the tiles of a log.
//!
//! Tile `index` of `level` holds up to 256 consecutive hashes: at level 0 leaf hashes, above that each the root of a whole
//! tile of the level below. A [`TileSource`] keeps the tiles; a proof reads each tile it needs once, O(log n) of them.
//! How tiles grow is in [`builder`].

pub mod builder;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::digest::Digest;
use crate::merkle::{EMPTY_ROOT, node_hash};
use crate::range::{Subtree, fold, subtrees};

/// Levels of the tree within a tile.
pub const HEIGHT: u32 = 8;

/// Hashes in a full tile.
pub const WIDTH: u16 = 1 << HEIGHT;

/// A tile and the hashes that it has so far, 1 to 256 of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Level, from 0.
    pub level: u8,
    /// Number of the tile in its level, from 0.
    pub index: u64,
    /// Its hashes from the left.
    pub hashes: Vec<Digest>,
}

impl Tile {
    /// Where C2SP tlog-tiles serves it: `tile/0/x001/x234/067`, with `.p/17` when it has only 17 hashes.
    #[must_use]
    pub fn path(&self) -> String {
        format!("tile/{}/{}", self.level, place(self.index, self.hashes.len()))
    }
}

/// Where C2SP tlog-tiles serves the entries that the hashes of tile `index` of level 0 are of: `tile/entries/x001/x234/067`, with `.p/17`
/// when there are only 17 of them.
#[must_use]
pub fn bundle_path(index: u64, entries: usize) -> String {
    format!("tile/entries/{}", place(index, entries))
}

fn place(index: u64, width: usize) -> String {
    let mut elements = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        elements = format!("x{:03}/{elements}", rest % 1000);
        rest /= 1000;
    }
    if width < usize::from(WIDTH) { format!("{elements}.p/{width}") } else { elements }
}

/// Which tile, and how many of its hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// Level, from 0.
    pub level: u8,
    /// Number of the tile in its level, from 0.
    pub index: u64,
    /// Hashes, 1 to 256.
    pub width: u16,
}

/// Keeps the tiles of one log.
pub trait TileSource {
    /// Why a tile could not be read.
    type Error;

    /// At least the first `width` (1 to 256) hashes of tile `index` of `level`.
    ///
    /// # Errors
    /// What the source says.
    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<Digest>, Self::Error>;
}

impl<S: TileSource + ?Sized> TileSource for &S {
    type Error = S::Error;

    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<Digest>, Self::Error> {
        (**self).tile(level, index, width)
    }
}

/// Why there is no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The source failed.
    #[error("a tile cannot be read: {0}")]
    Source(E),
    /// The source has fewer hashes (the second) than a tree of this size must have.
    #[error("tile {index} of level {level} has {1} hashes instead of {width}", index = .0.index, level = .0.level, width = .0.width)]
    Short(Extent, usize),
    /// There is no such leaf.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    IndexBeyondSize {
        /// The leaf.
        index: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// The newer tree is the smaller one.
    #[error("a tree of {new} leaves has none of {old} leaves at its beginning")]
    Shrunk {
        /// Leaves of the older tree.
        old: u64,
        /// Leaves of the newer one.
        new: u64,
    },
}

/// The partial tiles on the right edge of a tree of `size` leaves, from level 0 up: what [`builder::Builder::resume`] needs.
pub fn edge(size: u64) -> impl Iterator<Item = Extent> {
    (0..=7).filter_map(move |level: u8| {
        let hashes = size >> (HEIGHT * u32::from(level));
        let width = u16::try_from(hashes % u64::from(WIDTH)).ok().filter(|width| *width > 0)?;
        Some(Extent { level, index: hashes >> HEIGHT, width })
    })
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
/// [`Error::Source`] or [`Error::Short`].
pub fn root<S: TileSource>(size: u64, source: &S) -> Result<Digest, Error<S::Error>> {
    if size == 0 {
        return Ok(EMPTY_ROOT);
    }
    let whole = Span { begin: 0, end: size };
    Ok(roots(&[whole], source)?.into_iter().next().unwrap_or(EMPTY_ROOT))
}

/// The roots of the largest complete subtrees that the leaves from `begin` to `end` (not included) consist of, from the left: the
/// parts of a [`Range`](crate::range::Range).
///
/// # Errors
/// [`Error::Shrunk`], [`Error::Source`] or [`Error::Short`].
pub fn range<S: TileSource>(begin: u64, end: u64, source: &S) -> Result<Vec<Digest>, Error<S::Error>> {
    if begin > end {
        return Err(Error::Shrunk { old: begin, new: end });
    }
    let span = |it: Subtree| Span { begin: it.index << it.height, end: (it.index + 1) << it.height };
    roots(&subtrees(begin, end).map(span).collect::<Vec<_>>(), source)
}

/// The inclusion path of leaf `index` in the tree of the first `size` leaves, from the leaf's sibling up: `PATH(m, D_n)` of
/// RFC 9162, section 2.1.3.1.
///
/// # Errors
/// [`Error::IndexBeyondSize`], [`Error::Source`] or [`Error::Short`].
pub fn inclusion_proof<S: TileSource>(
    index: u64,
    size: u64,
    source: &S,
) -> Result<Vec<Digest>, Error<S::Error>> {
    if index >= size {
        return Err(Error::IndexBeyondSize { index, size });
    }
    let mut siblings = Vec::new();
    let mut at = Span { begin: 0, end: size };
    while let Some((left, right)) = at.halves() {
        let (inside, sibling) = if index < left.end { (left, right) } else { (right, left) };
        siblings.push(sibling);
        at = inside;
    }
    siblings.reverse();
    roots(&siblings, source)
}

/// The consistency path from the tree of the first `old` leaves to that of the first `new`: `PROOF(m, D_n)` of RFC 9162,
/// section 2.1.4.1; empty when `old` is 0 or equal to `new`.
///
/// # Errors
/// [`Error::Shrunk`], [`Error::Source`] or [`Error::Short`].
pub fn consistency_proof<S: TileSource>(
    old: u64,
    new: u64,
    source: &S,
) -> Result<Vec<Digest>, Error<S::Error>> {
    if old > new {
        return Err(Error::Shrunk { old, new });
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let mut spans = Vec::new();
    let mut at = Span { begin: 0, end: new };
    // SUBPROOF(m, D[n], b); b is whether only left halves were entered, so that the older tree is `at` itself.
    while at.end != old {
        let Some((left, right)) = at.halves() else { break };
        let (inside, sibling) = if old <= left.end { (left, right) } else { (right, left) };
        spans.push(sibling);
        at = inside;
    }
    if at.begin != 0 {
        spans.push(at);
    }
    spans.reverse();
    roots(&spans, source)
}

/// The leaves `begin..end`, at least one, whose hash is a node of some tree.
#[derive(Clone, Copy)]
struct Span {
    begin: u64,
    end: u64,
}

impl Span {
    /// Split at the largest power of two that is smaller than the number of leaves; `None` for a single leaf.
    fn halves(self) -> Option<(Span, Span)> {
        let leaves = self.end - self.begin;
        if leaves < 2 {
            return None;
        }
        let split = self.begin + (1 << (63 - (leaves - 1).leading_zeros()));
        Some((Span { begin: self.begin, end: split }, Span { begin: split, end: self.end }))
    }
}

/// The hash of each span; each tile is read once.
fn roots<S: TileSource>(spans: &[Span], source: &S) -> Result<Vec<Digest>, Error<S::Error>> {
    let mut widths: BTreeMap<(u8, u64), u16> = BTreeMap::new();
    for kept in spans.iter().flat_map(|span| subtrees(span.begin, span.end)).map(Kept::of) {
        let width = widths.entry((kept.level, kept.tile)).or_default();
        *width = (*width).max(kept.first + kept.count);
    }
    let mut tiles = BTreeMap::new();
    for ((level, index), width) in widths {
        let hashes = source.tile(level, index, width).map_err(Error::Source)?;
        if hashes.len() < usize::from(width) {
            return Err(Error::Short(Extent { level, index, width }, hashes.len()));
        }
        tiles.insert((level, index), hashes);
    }
    let hash = |subtree: Subtree| {
        let kept = Kept::of(subtree);
        let hashes = tiles.get(&(kept.level, kept.tile)).map_or(&[][..], Vec::as_slice);
        whole(hashes.get(usize::from(kept.first)..usize::from(kept.first + kept.count)).unwrap_or(&[]))
    };
    let of_span = |span: &Span| {
        fold(&subtrees(span.begin, span.end).map(hash).collect::<Vec<_>>()).unwrap_or(EMPTY_ROOT)
    };
    Ok(spans.iter().map(of_span).collect())
}

/// Where the hashes are that a whole subtree consists of.
struct Kept {
    level: u8,
    tile: u64,
    first: u16,
    count: u16,
}

impl Kept {
    fn of(subtree: Subtree) -> Self {
        let inside = subtree.height % HEIGHT;
        let first = subtree.index << inside;
        Self {
            // At most 63 / 8, and less than 256.
            level: (subtree.height / HEIGHT) as u8,
            tile: first >> HEIGHT,
            first: (first % u64::from(WIDTH)) as u16,
            count: 1 << inside,
        }
    }
}

/// The root over hashes whose number is a power of two.
fn whole(hashes: &[Digest]) -> Digest {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    level.first().copied().unwrap_or(EMPTY_ROOT)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = |index, width| Tile { level: 1, index, hashes: vec![EMPTY_ROOT; width] };
        assert_eq!(tile(1_234_067, 256).path(), "tile/1/x001/x234/067");
        assert_eq!(tile(0, 1).path(), "tile/1/000.p/1");
        assert_eq!(tile(1000, 255).path(), "tile/1/x001/000.p/255");
    }

    #[test]
    fn the_edge_is_that_of_the_specification_for_70000_leaves() {
        let extent = |level, index, width| Extent { level, index, width };
        let expected = [extent(0, 273, 112), extent(1, 1, 17), extent(2, 0, 1)];
        assert_eq!(edge(70_000).collect::<Vec<_>>(), expected);
        assert_eq!(edge(256).collect::<Vec<_>>(), [extent(1, 0, 1)]);
        assert_eq!(edge(0).count(), 0);
    }
}
