//! Checks of the offline verifier's readers of lines: an export is read as serde_json reads it or refused, and nothing that is
//! read takes the verifier off its feet.
//!
//! Not part of the library, which the core's tests use, too: whoever needs it takes this file.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a check that fails panics")]

use std::collections::HashMap;

use serde_json::Value as Json;
use zeroauth_audit_anchor::batch::Hash;
use zeroauth_audit_anchor::evidence::RestsOn;
use zeroauth_audit_anchor::rfc3161::token::Authorities;
use zeroauth_audit_core::note::SigningKey;
use zeroauth_audit_core::proof::Bundle;
use zeroauth_audit_core::trust::Trust;
use zeroauth_audit_verifier::export::coverage::Sealings;
use zeroauth_audit_verifier::export::line::{KEYS, Value, Values};
use zeroauth_audit_verifier::export::{self, time::micros};
use zeroauth_audit_verifier::outside::{Block, Blocks, Outside};
use zeroauth_audit_verifier::progress::Progress;
use zeroauth_audit_verifier::verdict::{AnchorOutcome, Outcome, Verdict};
use zeroauth_audit_verifier::{bundle, clock, intervals};

/// Any bytes as an export.
pub fn export_lines(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        one_line(line);
    }
    let mut verdict = Verdict::new("verify-export", "fuzzed");
    export::verify(data, "fuzzed", 1 << 16, Sealings::default(), &mut verdict, &mut Progress::none());
    let whole = data.is_empty() || data.ends_with(b"\n");
    assert!(whole || verdict.verdict != Outcome::Verified, "a cut line is verified");
    assert!(verdict.events > 0 || verdict.verdict != Outcome::Verified, "nothing is verified");
    assert!(serde_json::from_str::<Json>(&verdict.json()).is_ok());
    assert!(
        !verdict.text().chars().any(|c| c.is_control() && c != '\n'),
        "a control character for the terminal"
    );
    for place in verdict.troubles.iter().filter_map(|trouble| trouble.byte) {
        assert!(place <= data.len() as u64);
    }
}

fn one_line(line: &[u8]) {
    let mut values = Values::default();
    match values.read(line) {
        Err(malformed) => assert!(malformed.at <= line.len()),
        Ok(()) => {
            let theirs: HashMap<String, Option<String>> =
                serde_json::from_slice(line).expect("serde_json refuses what is read");
            for (at, key) in KEYS.iter().enumerate() {
                let ours = match values.value(line, at) {
                    Value::Absent => None,
                    Value::Null => Some(None),
                    Value::Text(text) => Some(Some(std::str::from_utf8(text).expect("UTF-8"))),
                };
                assert_eq!(ours, theirs.get(*key).map(Option::as_deref), "{key}");
            }
        }
    }
    if let Some(time) =
        micros(line).and_then(|micros| u64::try_from(micros).ok()).filter(|time| *time < 1 << 60)
    {
        assert_eq!(
            micros(clock::print(time / 1_000_000).as_bytes()),
            Some((time / 1_000_000 * 1_000_000) as i64)
        );
    }
}

/// Any bytes as intervals: what is read adds up.
pub fn interval_lines(data: &[u8]) {
    match intervals::read(data, "fuzzed") {
        Err(trouble) => assert!(trouble.byte.is_none_or(|byte| byte <= data.len() as u64)),
        Ok(tenants) => {
            for log in tenants.values().flat_map(|logs| logs.values()) {
                let mut events = 0_u64;
                for (at, (size, interval)) in log.iter().enumerate() {
                    events += interval.events();
                    let last = log.get(at + 1).is_none_or(|(next, _)| next != size);
                    assert!(!last || events == *size, "{events} events in a log of {size}");
                }
            }
        }
    }
}

/// Who vouches for the authority of the corpus's bundles.
const ROOT: &[u8] = include_bytes!("bundle_root.pem");
/// The bundle of the corpus, with an anchor of each kind.
const HONEST: &[u8] = include_bytes!("../corpus/anchored_bundle/all");

/// Calls every block final: what is left is what the evidence itself says.
struct AnyBlock;

impl Blocks for AnyBlock {
    fn ask(&self, _: u64, _: u64, _: &Hash) -> Block {
        Block::Final(1)
    }
}

fn judged(data: &[u8]) -> Verdict {
    let key = SigningKey::from_seed("log.example/audit", &[7; 32]).unwrap().verifier_key();
    let mut trust = Trust::new();
    trust.add_log(key.clone()).unwrap();
    let mut outside = Outside::with_keys(vec![key]);
    outside.trust.authorities = Authorities::from_pem(ROOT).unwrap();
    outside.chain = Some(Box::new(AnyBlock));
    let mut verdict = Verdict::new("verify-bundle", "fuzzed");
    bundle::verify(data, "fuzzed", &trust, &outside, &mut verdict);
    verdict
}

/// Any bytes as a bundle, all the way to the evidence of its anchors: only the one event that was sealed is verified. An anchor
/// in a contract can be any that somebody made on a chain; that of another root is not verified.
pub fn anchored_bundle(data: &[u8]) {
    let verdict = judged(data);
    assert!(serde_json::from_str::<Json>(&verdict.json()).is_ok());
    assert!(
        !verdict.text().chars().any(|c| c.is_control() && c != '\n'),
        "a control character for the terminal"
    );
    for place in verdict.troubles.iter().filter_map(|trouble| trouble.byte) {
        assert!(place <= data.len() as u64);
    }
    if verdict.verdict != Outcome::Verified {
        return;
    }
    let honest = Bundle::parse(HONEST).unwrap();
    assert_eq!(Bundle::parse(data).unwrap().event, honest.event, "another event is verified");
    let known = judged(HONEST).anchors;
    for anchor in verdict.anchors {
        assert_eq!(anchor.outcome, AnchorOutcome::Verified);
        let on_a_chain = matches!(anchor.evidence.as_ref().unwrap().rests_on, RestsOn::Block { .. });
        assert!(
            on_a_chain || known.iter().any(|known| known.evidence == anchor.evidence),
            "another anchor is verified"
        );
        assert!(known.iter().any(|known| known.root == anchor.root), "another root is verified");
    }
}
