//! The registry: what each run of the job checkpoint adds, signs, and refuses to go on from, judged by the program of auditors, which
//! shares nothing with the database but the formats.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use postgres::Client;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::note::SigningKey;
use zeroauth_audit_core::registry::entry::{Entry, Log};
use zeroauth_audit_core::tree::Tree;
use zeroauth_audit_core::trust::Trust;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::log::{SEAL, cluster};
use crate::log_tamper::{RECOMPUTE, sealed};
use crate::offline::program;
use crate::support::sealed::{ORIGIN, key_file, key_path, name_key};
use crate::support::{DEADLINE, Database, Sql};

const MAINTAIN: &str = "SET LOCAL zeroauth_audit.maintenance = on";

/// The run files of a database, as a directory would have them.
struct Files {
    folder: tempfile::TempDir,
    key: String,
}

impl Files {
    fn of(client: &mut Client) -> Self {
        let key = client.line("SELECT vkey FROM audit_keys ORDER BY first_used_at LIMIT 1");
        let files = Self { folder: tempfile::tempdir().unwrap(), key };
        files.write(client);
        files
    }

    /// Writes those that are not there yet.
    fn write(&self, client: &mut Client) {
        for number in numbers(client).into_iter().filter(|number| !self.path(*number).exists()) {
            std::fs::create_dir_all(self.path(number).parent().unwrap()).unwrap();
            std::fs::write(self.path(number), text(client, number)).unwrap();
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.path().join(format!("2026/11/30/{number:012}.run"))
    }

    /// What `verify-checkpoints` says: verdict, classes, and all of it.
    #[track_caller]
    fn verdict(&self) -> (String, Vec<String>, serde_json::Value) {
        self.verdict_of(self.folder.path(), &[&self.key])
    }

    #[track_caller]
    fn verdict_of(&self, folder: &Path, keys: &[&str]) -> (String, Vec<String>, serde_json::Value) {
        let keys = keys.iter().flat_map(|key| ["--key", key]);
        let output = Command::new(program())
            .arg("verify-checkpoints")
            .arg(folder)
            .args(["--json"])
            .args(keys)
            .output()
            .unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
        });
        let classes = json["classes"].as_object().unwrap().keys().cloned().collect();
        (json["verdict"].as_str().unwrap().to_owned(), classes, json)
    }
}

fn numbers(client: &mut Client) -> Vec<u64> {
    let numbers = client.lines("SELECT number FROM zeroauth_audit_internal.registry_runs ORDER BY number");
    numbers.iter().map(|number| number.parse().unwrap()).collect()
}

fn text(client: &mut Client, number: u64) -> String {
    client.rows(&format!("SELECT zeroauth_audit_internal.registry_run_file({number})"))[0][0].clone().unwrap()
}

/// Has the registry state a log with these leaves, as one does who has everything: its hashes, and the key that signs it.
pub fn rewrite(client: &mut Client, key: &SigningKey, tenant: &str, log: &[Digest]) {
    let sizes = format!(
        "SELECT DISTINCT tree_size FROM zeroauth_audit_internal.registry_entries WHERE tenant_id = '{tenant}'"
    );
    for size in client.lines(&sizes) {
        let root = Tree::new(log[..size.parse().unwrap()].to_vec()).root();
        client.run(&format!("{MAINTAIN}; UPDATE zeroauth_audit_internal.registry_entries SET root = '\\x{root}' WHERE tenant_id = '{tenant}' AND tree_size = {size}"));
    }
    let (leaves, _) = leaves(client);
    assert!(leaves.len() < 256, "one tile");
    let tile: String = leaves.iter().map(ToString::to_string).collect();
    client
        .run(&format!("{MAINTAIN}; UPDATE zeroauth_audit_internal.registry_tiles SET hashes = '\\x{tile}'"));
    let size: u64 =
        client.line("SELECT max(size) FROM zeroauth_audit_internal.registry_runs").parse().unwrap();
    let root = Tree::new(leaves[..size as usize].to_vec()).root();
    let checkpoint = Checkpoint { origin: key.name().to_owned(), size, root };
    client.run(&format!(
        "{MAINTAIN}; UPDATE zeroauth_audit_internal.registry_runs SET root = '\\x{root}', note = '{}' WHERE size = {size}",
        checkpoint.sign(key, 1_800_000_000).unwrap()
    ));
}

/// Tenant, size, root and epoch of an entry.
pub type Stated = (String, String, String, String);

/// The leaves of the registry as its entries give them; and what each states.
pub fn leaves(client: &mut Client) -> (Vec<Digest>, Vec<Stated>) {
    let names = name_key(client).unwrap();
    let rows = client.rows("SELECT text, tenant_id, epoch, tree_size, encode(root, 'hex'), previous FROM zeroauth_audit_internal.registry_entries ORDER BY entry");
    let leaf = |row: &Vec<Option<String>>| {
        let number = |n: usize| row[n].as_ref().map(|text| text.parse::<u64>().unwrap());
        let text = row[0].clone().unwrap_or_else(|| {
            let root = Digest::from_slice(&hex::decode(row[4].as_ref().unwrap()).unwrap()).unwrap();
            let (label, epoch) = (names.label(row[1].as_ref().unwrap()), number(2).unwrap() as u32);
            let (size, previous) = (number(3).unwrap(), number(5));
            Entry::Log(Log { label, epoch, size, root, previous, restored: None }).text()
        });
        Entry::leaf(&text)
    };
    let of = |row: &Vec<Option<String>>| {
        let text = |n: usize| row[n].clone().unwrap_or_default();
        (text(1), text(3), text(4), text(2))
    };
    (rows.iter().map(leaf).collect(), rows.iter().map(of).collect())
}

/// Seals; all ended well, and so much was refused.
#[track_caller]
fn seal(client: &mut Client, refused: u32) {
    let outcome = client.line(SEAL);
    assert!(outcome.starts_with("succeeded|"), "{outcome}");
    assert!(outcome.contains(&format!(r#""refused": {refused}}}"#)), "{outcome}");
}

#[test]
fn a_run_states_each_log_that_grew_and_its_files_prove_that_every_log_only_grew() {
    let (cluster, _) = cluster("registry_runs");
    let (mut client, mut other) = (cluster.client(), cluster.client());
    for round in 0..4 {
        other.run("BEGIN; INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'held' FROM generate_series(1, 300)");
        client.run(&format!("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % {}, 'x' FROM generate_series(1, 700) i", 300 - round * 50));
        client.run(
            "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'free' FROM generate_series(1, 9)",
        );
        seal(&mut client, 0);
        other.run("COMMIT");
        seal(&mut client, 0);
    }
    assert_eq!(
        client.line(
            "SELECT count(*), min(size_before), max(number) FROM zeroauth_audit_internal.registry_runs"
        ),
        "8|0|8"
    );
    // One entry for each log that a run had something for, and what is needed to find the one before.
    assert_eq!(
        client
            .lines("SELECT count(*) FROM zeroauth_audit_internal.registry_entries WHERE tenant_id = 'acme'"),
        ["8"]
    );
    assert_eq!(
        client.line("SELECT count(*) FROM zeroauth_audit_internal.registry_entries e WHERE tenant_id IS NOT NULL AND previous IS DISTINCT FROM
            (SELECT max(b.entry) FROM zeroauth_audit_internal.registry_entries b WHERE b.tenant_id = e.tenant_id AND b.entry < e.entry)"),
        "0"
    );
    let files = Files::of(&mut client);
    let (verdict, classes, json) = files.verdict();
    assert_eq!((verdict.as_str(), classes.len()), ("verified", 0), "{json}");
    // Nothing new: nothing is signed, until 10 minutes are over; and then the silence.
    seal(&mut client, 0);
    assert_eq!(client.line("SELECT max(number) FROM zeroauth_audit_internal.registry_runs"), "8");
    client.run(&format!("{MAINTAIN}; UPDATE zeroauth_audit_internal.registry_runs SET sealed_at = sealed_at - interval '11 minutes'"));
    seal(&mut client, 0);
    assert_eq!(
        client.line("SELECT number, size = size_before FROM zeroauth_audit_internal.registry_runs ORDER BY number DESC LIMIT 1"),
        "9|t"
    );
    files.write(&mut client);
    assert_eq!(files.verdict().0, "verified");
    for number in numbers(&mut client) {
        let made_before = std::fs::read_to_string(files.path(number)).unwrap();
        assert_eq!(text(&mut client, number), made_before, "run {number} is made as it was before");
    }
    // One that is taken out is missed.
    std::fs::remove_file(files.path(4)).unwrap();
    assert_ne!(files.verdict().0, "verified");
}

#[test]
fn pitfall_29_30_a_rewritten_history_does_not_get_into_the_registry_whatever_else_was_rewritten_with_it() {
    // B1 and its neighbours: whoever may do everything rewrites a tenant's events, and with them more and more of what remembers them.
    let forget_log = "DELETE FROM zeroauth_audit_internal.log_intervals WHERE tenant_id = 'globex'; DELETE FROM zeroauth_audit_internal.tiles WHERE tenant_id = 'globex';
        DELETE FROM zeroauth_audit_internal.logs WHERE tenant_id = 'globex'; DELETE FROM zeroauth_audit_internal.watermarks WHERE tenant_id = 'globex'";
    let ended = "UPDATE zeroauth_audit_internal.logs SET state = 'ended', ended_at = now() WHERE tenant_id = 'globex'";
    let next_epoch =
        &format!("{ended}; INSERT INTO zeroauth_audit_internal.logs (tenant_id, epoch) VALUES ('globex', 1)");
    let later_epoch =
        &format!("{ended}; INSERT INTO zeroauth_audit_internal.logs (tenant_id, epoch) VALUES ('globex', 2)");
    for (name, more) in [
        ("alone", "SELECT"),
        ("with_its_log", forget_log),
        (
            "and_a_row_of_the_registry",
            &format!(
                "{forget_log}; DELETE FROM zeroauth_audit_internal.registry_entries WHERE entry = (SELECT max(entry) FROM zeroauth_audit_internal.registry_entries WHERE tenant_id = 'globex')"
            ),
        ),
        (
            "and_all_its_rows",
            &format!(
                "{forget_log}; DELETE FROM zeroauth_audit_internal.registry_entries WHERE tenant_id = 'globex'"
            ),
        ),
        (
            "and_an_entry_of_its_own",
            &format!(
                "{forget_log}; UPDATE zeroauth_audit_internal.registry_entries SET tree_size = 1 WHERE tenant_id = 'globex'"
            ),
        ),
        ("and_its_log_ended", ended),
        ("and_an_epoch_that_nobody_announced", next_epoch),
        ("and_a_later_epoch", later_epoch),
    ] {
        let (_cluster, mut client) = sealed(&format!("registry_rewritten_{name}"));
        let files = Files::of(&mut client);
        assert_eq!(files.verdict().0, "verified");
        client.run(RECOMPUTE);
        client.run(&format!("BEGIN; {MAINTAIN}; UPDATE audit_events SET action = 'harmless' WHERE tenant_id = 'globex' AND seq = 7; SELECT recompute('globex', 0::smallint, 7); {more}; COMMIT"));
        client.run("INSERT INTO audit_events (tenant_id, action) SELECT t, 'later' FROM generate_series(1, 400), (VALUES ('acme'), ('globex')) v (t)");
        let newest =
            "SELECT max(tree_size) FROM zeroauth_audit_internal.registry_entries WHERE tenant_id = 'globex'";
        let before = client.line(newest);
        if name != "and_all_its_rows" {
            assert_eq!(
                client.line("SELECT ok, classes @> '{checkpoint_mismatch}' FROM audit_verify('globex')"),
                "f|t",
                "{name}"
            );
            assert_eq!(client.line("SELECT ok FROM audit_verify('acme')"), "t", "{name}");
        }
        let outcome = client.line(SEAL);
        assert!(outcome.contains(r#""refused": 1}"#), "{name}: {outcome}");
        assert_eq!(client.line(newest), before, "{name}: nothing of the rewritten log is signed");
        assert_eq!(
            client.line("SELECT severity, kind FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved' AND severity = 1"),
            "1|checkpoint_mismatch",
            "{name}"
        );
        // What went out is as it was, and what goes out now continues it.
        files.write(&mut client);
        assert_eq!(files.verdict().0, "verified", "{name}");
    }
}

#[test]
fn a_registry_that_is_not_what_was_signed_signs_nothing_and_an_alert_says_why() {
    for (name, tampering, why) in [
        (
            "cut_off",
            "DELETE FROM zeroauth_audit_internal.registry_entries WHERE entry = (SELECT max(entry) FROM zeroauth_audit_internal.registry_entries)",
            "its last entries are gone",
        ),
        (
            "cut_off_with_its_hashes",
            "DELETE FROM zeroauth_audit_internal.registry_entries WHERE entry > 1; UPDATE zeroauth_audit_internal.registry_tiles SET hashes = substring(hashes FROM 1 FOR 64)",
            "entries were signed, and 2 are there",
        ),
        (
            "emptied",
            "DELETE FROM zeroauth_audit_internal.registry_entries; DELETE FROM zeroauth_audit_internal.registry_tiles",
            "entries were signed, and 0 are there",
        ),
        (
            "another_hash",
            "UPDATE zeroauth_audit_internal.registry_tiles SET hashes = overlay(hashes PLACING '\\x00' FROM 40 FOR 1) WHERE level = 0",
            "another root of",
        ),
        (
            "without_tiles",
            "DELETE FROM zeroauth_audit_internal.registry_tiles",
            "tile 0 of level 0 has 0 hashes",
        ),
        (
            "another_note",
            "UPDATE zeroauth_audit_internal.registry_runs SET note = (SELECT note FROM zeroauth_audit_internal.registry_runs WHERE number = 1) WHERE number = 2",
            "its newest checkpoint was signed for something else",
        ),
        (
            "a_note_that_is_not_signed",
            "UPDATE zeroauth_audit_internal.registry_runs SET note = left(note, -20) || E'AAAAAAAAAAAAAAAAAAA\\n' WHERE number = 2",
            "its newest checkpoint:",
        ),
        (
            "without_its_name_key",
            "DELETE FROM zeroauth_audit_internal.registry_names",
            "its name key is gone",
        ),
    ] {
        let (_cluster, mut client) = sealed(&format!("registry_tampered_{name}"));
        client.run(&format!("BEGIN; {MAINTAIN}; {tampering}; COMMIT"));
        let runs = "SELECT count(*), max(size) FROM zeroauth_audit_internal.registry_runs";
        let before = client.line(runs);
        seal(&mut client, 1);
        assert_eq!(client.line(runs), before, "{name}");
        let message = client.line("SELECT message FROM zeroauth_audit_internal.alerts WHERE fingerprint = 'registry_damaged' AND severity = 1 AND state <> 'resolved'");
        assert!(message.contains(why), "{name}: {message}");
    }
}

#[test]
fn an_acknowledged_restore_is_an_entry_that_says_what_goes_on_and_what_was_lost() {
    let (_cluster, mut client) = sealed("registry_restored");
    let files = Files::of(&mut client);
    let kept = client.line("SELECT entry FROM zeroauth_audit_internal.registry_entries WHERE tenant_id = 'globex' AND tree_size = 100");
    // The last 10 of 200 are lost; 100 were sealed before.
    client.run(&format!("BEGIN; {MAINTAIN}; DELETE FROM audit_events WHERE tenant_id = 'globex' AND seq > 190; COMMIT; SELECT zeroauth_audit_internal.run_job('drift')"));
    assert_eq!(client.line("SELECT audit_restore_acknowledge('restored from the dump of Monday')"), "1");
    seal(&mut client, 0);
    assert_eq!(
        client.line("SELECT epoch, tree_size, restored FROM zeroauth_audit_internal.registry_entries WHERE tenant_id = 'globex' ORDER BY entry DESC LIMIT 1"),
        format!("1|191|{kept}")
    );
    files.write(&mut client);
    let (verdict, classes, json) = files.verdict();
    assert_eq!((verdict.as_str(), classes.len()), ("restored", 0), "{json}");
    assert_eq!(client.line("SELECT ok FROM audit_verify('globex')"), "t");
    // It goes on, and is lost as a whole.
    client.run(
        "INSERT INTO audit_events (tenant_id, action) SELECT 'globex', 'x' FROM generate_series(1, 300)",
    );
    seal(&mut client, 0);
    files.write(&mut client);
    assert_eq!(files.verdict().0, "restored");
    client.run(&format!("BEGIN; {MAINTAIN}; DELETE FROM audit_events WHERE tenant_id = 'globex'; COMMIT; INSERT INTO audit_events (tenant_id, action) SELECT 'globex', 'begun anew' FROM generate_series(1, 3); SELECT zeroauth_audit_internal.run_job('drift')"));
    assert_eq!(client.line("SELECT audit_restore_acknowledge('all of it is gone')"), "1");
    seal(&mut client, 0);
    assert_eq!(
        client.line("SELECT epoch, tree_size, restored FROM zeroauth_audit_internal.registry_entries WHERE tenant_id = 'globex' ORDER BY entry DESC LIMIT 1"),
        "2|4|-1"
    );
    files.write(&mut client);
    let (verdict, classes, json) = files.verdict();
    assert_eq!((verdict.as_str(), classes.len()), ("restored", 0), "{json}");
}

#[test]
fn a_restored_log_that_is_refused_leaves_nothing_and_stops_nobody_else() {
    let (_cluster, mut client) = sealed("registry_restored_refused");
    client.run(&format!("BEGIN; {MAINTAIN}; DELETE FROM audit_events WHERE tenant_id = 'globex' AND seq > 190; COMMIT; SELECT zeroauth_audit_internal.run_job('drift')"));
    assert_eq!(client.line("SELECT audit_restore_acknowledge('restored from the dump of Monday')"), "1");
    // An event behind the newest kept state does not follow the one before.
    client.run(&format!("BEGIN; {MAINTAIN}; UPDATE audit_events SET prev_hash = event_hash WHERE tenant_id = 'globex' AND seq = 101; COMMIT"));
    for sealed in [806, 807] {
        client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'goes on')");
        seal(&mut client, 1);
        assert_eq!(
            client.line("SELECT tree_size FROM zeroauth_audit_internal.logs WHERE tenant_id = 'acme'"),
            sealed.to_string()
        );
        assert_eq!(
            client.line(
                "SELECT count(*) FROM zeroauth_audit_internal.tiles WHERE tenant_id = 'globex' AND epoch = 1"
            ),
            "0"
        );
    }
}

#[test]
fn a_key_with_another_name_begins_a_registry_that_says_which_one_it_continues() {
    let (cluster, mut client) = sealed("registry_renamed");
    let old = Files::of(&mut client);
    let last =
        client.line("SELECT size FROM zeroauth_audit_internal.registry_runs ORDER BY number DESC LIMIT 1");
    let key = key_file(&key_path(&cluster), "audit.example/other", 8);
    seal(&mut client, 0);
    let first = client.line("SELECT text FROM zeroauth_audit_internal.registry_entries WHERE entry = 0");
    assert!(first.contains(&format!("\nafter {ORIGIN} {last} ")), "{first}");
    assert_eq!(
        client.lines("SELECT tenant_id, tree_size FROM zeroauth_audit_internal.registry_entries WHERE tenant_id IS NOT NULL ORDER BY 1"),
        ["acme|800", "acme|805", "globex|200", "zeroauth_audit|1"]
    );
    let new = Files { folder: tempfile::tempdir().unwrap(), key: key.verifier_key().to_string() };
    new.write(&mut client);
    let (verdict, _, json) = new.verdict();
    assert_eq!(verdict, "verified", "{json}");
    assert_eq!(old.verdict().0, "verified");
}

#[test]
fn a_new_key_is_announced_by_an_entry_that_the_old_one_signs_with_it() {
    let (cluster, mut client) = sealed("registry_rotated");
    let old = Files::of(&mut client);
    let (path, append) = (key_path(&cluster), |client: &mut Client| {
        client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
        seal(client, 0);
    });
    let first = SigningKey::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let next = SigningKey::from_seed(ORIGIN, &[8; 32]).unwrap();
    let second = SigningKey::ml_dsa_44(ORIGIN, &[9; 32]).unwrap();
    let mut write = |keys: &[&SigningKey]| {
        let lines: String = keys.iter().map(|key| key.to_key_file()).collect();
        std::fs::write(&path, lines).unwrap();
        append(&mut client);
        append(&mut client);
    };
    write(&[&first, &next]);
    write(&[&next]);
    write(&[&next, &second]);
    let announced = client.lines(
        "SELECT text FROM zeroauth_audit_internal.registry_entries WHERE text LIKE '%key %' ORDER BY entry",
    );
    assert_eq!(announced.len(), 2, "each once: {announced:?}");
    old.write(&mut client);
    // Whoever knows the first key alone follows; the newest checkpoint is believed with both of the newest keys.
    let (verdict, _, json) = old.verdict();
    assert_eq!(verdict, "verified", "{json}");
    let note = client
        .rows("SELECT note FROM zeroauth_audit_internal.registry_runs ORDER BY number DESC LIMIT 1")[0][0]
        .clone()
        .unwrap();
    let mut trust = Trust::new();
    trust.add_log(next.verifier_key()).unwrap();
    trust.add_log(second.verifier_key()).unwrap();
    assert_eq!(trust.registry(note.as_bytes()).unwrap().keys.len(), 2);
    assert_eq!(client.line("SELECT count(*) FROM audit_keys"), "3");
    // It cannot be alone.
    std::fs::write(&path, second.to_key_file()).unwrap();
    append(&mut client);
    let why = client.line("SELECT message FROM zeroauth_audit_internal.alerts WHERE kind = 'checkpoint_key' AND state <> 'resolved'");
    assert!(why.contains("signs beside an Ed25519 key"), "{why}");
}

#[test]
fn without_a_key_entries_wait_for_the_first_signature() {
    let database = Database::audited("registry_unsigned");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 3); SELECT zeroauth_audit_internal.run_job('checkpoint')");
    assert_eq!(
        client.line("SELECT count(*) FILTER (WHERE tenant_id = 'acme'), (SELECT count(*) FROM zeroauth_audit_internal.registry_runs) FROM zeroauth_audit_internal.registry_entries"),
        "1|0"
    );
    client.refused("ZA005", "SELECT zeroauth_audit_internal.registry_run_file(1)");
}

#[test]
fn a_crash_between_any_two_steps_of_the_worker_leaves_a_registry_without_a_hole() {
    let cluster = Cluster::builder("registry_crash").start().unwrap();
    key_file(&key_path(&cluster), ORIGIN, 7);
    let mut client = cluster.client();
    client.run(&format!(
        "CREATE EXTENSION zeroauth_audit; ALTER DATABASE audit SET zeroauth_audit.checkpoint_key_file = '{}'",
        key_path(&cluster).display()
    ));
    let size = "SELECT coalesce(max(entry) + 1, 0) FROM zeroauth_audit_internal.registry_entries";
    let mut cut_short = 0;
    for round in 1..=5 {
        client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 3000, 'x' FROM generate_series(1, 6000) i");
        client.run("SELECT pg_sleep(0.2); UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'checkpoint'");
        let before: u64 = client.line(size).parse().unwrap();
        std::thread::sleep(Duration::from_millis(250 * round));
        cluster.crash().unwrap();
        cluster.start_again().unwrap();
        client = cluster.client();
        let after: u64 = client.line(size).parse().unwrap();
        cut_short += u32::from(after > before && after < before + 3000);
    }
    println!("{cut_short} of 5 runs were cut short by a crash");
    seal_all(&mut client);
    let files = Files::of(&mut client);
    let (verdict, _, json) = files.verdict();
    assert_eq!(verdict, "verified", "{json}");
    assert_eq!(
        client.lines(
            "SELECT fingerprint, message FROM zeroauth_audit_internal.alerts WHERE severity = 1 LIMIT 5"
        ),
        [] as [&str; 0]
    );
}

/// Waits until the worker has sealed and signed everything, alerts about what the test does included.
fn seal_all(client: &mut Client) {
    wait_until(DEADLINE, "everything to be signed", || {
        client.run("UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'checkpoint' AND next_run > now() + interval '2 seconds'");
        client.line(
            "SELECT (SELECT count(*) FROM audit_events) = (SELECT sum(tree_size) FROM zeroauth_audit_internal.logs)
                AND (SELECT max(entry) + 1 FROM zeroauth_audit_internal.registry_entries) = (SELECT max(size) FROM zeroauth_audit_internal.registry_runs)",
        ) == "t"
    });
}
