//! Directories of checkpoints: logs that grew, and logs that did not.

use std::fs;
use std::path::Path;

use zeroauth_audit_core::batch;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::note::SigningKey;
use zeroauth_audit_core::proof::Consistency;
use zeroauth_audit_core::tile::builder::Builder;
use zeroauth_audit_core::tile::consistency_proof;
use zeroauth_audit_verifier::history::{History, proofs};
use zeroauth_audit_verifier::progress::Progress;
use zeroauth_audit_verifier::sealed;
use zeroauth_audit_verifier::verdict::{Outcome, Verdict};

use super::bundles::Leaves;
use super::trail::{self, Trail};
use super::{places, trust};

struct Sink(tempfile::TempDir);

impl Sink {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, notes: &[String]) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, batch::write(notes.iter().map(String::as_str))).unwrap();
    }

    fn judged(&self) -> Verdict {
        self.judged_with(|_, _| (), None)
    }

    fn judged_with(
        &self,
        more: impl FnOnce(&mut History, &mut Verdict),
        max_silence: Option<u64>,
    ) -> Verdict {
        let mut verdict = Verdict::new("verify-checkpoints", "sink");
        let mut history = History::default();
        history.read(self.0.path(), &trust(), &mut verdict, &mut Progress::none());
        more(&mut history, &mut verdict);
        history.end(max_silence, &mut verdict);
        verdict
    }
}

fn note(checkpoint: &Checkpoint, after: u64) -> String {
    checkpoint.sign(&trail::key(), trail::BEGIN + after).unwrap()
}

/// Two tenants over two days.
fn two_days() -> (Sink, Vec<Checkpoint>, Trail) {
    let sink = Sink::new();
    let (mut a, mut b) = (Trail::new("a"), Trail::new("b"));
    a.append(0, 3);
    b.append(0, 1);
    let (a1, b1) = (a.seal(), b.seal());
    sink.write("2026/11/21/000000-000001-full.checkpoints", &[note(&a1, 0), note(&b1, 0)]);
    a.append(0, 2);
    let a2 = a.seal();
    sink.write("2026/11/21/000100-000002.checkpoints", &[note(&a2, 60)]);
    // Silence, sealed.
    sink.write("2026/11/21/010000-000003.checkpoints", &[note(&a2, 3600), note(&b1, 3600)]);
    sink.write("2026/11/22/000000-000004-full.checkpoints", &[note(&a2, 3600), note(&b1, 3600)]);
    (sink, vec![a1, a2, b1], a)
}

#[test]
fn logs_that_only_grew_are_verified_and_their_silence_is_told() {
    let (sink, _, _) = two_days();
    let verdict = sink.judged();
    assert_eq!(verdict.verdict, Outcome::Verified, "{}", verdict.text());
    assert_eq!(verdict.checkpoints.len(), 2);
    assert_eq!((verdict.checkpoints[0].tree_size, verdict.checkpoints[1].tree_size), (5, 1));
    assert!(verdict.checkpoints[0].result.contains("longest silence 3540 s"), "{}", verdict.text());
    assert_eq!(sink.judged_with(|_, _| (), Some(3600)).verdict, Outcome::Verified);
    assert_eq!(sink.judged_with(|_, _| (), Some(3599)).verdict, Outcome::CouldNotCheck);
}

#[test]
fn a_log_that_shrank_later_is_found_in_whatever_file_it_is() {
    let (sink, checkpoints, _) = two_days();
    sink.write("2026/11/22/000100-000005.checkpoints", &[note(&checkpoints[0], 90_000)]);
    let verdict = sink.judged();
    assert_eq!(places(&verdict), [("tail_truncated", None, None)]);
    assert!(
        verdict.findings[0]
            .detail
            .contains("had 5 events at 2026-11-21T00:01:00Z, and 3 at 2026-11-22T01:00:00Z"),
        "{}",
        verdict.text()
    );
    // Under the name of an earlier time, it is the signed time that counts.
    let (sink, checkpoints, _) = two_days();
    sink.write("2026/11/21/000030-000009.checkpoints", &[note(&checkpoints[0], 90_000)]);
    assert_eq!(places(&sink.judged()), [("tail_truncated", None, None)]);
}

#[test]
fn an_older_checkpoint_that_comes_late_does_no_harm() {
    let (sink, checkpoints, _) = two_days();
    sink.write("2026/11/22/000100-000005.checkpoints", &[note(&checkpoints[0], 30)]);
    assert_eq!(sink.judged().verdict, Outcome::Verified);
}

#[test]
fn two_roots_for_one_size_are_found() {
    let (sink, checkpoints, _) = two_days();
    let other = Checkpoint { root: checkpoints[0].root, ..checkpoints[1].clone() };
    sink.write("2026/11/22/000100-000005.checkpoints", &[note(&other, 90_000)]);
    assert_eq!(places(&sink.judged()), [("checkpoint_mismatch", None, None)]);
}

#[test]
fn a_log_that_is_left_out_where_all_logs_must_be_is_missing() {
    let (sink, checkpoints, _) = two_days();
    sink.write("2026/11/23/000000-000005-full.checkpoints", &[note(&checkpoints[1], 180_000)]);
    let verdict = sink.judged();
    assert_eq!(places(&verdict), [("tenant_missing", None, None)]);
    assert_eq!(verdict.findings[0].tenant_id.as_deref(), Some("b"));
    let (sink, checkpoints, _) = two_days();
    sink.write(
        "2026/11/23/000000-000005-full.checkpoints",
        &[note(&checkpoints[0], 30), note(&checkpoints[2], 180_000)],
    );
    assert_eq!(places(&sink.judged()), [("tail_truncated", None, None)]);
}

#[test]
fn a_day_whose_first_file_is_gone_could_not_be_checked() {
    let (sink, checkpoints, _) = two_days();
    sink.write("2026/11/23/000100-000005.checkpoints", &[note(&checkpoints[1], 180_000)]);
    let verdict = sink.judged();
    assert_eq!(verdict.verdict, Outcome::CouldNotCheck);
    assert!(verdict.troubles[0].what.contains("first of its day"), "{}", verdict.text());
}

#[test]
fn a_changed_note_is_tampered_and_a_stranger_s_could_not_be_checked() {
    let (sink, checkpoints, _) = two_days();
    let changed = note(&checkpoints[1], 90_000).replace("\n5\n", "\n6\n");
    sink.write("2026/11/22/000100-000005.checkpoints", &[changed]);
    assert_eq!(places(&sink.judged()), [("checkpoint_mismatch", None, None)]);

    let (sink, checkpoints, _) = two_days();
    let stranger = SigningKey::from_seed(trail::BASE, &[8; 32]).unwrap();
    sink.write("2026/11/22/000100-000005.checkpoints", &[checkpoints[1].sign(&stranger, 1).unwrap()]);
    assert_eq!(sink.judged().verdict, Outcome::CouldNotCheck);
}

#[test]
fn a_file_that_was_cut_off_and_a_folder_without_files_could_not_be_checked() {
    let (sink, _, _) = two_days();
    let path = sink.0.path().join("2026/11/21/000100-000002.checkpoints");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 6]).unwrap();
    let verdict = sink.judged();
    assert_eq!(verdict.verdict, Outcome::CouldNotCheck);
    assert!(verdict.troubles[0].file.ends_with("000002.checkpoints"));
    assert_eq!(Sink::new().judged().verdict, Outcome::CouldNotCheck);
}

#[test]
fn a_consistency_proof_shows_that_a_log_was_continued() {
    let (sink, checkpoints, a) = two_days();
    let path = consistency_proof(3, 5, &Leaves(&a.leaves)).unwrap();
    let proof = Consistency { old_size: 3, path, checkpoint: note(&checkpoints[1], 60) };
    let file = sink.0.path().join("proof");
    let with = |proof: &Consistency| {
        fs::write(&file, proof.format()).unwrap();
        sink.judged_with(|history, verdict| proofs::file(&file, &trust(), history, verdict), None)
    };
    let verdict = with(&proof);
    assert_eq!(verdict.verdict, Outcome::Verified, "{}", verdict.text());
    assert!(
        verdict.checkpoints[0].result.starts_with("continues all 1 before it, by proofs"),
        "{}",
        verdict.text()
    );
    // One that does not hold was perhaps made by somebody else: it says nothing.
    let wrong = Consistency { path: vec![a.leaves[0]; proof.path.len()], ..proof.clone() };
    assert_eq!(with(&wrong).verdict, Outcome::CouldNotCheck);
    let unknown = Consistency { old_size: 4, ..proof };
    assert!(with(&unknown).troubles[0].what.contains("no checkpoint of 4 events"));
}

#[test]
fn a_checkpoint_and_a_proof_as_psql_writes_them_to_a_file_are_read_and_one_with_more_behind_it_is_not() {
    let (sink, checkpoints, a) = two_days();
    let path = consistency_proof(3, 5, &Leaves(&a.leaves)).unwrap();
    let checkpoint = note(&checkpoints[1], 60);
    let proof = Consistency { old_size: 3, path, checkpoint: checkpoint.clone() }.format();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved");
    let of_proof = |end: &str| {
        fs::write(&file, proof.clone() + end).unwrap();
        sink.judged_with(|history, verdict| proofs::file(&file, &trust(), history, verdict), None)
    };
    let of_checkpoint = |end: &str| {
        fs::write(&file, checkpoint.clone() + end).unwrap();
        let (mut verdict, mut seen) = (Verdict::new("verify-export", "export"), 0);
        sealed::each(&file, &trust(), &mut verdict, &mut |_, _| seen += 1);
        assert_eq!(seen, usize::from(verdict.verdict == Outcome::Verified));
        verdict
    };
    for end in ["", "\n"] {
        assert_eq!(of_proof(end).verdict, Outcome::Verified, "{end:?}");
        assert_eq!(of_checkpoint(end).verdict, Outcome::Verified, "{end:?}");
    }
    for (end, words) in [("\n\n", "more than one empty line"), ("x", "the last line has no newline")] {
        for verdict in [of_proof(end), of_checkpoint(end)] {
            assert_eq!(verdict.verdict, Outcome::CouldNotCheck);
            assert!(verdict.troubles[0].what.contains(words), "{}", verdict.text());
        }
    }
    assert_eq!(of_checkpoint("x\n").verdict, Outcome::CouldNotCheck);
    assert_eq!(of_proof("\nx\n").verdict, Outcome::CouldNotCheck);
}

#[test]
fn tiles_show_that_every_log_was_continued() {
    let sink = Sink::new();
    let mut trail = Trail::new("a/b");
    let mut notes = Vec::new();
    for events in [1, 300, 40, 700] {
        trail.append(0, events);
        notes.push(note(&trail.seal(), notes.len() as u64));
    }
    sink.write("2026/11/21/000000-000001-full.checkpoints", &notes);
    let tiles = tempfile::tempdir().unwrap();
    write_tiles(&trail, &tiles.path().join("a%2Fb"));
    let bases = [trail::BASE.to_owned()];
    let verdict =
        sink.judged_with(|history, verdict| proofs::tiles(tiles.path(), &bases, history, verdict), None);
    assert_eq!(verdict.verdict, Outcome::Verified, "{}", verdict.text());
    assert!(
        verdict.checkpoints[0].result.starts_with("continues all 3 before it, by proofs"),
        "{}",
        verdict.text()
    );

    // A tile that is not there, or not the log's.
    let first = tiles.path().join("a%2Fb/tile/0/000");
    let whole = fs::read(&first).unwrap();
    fs::write(&first, [&whole[32..], &whole[..32]].concat()).unwrap();
    let verdict =
        sink.judged_with(|history, verdict| proofs::tiles(tiles.path(), &bases, history, verdict), None);
    assert_eq!(verdict.verdict, Outcome::CouldNotCheck);
    fs::remove_file(&first).unwrap();
    let verdict =
        sink.judged_with(|history, verdict| proofs::tiles(tiles.path(), &bases, history, verdict), None);
    assert_eq!(verdict.verdict, Outcome::CouldNotCheck);
}

/// The tiles of a trail, as C2SP tlog-tiles names them.
fn write_tiles(trail: &Trail, folder: &Path) {
    let mut builder = Builder::resume(0, []).unwrap();
    trail.leaves.iter().for_each(|leaf| builder.push(*leaf));
    for tile in builder.finish().tiles {
        let path = folder.join(tile.path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, tile.hashes.iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<u8>>()).unwrap();
    }
}
