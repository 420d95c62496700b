//! Checkpoints leave the machine: to directories and witnesses, and what happens when those hold something else.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use postgres::Client;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::leaf_hash;
use zeroauth_audit_core::note::SigningKey;
use zeroauth_audit_core::registry::label::NameKey;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::offline::program;
use crate::support::receiver::server_file;
use crate::support::sealed::{ORIGIN, folder, key_file, key_path, name_key, published, states, trust};
use crate::support::witness::Witness;
use crate::support::{DEADLINE, Sql, base_backup, standby_of};

pub struct Publishing {
    pub cluster: Cluster,
    pub key: SigningKey,
    pub directory: PathBuf,
    names: RefCell<Option<NameKey>>,
}

/// A server with a worker that signs and publishes to a directory; one event of acme.
pub fn publishing(name: &str, conf: &[(&str, &str)]) -> Publishing {
    let builder = Cluster::builder(name).conf("fsync", "off");
    let cluster =
        conf.iter().fold(builder, |builder, (key, value)| builder.conf(key, value)).start().unwrap();
    let key = key_file(&key_path(&cluster), ORIGIN, 7);
    let directory = folder(&cluster, "published");
    let mut client = cluster.client();
    client.run(&format!(
        "ALTER SYSTEM SET zeroauth_audit.checkpoint_key_file = '{}'",
        key_path(&cluster).display()
    ));
    client.run("SELECT pg_reload_conf(); CREATE EXTENSION zeroauth_audit");
    client.run(&format!(
        r#"SELECT audit_sink_set('worm', 'directory', '{{"directory": "{}"}}')"#,
        directory.display()
    ));
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'first')");
    Publishing { cluster, key, directory, names: RefCell::default() }
}

/// The job is due at once.
pub fn seal(client: &mut Client) {
    client.run("UPDATE zeroauth_audit_internal.jobs SET next_run = '2020-01-01 00:00:00+00' WHERE name = 'checkpoint'");
}

pub fn append(client: &mut Client, tenant: &str, count: u32) {
    client.run(&format!(
        "INSERT INTO audit_events (tenant_id, action) SELECT '{tenant}', 'n' FROM generate_series(1, {count})"
    ));
    seal(client);
}

impl Publishing {
    /// What labels are made with, once there is an entry.
    pub fn names(&self) -> Option<NameKey> {
        let known = self.names.borrow().clone();
        known.or_else(|| {
            let key = name_key(&mut self.cluster.client())?;
            self.names.replace(Some(key.clone()));
            Some(key)
        })
    }

    /// The newest published size of the log of each epoch of the tests' tenants.
    pub fn newest(&self) -> Vec<String> {
        self.names().map_or_else(Vec::new, |names| newest_in(&self.directory, &self.key, &names))
    }

    /// How many run files there are.
    fn runs(&self) -> usize {
        published(&self.directory, &trust(&[&self.key])).len()
    }

    #[track_caller]
    pub fn judged(&self) -> String {
        judged_in(&self.directory, &self.key)
    }

    #[track_caller]
    pub fn wait_for(&self, expected: &[&str]) {
        // A sink that failed is tried again after a minute at the latest.
        wait_until(3 * DEADLINE, &format!("{expected:?} to be published"), || self.newest() == expected);
    }
}

/// The newest size in a directory of the log of each epoch of the tests' tenants.
pub fn newest_in(directory: &Path, key: &SigningKey, names: &NameKey) -> Vec<String> {
    let mut newest = BTreeMap::new();
    for tenant in ["acme", "globex", "initech", "late"] {
        for (epoch, size) in states(directory, key, names, tenant) {
            newest.insert((tenant, epoch), size);
        }
    }
    let shown = |((tenant, epoch), size): ((&str, u32), u64)| match epoch {
        0 => format!("{tenant} {size}"),
        _ => format!("{tenant}/{epoch} {size}"),
    };
    newest.into_iter().map(shown).collect()
}

/// What the program of auditors says of a directory: its verdict, and what it says of the registry.
#[track_caller]
pub fn judged_in(directory: &Path, key: &SigningKey) -> String {
    let json = judgement(directory, key, &[]);
    format!("{}: {}", json["verdict"].as_str().unwrap(), json["checkpoints"][0]["result"].as_str().unwrap())
}

/// The same, with more that it is given.
pub fn judgement(directory: &Path, key: &SigningKey, more: &[&str]) -> serde_json::Value {
    let output = Command::new(program())
        .args(["verify-checkpoints", "--json"])
        .arg(directory)
        .args(["--key", &key.verifier_key().to_string()])
        .args(more)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn alerts(client: &mut Client) -> Vec<String> {
    client.lines("SELECT severity, kind, fingerprint FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved' AND kind NOT IN ('clock_step', 'settings_written') ORDER BY 3")
}

#[test]
fn pitfall_25_growth_and_silence_are_published_signed_and_in_order() {
    let publishing = publishing("publish_directory", &[]);
    let mut client = publishing.cluster.client();
    seal(&mut client);
    publishing.wait_for(&["acme 1"]);
    append(&mut client, "acme", 9);
    publishing.wait_for(&["acme 10"]);
    append(&mut client, "globex", 3);
    publishing.wait_for(&["acme 10", "globex 3"]);
    assert_eq!(publishing.judged(), "verified: every log only grew");
    let before = publishing.runs();
    // Nothing happens for ten minutes: the same is signed again, with a newer time.
    wait_until(DEADLINE, "all to be published", || {
        client.line("SELECT published_to = (SELECT max(number) FROM zeroauth_audit_internal.registry_runs) FROM zeroauth_audit_internal.sinks") == "t"
    });
    client
        .run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.registry_runs SET sealed_at = sealed_at - interval '11 minutes'");
    seal(&mut client);
    wait_until(DEADLINE, "silence to be sealed", || publishing.runs() > before);
    assert_eq!(publishing.newest(), ["acme 10", "globex 3"]);
    assert_eq!(
        client.line("SELECT zeroauth_audit_internal.health_log() ->> 'state', zeroauth_audit_internal.health_log() -> 'reasons'"),
        "ok|[]"
    );
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
    // After a crash nothing is lost, and nothing contradicts what is out.
    drop(client);
    publishing.cluster.crash().unwrap();
    publishing.cluster.start_again().unwrap();
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 5);
    publishing.wait_for(&["acme 15", "globex 3"]);
    assert_eq!(publishing.judged(), "verified: every log only grew");
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
}

#[test]
fn a_restored_backup_signs_nothing_until_a_person_says_that_it_is_one() {
    let publishing = publishing("publish_restore", &[]);
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 9);
    publishing.wait_for(&["acme 10"]);
    let backup = base_backup(&publishing.cluster, &["-X", "stream"]);
    append(&mut client, "acme", 20);
    append(&mut client, "late", 4);
    publishing.wait_for(&["acme 30", "late 4"]);
    drop(client);
    publishing.cluster.shut_down().unwrap();
    let restored = Cluster::builder("publish_restored").data(&backup).start().unwrap();
    let mut client = restored.client();
    // The key and the directory are where they were: the very first thing is that nothing fits.
    append(&mut client, "acme", 7);
    wait_until(DEADLINE, "the alert", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE kind = 'tail_truncated' AND severity = 1") == "1"
    });
    assert_eq!(
        client
            .lines("SELECT tenant_id, state, known_size, known_by FROM zeroauth_audit_internal.logs WHERE tenant_id = 'acme'"),
        ["acme|held|30|worm"]
    );
    wait_until(DEADLINE, "the missing tenant", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE kind = 'tenant_missing' AND severity = 1") == "1"
    });
    seal(&mut client);
    wait_until(DEADLINE, "a run", || {
        client.line("SELECT next_run > now() FROM zeroauth_audit_internal.jobs WHERE name = 'checkpoint'")
            == "t"
    });
    assert_eq!(
        client.line("SELECT tree_size FROM zeroauth_audit_internal.logs WHERE tenant_id = 'acme'"),
        "10",
        "nothing is added"
    );
    assert_eq!(client.line("SELECT ok, classes FROM audit_verify('acme')"), "f|{tail_truncated}");
    assert_eq!(
        client.line("SELECT zeroauth_audit_internal.health_log() ->> 'state', zeroauth_audit_internal.health_log() -> 'reasons'"),
        r#"failing|["logs_held"]"#
    );

    client.refused("ZA009", "SELECT audit_restore_acknowledge(' ')");
    assert_eq!(
        client.line("SELECT audit_restore_acknowledge('disk broke, restored last night''s backup')"),
        "1"
    );
    client.refused("ZA052", "SELECT audit_restore_acknowledge('again')");
    assert_eq!(
        client.line("SELECT action, severity, details ->> 'note', details ->> 'lost', details -> 'known' ->> 'tree_size' FROM audit_events WHERE tenant_id = 'acme' AND action = 'log.restored'"),
        "log.restored|critical|disk broke, restored last night's backup|20|30"
    );
    append(&mut client, "acme", 1);
    publishing.wait_for(&["acme 30", "acme/1 19", "late 4"]);
    assert_eq!(publishing.judged(), "restored: every log only grew, but for 1 restores");
    assert_eq!(client.line("SELECT ok FROM audit_verify('acme')"), "t");
    assert_eq!(
        client.lines(
            "SELECT epoch, state FROM zeroauth_audit_internal.logs WHERE tenant_id = 'acme' ORDER BY 1"
        ),
        ["0|ended", "1|open"]
    );
}

#[test]
fn pitfall_18_28_history_that_was_rewritten_and_signed_again_with_the_key_itself_is_found_outside() {
    let publishing = publishing("publish_rewritten", &[]);
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 9);
    publishing.wait_for(&["acme 10"]);
    let witness = Witness::start(&publishing.key, 9);
    watch(&publishing, &mut client, &witness);
    wait_until(DEADLINE, "the witness", || witness.entries() >= 2);
    // Whoever has everything: the events, the tables of the log, and the key.
    client.run("UPDATE zeroauth_audit_internal.jobs SET enabled = false WHERE name = 'checkpoint'");
    // A run that is under way has read the registry, and would store what it made of it.
    wait_until(DEADLINE, "the end of the run", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'checkpoint' AND status = 'running'") == "0"
    });
    client.run("SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'harmless', event_hash = sha256(seq::text::bytea) WHERE tenant_id = 'acme'; UPDATE audit_events e SET prev_hash = coalesce((SELECT event_hash FROM audit_events p WHERE p.tenant_id = e.tenant_id AND p.seq = e.seq - 1), prev_hash) WHERE tenant_id = 'acme'; RESET zeroauth_audit.maintenance");
    let leaves: Vec<Digest> = client
        .rows("SELECT encode(event_hash, 'base64') FROM audit_events WHERE tenant_id = 'acme' ORDER BY seq")
        .iter()
        .map(|row| {
            use base64::Engine as _;
            leaf_hash(&base64::engine::general_purpose::STANDARD.decode(row[0].as_ref().unwrap()).unwrap())
        })
        .collect();
    let tile: String = leaves.iter().map(ToString::to_string).collect();
    client.run(&format!(
        "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.tiles SET hashes = decode('{tile}', 'hex') WHERE tenant_id = 'acme'"
    ));
    crate::registry::rewrite(&mut client, &publishing.key, "acme", &leaves);
    // From inside the log agrees with itself.
    assert_eq!(
        client.lines("SELECT class FROM audit_findings('acme') WHERE class = 'checkpoint_mismatch'"),
        [] as [&str; 0]
    );
    // The directory, which is to get a run that goes on from there, does not take it; nothing is signed any more.
    client.run("UPDATE zeroauth_audit_internal.jobs SET enabled = true WHERE name = 'checkpoint'");
    append(&mut client, "globex", 1);
    wait_until(DEADLINE, "the alert", || {
        alerts(&mut client).contains(&"1|registry_forked|registry_forked:worm".to_owned())
    });
    assert!(
        client.line("SELECT zeroauth_audit_internal.health_log() -> 'reasons'").contains("registry_forked")
    );
    let signed = "SELECT count(*) FROM zeroauth_audit_internal.registry_runs";
    let before = client.line(signed);
    append(&mut client, "globex", 1);
    wait_until(DEADLINE, "a run", || {
        client.line("SELECT next_run > now() FROM zeroauth_audit_internal.jobs WHERE name = 'checkpoint'")
            == "t"
    });
    assert_eq!(client.line(signed), before);
    assert_eq!(publishing.newest(), ["acme 10"]);
    assert_eq!(publishing.judged(), "verified: every log only grew");
    // Nor does a witness sign it, if there is no directory.
    client.run("SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM zeroauth_audit_internal.sinks WHERE name = 'worm'");
    append(&mut client, "globex", 1);
    wait_until(DEADLINE, "the witness's alert", || {
        alerts(&mut client).contains(&"1|registry_forked|registry_forked:witness".to_owned())
    });
}

pub fn watch(publishing: &Publishing, client: &mut Client, witness: &Witness) {
    let url = server_file(&publishing.cluster, "witness.url", &format!("http://{}/\n", witness.address));
    client.run(&format!(
        r#"SELECT audit_sink_set('witness', 'witness', '{{"url_file": "{}", "vkey": "{}"}}')"#,
        url.display(),
        witness.vkey()
    ));
}

#[test]
fn a_sink_that_is_pointed_elsewhere_while_it_is_written_to_is_read_there_at_once() {
    let publishing = publishing("publish_moved", &[]);
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 1);
    publishing.wait_for(&["acme 2"]);
    let names = publishing.names().unwrap();
    for round in 0..8_u32 {
        let place = folder(&publishing.cluster, &format!("place{round}"));
        append(&mut client, "acme", 1);
        // Before, while and after the file is written: its report says nothing of the other place.
        std::thread::sleep(std::time::Duration::from_millis(u64::from(round) * 40));
        client.run(&format!(
            r#"SELECT audit_sink_set('worm', config => '{{"directory": "{}"}}')"#,
            place.display()
        ));
        let all = [format!("acme {}", 3 + round)];
        wait_until(DEADLINE, "all of it in the other place", || {
            newest_in(&place, &publishing.key, &names) == all
        });
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_an_alert_and_nothing_is_lost() {
    let publishing = publishing("publish_unusable", &[]);
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 9);
    publishing.wait_for(&["acme 10"]);
    use std::os::unix::fs::PermissionsExt;
    let mode = |mode| {
        std::fs::set_permissions(&publishing.directory, std::fs::Permissions::from_mode(mode)).unwrap()
    };
    // The thread has the folder of the day open to it; a new one would not be.
    let away = publishing.directory.with_file_name("elsewhere");
    std::fs::rename(&publishing.directory, &away).unwrap();
    append(&mut client, "acme", 5);
    wait_until(DEADLINE, "the error", || {
        client.line("SELECT last_error IS NOT NULL FROM zeroauth_audit_internal.sinks") == "t"
    });
    client.run("UPDATE zeroauth_audit_internal.sinks SET failing_since = now() - interval '16 minutes'");
    wait_until(DEADLINE, "the alert", || alerts(&mut client) == ["2|sink_failing|sink_failing:worm"]);
    std::fs::rename(&away, &publishing.directory).unwrap();
    mode(0o777);
    client.run("UPDATE zeroauth_audit_internal.sinks SET enabled = false; UPDATE zeroauth_audit_internal.sinks SET enabled = true");
    wait_until(DEADLINE, "the error", || {
        client.line("SELECT last_error FROM zeroauth_audit_internal.sinks").contains("others can write")
    });
    mode(0o755);
    publishing.wait_for(&["acme 15"]);
    wait_until(DEADLINE, "the alert to resolve", || alerts(&mut client).is_empty());
}

#[test]
fn red_team_b5_a_directory_that_was_emptied_is_told_and_filled_anew() {
    let publishing = publishing("publish_emptied", &[]);
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 9);
    publishing.wait_for(&["acme 10"]);
    for entry in std::fs::read_dir(&publishing.directory).unwrap() {
        let path = entry.unwrap().path();
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.unwrap();
    }
    client.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'zeroauth_audit worker'",
    );
    append(&mut client, "acme", 1);
    wait_until(3 * DEADLINE, "the alert", || {
        alerts(&mut client).contains(&"1|sink_emptied|sink_emptied:worm".to_owned())
    });
    publishing.wait_for(&["acme 11"]);
    // Once: what is there from then on is what was published anew.
    client.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'zeroauth_audit worker'",
    );
    append(&mut client, "acme", 1);
    publishing.wait_for(&["acme 12"]);
    assert_eq!(client.line("SELECT occurrences FROM audit_alerts WHERE kind = 'sink_emptied'"), "1");
    assert_eq!(publishing.judged(), "verified: every log only grew");
}

#[test]
fn nothing_leaves_before_every_synchronous_standby_has_it() {
    let publishing = publishing("publish_sync", &[]);
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 9);
    publishing.wait_for(&["acme 10"]);
    let standby = standby_of(&publishing.cluster, "publish_sync_standby");
    let names = "ALTER SYSTEM SET synchronous_standby_names = '*'";
    client.run(names);
    client.run("SELECT pg_reload_conf()");
    wait_until(DEADLINE, "the standby to be synchronous", || {
        client.line("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
    });
    append(&mut client, "acme", 5);
    publishing.wait_for(&["acme 15"]);
    standby.shut_down().unwrap();
    wait_until(DEADLINE, "the standby to be gone", || {
        client.line("SELECT count(*) FROM pg_stat_replication") == "0"
    });
    // Clients wait for it; this one does not, and the worker does neither: it signs, and holds back.
    client.run("SET synchronous_commit = local");
    append(&mut client, "acme", 5);
    wait_until(DEADLINE, "the checkpoint", || {
        client.line("SELECT tree_size FROM zeroauth_audit_internal.logs WHERE tenant_id = 'acme'") == "20"
    });
    let mut other = publishing.cluster.client();
    other.run("SET synchronous_commit = local; SELECT zeroauth_audit_internal.run_job('prune')");
    assert_eq!(publishing.newest(), ["acme 15"]);
    standby.start_again().unwrap();
    publishing.wait_for(&["acme 20"]);
}

#[test]
fn two_databases_cannot_sign_with_one_key() {
    let publishing = publishing("publish_one_key", &[]);
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 9);
    publishing.wait_for(&["acme 10"]);
    client.run("CREATE DATABASE other");
    let mut other = publishing.cluster.connect("postgres", "other").unwrap();
    other.run("CREATE EXTENSION zeroauth_audit");
    append(&mut other, "acme", 3);
    wait_until(DEADLINE, "the alert", || {
        other.lines("SELECT message FROM zeroauth_audit_internal.alerts WHERE kind = 'checkpoint_key'")
            == ["checkpoints cannot be signed: another database of this server signs with this key"]
    });
    assert_eq!(other.line("SELECT count(*) FROM audit_checkpoints"), "0");
}

#[test]
fn a_sink_that_a_dump_brings_is_not_used_before_somebody_enables_it() {
    let publishing = publishing("publish_dump", &[]);
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 9);
    publishing.wait_for(&["acme 10"]);
    wait_until(DEADLINE, "the record", || {
        client.line("SELECT published_to > 0 FROM zeroauth_audit_internal.sinks") == "t"
    });
    let dump = publishing.cluster.command("pg_dump").arg("audit").output().unwrap();
    client.run("CREATE DATABASE copy");
    let restored = publishing.cluster.psql("copy", &String::from_utf8(dump.stdout).unwrap()).unwrap();
    assert!(restored.status.success(), "{restored:?}");
    let mut copy = publishing.cluster.connect("postgres", "copy").unwrap();
    assert_eq!(copy.line("SELECT name, enabled FROM zeroauth_audit_internal.sinks"), "worm|f");
    assert_eq!(
        copy.line("SELECT zeroauth_audit_internal.health_log() -> 'reasons'"),
        r#"["checkpoints_not_published"]"#
    );
}
