//! Merkle trees as of RFC 6962 and RFC 9162: the hashes, and the verification of proofs.
//!
//! The entry of an event is its 32-byte event hash. What makes proofs is in [`crate::tile`] (from stored tiles) and
//! [`crate::tree`] (from leaves in memory); what grows a tree is in [`crate::range`]. Nothing here allocates.

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

/// The root hash of a tree without leaves: SHA-256 of nothing.
pub const EMPTY_ROOT: Digest = Digest::new([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// Why a proof does not prove the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such leaf.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    IndexBeyondSize {
        /// The leaf.
        index: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// The newer tree is the smaller one.
    #[error("the tree shrank from {old} to {new} leaves")]
    Shrunk {
        /// Leaves of the older tree.
        old: u64,
        /// Leaves of the newer one.
        new: u64,
    },
    /// The path has another number of hashes than one between these places has.
    #[error("the path has {length} hashes, which is not the number there must be")]
    PathLength {
        /// Hashes in the path.
        length: usize,
    },
    /// The path leads to another root.
    #[error("the path leads to root {computed} instead of {root}")]
    Root {
        /// The root to be proven.
        root: Digest,
        /// Where the path leads.
        computed: Digest,
    },
    /// The consistency path does not contain the older tree.
    #[error("the path leads to the older root {computed} instead of {root}")]
    OldRoot {
        /// The older root to be proven.
        root: Digest,
        /// Where the path leads.
        computed: Digest,
    },
}

/// The hash of a leaf: `SHA-256(0x00 || entry)`.
#[must_use]
#[inline]
pub fn leaf_hash(entry: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(entry);
    Digest::new(hasher.finalize().into())
}

/// The hash of an inner node: `SHA-256(0x01 || left || right)`.
#[must_use]
#[inline]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut input = [1; 65];
    input[1..33].copy_from_slice(left.as_bytes());
    input[33..].copy_from_slice(right.as_bytes());
    Digest::new(Sha256::digest(input).into())
}

/// Checks that `leaf` (a leaf hash) is leaf `index`, counted from 0, of the tree with `size` leaves and root `root`.
/// RFC 9162, section 2.1.3.2.
///
/// # Errors
/// [`Error::IndexBeyondSize`], [`Error::PathLength`] or [`Error::Root`].
pub fn verify_inclusion(
    index: u64,
    size: u64,
    leaf: &Digest,
    path: &[Digest],
    root: &Digest,
) -> Result<(), Error> {
    // 5., the roots
    let computed = inclusion_root(index, size, leaf, path)?;
    if computed == *root { Ok(()) } else { Err(Error::Root { root: *root, computed }) }
}

/// The root to which an inclusion path leads. The caller must compare it with a trusted root.
///
/// # Errors
/// [`Error::IndexBeyondSize`] or [`Error::PathLength`].
pub fn inclusion_root(index: u64, size: u64, leaf: &Digest, path: &[Digest]) -> Result<Digest, Error> {
    // 1.
    if index >= size {
        return Err(Error::IndexBeyondSize { index, size });
    }
    // 2.
    let mut place = Place { fnode: index, snode: size - 1 };
    // 3.
    let mut computed = *leaf;
    // 4.
    for sibling in path {
        // 4.a
        place.below_the_root(path)?;
        // 4.b
        computed = if place.takes_from_the_left() {
            node_hash(sibling, &computed)
        } else {
            node_hash(&computed, sibling)
        };
        // 4.b.ii and 4.c
        place.rise();
    }
    // 5., the place
    place.at_the_root(path)?;
    Ok(computed)
}

/// Checks that of two trees, each with its size and root, one is the beginning of the other: [`verify_consistency`] from the smaller.
///
/// # Errors
/// As [`verify_consistency`].
pub fn verify_either_grew(one: (u64, &Digest), other: (u64, &Digest), path: &[Digest]) -> Result<(), Error> {
    let (old, new) = if one.0 <= other.0 { (one, other) } else { (other, one) };
    verify_consistency(old.0, new.0, old.1, new.1, path)
}

/// Checks that the tree with `old_size` leaves and root `old_root` is the beginning of the one with `new_size` and
/// `new_root`. RFC 9162, section 2.1.4.2; for equal sizes the path is empty and the roots are equal, and an empty tree is the
/// beginning of every tree, with an empty path and its own root (C2SP tlog-witness).
///
/// # Errors
/// [`Error::Shrunk`], [`Error::PathLength`], [`Error::OldRoot`] or [`Error::Root`].
pub fn verify_consistency(
    old_size: u64,
    new_size: u64,
    old_root: &Digest,
    new_root: &Digest,
    path: &[Digest],
) -> Result<(), Error> {
    if old_size > new_size {
        return Err(Error::Shrunk { old: old_size, new: new_size });
    }
    if old_size == 0 && *old_root != EMPTY_ROOT {
        return Err(Error::OldRoot { root: *old_root, computed: EMPTY_ROOT });
    }
    if old_size == new_size && old_root != new_root {
        return Err(Error::Root { root: *new_root, computed: *old_root });
    }
    if old_size == 0 || old_size == new_size {
        return if path.is_empty() { Ok(()) } else { Err(Error::PathLength { length: path.len() }) };
    }
    // 1. and 2.: where the older tree is a whole subtree of the newer, its root is not in the path.
    let (start, rest) = match path.split_first() {
        None => return Err(Error::PathLength { length: 0 }),
        Some(_) if old_size.is_power_of_two() => (old_root, path),
        Some((first, rest)) => (first, rest),
    };
    // 3.
    let mut place = Place { fnode: old_size - 1, snode: new_size - 1 };
    // 4.
    while place.fnode & 1 == 1 {
        place.halve();
    }
    // 5.
    let (mut old, mut new) = (*start, *start);
    // 6.
    for sibling in rest {
        // 6.a
        place.below_the_root(path)?;
        // 6.b
        if place.takes_from_the_left() {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
        } else {
            new = node_hash(&new, sibling);
        }
        // 6.b.iii and 6.c
        place.rise();
    }
    // 7.
    place.at_the_root(path)?;
    if old != *old_root {
        return Err(Error::OldRoot { root: *old_root, computed: old });
    }
    if new == *new_root { Ok(()) } else { Err(Error::Root { root: *new_root, computed: new }) }
}

/// `fn` and `sn` of the RFC: a node and the last node of its level.
struct Place {
    fnode: u64,
    snode: u64,
}

impl Place {
    fn below_the_root(&self, path: &[Digest]) -> Result<(), Error> {
        if self.snode == 0 { Err(Error::PathLength { length: path.len() }) } else { Ok(()) }
    }

    fn at_the_root(&self, path: &[Digest]) -> Result<(), Error> {
        if self.snode == 0 { Ok(()) } else { Err(Error::PathLength { length: path.len() }) }
    }

    fn takes_from_the_left(&self) -> bool {
        self.fnode & 1 == 1 || self.fnode == self.snode
    }

    /// To the parent; from a last node without a sibling, to the first level where it has one.
    fn rise(&mut self) {
        if self.takes_from_the_left() {
            while self.fnode & 1 == 0 && self.fnode != 0 {
                self.halve();
            }
        }
        self.halve();
    }

    fn halve(&mut self) {
        self.fnode >>= 1;
        self.snode >>= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_nothing_is_the_hash_of_nothing() {
        assert_eq!(EMPTY_ROOT.as_bytes()[..], Sha256::digest(b"")[..]);
    }

    #[test]
    fn an_old_root_that_is_not_of_an_empty_tree_is_no_beginning_of_size_zero() {
        let other = leaf_hash(b"");
        assert_eq!(
            verify_consistency(0, 3, &other, &other, &[]),
            Err(Error::OldRoot { root: other, computed: EMPTY_ROOT })
        );
        assert_eq!(verify_consistency(0, 3, &EMPTY_ROOT, &other, &[]), Ok(()));
    }
}
