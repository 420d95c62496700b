//! A copy of a database is not the original: nothing leaves it before a person has said what it is for.

use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::receiver::{Receiver, webhook};
use crate::support::sealed::{ORIGIN, folder, key_file, key_path};
use crate::support::worker::{watcher, worker_after};
use crate::support::{DEADLINE, Database, Sql, assert_whole, base_backup};

#[test]
fn pitfall_38_review_1_11_red_team_f2_a_database_made_from_a_template_signs_publishes_and_pages_nothing() {
    let cluster = Cluster::builder("copies_worker").conf("fsync", "off").start().unwrap();
    let home = folder(&cluster, "copies_sink");
    let key = key_path(&cluster);
    key_file(&key, ORIGIN, 91);
    let receiver = Receiver::start();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit");
    client.run(&format!("ALTER SYSTEM SET zeroauth_audit.checkpoint_key_file = '{}'", key.display()));
    client.run("SELECT pg_reload_conf()");
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 5)");
    client.run(&webhook(&cluster, "hook", receiver.address));
    client.run(&format!(
        "SELECT audit_sink_set('worm', 'directory', '{{\"directory\": \"{}\"}}')",
        home.display()
    ));
    wait_until(DEADLINE, "the trail to be published, and to know where it is", || {
        client.run("UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name IN ('tripwire', 'checkpoint') AND next_run > now()");
        client.line("SELECT (SELECT published_to > 0 FROM zeroauth_audit_internal.sinks) AND (SELECT database IS NOT NULL FROM zeroauth_audit_internal.drift_state)") == "t"
    });
    drop(client);
    let mut watcher = watcher(&cluster);
    watcher.run("CREATE DATABASE copy TEMPLATE audit");
    worker_after(&mut watcher, "copy", None);
    let mut copy = cluster.connect("postgres", "copy").unwrap();
    assert_eq!(
        copy.line("SELECT zeroauth_audit_internal.jobs_held(), zeroauth_audit_internal.copy_of()"),
        "copy|database audit"
    );
    assert_eq!(copy.line("SELECT h #>> '{database,state}', h #> '{database,reasons}', h #>> '{database,copy_of}' FROM audit_health() h"), r#"degraded|["database_copy"]|database audit"#);
    assert_eq!(
        copy.line("SELECT detail, hint FROM audit_status() WHERE part = 'database'"),
        "a copy of database audit|SELECT audit_copy_acknowledge('why it is here')"
    );
    // Something to page about, and to sign.
    let before = receiver.notices();
    copy.run("SELECT zeroauth_audit_internal.raise_alert('gap', 1::smallint, NULL, 'gap:copy', 'x', NULL)");
    copy.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'in the copy')");
    copy.run("UPDATE zeroauth_audit_internal.jobs SET next_run = now()");
    let tripwires = "SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'tripwire' AND status = 'succeeded'";
    let seen = copy.line(tripwires);
    wait_until(DEADLINE, "tripwires to look on", || copy.line(tripwires) != seen);
    assert_eq!(copy.line("SELECT max(tree_size) FROM zeroauth_audit_internal.logs"), "5");
    assert_eq!(
        copy.line(
            "SELECT state FROM zeroauth_audit_internal.alert_deliveries WHERE fingerprint = 'gap:copy'"
        ),
        "pending"
    );
    assert_eq!(receiver.notices(), before);
    copy.refused("ZA009", "SELECT audit_copy_acknowledge(' ')");
    assert_eq!(copy.line("SELECT audit_copy_acknowledge('a load test')"), "acknowledged");
    assert_eq!(copy.line("SELECT count(*) FILTER (WHERE enabled) FROM (SELECT enabled FROM audit_sinks UNION ALL SELECT enabled FROM audit_alert_routes UNION ALL SELECT enabled FROM audit_anchor_targets) e"), "0");
    assert_eq!(copy.line("SELECT zeroauth_audit_internal.jobs_held()"), "~");
    assert_eq!(
        copy.line(
            "SELECT details ->> 'copy_of', details ->> 'note' FROM audit_events WHERE action = 'trail.copied'"
        ),
        "database audit|a load test"
    );
    copy.refused("ZA009", "SELECT audit_copy_acknowledge('again')");
    assert_whole(&mut copy);
    // The original goes on as before.
    let mut client = cluster.client();
    assert_eq!(
        client.line("SELECT zeroauth_audit_internal.jobs_held(), zeroauth_audit_internal.copy_of()"),
        "~|~"
    );
}

#[test]
fn pitfall_38_a_base_backup_and_a_renamed_database_are_the_original() {
    let primary = Cluster::builder("copies_primary")
        .conf("fsync", "off")
        .conf("zeroauth_audit.worker", "off")
        .start()
        .unwrap();
    let mut client = primary.client();
    client.run("CREATE EXTENSION zeroauth_audit");
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    client.run("SELECT zeroauth_audit_internal.run_job('tripwire')");
    assert_eq!(client.line("SELECT database = (SELECT oid FROM pg_database WHERE datname = current_database()) FROM zeroauth_audit_internal.drift_state"), "t");
    let restored =
        Cluster::builder("copies_restored").data(&base_backup(&primary, &["-X", "stream"])).start().unwrap();
    assert_eq!(restored.client().line("SELECT zeroauth_audit_internal.copy_of()"), "~");
    drop(client);
    let mut postgres = primary.connect("postgres", "postgres").unwrap();
    postgres.run("ALTER DATABASE audit RENAME TO renamed");
    assert_eq!(
        primary.connect("postgres", "renamed").unwrap().line("SELECT zeroauth_audit_internal.copy_of()"),
        "~"
    );
}

#[test]
fn pitfall_38_a_template_without_events_makes_no_copies_and_files_with_another_identifier_do() {
    let database = Database::audited("copies_fresh");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    client.run("SELECT zeroauth_audit_internal.run_job('tripwire')");
    assert_eq!(client.line("SELECT zeroauth_audit_internal.copy_of()"), "~");
    // As pg_resetwal leaves it: another identifier, all else the same. pg_upgrade makes another extension.
    client.run("SET zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.drift_state SET cluster = cluster - 1");
    assert!(client.line("SELECT zeroauth_audit_internal.copy_of()").starts_with("server "));
    client.run("UPDATE zeroauth_audit_internal.drift_state SET extension = extension::bigint - 1");
    assert_eq!(client.line("SELECT zeroauth_audit_internal.copy_of()"), "~");
}
