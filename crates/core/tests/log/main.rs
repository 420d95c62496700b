//! The Merkle log, held against what is not this crate: the reference implementation and the published values of RFC 6962.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

mod growth;
mod published;
mod reference;
mod store;

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::leaf_hash;

/// The leaves of the reference's vectors.
fn leaves(size: u64) -> Vec<Digest> {
    use sha2::{Digest as _, Sha256};
    (0..size).map(|number| leaf_hash(&Sha256::digest(number.to_be_bytes()))).collect()
}

fn digest(hex_digits: &str) -> Digest {
    Digest::from_slice(&hex::decode(hex_digits).unwrap()).unwrap()
}
