//! Directories of run files: the histories of the reference, which was written from `docs/format.md` alone, and what a reader says of them.

use std::fs;
use std::path::Path;

use serde_json::Value;
use zeroauth_audit_core::note::VerifierKey;
use zeroauth_audit_core::registry::Entry;
use zeroauth_audit_core::registry::label::NameKey;
use zeroauth_audit_core::trust::Trust;
use zeroauth_audit_verifier::runs::{self, Demands, Runs};
use zeroauth_audit_verifier::verdict::{Outcome, Verdict};

pub fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../core/tests/vectors/registry_v1.json")).unwrap()
}

/// A history by its name.
pub fn history(name: &str) -> Value {
    list(&vectors()["histories"]).iter().find(|history| history["name"] == name).unwrap().clone()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Writes the files of a history below a folder.
fn written(history: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in list(&history["files"]) {
        let day = folder.path().join(text(&file["day"]));
        fs::create_dir_all(&day).unwrap();
        fs::write(day.join(format!("{:012}.run", file["number"].as_u64().unwrap())), text(&file["text"]))
            .unwrap();
    }
    folder
}

pub fn trust(history: &Value) -> Trust {
    let mut trust = Trust::new();
    for key in list(&history["vkeys"]) {
        trust.add_log(VerifierKey::parse(text(key)).unwrap()).unwrap();
    }
    trust
}

/// What is said of the files from the one with number `first` on.
fn judged(folder: &Path, trust: &Trust, first: u64) -> Verdict {
    let mut verdict = Verdict::new("verify-checkpoints", "runs");
    let mut files = runs::files(folder).unwrap();
    files.retain(|file| file.number >= first);
    Runs::read(files, trust, Demands::default(), &mut verdict).end(&mut verdict);
    verdict
}

/// The reference has one word where a verdict has two, and the other way round.
fn class(word: &str) -> &str {
    match word {
        "forged" | "anchor_mismatch" => "checkpoint_mismatch",
        other => other,
    }
}

#[test]
fn labels_and_entries_are_those_of_the_reference() {
    let vectors = vectors();
    let key = hex::decode(text(&vectors["name_key"])).unwrap();
    let key = NameKey::new(key.try_into().unwrap());
    for label in list(&vectors["labels"]) {
        assert_eq!(key.label(text(&label["tenant"])).text(), text(&label["label"]));
    }
    for entry in list(&vectors["entries"]) {
        let said = text(&entry["text"]);
        assert_eq!(Entry::parse(said.as_bytes()).unwrap().text(), said);
        assert_eq!(Entry::leaf(said).to_string(), text(&entry["leaf_hash"]));
    }
    for entry in list(&vectors["bad_entries"]) {
        let said = text(&entry["text"]);
        assert!(Entry::parse(said.as_bytes()).is_err(), "{}: {said:?}", entry["name"]);
    }
}

#[test]
fn every_history_of_the_reference_has_the_problems_that_it_names() {
    let vectors = vectors();
    let histories = list(&vectors["histories"]);
    assert!(histories.len() > 100);
    let mut wrong = Vec::new();
    for history in histories {
        let folder = written(history);
        let first = history["first"].as_u64().unwrap();
        let verdict = judged(folder.path(), &trust(history), first);
        let mut expected: Vec<&str> =
            list(&history["problems"]).iter().map(|it| class(text(&it["class"]))).collect();
        let mut found: Vec<&str> = verdict.findings.iter().map(|finding| class(finding.class)).collect();
        found.extend(verdict.troubles.iter().filter(|it| it.file != "run files").map(|_| "unreadable"));
        expected.sort_unstable();
        found.sort_unstable();
        if expected != found {
            wrong.push(format!("{}: {expected:?} expected\n{}", history["name"], verdict.text()));
        }
        if expected.is_empty() {
            let restored = list(&history["restores"]);
            let outcome = if restored.is_empty() { Outcome::Verified } else { Outcome::Restored };
            let lost: Vec<u64> = restored.iter().map(|it| it["lost"].as_u64().unwrap()).collect();
            if verdict.verdict != outcome
                || verdict.restores.iter().map(|it| it.lost).ne(lost.iter().copied())
            {
                wrong.push(format!(
                    "{}: {outcome:?} expected, lost {lost:?}\n{}",
                    history["name"],
                    verdict.text()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), histories.len(), wrong.join("\n"));
}
