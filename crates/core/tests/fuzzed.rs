//! The checks of the fuzz targets, without a fuzzer: over the committed corpus, and over random bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use zeroauth_audit_core::multiset::{ChainState, Key};

#[path = "../../../fuzz/src/lib.rs"]
mod checks;

use checks::{CHECKS, chain_state, decoder, event, links};

#[test]
fn every_input_of_the_corpus_holds() {
    for (name, check) in CHECKS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
        let mut inputs = 0;
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            check(&fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs >= 3, "{inputs} inputs in {}", folder.display());
    }
}

/// Bytes that are changed a little: most changes of an encoding are none of another one.
fn changed(mut input: Vec<u8>, changes: Vec<(prop::sample::Index, u8)>) -> Vec<u8> {
    for (at, byte) in changes {
        let at = at.index(input.len());
        input[at] = byte;
    }
    input
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_hold_as_a_chain_state(bytes in vec(prop_oneof![any::<u8>(), Just(0xff), Just(0)], ChainState::BYTES - 1..ChainState::BYTES + 2)) {
        chain_state(&bytes);
    }

    #[test]
    fn random_bytes_hold_as_links(bytes in vec(prop_oneof![any::<u8>(), 0..8u8, 0xfd..=0xffu8], 0..200)) {
        links(&bytes);
    }

    #[test]
    fn random_bytes_hold_as_an_event(bytes in vec(prop_oneof![3 => any::<u8>(), 1 => Just(0)], 0..800)) {
        event(&bytes);
    }

    #[test]
    fn changed_encodings_hold_in_the_decoder(which in any::<prop::sample::Index>(), changes in vec(any::<(prop::sample::Index, u8)>(), 0..4)) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/decoder");
        let mut seeds: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        seeds.sort();
        let seed = fs::read(which.get(&seeds)).unwrap();
        decoder(&changed(seed, changes));
    }
}

/// The committed inputs of a target.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn changed_texts_hold_in_the_readers_of_formats(
        target in prop::sample::select(vec!["bundle", "checkpoint", "key", "registry_entry", "run_file", "signed_note"]),
        which in any::<prop::sample::Index>(),
        changes in vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(b'\n'), Just(b' '), Just(b'-'), b'0'..=b'9']), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let seeds = corpus(target);
        let mut input = changed(which.get(&seeds).clone(), changes);
        if let Some(cut) = cut {
            input.truncate(cut.index(input.len()));
        }
        let (_, check) = CHECKS.iter().find(|(name, _)| *name == target).unwrap();
        check(&input);
    }
}

/// Found by the fuzzer: the counts overflowed, which a release build does silently, and a bad event was forgotten.
#[test]
fn a_state_whose_counts_are_at_their_end_forgets_no_bad_event() {
    let key = Key::new([1, 2]);
    let mut full = ChainState::default();
    full.bad_events = u64::MAX;
    let mut state = full;
    state.add_unreadable();
    assert_eq!(state.bad_events, u64::MAX);
    state.merge(&full);
    assert_eq!(state.bad_events, u64::MAX);
    assert!(!state.is_whole(&key));
}
