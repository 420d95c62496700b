//! The buffer of a message is invisible: events around its size hash like any other.

use proptest::prelude::*;
use zeroauth_audit_core::{Digest, Salt, whole_event_hash};

use crate::any_event::{event, full_event};
use crate::plain::{Event, Value, event_input, private_input, sha256};

#[test]
fn a_value_of_any_length_around_the_stage_hashes_like_one_sha_256_of_everything() {
    for length in (0..2300).chain([4095, 4096, 4097, 1 << 20]) {
        let long: Vec<u8> = (0..length).map(|index: u32| index.to_le_bytes()[0]).collect();
        let mut event = full_event();
        *event.value("details") = Value::Text(Some(long.clone()));
        *event.value("resource") = Value::Text(Some(long));
        let private = sha256(&private_input(&event));
        assert_eq!(event.core_private_hash().as_bytes(), &private, "{length} bytes");
        let whole = sha256(&event_input(&event, &private));
        assert_eq!(event.core_event_hash().as_bytes(), &whole, "{length} bytes");
        assert_eq!(both_at_once(&event).as_bytes(), &whole, "{length} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn both_hashes_at_once_are_those_of_one_after_the_other(event in event()) {
        prop_assert_eq!(both_at_once(&event), event.core_event_hash());
    }
}

fn both_at_once(event: &Event) -> Digest {
    let salt = Salt::new(event.salt);
    whole_event_hash(&Digest::new(event.prev), &event.public_fields(), &salt, &event.private_fields())
}
