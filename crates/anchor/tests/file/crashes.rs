//! Processes that are killed while they write.

use std::process::{Command, Stdio};
use std::time::Duration;

use zeroauth_audit_anchor::machine::Phase;
use zeroauth_audit_tests::wait_until;

use super::{Folder, batch, key};

/// Set for the process that the test starts: the folder in which it anchors until it is killed.
const HELPER: &str = "ZEROAUTH_AUDIT_TEST_ANCHORS";
/// And the first epoch that it anchors.
const FIRST: &str = "ZEROAUTH_AUDIT_TEST_FIRST";

#[test]
fn helper_anchors_until_it_is_killed_when_started_for_it() {
    let Ok(folder) = std::env::var(HELPER) else { return };
    let config =
        serde_json::json!({ "path": format!("{folder}/anchors"), "key_file": format!("{folder}/key") });
    let driver = Folder::open(config).unwrap();
    let first = std::env::var(FIRST).unwrap().parse().unwrap();
    for epoch in first.. {
        super::anchor(&driver, &batch(epoch));
    }
}

#[test]
fn a_writer_that_is_killed_leaves_a_file_that_the_next_one_goes_on_with() {
    let folder = Folder::make();
    let mut before: u64 = 0;
    for round in 0..5 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crashes::helper_anchors_until_it_is_killed_when_started_for_it"])
            .env(HELPER, folder.folder.path())
            .env(FIRST, (before + 1).to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = || std::fs::read(folder.path()).map_or(0, |bytes| bytes.split(|b| *b == b'\n').count());
        wait_until(Duration::from_secs(60), "the writer writes", || lines() > before as usize + 10);
        writer.kill().unwrap();
        writer.wait().unwrap();
        let contents = folder.contents();
        let latest = contents.latest(batch(1).log_id).unwrap();
        assert_eq!(contents.entries.len() as u64, latest, "round {round}: every epoch once");
        assert_eq!(folder.anchor(&batch(latest + 1)).0.phase, Phase::Finalized);
        before = latest + 1;
    }
    let epochs: Vec<u64> = folder.contents().entries.iter().map(|entry| entry.batch.epoch).collect();
    assert_eq!(epochs, (1..=epochs.len() as u64).collect::<Vec<_>>());
    assert_eq!(folder.contents().entries[0].signer, key(1).name());
}
