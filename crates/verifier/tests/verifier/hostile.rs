//! Input made to break readers: exit code 2 with the place, no panic, bounded memory.

use proptest::prelude::*;
use zeroauth_audit_verifier::verdict::{Outcome, Verdict};

use super::judged;
use super::trail::Trail;

fn export() -> String {
    let mut trail = Trail::new("acme");
    trail.append(0, 3);
    trail.export()
}

fn judge_bytes(bytes: &[u8]) -> Verdict {
    let mut verdict = Verdict::new("verify-export", "export");
    let mut progress = zeroauth_audit_verifier::progress::Progress::none();
    let sealings = zeroauth_audit_verifier::export::coverage::Sealings::default();
    zeroauth_audit_verifier::export::verify(bytes, "export", 1 << 20, sealings, &mut verdict, &mut progress);
    verdict
}

/// Line and byte of the one trouble of an export whose second line has `from` replaced.
fn trouble(from: &str, to: &str) -> (u64, u64, String) {
    let export = export();
    let second = export.find('\n').unwrap() + 1;
    let (head, rest) = export.split_at(second);
    assert!(rest.contains(from), "{from}");
    let verdict = judge_bytes(format!("{head}{}", rest.replacen(from, to, 1)).as_bytes());
    assert_eq!(verdict.verdict, Outcome::CouldNotCheck, "{}", verdict.text());
    assert_eq!(verdict.troubles_total, 1);
    let trouble = &verdict.troubles[0];
    (trouble.line.unwrap(), trouble.byte.unwrap() - second as u64, trouble.what.clone())
}

#[test]
fn what_is_malformed_is_named_with_its_line_and_byte() {
    let line = export().lines().nth(1).unwrap().to_owned();
    let at = |text: &str| line.find(text).unwrap() as u64;
    let (number, byte, what) = trouble("\"chain\":\"0\"", "\"chain\":0");
    assert_eq!((number, byte), (2, at("\"chain\"") + 8));
    assert_eq!(what, "a string or null expected");
    assert_eq!(trouble("\"chain\":\"0\"", "\"chain\":[[[[[[").1, at("\"chain\"") + 8);
    assert_eq!(trouble("\"chain\":", "\"seq\":\"2\",\"chain\":").2, "a key that was there before");
    assert_eq!(trouble("{", "\u{feff}{").2, "a byte order mark");
    assert_eq!(trouble("}\n", "}\r\n").2, "a control character");
    assert_eq!(trouble("acme", "ac\0me").2, "a control character");
    assert_eq!(trouble("acme", "ac\\ud800me").2, "a malformed escape");
    assert!(trouble("\"seq\":\"2\"", "\"seq\":\"two\"").2.contains("malformed seq"));
    assert!(trouble("\"seq\":\"2\"", "\"seq\":null").2.contains("tenant_id, chain or seq is null"));
    assert!(trouble("\"seq\":\"2\",", "").2.contains("seq is not there"));
    assert!(trouble("2026-", "2026/").2.contains("malformed occurred_at"));
    assert!(trouble("\"chain\":\"0\"", "\"chain\":\"40000\"").2.contains("malformed chain"));
}

#[test]
fn bytes_that_are_no_text_are_named_with_their_place() {
    let mut bytes = export().into_bytes();
    let at = bytes.len() - 20;
    bytes[at] = 0xff;
    let verdict = judge_bytes(&bytes);
    assert_eq!((verdict.troubles[0].line, verdict.troubles[0].byte), (Some(3), Some(at as u64)));
    let utf16: Vec<u8> = export().encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(judge_bytes(&utf16).verdict, Outcome::CouldNotCheck);
}

#[test]
fn an_export_that_was_cut_off_at_any_byte_is_never_called_verified_unless_it_ends_with_a_line() {
    let export = export();
    for length in 0..export.len() {
        let verdict = judge_bytes(&export.as_bytes()[..length]);
        let whole_lines = length > 0 && export.as_bytes()[length - 1] == b'\n';
        let expected = if whole_lines { Outcome::Verified } else { Outcome::CouldNotCheck };
        assert_eq!(verdict.verdict, expected, "{length}");
    }
}

#[test]
fn a_huge_line_is_refused_by_its_length() {
    let huge = "{\"tenant_id\":\"".to_owned() + &"x".repeat(2 << 20);
    let verdict = judge_bytes(huge.as_bytes());
    assert_eq!(verdict.verdict, Outcome::CouldNotCheck);
    assert!(verdict.troubles[0].what.contains("longer than 1048576 bytes"), "{}", verdict.text());
}

#[test]
fn a_finding_before_the_place_where_reading_ends_is_still_a_finding() {
    let tampered = export().replacen("success", "failure", 1) + "{";
    let verdict = judged(&tampered, vec![], "");
    assert_eq!((verdict.verdict, verdict.troubles_total), (Outcome::Tampered, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_change_of_a_few_bytes_goes_unnoticed(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let original = export().into_bytes();
        let mut bytes = original.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let verdict = judge_bytes(&bytes);
        // A tail that is gone is seen by checkpoints only; a whole line can vanish into none when its newline does.
        prop_assert!(bytes == original || verdict.verdict != Outcome::Verified, "{}", verdict.text());
    }

    #[test]
    fn random_bytes_are_no_export(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(judge_bytes(&bytes).verdict, Outcome::CouldNotCheck);
    }
}
