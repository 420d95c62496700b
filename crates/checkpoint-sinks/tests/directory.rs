//! The directory sink: files that appear whole and are never written again, and what does not follow from what is there.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use zeroauth_audit_checkpoint_sinks::{Directory, RunFile, Unwritten};
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::note::SigningKey;
use zeroauth_audit_core::registry::Entry;
use zeroauth_audit_core::registry::run::{self, Head, Writer, Written};
use zeroauth_audit_core::tree::Tree;
use zeroauth_audit_core::trust::Trust;

const DAY: &str = "2026/11/24";

fn key() -> SigningKey {
    SigningKey::from_seed("log.example", &[3; 32]).unwrap()
}

/// The entries of all registries here, in order.
fn entries() -> [Entry; 3] {
    [Entry::Names(Digest::new([5; 32])), Entry::SnapshotBegin, Entry::SnapshotEnd(0)]
}

/// The checkpoint of the first so many.
fn note(size: usize, key: &SigningKey) -> String {
    let leaves = entries().iter().take(size).map(|entry| Entry::leaf(&entry.text())).collect();
    let root = Tree::new(leaves).root();
    let checkpoint = Checkpoint { origin: "log.example".into(), size: size as u64, root };
    checkpoint.sign(key, 1_700_000_000).unwrap()
}

/// The file of a run that adds the entries between two sizes.
fn file(number: u64, after: Option<&str>, writer: u32, (from, to): (usize, usize)) -> RunFile {
    let after = after.map(|text| run::digest(text.as_bytes()));
    let written = Written { system: 7, database: writer };
    let edge = (from == 1 && to == 3).then(|| vec![Entry::leaf(&entries()[0].text())]);
    let mut file = Writer::new(&Head { number, after, written, size: (from as u64, to as u64), edge });
    for entry in &entries()[from..to] {
        file.entry(&entry.text(), None, &[], None);
    }
    RunFile { day: DAY.into(), text: file.finish(&note(to, &key()), &[], &[]) }
}

/// The first entry, or silence.
fn run(number: u64, after: Option<&str>, writer: u32) -> RunFile {
    file(number, after, writer, if number == 1 { (0, 1) } else { (1, 1) })
}

/// A file that begins with a snapshot.
fn snapshot(number: u64, after: Option<&str>) -> RunFile {
    file(number, after, 1, (1, 3))
}

/// So many files, each after the one before.
fn runs(count: u64) -> Vec<RunFile> {
    let mut files: Vec<RunFile> = Vec::new();
    for number in 1..=count {
        let file = run(number, files.last().map(|file| file.text.as_str()), 1);
        files.push(file);
    }
    files
}

fn open(path: &Path) -> Result<Directory, String> {
    let mut trust = Trust::new();
    trust.add_log(key().verifier_key()).unwrap();
    Directory::open(path, &move |note: &str| {
        trust.registry(note.as_bytes()).map(drop).map_err(|error| error.to_string())
    })
}

fn numbers(directory: &Directory) -> Vec<u64> {
    directory.files().map(|(number, _)| number).collect()
}

fn filled(path: &Path, files: &[RunFile]) -> Directory {
    let mut directory = open(path).unwrap();
    for file in files {
        directory.write(file).unwrap();
    }
    directory
}

#[test]
fn each_run_is_a_file_under_its_number_in_the_folder_of_its_day() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut files = runs(4);
    files[2].day = "2026/12/01".into();
    // The clock was set back: a number is never in an earlier folder than the one before.
    files[3].day = "2026/11/30".into();
    let directory = filled(path, &files);
    let at = |day: &str, number: u64| fs::read_to_string(path.join(day).join(format!("{number:012}.run")));
    for (day, number) in [(DAY, 1), (DAY, 2), ("2026/12/01", 3), ("2026/12/01", 4)] {
        assert_eq!(at(day, number).unwrap(), files[number as usize - 1].text);
    }
    for mut directory in [directory, open(path).unwrap()] {
        assert_eq!(numbers(&directory), [1, 2, 3, 4]);
        // Once more is nothing new: a crash may have lost that it was written.
        assert_eq!(directory.write(&files[3]).unwrap(), 4);
        let read = directory.read(3, 1).unwrap();
        assert_eq!(read, [(3, files[2].text.clone())], "one at least");
        assert_eq!(directory.read(3, 1 << 20).unwrap().len(), 2);
    }
}

#[test]
fn it_is_read_back_to_its_last_snapshot_and_may_begin_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = runs(3);
    files.push(snapshot(4, Some(&files[2].text)));
    files.push(file(5, Some(&files[3].text), 1, (3, 3)));
    filled(folder.path(), &files);
    assert_eq!(numbers(&open(folder.path()).unwrap()), [4, 5]);
    let other = tempfile::tempdir().unwrap();
    filled(other.path(), &files[3..]);
    assert_eq!(numbers(&open(other.path()).unwrap()), [4, 5]);
}

#[test]
fn red_team_b1_what_does_not_follow_what_is_there_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let files = runs(3);
    let mut directory = filled(folder.path(), &files[..2]);
    let mut refused = |file: &RunFile, words: &str| {
        let Err(Unwritten::Failed(error)) = directory.write(file) else { panic!("{words}") };
        assert!(error.contains(words), "{error}");
    };
    refused(&run(2, Some(&files[0].text), 9), "another 000000000002.run is there");
    refused(&run(3, Some(&files[0].text), 1), "000000000003.run does not follow 000000000002.run");
    refused(&run(4, Some(&files[1].text), 1), "000000000004.run does not follow 000000000002.run");
    // What was rewritten since it was read is not gone on from.
    let newest = folder.path().join(DAY).join("000000000002.run");
    fs::write(&newest, &run(2, Some(&files[0].text), 9).text).unwrap();
    refused(&files[2], "000000000002.run is not what it was");
    fs::remove_file(&newest).unwrap();
    refused(&files[2], "000000000002.run cannot be read");
    fs::write(&newest, &files[1].text).unwrap();
    assert_eq!(directory.write(&files[2]).unwrap(), 3);
}

#[test]
fn red_team_b1_b2_of_every_history_of_the_reference_it_takes_what_only_grew_and_nothing_else() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../core/tests/vectors/registry_v1.json")).unwrap();
    const OF_OTHERS: [&str; 3] =
        ["a_new_key_that_has_not_signed", "cosigned_statements_that_contradict", "anchors_that_contradict"];
    let (mut taken, mut refused, mut wrong) = (0, 0, Vec::new());
    for history in vectors["histories"].as_array().unwrap() {
        // Signatures, times and what others signed are for readers: whoever writes here holds the key.
        let files = history["files"].as_array().unwrap();
        let problems = history["problems"].as_array().unwrap();
        let about_growth = |it: &&Value| {
            ["checkpoint_mismatch", "tail_truncated", "tenant_missing"]
                .iter()
                .any(|class| it["class"] == *class)
        };
        let first = problems.iter().filter(about_growth).filter_map(|it| it["file"].as_u64()).min();
        let folder = tempfile::tempdir().unwrap();
        let mut directory = Directory::open(folder.path(), &|_: &str| Ok(())).unwrap();
        let failed = files.iter().find_map(|file| {
            let text = file["text"].as_str().unwrap().to_owned();
            let day = file["day"].as_str().unwrap().to_owned();
            let error = directory.write(&RunFile { day, text }).err()?;
            Some((file["number"].as_u64().unwrap(), error))
        });
        match (problems.is_empty(), first, failed) {
            (true, _, None) => taken += 1,
            (true, _, Some((number, error))) if history["first"] == 1 => {
                wrong.push(format!("{}: {number}: {error:?}", history["name"]));
            }
            // Or earlier: it does not bridge files that are missing.
            (false, Some(first), Some((number, _))) if number <= first => refused += 1,
            (false, Some(_), failed) if !OF_OTHERS.contains(&history["name"].as_str().unwrap()) => {
                wrong.push(format!("{}: {first:?}: {failed:?}", history["name"]));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{taken} taken, {refused} refused, and\n{}", wrong.join("\n"));
    assert!(taken > 15 && refused > 60, "{taken} taken, {refused} refused");
}

#[test]
fn of_two_writers_one_gets_a_number_also_on_another_day() {
    let folder = tempfile::tempdir().unwrap();
    let files = runs(1);
    let mut one = filled(folder.path(), &files);
    let mut two = open(folder.path()).unwrap();
    one.write(&run(2, Some(&files[0].text), 1)).unwrap();
    let late = RunFile { day: "2026/11/25".into(), ..run(2, Some(&files[0].text), 2) };
    let Err(Unwritten::Failed(error)) = two.write(&late) else { panic!("written") };
    assert!(error.contains("another writer has claimed 000000000002.run"), "{error}");
    // It reads what won, and goes on from there.
    let mut two = open(folder.path()).unwrap();
    let won = two.read(2, 1).unwrap().remove(0).1;
    assert_eq!(won, run(2, Some(&files[0].text), 1).text);
    assert_eq!(two.write(&run(3, Some(&won), 2)).unwrap(), 3);
    // One that claimed a number and could not write its file goes on with the same.
    let next = run(4, Some(&run(3, Some(&won), 2).text), 2);
    fs::write(folder.path().join("numbers/000000000004"), format!("{}\n", run::digest(next.text.as_bytes())))
        .unwrap();
    assert_eq!(two.write(&next).unwrap(), 4);
}

#[test]
fn a_directory_with_a_missing_a_foreign_or_a_changed_file_says_which() {
    let fails = |change: &dyn Fn(&Path, &[RunFile]), words: &str| {
        let folder = tempfile::tempdir().unwrap();
        let files = runs(4);
        filled(folder.path(), &files);
        change(&folder.path().join(DAY), &files);
        let error = open(folder.path()).unwrap_err();
        assert!(error.contains(words), "{error}");
    };
    let name = |number: u64| format!("{number:012}.run");
    fails(&|day, _| fs::remove_file(day.join(name(2))).unwrap(), "000000000002.run is not there");
    fails(&|day, _| fs::remove_file(day.join(name(1))).unwrap(), "000000000001.run is not there");
    let twice = |day: &Path, files: &[RunFile]| {
        fs::create_dir(day.with_file_name("25")).unwrap();
        fs::write(day.with_file_name("25").join(name(3)), &files[2].text).unwrap();
    };
    fails(&twice, "000000000003.run is there twice");
    let earlier = |day: &Path, _: &[RunFile]| {
        fs::create_dir(day.with_file_name("23")).unwrap();
        fs::rename(day.join(name(4)), day.with_file_name("23").join(name(4))).unwrap();
    };
    fails(&earlier, "000000000004.run is in the folder of an earlier day");
    let swapped = |day: &Path, files: &[RunFile]| fs::write(day.join(name(2)), &files[2].text).unwrap();
    fails(&swapped, "says that it is number 3");
    let rewritten = |day: &Path, files: &[RunFile]| {
        fs::write(day.join(name(2)), &run(2, Some(&files[0].text), 9).text).unwrap();
    };
    fails(&rewritten, "000000000003.run does not follow 2026/11/24/000000000002.run");
    let cut = |day: &Path, files: &[RunFile]| {
        fs::write(day.join(name(4)), &files[3].text[..files[3].text.len() - 1]).unwrap();
    };
    fails(&cut, "2026/11/24/000000000004.run: the end of the file before its last line");
    let forged = |day: &Path, files: &[RunFile]| {
        let other = SigningKey::from_seed("log.example", &[4; 32]).unwrap();
        fs::write(day.join(name(4)), files[3].text.replace(&note(1, &key()), &note(1, &other))).unwrap();
    };
    fails(&forged, "2026/11/24/000000000004.run: ");
}

#[test]
fn what_is_no_directory_of_ours_is_not_used_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sink");
    let fails = |path: &Path, words: &str| {
        let error = open(path).unwrap_err();
        assert!(error.contains(words), "{error}");
    };
    fails(Path::new("relative"), "not absolute");
    fails(&path, "cannot look at the directory");
    fs::write(&path, "x").unwrap();
    fails(&path, "no directory");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    fails(&path, "others can write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    filled(&path, &runs(1));
    // Nothing but files of ours is looked at.
    fs::write(path.join(DAY).join(".unfinished-1"), "x").unwrap();
    fs::write(path.join("README"), "x").unwrap();
    open(&path).unwrap();
}

#[test]
fn a_file_that_could_not_be_written_leaves_nothing_half() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("sink");
    fs::create_dir(&path).unwrap();
    let files = runs(2);
    let mut directory = filled(&path, &files[..1]);
    // In the way of the next day's folder.
    fs::write(path.join("2026/11/25"), "x").unwrap();
    let next = RunFile { day: "2026/11/25".into(), ..files[1].clone() };
    let Err(Unwritten::Failed(error)) = directory.write(&next) else { panic!("written") };
    assert!(error.starts_with("cannot write: "), "{error}");
    fs::remove_file(path.join("2026/11/25")).unwrap();
    // What is in memory may be ahead of what is there: that is no contradiction.
    let again = Unwritten::Failed("after an error the directory is to be read anew".into());
    assert_eq!(directory.write(&next), Err(again));
    let mut directory = open(&path).unwrap();
    assert_eq!(directory.write(&next).unwrap(), 2);
    assert_eq!(numbers(&open(&path).unwrap()), [1, 2]);
}
