//! Compact ranges: what must be kept of consecutive leaves of a tree to keep appending.
//!
//! A [`Range`] is the leaves `begin..end` of some tree as the roots of its largest whole subtrees, so at most 2 log n hashes; a
//! [`Frontier`] is one that starts at leaf 0 and so has a root. Ranges that touch can be joined, in any grouping: a verifier
//! that meets the leaves out of order folds each run of them by itself.

use alloc::vec::Vec;

use crate::digest::Digest;
use crate::merkle::{EMPTY_ROOT, node_hash};

/// Why parts are not those of a range, or two ranges cannot be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The number of hashes does not fit the size.
    #[error("a tree of {size} leaves has another number of hashes on its edge than {hashes}")]
    Parts {
        /// Leaves.
        size: u64,
        /// Hashes given.
        hashes: usize,
    },
    /// There are leaves between the two ranges, or in both.
    #[error("a range from leaf {begin} cannot follow one to leaf {end}")]
    Apart {
        /// Where the first range ends.
        end: u64,
        /// Where the second begins.
        begin: u64,
    },
}

/// The leaves `begin..end` of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    begin: u64,
    end: u64,
    nodes: Vec<Digest>,
}

impl Range {
    /// The empty range before leaf `begin`.
    #[must_use]
    pub const fn empty(begin: u64) -> Self {
        Self { begin, end: begin, nodes: Vec::new() }
    }

    /// Takes up the roots of the largest whole subtrees that the leaves `begin..end` consist of, from the left.
    ///
    /// # Errors
    /// [`Error::Parts`] when it is another number of them.
    pub fn from_parts(begin: u64, end: u64, nodes: Vec<Digest>) -> Result<Self, Error> {
        if begin > end || subtrees(begin, end).count() != nodes.len() {
            return Err(Error::Parts { size: end.saturating_sub(begin), hashes: nodes.len() });
        }
        Ok(Self { begin, end, nodes })
    }

    /// The roots that [`Range::from_parts`] takes.
    #[must_use]
    pub fn parts(&self) -> &[Digest] {
        &self.nodes
    }

    /// First leaf.
    #[must_use]
    pub const fn begin(&self) -> u64 {
        self.begin
    }

    /// The leaf after the last.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Adds the leaf hash of leaf `end`.
    pub fn push(&mut self, leaf: Digest) {
        self.push_subtree(leaf, 0);
    }

    /// Adds the leaves of the range that follows.
    ///
    /// # Errors
    /// [`Error::Apart`] when it does not begin where this one ends; nothing is added then.
    pub fn append(&mut self, next: &Range) -> Result<(), Error> {
        if next.begin != self.end {
            return Err(Error::Apart { end: self.end, begin: next.begin });
        }
        for (subtree, node) in subtrees(next.begin, next.end).zip(&next.nodes) {
            self.push_subtree(*node, subtree.height);
        }
        Ok(())
    }

    /// Adds a whole subtree of 2^height leaves; the end is a multiple of that.
    fn push_subtree(&mut self, mut node: Digest, mut height: u32) {
        let mut index = self.end >> height;
        self.end += 1 << height;
        // The left sibling is whole and in the range: then it is the last of the nodes.
        while index & 1 == 1 && (index - 1) << height >= self.begin {
            let Some(left) = self.nodes.pop() else { break };
            node = node_hash(&left, &node);
            index >>= 1;
            height += 1;
        }
        self.nodes.push(node);
    }
}

/// A tree's edge: all that is kept of its leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontier(Range);

impl Default for Frontier {
    fn default() -> Self {
        Self::new()
    }
}

impl Frontier {
    /// The tree without leaves.
    #[must_use]
    pub const fn new() -> Self {
        Self(Range::empty(0))
    }

    /// Takes up [`Frontier::parts`].
    ///
    /// # Errors
    /// [`Error::Parts`] when it is not one hash for each one-bit of `size`.
    pub fn from_parts(size: u64, nodes: Vec<Digest>) -> Result<Self, Error> {
        if u32::try_from(nodes.len()) != Ok(size.count_ones()) {
            return Err(Error::Parts { size, hashes: nodes.len() });
        }
        Ok(Self(Range { begin: 0, end: size, nodes }))
    }

    /// A tree of which only the size is known: its root is not.
    pub(crate) const fn unknown(size: u64) -> Self {
        Self(Range { begin: size, end: size, nodes: Vec::new() })
    }

    /// The roots of the whole subtrees that [`subtrees`] names.
    pub(crate) const fn of_subtrees(size: u64, nodes: Vec<Digest>) -> Self {
        Self(Range { begin: 0, end: size, nodes })
    }

    /// Size, and the roots of the whole subtrees that make up the tree, the largest (leftmost) first: one for each one-bit
    /// of the size.
    #[must_use]
    pub fn parts(&self) -> (u64, &[Digest]) {
        (self.0.end, &self.0.nodes)
    }

    /// Leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.0.end
    }

    /// Adds a leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        self.0.push(leaf);
    }

    /// Adds the leaves of the range that follows.
    ///
    /// # Errors
    /// [`Error::Apart`] when it does not begin at the tree's size.
    pub fn append(&mut self, next: &Range) -> Result<(), Error> {
        self.0.append(next)
    }

    /// The root hash.
    #[must_use]
    pub fn root(&self) -> Digest {
        fold(&self.0.nodes).unwrap_or(EMPTY_ROOT)
    }
}

/// The root over subtrees that follow each other and become smaller to the right.
pub(crate) fn fold(nodes: &[Digest]) -> Option<Digest> {
    let (last, rest) = nodes.split_last()?;
    Some(rest.iter().rev().fold(*last, |right, left| node_hash(left, &right)))
}

/// A whole subtree of 2^height leaves: number `index` of those of its height, from the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subtree {
    pub(crate) height: u32,
    pub(crate) index: u64,
}

/// The largest whole subtrees that the leaves `begin..end` consist of, from the left.
pub(crate) fn subtrees(begin: u64, end: u64) -> impl Iterator<Item = Subtree> {
    let mut at = begin;
    core::iter::from_fn(move || {
        let left = end.checked_sub(at).filter(|left| *left > 0)?;
        let fits = 63 - left.leading_zeros();
        let height = if at == 0 { fits } else { fits.min(at.trailing_zeros()) };
        let subtree = Subtree { height, index: at >> height };
        at += 1 << height;
        Some(subtree)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf_hash;

    fn leaf(number: u64) -> Digest {
        leaf_hash(&number.to_be_bytes())
    }

    fn range(begin: u64, end: u64) -> Range {
        let mut range = Range::empty(begin);
        (begin..end).for_each(|number| range.push(leaf(number)));
        range
    }

    #[test]
    fn ranges_join_to_the_same_range_however_they_are_cut() {
        for begin in 0..20 {
            for middle in begin..40 {
                for end in middle..40 {
                    let mut joined = range(begin, middle);
                    joined.append(&range(middle, end)).unwrap();
                    assert_eq!(joined, range(begin, end), "{begin} {middle} {end}");
                    assert_eq!(joined.nodes.len(), subtrees(begin, end).count());
                }
            }
        }
    }

    #[test]
    fn ranges_that_do_not_touch_are_not_joined() {
        let mut first = range(0, 3);
        assert_eq!(first.append(&range(4, 5)), Err(Error::Apart { end: 3, begin: 4 }));
        assert_eq!(first, range(0, 3));
    }

    #[test]
    fn a_frontier_goes_on_from_its_parts() {
        let mut whole = Frontier::new();
        for number in 0..70 {
            let (size, nodes) = whole.parts();
            let mut taken_up = Frontier::from_parts(size, nodes.to_vec()).unwrap();
            whole.push(leaf(number));
            taken_up.push(leaf(number));
            assert_eq!(taken_up.root(), whole.root());
        }
    }

    #[test]
    fn parts_of_another_size_are_refused() {
        assert_eq!(Frontier::from_parts(3, Vec::new()), Err(Error::Parts { size: 3, hashes: 0 }));
    }
}
