//! The checks of the fuzz targets for lines and for bundles with anchors, without a fuzzer: over the committed corpus, and over changes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../../../fuzz/src/readers.rs"]
mod readers;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 3, "{target}");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_input_of_the_corpus_holds() {
    corpus("export_lines").iter().for_each(|input| readers::export_lines(input));
    corpus("interval_lines").iter().for_each(|input| readers::interval_lines(input));
    corpus("anchored_bundle").iter().for_each(|input| readers::anchored_bundle(input));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn changed_lines_hold(
        target in 0..3_usize,
        which in any::<prop::sample::Index>(),
        changes in vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), Just(b'\n'), b'0'..=b'9']), 0..5),
    ) {
        let (name, check): (_, fn(&[u8])) = [
            ("interval_lines", readers::interval_lines as fn(&[u8])),
            ("export_lines", readers::export_lines),
            ("anchored_bundle", readers::anchored_bundle),
        ][target];
        let seeds = corpus(name);
        let mut input = which.get(&seeds).clone();
        for (at, byte) in changes {
            if !input.is_empty() {
                let at = at.index(input.len());
                input[at] = byte;
            }
        }
        check(&input);
    }
}
