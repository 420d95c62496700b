//! Exports alone: content, links, gaps and forks, as the reference implementation finds them.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use zeroauth_audit_core::Digest;
use zeroauth_audit_verifier::verdict::Outcome;

use super::trail::{Trail, event};
use super::{judged, places};

fn trail() -> Trail {
    let mut trail = Trail::new("acme");
    trail.append(0, 5);
    trail.append(2, 3);
    trail
}

fn forged(from: &str, to: &str) -> Vec<(&'static str, Option<i16>, Option<i64>)> {
    let export = trail().export();
    assert!(export.contains(from), "{from}");
    let verdict = judged(&export.replacen(from, to, 1), vec![], "");
    assert_eq!(verdict.verdict, Outcome::Tampered);
    places(&verdict)
}

#[test]
fn a_whole_export_is_verified_and_counted() {
    let verdict = judged(&(trail().export() + &Trail::new("zoe").export()), vec![], "");
    assert_eq!(verdict.verdict, Outcome::Verified);
    assert_eq!((verdict.events, verdict.chains, verdict.tenants), (8, 2, 1));
}

#[test]
fn pitfall_41_red_team_d1_a_key_that_no_hash_covers_keeps_an_export_from_being_checked_and_is_named() {
    let export = trail().export();
    for key in ["Action", "ACTION", "outcome_final", "tenant\\u005fid\\u200b"] {
        let more = format!("\"action\":\"invoice.read\",\"{key}\":\"b\"");
        let changed = export.replacen("\"action\":\"invoice.read\"", &more, 2);
        let verdict = judged(&changed, vec![], "");
        assert_eq!(verdict.verdict, Outcome::CouldNotCheck);
        let shown = key.replace("\\u005f", "_").replace("\\u200b", "\u{200b}");
        let expected = format!("unknown key {shown:?}, which no hash covers");
        assert_eq!(
            (verdict.troubles[0].line, verdict.troubles[0].what.as_str()),
            (Some(1), expected.as_str())
        );
    }
    // What was found before the line is still told.
    let tampered = export.replacen("invoice/3", "invoice/4", 1);
    let mut lines: Vec<String> = tampered.lines().map(str::to_owned).collect();
    lines[6] = lines[6].replacen('{', "{\"note\":null,", 1);
    assert_eq!(judged(&(lines.join("\n") + "\n"), vec![], "").verdict, Outcome::Tampered);
}

#[test]
fn a_changed_field_is_found_at_its_event_alone() {
    assert_eq!(forged("invoice/3", "invoice/4"), [("content_mismatch", Some(0), Some(3))]);
    assert_eq!(forged("user-4", "user-x"), [("content_mismatch", Some(0), Some(4))]);
    assert_eq!(forged("\"provider\":null", "\"provider\":\"\""), [("content_mismatch", Some(0), Some(1))]);
}

#[test]
fn a_field_and_its_hash_changed_break_the_link_of_the_next_event() {
    let trail = trail();
    let hashes = &trail.chains[0].1;
    let forged = hashes[1].to_string();
    let (other, _) = event("acme", 0, 2, &hashes[0]);
    let changed = other.replace("success", "failure");
    let mut lines: Vec<String> = trail.export().lines().map(str::to_owned).collect();
    // Recomputed as an attacker would: from the changed fields.
    let recomputed = judged(&format!("{changed}\n"), vec![], "").findings[1].actual.clone().unwrap();
    lines[1] = changed.replace(&forged, &recomputed);
    let verdict = judged(&(lines.join("\n") + "\n"), vec![], "");
    assert_eq!(places(&verdict), [("link_broken", Some(0), Some(3))]);
    assert_eq!(verdict.findings[0].expected.as_deref(), Some(recomputed.as_str()));
    assert_eq!(verdict.findings[0].actual.as_deref(), Some(forged.as_str()));
}

#[test]
fn a_missing_event_is_a_gap_and_a_repeated_one_a_fork() {
    let export = trail().export();
    let lines: Vec<&str> = export.lines().collect();
    let without = |at: usize| {
        let mut lines = lines.clone();
        lines.remove(at);
        lines.join("\n") + "\n"
    };
    assert_eq!(places(&judged(&without(0), vec![], "")), [("gap", Some(0), Some(1))]);
    assert_eq!(places(&judged(&without(2), vec![], "")), [("gap", Some(0), Some(3))]);
    let mut twice = lines.clone();
    twice.insert(2, lines[1]);
    assert_eq!(places(&judged(&(twice.join("\n") + "\n"), vec![], "")), [("fork", Some(0), Some(2))]);
}

#[test]
fn an_event_moved_to_another_place_does_not_have_its_hash_there() {
    let moved = forged("\"chain\":\"2\",\"seq\":\"3\"", "\"chain\":\"3\",\"seq\":\"1\"");
    let expected = [("link_broken", Some(3), Some(1)), ("content_mismatch", Some(3), Some(1))];
    assert_eq!(moved, expected);
}

#[test]
fn an_erased_private_part_is_reported_as_inside_the_database() {
    let (line, _) = event("acme", 0, 1, &Digest::GENESIS);
    let erase = |line: &str, private_hash: &str| {
        let begin = line.find("\"actor_type\"").unwrap();
        let end = line.find("\"prev_hash\"").unwrap();
        format!(
            "{}\"actor_type\":null,\"actor_id\":null,\"ip\":null,\"user_agent\":null,\"error_message\":null,\"details\":null,\"salt\":null,\"private_hash\":\"{private_hash}\",{}\n",
            &line[..begin],
            &line[end..]
        )
    };
    let detail = |export: &str| {
        let verdict = judged(export, vec![], "");
        assert_eq!(verdict.classes.keys().collect::<Vec<_>>(), [&"content_mismatch"]);
        verdict.findings[0].detail.clone()
    };
    // The commitment of this very event, as the reference computes it.
    let commitment = reference(&format!(
        "import json, audit_reference as r; print(r.private_hash(json.loads({line:?})).hex())"
    ));
    assert!(detail(&erase(&line, commitment.trim())).contains("no chained event explains it"));
    assert!(detail(&erase(&line, &"0".repeat(64))).contains("do not have the recorded hash"));
    let both =
        line.replace("\"private_hash\":null", &format!("\"private_hash\":\"{}\"", "0".repeat(64))) + "\n";
    assert!(detail(&both).contains("contradict each other"));
    let short = line.replace(&Digest::GENESIS.to_string(), "00") + "\n";
    assert!(detail(&short).contains("prev_hash is not 32 bytes"));
}

#[test]
fn an_event_without_its_private_fields_verifies_by_their_hash() {
    let (line, _) = event("acme", 0, 1, &Digest::GENESIS);
    let commitment = reference(&format!(
        "import json, audit_reference as r; print(r.private_hash(json.loads({line:?})).hex())"
    ));
    let without = |from: &str, private_hash: &str| {
        let (begin, end) = (line.find(from).unwrap(), line.find("\"private_hash\"").unwrap());
        let kept = line[end..].replace("\"private_hash\":null", &format!("\"private_hash\":{private_hash}"));
        format!("{}{kept}\n", &line[..begin])
    };
    let whole = format!("\"{}\"", commitment.trim());
    let verdict = judged(&without("\"actor_type\"", &whole), vec![], "");
    assert_eq!((verdict.verdict, verdict.events), (Outcome::Verified, 1));
    assert!(
        verdict.notes[0].starts_with("1 of 1 events are without their private fields"),
        "{:?}",
        verdict.notes
    );
    // The hash that stands for them is bound by the event's own.
    for (private_hash, detail) in [
        (format!("\"{}\"", "0".repeat(64)), "do not have the recorded hash"),
        ("null".into(), "contradict each other"),
    ] {
        let verdict = judged(&without("\"actor_type\"", &private_hash), vec![], "");
        assert_eq!(places(&verdict), [("content_mismatch", Some(0), Some(1))]);
        assert!(verdict.findings[0].detail.contains(detail), "{:?}", verdict.findings);
    }
    // A part of the private part is no form of an event.
    let verdict = judged(&without("\"ip\"", &whole), vec![], "");
    assert_eq!(verdict.verdict, Outcome::CouldNotCheck);
    assert!(verdict.troubles[0].what.contains("ip is not there"), "{:?}", verdict.troubles);
}

#[test]
fn a_version_that_is_not_known_could_not_be_checked() {
    let export = trail().export().replacen("\"hash_version\":\"1\"", "\"hash_version\":\"2\"", 1);
    let verdict = judged(&export, vec![], "");
    assert_eq!(verdict.verdict, Outcome::CouldNotCheck);
    assert_eq!((verdict.troubles[0].line, verdict.events), (Some(1), 8));
}

#[test]
fn lines_that_are_not_in_the_order_of_an_export_could_not_be_checked() {
    let export = trail().export();
    let mut lines: Vec<&str> = export.lines().collect();
    lines.swap(1, 2);
    let verdict = judged(&(lines.join("\n") + "\n"), vec![], "");
    // The gap is there whatever the order is; nothing is said about what follows.
    assert_eq!(verdict.troubles[0].line, Some(3));
    let export = Trail::new("b");
    drop(export);
    let (mut b, mut a) = (Trail::new("b"), Trail::new("a"));
    b.append(0, 1);
    a.append(0, 1);
    let verdict = judged(&(b.export() + &a.export()), vec![], "");
    assert_eq!((verdict.verdict, verdict.troubles[0].line), (Outcome::CouldNotCheck, Some(2)));
    let both = judged(&(a.export() + &b.export()), vec![], "");
    assert_eq!((both.verdict, both.tenants), (Outcome::Verified, 2));
}

#[test]
fn an_export_without_events_proves_nothing() {
    assert_eq!(judged("", vec![], "").verdict, Outcome::CouldNotCheck);
}

/// What a Python program prints that uses the reference implementation.
fn reference(program: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pgrx-tests/reference");
    let output = Command::new("python3")
        .args(["-c", program])
        .env("PYTHONPATH", folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Removes, repeats or changes lines of a trail, as one operation for each number.
fn spoiled(mut lines: Vec<String>, operations: &[(u8, prop::sample::Index)]) -> Vec<String> {
    for (what, at) in operations {
        if lines.is_empty() {
            break;
        }
        let at = at.index(lines.len());
        match what % 5 {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => lines[at] = lines[at].replace("success", "denied"),
            3 => {
                lines[at] = lines[at].replace("\"prev_hash\":\"", "\"prev_hash\":\"ff").replace("ff00", "ff")
            }
            _ => {
                let hash = lines[at].find("\"event_hash\":\"").unwrap() + 14;
                lines[at].replace_range(hash..hash + 4, "0000");
            }
        }
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn findings_are_those_of_the_reference_implementation(operations in prop::collection::vec((0..5u8, any::<prop::sample::Index>()), 1..6)) {
        let export = trail().export();
        let lines = spoiled(export.lines().map(str::to_owned).collect(), &operations);
        // The reference does not look at the length of a hash.
        prop_assume!(!lines.is_empty() && lines.iter().all(|line| {
            let from = line.find("\"prev_hash\":\"").unwrap() + 13;
            line[from..].find('"') == Some(64)
        }));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        lines.iter().for_each(|line| writeln!(file, "{line}").unwrap());
        let program = format!(
            "import audit_reference as r\nfor t, c, s, k in r.verify_export(open({:?}, encoding='utf-8')): print(k, c, s)",
            file.path().display().to_string()
        );
        let mut expected: Vec<String> = reference(&program).lines().map(str::to_owned).collect();
        let verdict = judged(&(lines.join("\n") + "\n"), vec![], "");
        let mut found: Vec<String> = places(&verdict)
            .into_iter()
            .map(|(class, chain, seq)| format!("{class} {} {}", chain.unwrap(), seq.unwrap()))
            .collect();
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
    }
}
