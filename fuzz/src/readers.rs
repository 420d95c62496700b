//! Checks of the offline verifier's readers of lines: an export is read as serde_json reads it or refused, and nothing that is
//! read takes the verifier off its feet.
//!
//! Not part of the library, which the core's tests use, too: whoever needs it takes this file.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a check that fails panics")]

use std::collections::HashMap;

use serde_json::Value as Json;
use zeroauth_audit_verifier::export::coverage::Sealings;
use zeroauth_audit_verifier::export::line::{KEYS, Value, Values};
use zeroauth_audit_verifier::export::{self, time::micros};
use zeroauth_audit_verifier::progress::Progress;
use zeroauth_audit_verifier::verdict::{Outcome, Verdict};
use zeroauth_audit_verifier::{clock, intervals};

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
