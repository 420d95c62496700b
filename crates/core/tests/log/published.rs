//! The values that other implementations of RFC 6962 are tested with: proofs that hold, and every way to spoil one.

use serde_json::Value;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::{EMPTY_ROOT, leaf_hash, node_hash, verify_consistency, verify_inclusion};
use zeroauth_audit_core::range::Frontier;

use super::digest;

fn vectors(kind: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../vectors/rfc6962_proofs.json")).unwrap();
    file[kind].as_array().unwrap().clone()
}

fn number(vector: &Value, name: &str) -> u64 {
    vector[name].as_str().unwrap().parse().unwrap()
}

/// A hash; `None` when the value has another length, which this crate's types cannot say.
fn hash(value: &Value) -> Option<Digest> {
    Digest::from_slice(&hex::decode(value.as_str().unwrap()).unwrap())
}

fn path(vector: &Value) -> Option<Vec<Digest>> {
    vector["path"].as_array().unwrap().iter().map(hash).collect()
}

/// The verdict on each proof, which must be the published one; returns how many held and how many were refused. Proofs with a
/// hash of another length than 32 bytes count as neither: the crate's types cannot express them.
fn judge(kind: &str, verify: impl Fn(&Value) -> Option<bool>) -> (usize, usize) {
    let (mut held, mut refused) = (0, 0);
    for vector in vectors(kind) {
        let verdict = verify(&vector);
        if let Some(verdict) = verdict {
            assert_eq!(verdict, vector["holds"].as_bool().unwrap(), "{}", vector["what"]);
        }
        held += usize::from(verdict == Some(true));
        refused += usize::from(verdict == Some(false));
    }
    (held, refused)
}

#[test]
fn inclusion_proofs_hold_or_are_refused_as_published() {
    let judged = judge("inclusion", |vector| {
        let (leaf, path, root) = (hash(&vector["leaf"])?, path(vector)?, hash(&vector["root"])?);
        let (index, size) = (number(vector, "index"), number(vector, "size"));
        Some(verify_inclusion(index, size, &leaf, &path, &root).is_ok())
    });
    assert_eq!(judged, (6, 66));
}

#[test]
fn consistency_proofs_hold_or_are_refused_as_published() {
    let judged = judge("consistency", |vector| {
        let (old, new) = (hash(&vector["old_root"])?, hash(&vector["new_root"])?);
        let path = path(vector)?;
        let sizes = (number(vector, "old_size"), number(vector, "new_size"));
        Some(verify_consistency(sizes.0, sizes.1, &old, &new, &path).is_ok())
    });
    assert_eq!(judged, (5, 66));
}

#[test]
fn the_tree_of_the_certificate_transparency_tests_has_its_published_roots() {
    let entries =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut frontier = Frontier::new();
    assert_eq!(frontier.root(), EMPTY_ROOT);
    for (entry, root) in entries.iter().zip(roots) {
        frontier.push(leaf_hash(&hex::decode(entry).unwrap()));
        assert_eq!(frontier.root(), digest(root));
    }
    let left = node_hash(&leaf_hash(b""), &leaf_hash(&[0]));
    assert_eq!(left, digest(roots[1]));
}
