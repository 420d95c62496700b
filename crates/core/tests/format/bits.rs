//! Any single-bit change of any field changes the hash.

use proptest::prelude::*;
use zeroauth_audit_core::{Digest, Salt, event_hash, private_hash};

use crate::any_event::{event, full_event};
use crate::plain::{Event, PRIVATE, PUBLIC, Value};

/// How many bits the value of the field `name` has.
fn width(event: &Event, name: &str) -> usize {
    match event.clone().value(name) {
        Value::Text(text) => text.as_ref().map_or(0, |text| text.len() * 8),
        Value::Int(number) => number.map_or(0, |_| 64),
        Value::Uuid(_) => 128,
    }
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// `event` with one bit of the field `name` changed.
fn flipped(event: &Event, name: &str, bit: usize) -> Event {
    let mut event = event.clone();
    match event.value(name) {
        Value::Text(text) => flip(text.as_mut().unwrap(), bit),
        Value::Int(number) => *number.as_mut().unwrap() ^= 1 << bit,
        Value::Uuid(uuid) => flip(uuid, bit),
    }
    event
}

fn names() -> impl Iterator<Item = &'static str> {
    PUBLIC.into_iter().chain(PRIVATE).map(|(name, _)| name)
}

#[test]
fn every_bit_of_every_field_changes_the_hash() {
    let event = full_event();
    let original = event.core_event_hash();
    let mut tried = 0;
    for name in names() {
        for bit in 0..width(&event, name) {
            assert_ne!(flipped(&event, name, bit).core_event_hash(), original, "{name}, bit {bit}");
            tried += 1;
        }
    }
    assert!(tried > 29 * 24, "only {tried} bits tried");
}

#[test]
fn every_bit_of_the_link_the_salt_and_the_private_hash_changes_the_hash() {
    let event = full_event();
    let (public, private) = (event.public_fields(), event.core_private_hash());
    let original = event.core_event_hash();
    for bit in 0..256 {
        let mut prev = event.prev;
        flip(&mut prev, bit);
        assert_ne!(event_hash(&Digest::new(prev), &public, &private), original, "prev_hash, bit {bit}");

        let mut other = *private.as_bytes();
        flip(&mut other, bit);
        let changed = event_hash(&Digest::new(event.prev), &public, &Digest::new(other));
        assert_ne!(changed, original, "private_hash, bit {bit}");
    }
    for bit in 0..128 {
        let mut salt = event.salt;
        flip(&mut salt, bit);
        let changed = private_hash(&Salt::new(salt), &event.private_fields());
        assert_ne!(changed, private, "salt, bit {bit}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_random_bit_of_each_field_of_a_random_event_changes_the_hash(
        event in event(),
        at in any::<prop::sample::Index>(),
    ) {
        let original = event.core_event_hash();
        for name in names() {
            let width = width(&event, name);
            if width > 0 {
                let bit = at.index(width);
                let changed = flipped(&event, name, bit);
                prop_assert_ne!(changed.core_event_hash(), original, "{}, bit {}", name, bit);
            }
        }
    }
}
