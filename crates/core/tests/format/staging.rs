//! The staging buffer is invisible: whatever passes through it comes out as it went in, at every size around its own.

use proptest::collection::vec;
use proptest::prelude::*;
use zeroauth_audit_core::encode::{Sink, Staged, length_prefixed};

use crate::any_event::full_event;
use crate::encoding::Bytes;
use crate::plain::{Value, event_input, private_input, sha256};

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
    }
}

proptest! {
    #[test]
    fn pieces_of_any_size_come_out_whole_and_in_order(pieces in vec(vec(any::<u8>(), 0..1500), 0..12)) {
        let mut staged = Staged::new(Bytes(Vec::new()));
        for piece in &pieces {
            staged.put(piece);
        }
        prop_assert_eq!(staged.finish().0, pieces.concat());
    }
}

#[test]
fn a_fixed_part_fills_its_buffer_to_the_last_byte() {
    let mut buffer = heapless::Vec::<u8, 7>::new();
    length_prefixed(&mut &mut buffer, b"abc");
    assert_eq!(buffer.as_slice(), b"\x00\x00\x00\x03abc");
}

#[test]
#[should_panic(expected = "fixed part does not fit its buffer")]
fn a_fixed_part_that_does_not_fit_its_buffer_is_never_cut_short_silently() {
    let mut buffer = heapless::Vec::<u8, 6>::new();
    length_prefixed(&mut &mut buffer, b"abc");
}
