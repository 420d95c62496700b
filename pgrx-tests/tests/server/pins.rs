//! Pinned files: the server does not start with one that is not what it was, if told so, and says why; a later change is an alert.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use zeroauth_audit_tests::{Cluster, wait_until};
use zeroauth_audit_tripwire::sha256_hex;

use crate::support::worker::{watcher, worker_after};
use crate::support::{DEADLINE, Sql, base_backup, succeed};

/// Jobs begin with the first event.
const AUDITED: &str =
    "CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'first')";

/// A folder that the server can read.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

/// In one step: whoever reads it at the same time reads the one or the other.
fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    write(&new, content);
    fs::rename(new, path).unwrap();
}

fn key(folder: &TempDir) -> PathBuf {
    let key = folder.path().join("verification_key.json");
    write(&key, "{\"vk\": 1}");
    key
}

fn pin(path: &Path, content: &str) -> String {
    format!("{}={}", path.display(), sha256_hex(content.as_bytes()))
}

/// What the documented pipeline says of a folder.
fn digest_of(folder: &Path) -> String {
    let pipeline = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum -z | sha256sum";
    succeed(Command::new("sh").args(["-c", pipeline]).current_dir(folder))[..64].to_owned()
}

fn configure(cluster: &Cluster, line: &str) {
    let path = cluster.data_dir().join("postgresql.conf");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{line}\n")).unwrap();
}

const UNRESOLVED: &str = "SELECT kind, severity, state, message FROM zeroauth_audit_internal.alerts WHERE kind LIKE 'pin%' AND state <> 'resolved' ORDER BY id";

#[test]
fn with_refuse_the_server_does_not_start_on_a_changed_file_and_says_why_in_one_line() {
    let folder = folder();
    let key = key(&folder);
    let cluster = Cluster::builder("pins_refuse")
        .conf("fsync", "off")
        .conf("zeroauth_audit.pinned_files", &pin(&key, "{\"vk\": 1}"))
        .conf("zeroauth_audit.pin_failure", "refuse")
        .start()
        .unwrap();
    cluster.client().run(AUDITED);
    cluster.restart().unwrap();
    cluster.shut_down().unwrap();
    write(&key, "{\"vk\": 2}");
    assert!(cluster.start_again().is_err());
    let found = sha256_hex(b"{\"vk\": 2}");
    let line = format!(
        "ZA040 FATAL:  pinned file \"{}\" is not what it was: expected SHA-256 {}, found {found}\n",
        key.display(),
        sha256_hex(b"{\"vk\": 1}")
    );
    let log = cluster.log();
    assert!(log.contains(&line), "{log}");
    assert!(
        log.contains(
            "HINT:  Find out who changed the file and restore it, or correct zeroauth_audit.pinned_files."
        ),
        "{log}"
    );
    // A file that is gone, or that the server may not read, is as bad.
    fs::remove_file(&key).unwrap();
    assert!(cluster.start_again().is_err());
    assert!(
        cluster.log().contains("cannot be read: No such file or directory (os error 2); expected SHA-256 ")
    );
    // As the hint says: it starts with the other setting, says so in the log, and people are told.
    configure(&cluster, "zeroauth_audit.pin_failure = alert");
    cluster.start_again().unwrap();
    let mut client = cluster.client();
    wait_until(DEADLINE, "the alert", || client.lines(UNRESOLVED).len() == 1);
    assert_eq!(
        client.lines(UNRESOLVED),
        [format!(
            "pin_mismatch|1|open|pinned file \"{}\" cannot be read: No such file or directory (os error 2)",
            key.display()
        )]
    );
    write(&key, "{\"vk\": 1}");
    client.run("SELECT zeroauth_audit_internal.run_job('pins'); SELECT audit_alert_acknowledge(id, 'restored') FROM zeroauth_audit_internal.alerts");
    assert_eq!(client.lines(UNRESOLVED), [] as [&str; 0]);
    configure(&cluster, "zeroauth_audit.pin_failure = refuse");
    cluster.restart().unwrap();
}

#[test]
fn a_change_while_the_server_runs_is_an_alert_of_its_own_each_time() {
    let folder = folder();
    let key = key(&folder);
    let cluster = Cluster::builder("pins_change")
        .conf("fsync", "off")
        .conf("zeroauth_audit.pinned_files", &pin(&key, "{\"vk\": 1}"))
        .start()
        .unwrap();
    let mut client = cluster.client();
    client.run(AUDITED);
    let mut watcher = watcher(&cluster);
    worker_after(&mut watcher, "audit", None);
    assert_eq!(client.line("SELECT schedule, next_run <= clock_timestamp() + interval '5 minutes' FROM zeroauth_audit_internal.jobs WHERE name = 'pins'"), "*/5 * * * *|t");
    assert_eq!(
        client.line("SELECT h ->> 'state', h -> 'pinned' FROM zeroauth_audit_internal.health_pins() h"),
        "ok|1"
    );
    let due = "UPDATE zeroauth_audit_internal.jobs SET next_run = clock_timestamp() WHERE name = 'pins'";
    for (n, content) in ["{\"vk\": 2}", "{\"vk\": 3}"].into_iter().enumerate() {
        replace(&key, content);
        client.run(due);
        wait_until(DEADLINE, "the alert", || client.lines(UNRESOLVED).len() == n + 1);
    }
    assert_eq!(
        client.line(
            "SELECT h ->> 'state', h -> 'reasons', h -> 'wrong' FROM zeroauth_audit_internal.health_pins() h"
        ),
        r#"failing|["pin_mismatch"]|1"#
    );
    assert_eq!(
        client.line(&format!("SELECT evidence = jsonb_build_object('path', '{}', 'expected', '{}', 'found', '{}', 'problem', 'changed') FROM zeroauth_audit_internal.alerts WHERE kind LIKE 'pin%' ORDER BY id LIMIT 1",
            key.display(), sha256_hex(b"{\"vk\": 1}"), sha256_hex(b"{\"vk\": 2}"))),
        "t"
    );
    replace(&key, "{\"vk\": 1}");
    client.run(due);
    wait_until(DEADLINE, "the health", || {
        client.line("SELECT h ->> 'state' FROM zeroauth_audit_internal.health_pins() h") == "ok"
    });
    // What the server knows of its files is there before the transaction with the alerts has ended.
    wait_until(DEADLINE, "both conditions to be gone", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE kind LIKE 'pin%' AND state = 'open' AND condition_gone_at IS NOT NULL") == "2"
    });
}

#[test]
fn a_folder_is_pinned_by_the_names_and_contents_of_its_files() {
    let folder = folder();
    let keys = folder.path().join("keys, and \"more\"");
    let inner = keys.join("inner");
    fs::create_dir_all(&inner).unwrap();
    write(&keys.join("a"), "a");
    write(&inner.join("b\nc"), "b");
    let quoted = keys.display().to_string().replace('"', "\"\"");
    let cluster = Cluster::builder("pins_folder")
        .conf("fsync", "off")
        .conf("zeroauth_audit.worker", "off")
        .conf("zeroauth_audit.pinned_files", &format!("\"{quoted}\" = {}", digest_of(&keys)))
        .conf("zeroauth_audit.pin_failure", "refuse")
        .start()
        .unwrap();
    let mut client = cluster.client();
    client.run(AUDITED);
    let problem = "SELECT coalesce(problem, 'none') FROM audit_verify_pins()";
    assert_eq!(client.line(problem), "none");
    fs::create_dir(keys.join("empty")).unwrap();
    assert_eq!(client.line(problem), "none");
    let change = |client: &mut postgres::Client, does: &dyn Fn(), undoes: &dyn Fn(), says: &str| {
        does();
        assert_eq!(client.line(problem), says);
        undoes();
        assert_eq!(client.line(problem), "none");
    };
    let (a, b) = (keys.join("a"), keys.join("b"));
    change(&mut client, &|| write(&a, "x"), &|| write(&a, "a"), "changed");
    change(&mut client, &|| fs::rename(&a, &b).unwrap(), &|| fs::rename(&b, &a).unwrap(), "changed");
    change(&mut client, &|| write(&b, ""), &|| fs::remove_file(&b).unwrap(), "changed");
    change(
        &mut client,
        &|| std::os::unix::fs::symlink("/etc/passwd", &b).unwrap(),
        &|| fs::remove_file(&b).unwrap(),
        "it holds ./b, which is neither a file nor a folder",
    );
}

#[test]
fn a_setting_that_cannot_be_read_is_refused_and_pins_change_only_with_a_restart() {
    for (setting, reason) in [
        ("/etc/passwd", "\"/etc/passwd\" is not a path, =, and a digest"),
        ("/etc/passwd=12", "the digest of \"/etc/passwd\" is not 64 hexadecimal digits"),
        (&format!("etc/passwd={}", "0".repeat(64)), "\"etc/passwd\" is not an absolute path"),
    ] {
        let refused = Cluster::builder("pins_malformed").conf("zeroauth_audit.pinned_files", setting).start();
        let message = format!("{:#}", refused.expect_err(setting));
        assert!(
            message.contains(&format!("ZA041 FATAL:  zeroauth_audit.pinned_files cannot be read: {reason}")),
            "{message}"
        );
        assert!(message.contains("HINT:  It is a list of /absolute/path=sha256"), "{message}");
    }
    let refused = Cluster::builder("pins_malformed").conf("zeroauth_audit.pin_failure", "ignore").start();
    assert!(
        format!("{:#}", refused.unwrap_err())
            .contains("ZA041 FATAL:  zeroauth_audit.pin_failure is \"ignore\", neither refuse nor alert")
    );
    let cluster = Cluster::builder("pins_none")
        .conf("fsync", "off")
        .conf("zeroauth_audit.worker", "off")
        .start()
        .unwrap();
    let mut client = cluster.client();
    client.run(&format!("{AUDITED}; CREATE ROLE somebody LOGIN"));
    client.refused("55P02", "SET zeroauth_audit.pinned_files = ''");
    client.refused("55P02", "SET zeroauth_audit.pin_failure = 'alert'");
    assert_eq!(client.line("SHOW zeroauth_audit.pin_failure"), "alert");
    assert_eq!(
        client.line("SELECT h ->> 'state', h -> 'pinned' FROM zeroauth_audit_internal.health_pins() h"),
        "ok|0"
    );
    cluster.connect("somebody", "audit").unwrap().refused("42501", "SHOW zeroauth_audit.pinned_files");
}

#[test]
fn a_standby_refuses_too_and_says_what_is_pinned_where_it_runs() {
    let folder = folder();
    let key = key(&folder);
    let primary = Cluster::builder("pins_primary")
        .conf("fsync", "off")
        .conf("zeroauth_audit.pinned_files", &pin(&key, "{\"vk\": 1}"))
        .conf("zeroauth_audit.pin_failure", "refuse")
        .start()
        .unwrap();
    primary.client().run(AUDITED);
    let backup = base_backup(&primary, &["-X", "stream", "-R"]);
    write(&key, "{\"vk\": 2}");
    // On the file system of the clusters: a cluster takes its data over by renaming them.
    let kept = backup.with_extension("kept");
    succeed(Command::new("cp").arg("-a").arg(&backup).arg(&kept));
    let refused = Cluster::builder("pins_standby").data(&backup).start();
    let message = format!("{:#}", refused.expect_err("a wrong pin"));
    assert!(message.contains("ZA040 FATAL:  pinned file"), "{message}");
    write(&key, "{\"vk\": 1}");
    let standby = Cluster::builder("pins_standby").data(&kept).start().unwrap();
    assert_eq!(
        standby.client().line(
            "SELECT h ->> 'state', h -> 'reasons', h -> 'pinned' FROM zeroauth_audit_internal.health_pins() h"
        ),
        "ok|[]|1"
    );
    standby.shut_down().unwrap();
    write(&key, "{\"vk\": 2}");
    configure(&standby, "zeroauth_audit.pin_failure = alert");
    standby.start_again().unwrap();
    assert_eq!(
        standby
            .client()
            .line("SELECT h ->> 'state', h -> 'reasons' FROM zeroauth_audit_internal.health_pins() h"),
        r#"failing|["pin_mismatch"]"#
    );
    assert!(standby.log().contains("WARNING:  pinned file"), "{}", standby.log());
}
