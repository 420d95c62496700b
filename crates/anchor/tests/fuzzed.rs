//! The checks of the fuzz targets, without a fuzzer: over the committed corpus, and over bytes that are changed a little.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use zeroauth_audit_anchor::batch::Hash;
use zeroauth_audit_anchor::evidence::{Trust, verify_evidence};
use zeroauth_audit_anchor::file::entry;
use zeroauth_audit_anchor::rfc3161::token::{Authorities, verify};

#[path = "../../../fuzz/src/anchor.rs"]
mod checks;

use checks::{CHECKS, STAMPED, batch, key};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name)
}

fn inputs(name: &str) -> Vec<Vec<u8>> {
    let folder = folder(name);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_input_of_the_corpus_holds() {
    for (name, check) in CHECKS {
        let inputs = inputs(name);
        inputs.iter().for_each(|input| check(input));
        assert!(inputs.len() >= 3, "{} inputs of {name}", inputs.len());
    }
}

#[test]
fn the_corpus_reaches_the_end_of_what_it_is_for() {
    let authorities = Authorities::from_pem(&fs::read(folder("../src/anchor_root.pem")).unwrap()).unwrap();
    let tokens = inputs("anchor_token");
    let hold = tokens.iter().filter(|token| verify(token, &STAMPED, None, &authorities).is_ok());
    assert_eq!(hold.count(), 3);
    let trust = Trust { authorities, keys: vec![key().verifier_key()] };
    for (kind, epoch) in [("evm", 1), ("rfc3161", 1), ("file", 2)] {
        let evidence = fs::read(folder("anchor_evidence").join(kind)).unwrap();
        let verdict = verify_evidence(kind, &evidence, &batch(epoch).root, &trust).unwrap();
        assert_eq!((verdict.epoch, verdict.seal), (Some(epoch), batch(epoch).seal()), "{kind}");
        assert!(verify_evidence(kind, &evidence, &Hash([0; 32]), &trust).is_err());
    }
    let file = fs::read(folder("anchor_file").join("two")).unwrap();
    assert_eq!(entry::read(&file, &trust.keys).unwrap().entries.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn inputs_that_are_changed_a_little_hold(
        which in 0..CHECKS.len(), input in any::<prop::sample::Index>(),
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..4), cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (name, check) = CHECKS[which];
        let inputs = inputs(name);
        let mut input = input.get(&inputs).clone();
        if !input.is_empty() {
            for (at, byte) in changes {
                let at = at.index(input.len());
                input[at] = byte;
            }
            if let Some(cut) = cut {
                input.truncate(cut.index(input.len()));
            }
        }
        check(&input);
    }
}
