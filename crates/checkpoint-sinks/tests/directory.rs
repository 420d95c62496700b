//! The directory sink: files that appear whole and are never written again, and what does not agree with them.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroauth_audit_checkpoint_sinks::{Conflict, Directory, Sealed, Stamp};
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::note::SigningKey;
use zeroauth_audit_core::trust::Trust;
use zeroauth_audit_core::{Digest, batch};

fn key() -> SigningKey {
    SigningKey::from_seed("log.example", &[3; 32]).unwrap()
}

fn sealed(tenant: &str, size: u64, root: u8) -> Sealed {
    let checkpoint =
        Checkpoint { origin: format!("log.example/{tenant}"), size, root: Digest::new([root; 32]) };
    let note = checkpoint.sign(&key(), 1_700_000_000 + size).unwrap();
    Sealed { origin: checkpoint.origin, size, root: [root; 32], note }
}

fn read(note: &str) -> Result<Sealed, String> {
    let mut trust = Trust::new();
    trust.add_log(key().verifier_key()).unwrap();
    let believed = trust.open(note.as_bytes()).map_err(|error| error.to_string())?;
    Ok(Sealed {
        origin: believed.checkpoint.origin,
        size: believed.checkpoint.size,
        root: *believed.checkpoint.root.as_bytes(),
        note: note.to_owned(),
    })
}

fn open(path: &Path) -> Result<Directory, String> {
    Directory::open(path, &read)
}

fn stamp(day: &str, time: &str) -> Stamp {
    Stamp { day: day.into(), time: time.into() }
}

/// Every file with the sizes in it.
fn files(path: &Path) -> BTreeMap<String, Vec<(String, u64)>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let name = entry.strip_prefix(path).unwrap().display().to_string();
            let content = fs::read(entry).unwrap();
            let notes = batch::read_all(&content).unwrap();
            let sizes = notes.into_iter().map(|note| {
                let sealed = read(std::str::from_utf8(note).unwrap()).unwrap();
                (sealed.origin.trim_start_matches("log.example/").to_owned(), sealed.size)
            });
            found.insert(name, sizes.collect());
        }
    }
    found
}

fn newest(directory: &Directory) -> Vec<(String, u64)> {
    directory
        .newest()
        .map(|sealed| (sealed.origin.trim_start_matches("log.example/").to_owned(), sealed.size))
        .collect()
}

#[test]
fn each_run_is_a_file_and_each_day_begins_with_all_that_was_ever_published() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut directory = open(path).unwrap();
    assert_eq!(newest(&directory), []);
    let written = |directory: &mut Directory, sealed: &[Sealed], day: &str, time: &str| {
        assert_eq!(directory.write(sealed, &stamp(day, time)).unwrap(), []);
    };
    let day = "2026/11/24";
    written(&mut directory, &[sealed("a", 1, 1), sealed("b", 5, 5), sealed("a", 2, 2)], day, "100000");
    written(&mut directory, &[sealed("a", 3, 3)], day, "100100");
    written(&mut directory, &[sealed("c", 1, 1)], day, "100100");
    written(&mut directory, &[sealed("a", 4, 4)], "2026/12/01", "000000");
    written(&mut directory, &[], "2026/12/01", "000100");
    let entry = |tenant: &str, size| (tenant.to_owned(), size);
    let expected = BTreeMap::from([
        (
            "2026/11/24/100000-000001-full.checkpoints".to_owned(),
            vec![entry("a", 1), entry("b", 5), entry("a", 2)],
        ),
        ("2026/11/24/100100-000001.checkpoints".to_owned(), vec![entry("a", 3)]),
        ("2026/11/24/100100-000002.checkpoints".to_owned(), vec![entry("c", 1)]),
        (
            "2026/12/01/000000-000001-full.checkpoints".to_owned(),
            vec![entry("a", 4), entry("b", 5), entry("c", 1)],
        ),
    ]);
    assert_eq!(files(path), expected);
    // Read again, it knows the same, from the newest full file on.
    fs::remove_dir_all(path.join("2026/11")).unwrap();
    assert_eq!(newest(&open(path).unwrap()), [entry("a", 4), entry("b", 5), entry("c", 1)]);
}

#[test]
fn what_the_directory_does_not_agree_with_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut directory = open(folder.path()).unwrap();
    directory.write(&[sealed("a", 10, 1), sealed("b", 10, 1)], &stamp("2026/11/24", "100000")).unwrap();
    for mut directory in [directory, open(folder.path()).unwrap()] {
        let conflicts = directory
            .write(
                &[sealed("a", 9, 1), sealed("b", 11, 2), sealed("a", 10, 2)],
                &stamp("2026/11/24", "100100"),
            )
            .unwrap();
        let known = || Conflict { origin: "log.example/a".into(), size: 10, root: Some([1; 32]) };
        assert_eq!(conflicts, [known(), known()]);
        // The same once more is no conflict: a crash may have lost that it was written.
        assert_eq!(directory.write(&[sealed("a", 10, 1)], &stamp("2026/11/24", "100200")).unwrap(), []);
    }
    let sizes: Vec<_> = files(folder.path()).into_values().flatten().collect();
    assert!(
        !sizes.contains(&("a".to_owned(), 9)) && sizes.iter().filter(|(_, size)| *size == 11).count() == 2
    );
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
    let mut directory = open(&path).unwrap();
    directory.write(&[sealed("a", 1, 1)], &stamp("2026/11/24", "100000")).unwrap();
    let file = path.join("2026/11/24/100000-000001-full.checkpoints");
    let whole = fs::read(&file).unwrap();
    // Nothing but files of ours is looked at.
    fs::write(path.join("2026/11/24/.unfinished-1"), "x").unwrap();
    fs::write(path.join("README"), "x").unwrap();
    open(&path).unwrap();
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    fails(&path, "2026/11/24/100000-000001-full.checkpoints: the file ends at byte");
    let other = SigningKey::from_seed("log.example", &[4; 32]).unwrap();
    let forged = Checkpoint { origin: "log.example/a".into(), size: 9, root: Digest::new([9; 32]) };
    fs::write(&file, batch::write([forged.sign(&other, 1).unwrap().as_str()])).unwrap();
    fails(&path, "no key that is given for the origin");
}

#[test]
fn a_file_that_could_not_be_written_leaves_nothing_half() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("sink");
    fs::create_dir(&path).unwrap();
    let mut directory = open(&path).unwrap();
    directory.write(&[sealed("a", 1, 1)], &stamp("2026/11/24", "100000")).unwrap();
    // In the way of the next day's folder.
    fs::write(path.join("2026/11/25"), "x").unwrap();
    let error = directory.write(&[sealed("a", 2, 2)], &stamp("2026/11/25", "100000")).unwrap_err();
    assert!(error.starts_with("cannot write: "), "{error}");
    fs::remove_file(path.join("2026/11/25")).unwrap();
    assert_eq!(directory.write(&[sealed("a", 2, 2)], &stamp("2026/11/25", "100100")).unwrap(), []);
    assert_eq!(newest(&open(&path).unwrap()), [("a".to_owned(), 2)]);
}
