//! The table "Who names what" of `docs/threat-model.md`: what an attacker writes who has everything inside, the key too, and who outside says so.
//! Each row is a history of the reference; what the table says is what comes out here.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;
use zeroauth_audit_checkpoint_sinks::{Directory, RunFile};
use zeroauth_audit_verifier::monitor::Monitor;
use zeroauth_audit_verifier::runs::{self, Demands, Runs};
use zeroauth_audit_verifier::verdict::{Outcome, Verdict};

use super::monitors::publish;
use super::runs::{history, trust};

/// What he does, and the history in which he does it.
const ATTACKS: [(&str, &str); 18] = [
    ("rewrites a tenant's events, and appends more (red team B1)", "a_larger_tree_of_other_events"),
    ("rewrites them and leaves the size as it is", "the_same_size_with_another_root"),
    ("cuts the end off: an old state is shown as the newest", "a_log_shrinks"),
    ("begins a new epoch, and says nothing of a restore (B2)", "an_epoch_without_restored"),
    (
        "begins one that goes on from another tree than it says",
        "restored_to_another_tree_than_that_of_the_entry",
    ),
    ("begins one that keeps less than the state that it names", "restored_and_smaller_than_the_named_entry"),
    ("two lineages: two entries go on from one", "two_lineages_of_a_label"),
    ("goes on from an older entry, or from another tenant's", "previous_is_not_the_newest_entry"),
    ("says that a tenant is new", "previous_is_none_of_a_known_label"),
    ("leaves an entry out that the checkpoint has", "a_checkpoint_of_another_root"),
    ("leaves a tenant out where all must be stated again", "a_snapshot_without_a_label"),
    ("rewrites the registry from an entry on", "a_rewritten_registry"),
    ("the same, behind a file that says so", "a_rewritten_registry_behind_another_digest"),
    ("changes a file that is out", "a_file_that_was_changed_later"),
    ("takes a file away", "a_missing_file"),
    ("swaps two files", "reordered_files"),
    ("puts in a run of another database", "a_checkpoint_of_another_origin"),
    ("signs with a key that nobody was given", "signed_by_an_unknown_key"),
];

/// Where the table is.
const BEGINS: &str = "| the attacker | a directory | `verify-checkpoints` | `monitor` |\n";

fn said(verdict: &Verdict) -> String {
    let classes: BTreeSet<&str> = verdict.findings.iter().map(|finding| finding.class).collect();
    match verdict.verdict {
        Outcome::Tampered => {
            let classes: Vec<String> = classes.iter().map(|class| format!("`{class}`")).collect();
            format!("tampered: {}", classes.join(", "))
        }
        Outcome::CouldNotCheck => "could not check".into(),
        Outcome::Verified => "verified".into(),
        Outcome::Restored => "restored".into(),
    }
}

/// What the sink of a directory does with the files, one after the other.
fn directory(history: &Value) -> &'static str {
    let folder = tempfile::tempdir().unwrap();
    let known = trust(history);
    let read = move |note: &str| known.registry(note.as_bytes()).map(drop).map_err(|error| error.to_string());
    let mut directory = Directory::open(folder.path(), &|_: &str| Ok(())).unwrap();
    for file in history["files"].as_array().unwrap() {
        let text = |name: &str| file[name].as_str().unwrap().to_owned();
        if directory.write(&RunFile { day: text("day"), text: text("text") }).is_err() {
            return "refuses it";
        }
    }
    // Files that he wrote himself are read when the directory is opened.
    if Directory::open(folder.path(), &read).is_err() { "names it when it is opened" } else { "takes it" }
}

fn verify_checkpoints(history: &Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    publish(folder.path(), history, numbers(history));
    let mut verdict = Verdict::new("verify-checkpoints", "runs");
    let files = runs::files(folder.path()).unwrap();
    Runs::read(files, &trust(history), Demands::default(), &mut verdict).end(&mut verdict);
    said(&verdict)
}

/// A monitor that has seen what was there before.
fn monitor(history: &Value) -> String {
    let (folder, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let trust = trust(history);
    let mut monitor = Monitor::new(folder.path(), &trust, Demands::default(), Some(own.path().join("state")));
    let mut last = None;
    for number in numbers(history) {
        publish(folder.path(), history, [number]);
        // What is missing is waited for.
        for _ in 0..4 {
            last = Some(monitor.round(1).verdict);
        }
    }
    said(&last.unwrap())
}

fn numbers(history: &Value) -> Vec<u64> {
    history["files"].as_array().unwrap().iter().map(|file| file["number"].as_u64().unwrap()).collect()
}

#[test]
fn whoever_has_the_run_files_names_what_a_superuser_with_the_key_makes_of_them() {
    let mut table = format!("{BEGINS}|---|---|---|---|\n");
    for (attack, name) in ATTACKS {
        let history = history(name);
        let (sink, files, watched) = (directory(&history), verify_checkpoints(&history), monitor(&history));
        let _ = writeln!(table, "| {attack} | {sink} | {files} | {watched} |");
        // Nobody who reads says that all is well.
        assert!(
            !files.starts_with("verified") && !watched.starts_with("verified"),
            "{attack}: {files}, {watched}"
        );
        // Signatures are for readers: of a directory the newest is looked at, from which all before it follow.
        assert!(sink != "takes it" || name == "signed_by_an_unknown_key", "{attack}");
    }
    let document = include_str!("../../../../docs/threat-model.md");
    let begin = document.find(BEGINS).expect("the table is there");
    let there: String =
        document[begin..].split_inclusive('\n').take_while(|line| line.starts_with('|')).collect();
    assert_eq!(there, table, "docs/threat-model.md is to have this table:\n{table}");
}

#[test]
fn a_directory_that_is_replaced_as_a_whole_is_whole_and_is_another_one_than_was_kept() {
    let (before, after) = (history("growth_and_silence"), history("restores"));
    let (folder, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (known, state) = (trust(&before), own.path().join("state"));
    publish(folder.path(), &before, numbers(&before));
    let round = Monitor::new(folder.path(), &known, Demands::default(), Some(state.clone())).round(1);
    assert_eq!(said(&round.verdict), "verified");
    // Another registry under the same key, from its first entry on; the monitor did not run meanwhile.
    std::fs::remove_dir_all(folder.path()).unwrap();
    publish(folder.path(), &after, numbers(&after));
    assert_eq!(verify_checkpoints(&after), "restored", "by itself it is whole");
    let round = Monitor::new(folder.path(), &known, Demands::default(), Some(state)).round(1);
    assert_eq!(round.verdict.verdict, Outcome::Tampered, "{}", round.verdict.text());
}
