//! The published vectors, `tests/vectors/hash_v1.json`: every hash byte for byte, and the chains they form.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use zeroauth_audit_core::multiset::{ChainState, Key};
use zeroauth_audit_core::replay::Replay;
use zeroauth_audit_core::{Digest, event_hash};

use crate::exported::{Exported, hex};
use crate::plain::{Value, event_input, private_input, sha256};

/// An event of the file, and the two hashes that the file says it has.
struct Vector {
    exported: Exported,
    private_hash: [u8; 32],
    event_hash: [u8; 32],
}

fn vectors() -> Vec<Vector> {
    let file: Json = serde_json::from_str(include_str!("../vectors/hash_v1.json")).unwrap();
    let read = |vector: &Json| Vector {
        exported: Exported::read(&vector["event"]),
        private_hash: hex(vector["private_hash"].as_str().unwrap()),
        event_hash: hex(vector["event_hash"].as_str().unwrap()),
    };
    let vectors: Vec<_> = file["events"].as_array().unwrap().iter().map(read).collect();
    assert!(vectors.len() >= 40, "the file of vectors is not whole");
    vectors
}

#[test]
fn every_private_hash_is_the_published_one() {
    let mut computed = 0;
    for vector in vectors() {
        match vector.exported.erased {
            Some(stored) => assert_eq!(stored, vector.private_hash),
            None => {
                let event = &vector.exported.event;
                assert_eq!(event.core_private_hash().as_bytes(), &vector.private_hash);
                assert_eq!(sha256(&private_input(event)), vector.private_hash);
                computed += 1;
            }
        }
    }
    assert!(computed > 30, "too few vectors have a private part");
}

#[test]
fn every_event_hash_is_the_published_one_also_when_the_private_part_was_erased() {
    let mut erased = 0;
    for vector in vectors() {
        let event = &vector.exported.event;
        assert_eq!(vector.exported.event_hash, vector.event_hash);
        let private = Digest::new(vector.private_hash);
        let computed = event_hash(&Digest::new(event.prev), &event.public_fields(), &private);
        assert_eq!(computed.as_bytes(), &vector.event_hash);
        assert_eq!(sha256(&event_input(event, &vector.private_hash)), vector.event_hash);
        if vector.exported.erased.is_some() {
            assert!(event.private_fields().is_empty(), "an erased vector kept private values");
            erased += 1;
        }
    }
    assert!(erased > 0, "no vector is erased");
}

#[test]
fn every_chain_of_the_vectors_replays_without_a_finding_in_order_and_in_any_order() {
    let mut chains: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for vector in vectors() {
        let event = &vector.exported.event;
        let fields = event.public_fields();
        let tenant = fields.tenant_id.unwrap().to_vec();
        let link = (fields.seq, Digest::new(event.prev), Digest::new(vector.event_hash));
        chains.entry((tenant, fields.chain)).or_default().push(link);
    }
    assert!(chains.len() > 3, "too few chains in the vectors");

    let key = Key::new([1, 2]);
    for (place, mut links) in chains {
        let mut state = ChainState::default();
        for (seq, prev, hash) in links.iter().rev() {
            state.add(&key, *seq, prev, hash, true);
        }
        assert!(state.is_whole(&key), "{place:?}");

        links.sort_by_key(|(seq, ..)| *seq);
        let mut replay = Replay::from_genesis();
        for (seq, prev, hash) in links {
            assert_eq!(replay.step(seq, &prev, &hash), None, "{place:?} {seq}");
        }
    }
}

#[test]
fn the_vectors_reach_the_extremes_of_every_type() {
    let vectors = vectors();
    let reached = |name: &str, wanted: &Value| {
        vectors.iter().any(|vector| vector.exported.event.clone().value(name) == wanted)
    };
    for extreme in [i64::MIN, i64::MAX] {
        assert!(reached("occurred_at", &Value::Int(Some(extreme))), "infinity");
        assert!(reached("payload_size", &Value::Int(Some(extreme))), "bigint");
    }
    for extreme in [i32::MIN, i32::MAX] {
        assert!(reached("status_code", &Value::Int(Some(i64::from(extreme)))), "integer");
    }
    assert!(reached("details", &Value::Text(None)), "NULL");
    assert!(reached("env", &Value::Text(Some(Vec::new()))), "empty");
}
