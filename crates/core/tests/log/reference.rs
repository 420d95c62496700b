//! Roots and proofs are those of the reference implementation: all of them up to 300 leaves, samples up to 200,000.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::{Error, leaf_hash, verify_consistency, verify_inclusion};
use zeroauth_audit_core::range::Frontier;
use zeroauth_audit_core::tile::{self, consistency_proof, inclusion_proof};
use zeroauth_audit_core::tree::Tree;

use super::store::Store;
use super::{digest, leaves};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/log_v1.json")).unwrap()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap()
}

fn hash(value: &Value, name: &str) -> Digest {
    digest(value[name].as_str().unwrap())
}

fn path(value: &Value, name: &str) -> Vec<Digest> {
    value[name].as_array().unwrap().iter().map(|hash| digest(hash.as_str().unwrap())).collect()
}

fn fingerprint(paths: impl IntoIterator<Item = Vec<Digest>>) -> Digest {
    let mut hasher = Sha256::new();
    for path in paths {
        hasher.update([path.len() as u8]);
        path.iter().for_each(|hash| hasher.update(hash.as_bytes()));
    }
    Digest::new(hasher.finalize().into())
}

#[test]
fn every_root_and_every_proof_up_to_300_leaves_is_the_reference_s() {
    let vectors = vectors();
    let small = vectors["small"].as_array().unwrap();
    assert_eq!(small.len(), 301);
    let leaves = leaves(300);
    // One log of the largest size serves proofs for every smaller one, too.
    let largest = Store::of(&leaves);
    let mut frontier = Frontier::new();
    for vector in small {
        let size = number(vector, "size");
        let root = hash(vector, "root");
        let here = &leaves[..size as usize];
        assert_eq!(frontier.root(), root);
        assert_eq!(Tree::new(here.to_vec()).root(), root);
        // The largest one for some of the sizes: it reads whole tiles for each proof, which takes its time.
        let larger = Some(&largest).filter(|_| size % 16 < 2 || size > 254 && size < 260);
        for store in [Some(&Store::of(here)), larger].into_iter().flatten() {
            assert_eq!(tile::root(size, store), Ok(root));
            let inclusion = (0..size).map(|index| inclusion_proof(index, size, store).unwrap());
            let consistency = (0..=size).map(|old| consistency_proof(old, size, store).unwrap());
            assert_eq!(
                fingerprint(inclusion.chain(consistency)),
                hash(vector, "proofs"),
                "proofs for {size} leaves"
            );
        }
        frontier.extend_to(&leaves, size + 1);
    }
}

trait ExtendTo {
    fn extend_to(&mut self, leaves: &[Digest], size: u64);
}

impl ExtendTo for Frontier {
    fn extend_to(&mut self, leaves: &[Digest], size: u64) {
        let missing = self.size() as usize..leaves.len().min(size as usize);
        leaves[missing].iter().for_each(|leaf| self.push(*leaf));
    }
}

#[test]
fn sampled_proofs_of_large_trees_are_the_reference_s_and_hold() {
    let vectors = vectors();
    let large = vectors["large"].as_array().unwrap();
    let leaves = leaves(200_000);
    let store = Store::of(&leaves);
    for vector in large {
        let (size, index, old) =
            (number(vector, "size"), number(vector, "index"), number(vector, "old_size"));
        let (root, old_root) = (hash(vector, "root"), hash(vector, "old_root"));
        let (inclusion, consistency) = (path(vector, "inclusion"), path(vector, "consistency"));
        assert_eq!(tile::root(size, &store), Ok(root));
        assert_eq!(inclusion_proof(index, size, &store), Ok(inclusion.clone()));
        assert_eq!(consistency_proof(old, size, &store), Ok(consistency.clone()));
        assert_eq!(verify_inclusion(index, size, &leaves[index as usize], &inclusion, &root), Ok(()));
        assert_eq!(verify_consistency(old, size, &old_root, &root, &consistency), Ok(()));
    }
    assert_eq!(large.len(), 28);
}

#[test]
fn trees_over_the_published_event_hashes_have_the_published_roots_and_proofs() {
    let vectors: Value = serde_json::from_str(include_str!("../vectors/hash_v1.json")).unwrap();
    let events = vectors["events"].as_array().unwrap();
    let entry = |event: &Value| leaf_hash(hash(&event["event"], "event_hash").as_bytes());
    let leaves: Vec<Digest> = events.iter().map(entry).collect();
    let trees = vectors["trees"].as_array().unwrap();
    assert_eq!(trees.len(), 10);
    for tree in trees {
        let (size, root) = (number(tree, "size"), hash(tree, "root"));
        let store = Store::of(&leaves[..size as usize]);
        assert_eq!(tile::root(size, &store), Ok(root));
        if let Some(index) = tree["index"].as_u64() {
            assert_eq!(inclusion_proof(index, size, &store), Ok(path(tree, "inclusion")));
        }
        if let Some(old) = tree["old_size"].as_u64() {
            assert_eq!(consistency_proof(old, size, &store), Ok(path(tree, "consistency")));
            assert_eq!(tile::root(old, &store), Ok(hash(tree, "old_root")));
        }
    }
}

#[test]
fn proofs_hold_for_their_own_leaf_and_sizes_alone() {
    let leaves = leaves(40);
    let store = Store::of(&leaves);
    for size in 1..=40 {
        let root = tile::root(size, &store).unwrap();
        for index in 0..size {
            let path = inclusion_proof(index, size, &store).unwrap();
            let leaf = &leaves[index as usize];
            assert_eq!(verify_inclusion(index, size, leaf, &path, &root), Ok(()));
            for other in (0..size).filter(|other| *other != index) {
                assert!(verify_inclusion(other, size, leaf, &path, &root).is_err(), "{index} at {other}");
                assert!(verify_inclusion(index, size, &leaves[other as usize], &path, &root).is_err());
            }
            assert_eq!(
                verify_inclusion(size, size, leaf, &path, &root),
                Err(Error::IndexBeyondSize { index: size, size })
            );
        }
        for old in 1..=size {
            let old_root = tile::root(old, &store).unwrap();
            let path = consistency_proof(old, size, &store).unwrap();
            assert_eq!(verify_consistency(old, size, &old_root, &root, &path), Ok(()));
            for other in (1..=size).filter(|other| *other != old) {
                let other_root = tile::root(other, &store).unwrap();
                assert!(verify_consistency(old, size, &other_root, &root, &path).is_err());
                assert!(verify_consistency(other, size, &old_root, &root, &path).is_err());
            }
        }
    }
}
