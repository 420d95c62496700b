//! Exports held against run files: each tenant's events are those of its log, all of them and no others.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use serde_json::Value;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::intervals::Interval;
use zeroauth_audit_core::range::{Frontier, Range};
use zeroauth_audit_core::registry::Entry;
use zeroauth_audit_core::registry::entry::{Log, Restored};
use zeroauth_audit_core::registry::label::{Label, NameKey};
use zeroauth_audit_core::registry::run::{self, Head, Writer, Written};

use super::trail::{self, Trail};

/// A database that seals trails in runs, and the folder that it gives them to.
struct Database {
    names: NameKey,
    registry: Frontier,
    /// Of each label its newest entry, epoch and size.
    newest: HashMap<Label, (u64, u32, u64)>,
    folder: tempfile::TempDir,
    last: Option<Digest>,
    number: u64,
}

impl Database {
    fn new() -> Self {
        Self {
            names: NameKey::new([9; 32]),
            registry: Frontier::new(),
            newest: HashMap::new(),
            folder: tempfile::tempdir().unwrap(),
            last: None,
            number: 0,
        }
    }

    /// One run over these trails; of each what is sealed now, from a size on. `restored`: what a new epoch of the first goes on from.
    fn run(&mut self, trails: &[&Trail], restored: Option<(Restored, u64)>) {
        let before = self.registry.size();
        let mut blocks = Vec::new();
        if before == 0 {
            blocks.push((Entry::Names(self.names.digest()).text(), None, Vec::new(), None));
        }
        for (n, trail) in trails.iter().enumerate() {
            let label = self.names.label(&trail.tenant);
            let newest = self.newest.get(&label).copied();
            let restored = restored.filter(|_| n == 0);
            let from = restored.map_or(newest.map_or(0, |(.., size)| size), |(_, size)| size);
            let epoch = newest.map_or(0, |(_, epoch, _)| epoch) + u32::from(restored.is_some());
            let mut tree = Frontier::new();
            trail.leaves.iter().for_each(|leaf| tree.push(*leaf));
            let mut growth = Range::empty(from);
            trail.leaves[from as usize..].iter().for_each(|leaf| growth.push(*leaf));
            let mut base = Frontier::new();
            trail.leaves[..from as usize].iter().for_each(|leaf| base.push(*leaf));
            let log = Log {
                label,
                epoch,
                size: tree.size(),
                root: tree.root(),
                previous: newest.map(|(entry, ..)| entry),
                restored: restored.map(|(restored, _)| restored),
            };
            let edge = restored.map(|_| base.parts().1.to_vec());
            let intervals = intervals(trail, from);
            blocks.push((Entry::Log(log).text(), edge, intervals, Some(growth.parts().to_vec())));
            let index = before + blocks.len() as u64 - 1;
            self.newest.insert(label, (index, epoch, tree.size()));
        }
        blocks.iter().for_each(|(text, ..)| self.registry.push(Entry::leaf(text)));
        self.number += 1;
        let (number, after) = (self.number, self.last);
        let written = Written { system: 7, database: 5 };
        let head = Head { number, after, written, size: (before, self.registry.size()), edge: None };
        let mut writer = Writer::new(&head);
        for (text, edge, intervals, growth) in &blocks {
            writer.entry(text, edge.as_deref(), intervals, growth.as_deref());
        }
        let (size, root) = (self.registry.size(), self.registry.root());
        let checkpoint = Checkpoint { origin: trail::BASE.into(), size, root };
        let note = checkpoint.sign(&trail::key(), trail::BEGIN + number).unwrap();
        let file = writer.finish(&note, &[], &[]);
        self.last = Some(run::digest(file.as_bytes()));
        let day = self.folder.path().join("2026/11/21");
        fs::create_dir_all(&day).unwrap();
        fs::write(day.join(run::name(number).unwrap()), file).unwrap();
    }

    /// What the program says of an export: exit code, and the verdict.
    fn judged(&self, export: &str, more: &[&str]) -> (i32, Value) {
        self.judged_by(&self.names, export, more)
    }

    fn judged_by(&self, names: &NameKey, export: &str, more: &[&str]) -> (i32, Value) {
        let own = tempfile::tempdir().unwrap();
        fs::write(own.path().join("export"), export).unwrap();
        fs::write(own.path().join("names"), Label::new(Digest::new(*names.as_bytes())).text() + "\n")
            .unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_zeroauth-audit"));
        program.args(["--json", "verify-export", "--key", &trail::key().verifier_key().to_string()]);
        program.arg("--runs").arg(self.folder.path()).arg("--names").arg(own.path().join("names")).args(more);
        let output = program.arg(own.path().join("export")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let verdict =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{:?}", output.stderr));
        (output.status.code().unwrap(), verdict)
    }
}

/// The intervals of what a trail has sealed behind a size.
fn intervals(trail: &Trail, from: u64) -> Vec<Interval> {
    let mut found: Vec<Interval> = Vec::new();
    for line in trail.intervals.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let number = |name: &str| line[name].as_str().unwrap().parse::<i64>().unwrap();
        if number("tree_size") > from as i64 {
            found.push(Interval { chain: number("chain") as i16, from: number("from"), to: number("to") });
        }
    }
    found
}

fn classes(verdict: &Value) -> Vec<String> {
    verdict["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["class"].as_str().unwrap().into())
        .collect()
}

/// Two tenants with several chains, sealed in three runs.
fn sealed() -> (Database, Trail, Trail) {
    let mut database = Database::new();
    let (mut a, mut b) = (Trail::new("a"), Trail::new("b"));
    a.append(0, 5);
    a.append(1, 3);
    b.append(0, 2);
    a.seal();
    b.seal();
    database.run(&[&a, &b], None);
    a.append(1, 4);
    a.append(0, 2);
    a.seal();
    database.run(&[&a], None);
    b.append(3, 7);
    b.seal();
    database.run(&[&b], None);
    (database, a, b)
}

#[test]
fn an_export_of_all_that_was_sealed_is_verified_as_of_the_newest_entries() {
    let (database, mut a, b) = sealed();
    let (code, verdict) = database.judged(&(a.export() + &b.export()), &["--all-tenants"]);
    assert_eq!(code, 0, "{verdict:#}");
    let checkpoints = verdict["checkpoints"].as_array().unwrap();
    let of: Vec<&str> = checkpoints.iter().map(|it| it["result"].as_str().unwrap()).collect();
    assert_eq!(of, ["every log only grew", "the events have its root", "the events have its root"]);
    let notes = verdict["notes"].to_string();
    assert!(notes.contains("the events have the roots of 2 of 2 checkpoints"), "{notes}");
    // What was written since the newest run is no defect.
    a.append(0, 3);
    assert_eq!(database.judged(&(a.export() + &b.export()), &["--all-tenants"]).0, 0);
    // One tenant alone.
    let (code, verdict) = database.judged(&a.export(), &[]);
    assert_eq!(code, 0, "{verdict:#}");
    assert!(
        verdict["notes"]
            .to_string()
            .contains("1 logs of the registry are of tenants that are not in the export")
    );
}

#[test]
fn red_team_b1_and_a4_what_was_cut_off_changed_or_left_out_is_named() {
    let (database, a, b) = sealed();
    // The newest event of chain 1.
    let mut cut = Trail::new("a");
    cut.append(0, 7);
    cut.append(1, 6);
    let (code, verdict) = database.judged(&(cut.export() + &b.export()), &[]);
    assert_eq!((code, classes(&verdict)), (1, vec!["tail_truncated".into()]), "{verdict:#}");
    // A whole chain.
    let mut chain = Trail::new("b");
    chain.append(0, 2);
    let (code, verdict) = database.judged(&(a.export() + &chain.export()), &[]);
    assert_eq!((code, classes(&verdict)[0].as_str()), (1, "chain_missing"), "{verdict:#}");
    // A tenant, where all are asked for.
    let (code, verdict) = database.judged(&a.export(), &["--all-tenants"]);
    assert_eq!((code, classes(&verdict)), (1, vec!["tenant_missing".into()]), "{verdict:#}");
    // Another history that is whole in itself, and longer: other ids, so other hashes.
    let mut rewritten = Trail::new("a");
    rewritten.append(0, 9);
    rewritten.append(1, 9);
    let export = rewritten.export().replace("invoice.read", "invoice.paid");
    let (code, verdict) = database.judged(&(export + &b.export()), &[]);
    assert_eq!(code, 1, "{verdict:#}");
}

#[test]
fn a_restore_goes_on_from_the_state_it_names_and_says_what_is_lost() {
    let (mut database, a, b) = sealed();
    // Back to the first run (entry 1, 8 events), and other events since.
    let mut restored = Trail::new("a");
    restored.append(0, 5);
    restored.append(1, 3);
    restored.seal();
    restored.append(2, 4);
    restored.seal();
    database.run(&[&restored], Some((Restored::Entry(1), 8)));
    let export = restored.export() + &b.export();
    let (code, verdict) = database.judged(&export, &[]);
    assert_eq!((code, verdict["verdict"].as_str().unwrap()), (3, "restored"), "{verdict:#}");
    assert_eq!(verdict["restores"][0]["lost"], 6);
    let entry = verdict["restores"][0]["entry"].to_string();
    let (code, verdict) = database.judged(&export, &["--accept-restore", &entry]);
    assert_eq!(code, 0, "{verdict:#}");
    // The history that was lost is not that of the log any more.
    let (code, verdict) = database.judged(&(a.export() + &b.export()), &["--accept-restore", &entry]);
    assert_eq!((code, classes(&verdict)[0].as_str()), (1, "chain_missing"), "{verdict:#}");
    // Everything lost, and begun anew.
    let mut anew = Trail::new("a");
    anew.append(0, 2);
    anew.seal();
    database.run(&[&anew], Some((Restored::Nothing, 0)));
    let (code, verdict) = database.judged(&(anew.export() + &b.export()), &[]);
    assert_eq!((code, verdict["restores"][1]["lost"].as_u64()), (3, Some(12)), "{verdict:#}");
}

#[test]
fn another_key_of_names_or_damaged_run_files_are_not_verified() {
    let (database, a, b) = sealed();
    let export = a.export() + &b.export();
    let (code, verdict) = database.judged_by(&NameKey::new([8; 32]), &export, &[]);
    assert_eq!(code, 2, "{verdict:#}");
    assert!(
        verdict["troubles"].to_string().contains("the key of names is not that of this registry"),
        "{verdict:#}"
    );
    fs::remove_file(database.folder.path().join("2026/11/21/000000000002.run")).unwrap();
    let (code, verdict) = database.judged(&export, &[]);
    assert_eq!(code, 2, "{verdict:#}");
}
