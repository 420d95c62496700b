//! A whole Merkle tree in memory, for trees that are small and made at once: the batch of an anchor.
//!
//! Logs grow and are kept in tiles instead ([`crate::tile`]).

use alloc::vec::Vec;

use crate::digest::Digest;
use crate::merkle::{EMPTY_ROOT, Error, node_hash};

/// Every hash of a tree: about twice 32 bytes a leaf.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Leaves first; a last node without a sibling stands for its own parent.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// The tree over `leaves`, which are leaf hashes.
    #[must_use]
    pub fn new(leaves: Vec<Digest>) -> Self {
        let mut levels = Vec::new();
        let mut level = leaves;
        while level.len() > 1 {
            let above = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => node_hash(left, right),
                    alone => alone[0],
                })
                .collect();
            levels.push(core::mem::replace(&mut level, above));
        }
        levels.push(level);
        Self { levels }
    }

    /// Leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// The root hash.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.levels.last().and_then(|top| top.first()).copied().unwrap_or(EMPTY_ROOT)
    }

    /// The inclusion path of leaf `index`, from its sibling up.
    ///
    /// # Errors
    /// [`Error::IndexBeyondSize`].
    pub fn inclusion_proof(&self, index: u64) -> Result<Vec<Digest>, Error> {
        let size = self.size();
        let mut at = usize::try_from(index)
            .ok()
            .filter(|_| index < size)
            .ok_or(Error::IndexBeyondSize { index, size })?;
        let mut path = Vec::new();
        for level in &self.levels {
            path.extend(level.get(at ^ 1));
            at >>= 1;
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::merkle::{leaf_hash, verify_inclusion};
    use crate::range::Frontier;

    #[test]
    fn every_leaf_of_every_size_is_proven_under_the_root_that_a_frontier_has() {
        let mut frontier = Frontier::new();
        let mut leaves = vec![];
        for size in 0..=70 {
            let tree = Tree::new(leaves.clone());
            assert_eq!((tree.size(), tree.root()), (size, frontier.root()));
            for index in 0..size {
                let path = tree.inclusion_proof(index).unwrap();
                verify_inclusion(index, size, &leaves[index as usize], &path, &tree.root()).unwrap();
            }
            assert_eq!(tree.inclusion_proof(size), Err(Error::IndexBeyondSize { index: size, size }));
            let leaf = leaf_hash(&size.to_be_bytes());
            leaves.push(leaf);
            frontier.push(leaf);
        }
    }
}
