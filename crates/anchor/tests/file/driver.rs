//! The driver.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Instant;

use serde_json::json;
use zeroauth_audit_anchor::batch::{Batch, Hash};
use zeroauth_audit_anchor::driver::Driver;
use zeroauth_audit_anchor::evidence::{Error, RestsOn, Trust, file::Evidence, verify_evidence};
use zeroauth_audit_anchor::file::entry::{read, read_note};
use zeroauth_audit_anchor::machine::{Action, Notice, Phase, State};

use super::{Folder, anchor, batch, key};

fn trouble(state: &State) -> String {
    state.trouble.as_ref().expect("there is trouble").last.to_string()
}

#[test]
fn batches_become_lines_of_one_chain_and_their_evidence_holds() {
    let folder = Folder::make();
    for epoch in [1, 2, 9] {
        let (state, action, memory) = folder.anchor(&batch(epoch));
        assert_eq!((state.phase, action), (Phase::Finalized, Action::Done));
        assert_eq!(memory.notices, []);
        let evidence = memory.evidence.unwrap().to_string();
        let trust = Trust { keys: vec![key(1).verifier_key()], ..Trust::default() };
        let verdict = verify_evidence("file", evidence.as_bytes(), &batch(epoch).root, &trust).unwrap();
        assert_eq!((verdict.epoch, verdict.seal), (Some(epoch), batch(epoch).seal()));
        assert_eq!(verdict.rests_on, RestsOn::Key { name: "example.org/audit".into() });
        let stranger = Trust { keys: vec![key(2).verifier_key()], ..Trust::default() };
        for (trust, root, error) in [
            (&trust, &batch(7).root, Error::OtherRoot { found: batch(epoch).root }),
            (&stranger, &batch(epoch).root, Error::NotTrusted("no known key signed the entry")),
        ] {
            assert_eq!(verify_evidence("file", evidence.as_bytes(), root, trust), Err(error));
        }
        let evidence: Evidence = serde_json::from_str(&evidence).unwrap();
        let changed = Evidence { note: evidence.note.replace("size 10000", "size 10001"), ..evidence };
        assert!(changed.verify(&batch(epoch).root, &trust.keys).is_err());
    }
    let contents = folder.contents();
    assert_eq!(contents.entries.iter().map(|entry| entry.batch.epoch).collect::<Vec<_>>(), [1, 2, 9]);
    assert_eq!((contents.fragments, contents.is_ended), (0, true));
    assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn an_entry_is_written_once_however_often_it_is_sent() {
    let folder = Folder::make();
    folder.anchor(&batch(1));
    let whole = folder.bytes();
    // Sent again by a worker that died before it stored that it was sent.
    let driver = folder.driver();
    let need = zeroauth_audit_anchor::driver::Need::Fresh { behind_pending: true };
    let attempt = driver.prepare(&batch(1), &need, zeroauth_audit_anchor::Moment(77)).unwrap();
    for _ in 0..3 {
        driver.send(&batch(1), &attempt).unwrap();
        folder.anchor(&batch(1));
    }
    assert_eq!(folder.bytes(), whole);
}

#[test]
fn an_epoch_that_holds_something_else_or_was_passed_is_given_up() {
    let folder = Folder::make();
    folder.anchor(&batch(5));
    let other = Batch { root: Hash::sha256(b"other"), ..batch(5) };
    let (state, action, memory) = folder.anchor(&other);
    assert_eq!((state.phase, action), (Phase::Failed, Action::Replan { above: 5 }));
    assert!(matches!(memory.notices[..], [Notice::EpochTaken { epoch: 5, .. }]));
    let (_, action, memory) = folder.anchor(&batch(4));
    assert_eq!(action, Action::Replan { above: 5 });
    assert!(matches!(memory.notices[..], [Notice::EpochPassed { epoch: 4, latest: 5 }]));
    assert_eq!(folder.contents().entries.len(), 1);
}

#[test]
fn several_logs_share_a_file_and_writers_take_turns() {
    let folder = Folder::make();
    std::thread::scope(|scope| {
        for log in 0..8u8 {
            let folder = &folder;
            scope.spawn(move || {
                let driver = folder.driver();
                for epoch in 1..=10 {
                    let batch = Batch { log_id: Hash::sha256(&[log]), ..batch(epoch) };
                    assert_eq!(anchor(&driver, &batch).0.phase, Phase::Finalized);
                }
            });
        }
    });
    let contents = folder.contents();
    assert_eq!(contents.entries.len(), 80);
    for log in 0..8u8 {
        assert_eq!(contents.latest(Hash::sha256(&[log])), Some(10));
    }
}

#[test]
fn a_key_that_was_rotated_away_still_vouches_for_what_it_signed() {
    let folder = Folder::make();
    folder.anchor(&batch(1));
    folder.use_key(2);
    let (state, ..) = folder.anchor(&batch(2));
    assert_eq!(trouble(&state), "line 1 of the anchor file is not signed by a known key");
    let mut config = folder.config();
    config["earlier_keys"] = json!([key(1).verifier_key().to_string()]);
    let (state, ..) = anchor(&Folder::open(config.clone()).unwrap(), &batch(2));
    assert_eq!(state.phase, Phase::Finalized);
    config["earlier_keys"] = json!(["x"]);
    assert_eq!(
        Folder::open(config).err().unwrap().to_string(),
        "the configuration of the target names an earlier key that is none"
    );
}

#[test]
fn of_several_keys_in_the_file_the_first_signs_and_all_are_known() {
    let folder = Folder::make();
    folder.anchor(&batch(1));
    // A rotation with an overlap, as the file of checkpoint keys has it.
    let path = folder.folder.path().join("key");
    let both = key(2).to_key_file() + &key(1).to_key_file();
    fs::write(&path, &both).unwrap();
    let (state, ..) = folder.anchor(&batch(2));
    assert_eq!(state.phase, Phase::Finalized);
    let keys = [key(1).verifier_key(), key(2).verifier_key()];
    let signers = |bytes: &[u8]| {
        let known =
            |entry: &str| keys.iter().position(|key| read_note(entry, std::slice::from_ref(key)).is_some());
        read(bytes, &keys).unwrap().entries.iter().map(|entry| known(&entry.note)).collect::<Vec<_>>()
    };
    assert_eq!(signers(&folder.bytes()), [Some(0), Some(1)]);
    // One line that is no key makes the file none.
    fs::write(&path, both + "x\n").unwrap();
    let error = Folder::open(folder.config()).err().unwrap();
    assert_eq!(error.to_string(), "the key file holds no signing key");
}

#[test]
fn a_file_that_was_tampered_with_is_named_and_nothing_is_added_to_it() {
    let folder = Folder::make();
    for epoch in 1..4 {
        folder.anchor(&batch(epoch));
    }
    let whole = String::from_utf8(folder.bytes()).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let join = |lines: &[&str]| format!("{}\n", lines.join("\n"));
    let changed = lines[1].replace("epoch 2", "epoch 7");
    for (content, expected) in [
        (join(&[lines[0], lines[2]]), "line 2 of the anchor file does not follow the entry before it"),
        (join(&[lines[1], lines[2]]), "line 1 of the anchor file does not follow the entry before it"),
        (
            join(&[lines[0], lines[2], lines[1]]),
            "line 2 of the anchor file does not follow the entry before it",
        ),
        (join(&[lines[0], lines[0]]), "line 2 of the anchor file does not follow the entry before it"),
        (join(&[lines[0], &changed, lines[2]]), "line 2 of the anchor file is not signed by a known key"),
        (
            join(&[lines[0], "garbage", lines[2]]),
            "line 3 of the anchor file does not follow the entry before it",
        ),
    ] {
        fs::write(folder.path(), &content).unwrap();
        let (state, ..) = folder.anchor(&batch(9));
        assert_eq!(trouble(&state), expected);
        assert_eq!(folder.bytes(), content.as_bytes());
    }
}

#[test]
fn a_file_that_others_could_change_or_that_is_none_is_not_used() {
    let folder = Folder::make();
    folder.anchor(&batch(1));
    let reported = || trouble(&folder.anchor(&batch(2)).0);
    fs::set_permissions(folder.path(), Permissions::from_mode(0o664)).unwrap();
    assert_eq!(reported(), "the anchor file has mode 0664, not writable by its owner only");
    fs::rename(folder.path(), folder.folder.path().join("elsewhere")).unwrap();
    symlink(folder.folder.path().join("elsewhere"), folder.path()).unwrap();
    assert!(reported().starts_with("cannot open the anchor file: "));
    fs::remove_file(folder.path()).unwrap();
    fs::create_dir(folder.path()).unwrap();
    assert!(reported().starts_with("cannot open the anchor file: "));
    fs::remove_dir(folder.path()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_bits_truncate(0o600),
        0,
    )
    .unwrap();
    assert_eq!(reported(), "the anchor file is not a regular file");
    fs::remove_file(folder.path()).unwrap();
    let mut config = folder.config();
    config["path"] = json!("anchors");
    let (state, ..) = anchor(&Folder::open(config.clone()).unwrap(), &batch(2));
    assert_eq!(trouble(&state), "the path of the anchor file is not absolute");
    config["path"] = json!(folder.folder.path().join("no/such/folder"));
    let (state, ..) = anchor(&Folder::open(config.clone()).unwrap(), &batch(2));
    assert!(trouble(&state).starts_with("cannot make the anchor file: "));
    fs::write(folder.folder.path().join("key"), "PRIVATE+KEY+s3cret").unwrap();
    assert_eq!(Folder::open(config).err().unwrap().to_string(), "the key file holds no signing key");
}

#[test]
fn a_file_that_another_process_holds_is_given_up_in_time() {
    let folder = Folder::make();
    folder.anchor(&batch(1));
    let held = File::open(folder.path()).unwrap();
    held.lock().unwrap();
    let begun = Instant::now();
    let (state, ..) = folder.anchor(&batch(2));
    assert_eq!(trouble(&state), "another process holds the anchor file");
    assert!(begun.elapsed().as_secs() < 20);
    drop(held);
    assert_eq!(folder.anchor(&batch(2)).0.phase, Phase::Finalized);
}
