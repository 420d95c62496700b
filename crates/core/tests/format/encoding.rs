//! The encoding is injective: an independent decoder reads every encoding back to the fields it was made from,
//! so no two different events can encode alike.

use proptest::prelude::*;
use zeroauth_audit_core::encode::{Sink, length_prefixed, opt_bytes, opt_int, opt_uuid};

use crate::any_event::{event, full_event, text};
use crate::plain::{
    Event, EventInput, Kind, Malformed, NEVER_NULL, PRIVATE, PUBLIC, Value, decode, decode_event_input,
    decode_private_input, event_input, private_input, sha256,
};

/// A sink that keeps everything.
pub struct Bytes(pub Vec<u8>);

impl Sink for Bytes {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

fn encoded(write: impl FnOnce(&mut Bytes)) -> Vec<u8> {
    let mut bytes = Bytes(Vec::new());
    write(&mut bytes);
    bytes.0
}

fn public_encoding(event: &Event) -> Vec<u8> {
    encoded(|sink| event.public_fields().encode(sink))
}

fn private_encoding(event: &Event) -> Vec<u8> {
    encoded(|sink| event.private_fields().encode(sink))
}

/// The names of the fields that may be NULL.
fn nullable() -> impl Iterator<Item = (&'static str, Kind)> {
    PUBLIC.into_iter().chain(PRIVATE).filter(|(name, _)| !NEVER_NULL.contains(name))
}

#[test]
fn the_pieces_are_encoded_as_documented() {
    assert_eq!(encoded(|sink| length_prefixed(sink, b"abc")), b"\x00\x00\x00\x03abc");
    assert_eq!(encoded(|sink| opt_bytes(sink, None)), b"\x00");
    assert_eq!(encoded(|sink| opt_bytes(sink, Some(b""))), b"\x01\x00\x00\x00\x00");
    assert_eq!(encoded(|sink| opt_bytes(sink, Some(b"abc"))), b"\x01\x00\x00\x00\x03abc");
    assert_eq!(encoded(|sink| opt_int(sink, None)), b"\x00");
    assert_eq!(
        encoded(|sink| opt_int(sink, Some(-2))),
        b"\x01\x00\x00\x00\x08\xff\xff\xff\xff\xff\xff\xff\xfe"
    );
    assert_eq!(encoded(|sink| opt_uuid(sink, b"0123456789abcdef")), b"\x01\x00\x00\x00\x100123456789abcdef");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_encoding_reads_back_to_the_fields_it_was_made_from(event in event()) {
        let (public, private) = (public_encoding(&event), private_encoding(&event));
        prop_assert_eq!(decode(&PUBLIC, &public), Ok(event.public));
        prop_assert_eq!(decode(&PRIVATE, &private), Ok(event.private));
    }

    /// With the hashes equal to SHA-256 of inputs that decode to the whole event, two events with one hash would
    /// be a collision of SHA-256 itself.
    #[test]
    fn the_hashes_are_sha_256_of_inputs_that_read_back_to_the_whole_event(event in event()) {
        let private = private_input(&event);
        let private_hash = sha256(&private);
        prop_assert_eq!(*event.core_private_hash().as_bytes(), private_hash);
        prop_assert_eq!(decode_private_input(&private), Ok((event.salt, event.private.clone())));

        let public = event_input(&event, &private_hash);
        prop_assert_eq!(*event.core_event_hash().as_bytes(), sha256(&public));
        let read_back = EventInput { prev: event.prev, public: event.public, private_hash };
        prop_assert_eq!(decode_event_input(&public), Ok(read_back));
    }

    #[test]
    fn a_prefix_of_an_encoding_is_not_an_encoding(event in event(), cut in any::<prop::sample::Index>()) {
        let whole = public_encoding(&event);
        prop_assert_eq!(decode(&PUBLIC, &whole[..cut.index(whole.len())]), Err(Malformed::Truncated));
        let longer = [&whole[..], &[0]].concat();
        prop_assert_eq!(decode(&PUBLIC, &longer), Err(Malformed::Trailing(1)));
    }

    /// Row 13 of the list of what broke others: without lengths, ("ab", "c") and ("a", "bc") are one string.
    #[test]
    fn pitfall_13_values_do_not_bleed_across_fields(joined in text(), at in any::<prop::sample::Index>()) {
        let texts: Vec<_> = nullable().filter(|(_, kind)| *kind == Kind::Text).collect();
        let cut = at.index(joined.len() + 1);
        for pair in texts.windows(2) {
            let [(left, _), (right, _)] = pair else { unreachable!("windows of two") };
            let mut hashes = Vec::new();
            for split in [0, cut, joined.len()] {
                let mut event = full_event();
                *event.value(left) = Value::Text(Some(joined[..split].to_vec()));
                *event.value(right) = Value::Text(Some(joined[split..].to_vec()));
                hashes.push((split, event.core_event_hash()));
            }
            for (a, b) in [(0, 1), (1, 2), (0, 2)] {
                let same_event = hashes[a].0 == hashes[b].0;
                prop_assert_eq!(hashes[a].1 == hashes[b].1, same_event, "{} and {}", left, right);
            }
        }
    }
}

#[test]
fn pitfall_13_null_differs_from_empty_and_from_zero_in_every_field() {
    for (name, kind) in nullable() {
        let (null, nothing) = match kind {
            Kind::Text => (Value::Text(None), Value::Text(Some(Vec::new()))),
            Kind::Int => (Value::Int(None), Value::Int(Some(0))),
            Kind::Uuid => unreachable!("no UUID may be NULL"),
        };
        let mut with_null = full_event();
        *with_null.value(name) = null;
        let mut with_nothing = full_event();
        *with_nothing.value(name) = nothing;
        assert_ne!(with_null.core_event_hash(), with_nothing.core_event_hash(), "{name}");
    }
}

#[test]
fn pitfall_13_a_null_in_one_field_is_not_a_null_in_another() {
    let mut hashes = Vec::new();
    for (name, kind) in nullable() {
        let mut event = full_event();
        // Everything else is equal, so the events differ only in the place of the NULL.
        for (other, kind) in nullable() {
            *event.value(other) = match kind {
                Kind::Text => Value::Text(Some(Vec::new())),
                Kind::Int => Value::Int(Some(0)),
                Kind::Uuid => unreachable!("no UUID may be NULL"),
            };
        }
        *event.value(name) = if kind == Kind::Int { Value::Int(None) } else { Value::Text(None) };
        hashes.push(event.core_event_hash());
    }
    let count = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), count);
}

#[test]
fn a_private_and_an_event_input_are_never_equal_because_their_domains_differ() {
    let event = full_event();
    assert_eq!(decode_event_input(&private_input(&event)), Err(Malformed::Domain));
    assert_eq!(decode_private_input(&event_input(&event, &[0; 32])), Err(Malformed::Domain));
}

#[test]
fn the_decoder_refuses_what_no_encoder_writes() {
    let presence = decode(&[("text", Kind::Text)], &[0x02]);
    assert_eq!(presence, Err(Malformed::Presence(2)));
    let short_int = decode(&[("int", Kind::Int)], b"\x01\x00\x00\x00\x04\x00\x00\x00\x01");
    assert_eq!(short_int, Err(Malformed::Length(4)));
}
