//! Exports against checkpoints: attacks that no chain alone can see.

use proptest::prelude::*;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_verifier::sealed as files;
use zeroauth_audit_verifier::verdict::{Outcome, Verdict};

use super::trail::{self, Trail, event};
use super::{believed, judged, places, trust};

/// Two chains, sealed four times; the checkpoints.
fn sealed() -> (Trail, Vec<Checkpoint>) {
    let mut trail = Trail::new("acme");
    let mut checkpoints = Vec::new();
    for (first, second) in [(3, 0), (2, 4), (0, 1), (5, 2)] {
        trail.append(0, first);
        trail.append(1, second);
        checkpoints.push(trail.seal());
    }
    (trail, checkpoints)
}

/// Rewrites an event as a superuser would: it and every later hash of its chain.
fn rewritten(trail: &Trail, chain: usize, seq: usize) -> String {
    let (lines, hashes) = &trail.chains[chain];
    let mut out: Vec<String> = lines.clone();
    let mut prev = if seq == 1 { Digest::GENESIS } else { hashes[seq - 2] };
    for at in seq..=lines.len() {
        let (line, hash) = event(&trail.tenant, chain as i16, at as i64, &prev);
        let line = if at == seq { line.replace("success", "failure") } else { line };
        // The verifier is the attacker's tool, too: it tells which hash the fields have.
        let told = judged(&format!("{line}\n"), vec![], "");
        let actual =
            told.findings.iter().find(|f| f.class == "content_mismatch").and_then(|f| f.actual.clone());
        let new = actual.unwrap_or_else(|| hash.to_string());
        out[at - 1] = line.replace(&hash.to_string(), &new);
        prev = Digest::from_slice(&hex::decode(&new).unwrap()).unwrap();
    }
    let others = trail
        .chains
        .iter()
        .enumerate()
        .flat_map(|(number, (lines, _))| if number == chain { out.clone() } else { lines.clone() });
    others.fold(String::new(), |all, line| all + &line + "\n")
}

#[test]
fn the_events_have_the_root_of_every_checkpoint() {
    let (trail, checkpoints) = sealed();
    let all = checkpoints.iter().map(|checkpoint| believed(checkpoint, checkpoint.size)).collect();
    let verdict = judged(&trail.export(), all, &trail.intervals);
    assert_eq!(verdict.verdict, Outcome::Verified, "{}", verdict.text());
    assert_eq!(verdict.checkpoints[0].result, "the events have its root");
    assert!(verdict.notes[0].contains("4 of 4"), "{:?}", verdict.notes);
}

#[test]
fn events_after_the_newest_checkpoint_do_no_harm() {
    let (mut trail, checkpoints) = sealed();
    trail.append(0, 3);
    trail.append(2, 1);
    let verdict = judged(&trail.export(), vec![believed(&checkpoints[3], 0)], &trail.intervals);
    assert_eq!(verdict.verdict, Outcome::Verified, "{}", verdict.text());
}

#[test]
fn a_rewritten_chain_that_replays_whole_does_not_have_the_root() {
    let (trail, checkpoints) = sealed();
    let forged = rewritten(&trail, 1, 2);
    assert_eq!(judged(&forged, vec![], "").verdict, Outcome::Verified, "no chain alone can see it");
    let all: Vec<_> = checkpoints.iter().map(|checkpoint| believed(checkpoint, checkpoint.size)).collect();
    let verdict = judged(&forged, all, &trail.intervals);
    assert_eq!(places(&verdict), [("checkpoint_mismatch", None, None)]);
    // The event is of the second checkpoint, and the first still matches.
    let finding = &verdict.findings[0];
    assert!(finding.detail.contains("the first 9 events do not"), "{}", finding.detail);
    assert!(finding.detail.contains("the first 3 still have theirs"), "{}", finding.detail);
    assert_eq!(finding.expected, Some(checkpoints[1].root.to_string()));
}

#[test]
fn a_cut_tail_a_missing_chain_and_a_missing_tenant_are_told_apart() {
    let (trail, checkpoints) = sealed();
    let newest = || vec![believed(&checkpoints[3], 0)];
    let keep = |of_first: usize, of_second: usize| {
        let lines = trail.chains[0].0[..of_first].iter().chain(&trail.chains[1].0[..of_second]);
        lines.fold(String::new(), |all, line| all + line + "\n")
    };
    let verdict = judged(&keep(8, 7), newest(), &trail.intervals);
    assert_eq!(places(&verdict), [("tail_truncated", Some(0), Some(9))]);
    assert_eq!(verdict.checkpoints[0].result, "events that it covers are missing or were changed");
    let verdict = judged(&keep(10, 0), newest(), &trail.intervals);
    assert_eq!(places(&verdict), [("chain_missing", Some(1), Some(1))]);
    let verdict = judged(&keep(0, 0), newest(), &trail.intervals);
    assert_eq!(places(&verdict), [("tenant_missing", None, None)]);
    assert_eq!(verdict.verdict, Outcome::Tampered, "an empty export is no excuse");
}

#[test]
fn a_gap_is_found_once_and_the_checkpoint_is_not_called_right() {
    let (trail, checkpoints) = sealed();
    let export = trail.export();
    let mut lines: Vec<&str> = export.lines().collect();
    lines.remove(4);
    let verdict = judged(&(lines.join("\n") + "\n"), vec![believed(&checkpoints[3], 0)], &trail.intervals);
    assert_eq!(places(&verdict), [("gap", Some(0), Some(5))]);
    assert_eq!(verdict.checkpoints[0].result, "events that it covers are missing or were changed");
}

#[test]
fn intervals_that_were_changed_with_the_events_do_not_help_the_attacker() {
    let (trail, checkpoints) = sealed();
    let newest = || vec![believed(&checkpoints[3], 0)];
    // The tail is cut, and the intervals know nothing of it any more.
    let lines = trail.chains[0].0[..5].iter().chain(&trail.chains[1].0[..5]);
    let export = lines.fold(String::new(), |all, line| all + line + "\n");
    let intervals: Vec<&str> = trail.intervals.lines().take(4).collect();
    let verdict = judged(&export, newest(), &(intervals.join("\n") + "\n"));
    assert_eq!(places(&verdict), [("tail_truncated", None, None)]);

    // Another checkpoint where one was signed.
    let mut other = Trail::new("acme");
    other.append(0, 10);
    other.append(1, 7);
    other.seal();
    let both = vec![believed(&checkpoints[1], 0), believed(&checkpoints[3], 1)];
    let verdict = judged(&trail.export(), both, &other.intervals);
    assert_eq!(places(&verdict), [("checkpoint_mismatch", None, None)]);
    assert!(verdict.findings[0].detail.contains("the intervals have none"), "{}", verdict.text());
}

#[test]
fn intervals_that_are_older_than_the_checkpoint_leave_it_unchecked() {
    let (trail, checkpoints) = sealed();
    let intervals: Vec<&str> = trail.intervals.lines().take(4).collect();
    let verdict = judged(&trail.export(), vec![believed(&checkpoints[3], 0)], &(intervals.join("\n") + "\n"));
    assert_eq!((verdict.verdict, verdict.findings.len()), (Outcome::CouldNotCheck, 0), "{}", verdict.text());
    assert!(verdict.troubles[0].what.contains("the intervals are older"), "{}", verdict.text());
}

#[test]
fn a_tenant_with_chain_0_alone_needs_no_intervals() {
    let mut trail = Trail::new("acme");
    trail.append(0, 4);
    let first = trail.seal();
    trail.append(0, 3);
    let second = trail.seal();
    let all = || vec![believed(&first, 0), believed(&second, 1)];
    assert_eq!(judged(&trail.export(), all(), "").verdict, Outcome::Verified);

    let verdict = judged(&rewritten(&trail, 0, 6), all(), "");
    assert_eq!(places(&verdict), [("checkpoint_mismatch", None, None)]);
    assert!(verdict.findings[0].detail.contains("the first 4 still have theirs"));

    let cut = trail.chains[0].0[..5].join("\n") + "\n";
    assert_eq!(places(&judged(&cut, all(), "")), [("tail_truncated", Some(0), Some(6))]);
}

#[test]
fn without_intervals_several_chains_are_not_called_wrong() {
    let (trail, checkpoints) = sealed();
    let verdict = judged(&trail.export(), vec![believed(&checkpoints[3], 0)], "");
    assert_eq!((verdict.verdict, verdict.findings.len()), (Outcome::CouldNotCheck, 0), "{}", verdict.text());
    assert!(verdict.troubles[0].what.contains("without the intervals"));
}

#[test]
fn two_roots_for_one_size_are_a_fork_of_the_log_whatever_the_events_are() {
    let (trail, checkpoints) = sealed();
    let mut other = checkpoints[3].clone();
    other.root = checkpoints[2].root;
    let both = vec![believed(&checkpoints[3], 0), believed(&other, 1)];
    let verdict = judged(&trail.export(), both, &trail.intervals);
    assert_eq!(verdict.classes["checkpoint_mismatch"], 2);
    assert!(verdict.findings[0].detail.contains("two different roots"));
}

#[test]
fn after_a_restore_only_the_new_epoch_is_compared_and_the_old_one_is_mentioned() {
    let (trail, checkpoints) = sealed();
    let mut old = checkpoints[3].clone();
    old.size += 5;
    let mut new = checkpoints[3].clone();
    new.origin += "/1";
    let intervals = trail.intervals.replace("\"epoch\":\"0\"", "\"epoch\":\"1\"");
    let verdict = judged(&trail.export(), vec![believed(&old, 0), believed(&new, 1)], &intervals);
    assert_eq!(verdict.verdict, Outcome::Verified, "{}", verdict.text());
    assert!(verdict.notes[0].starts_with("restored: "));
    // Intervals alone, which nobody signed, excuse nothing.
    let verdict = judged(&trail.export(), vec![believed(&old, 0)], &intervals);
    assert_eq!(verdict.verdict, Outcome::Tampered, "{}", verdict.text());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_cut_or_changed_below_a_checkpoint_is_found(
        runs in prop::collection::vec((0..4usize, 0..9usize), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut trail = Trail::new("acme");
        trail.append(0, 1);
        let mut checkpoints = vec![trail.seal()];
        for (chain, events) in runs {
            trail.append(chain, events);
            checkpoints.push(trail.seal());
        }
        let all = || checkpoints.iter().map(|c| believed(c, c.size)).collect::<Vec<_>>();
        let export = trail.export();
        let verdict = judged(&export, all(), &trail.intervals);
        prop_assert_eq!(verdict.verdict, Outcome::Verified, "{}", verdict.text());
        let mut lines: Vec<&str> = export.lines().collect();
        lines.remove(cut.index(lines.len()));
        let verdict = judged(&(lines.concat() + "\n").replace("}{", "}\n{").replacen("\n", if lines.is_empty() { "" } else { "\n" }, 1), all(), &trail.intervals);
        prop_assert_eq!(verdict.verdict, Outcome::Tampered, "{}", verdict.text());
    }
}

#[test]
fn a_checkpoint_as_psql_writes_it_to_a_file_is_read_and_one_with_more_behind_it_is_not() {
    let mut trail = Trail::new("a");
    trail.append(0, 3);
    let note = trail.seal().sign(&trail::key(), trail::BEGIN).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved");
    let with = |end: &str| {
        std::fs::write(&file, note.clone() + end).unwrap();
        let mut verdict = Verdict::new("verify-export", "export");
        let seen = files::open(&file, &trust(), &mut verdict);
        assert_eq!(seen.is_some(), verdict.verdict == Outcome::Verified);
        verdict
    };
    for end in ["", "\n"] {
        assert_eq!(with(end).verdict, Outcome::Verified, "{end:?}");
    }
    for (end, words) in
        [("\n\n", "more than one empty line"), ("x", "the last line has no newline"), ("x\n", "")]
    {
        let verdict = with(end);
        assert_eq!(verdict.verdict, Outcome::CouldNotCheck);
        assert!(verdict.troubles[0].what.contains(words), "{}", verdict.text());
    }
}
