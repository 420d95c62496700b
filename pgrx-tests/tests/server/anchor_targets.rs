//! Targets: what is refused, what a dump brings, and what nothing is anchored without.

use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::anchors::{Anchoring, run_job};
use crate::support::sealed::{ORIGIN, key_file, key_path};
use crate::support::worker::{watcher, worker_after};
use crate::support::{DEADLINE, Database, Sql, shared, succeed};

#[test]
fn a_configuration_that_the_driver_does_not_understand_is_refused_and_so_is_a_secret() {
    let database = Database::audited("anchor_config");
    let mut client = database.client();
    let insert = |driver: &str, config: &str| {
        format!(
            "INSERT INTO zeroauth_audit_internal.anchor_targets (name, driver, config) VALUES ('t', '{driver}', '{config}')"
        )
    };
    for (driver, config, message) in [
        ("file", r#"{"path": "relative"}"#, "has a path that is not absolute"),
        (
            "file",
            r#"{"key": "PRIVATE+KEY+x"}"#,
            r#"unknown field "key", expected one of "path", "key_file", "earlier_keys""#,
        ),
        ("evm", "{}", r#"missing field "chain_id""#),
        (
            "evm",
            r#"{"chain_id": 1, "contract": "0x5fbdb2315678afecb367f032d93f642f64180aa3", "rpc_url_files": ["/a"], "signer": {"kind": "raw", "key_file": "/k"}}"#,
            "names one endpoint only, and does not say allow_single_endpoint",
        ),
        (
            "rfc3161",
            r#"{"url": "https://tsa.example"}"#,
            r#"unknown field "url", expected one of "url_file", "authorities_file", "ca_file", "policy", "timeout_seconds""#,
        ),
    ] {
        let refusal = client.refused("ZA060", &insert(driver, config));
        assert_eq!(refusal.message, format!("anchor target \"t\": {message}"));
    }
    client.refused("ZA060", &insert("smtp", "{}"));
    client.refused(
        "23514",
        "INSERT INTO zeroauth_audit_internal.anchor_targets (name, driver) VALUES ('a b', 'file')",
    );
    client.run(r#"INSERT INTO zeroauth_audit_internal.anchor_targets (name, driver, config) VALUES ('t', 'file', '{"path": "/mnt/worm/anchors"}')"#);
    assert_eq!(
        client.line("SELECT enabled, enabled_since = registered_at, disabled_because IS NULL, last_epoch FROM zeroauth_audit_internal.anchor_targets WHERE name = 't'"),
        "t|t|t|0"
    );
    client.refused(
        "ZA060",
        r#"UPDATE zeroauth_audit_internal.anchor_targets SET config = '{"x": 1}' WHERE name = 't'"#,
    );
    // What has anchors stays where it is.
    client.run("SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.anchor_batches (target, epoch, origin, log_id, root, size, batch_time, machine) VALUES ('t', 1, 'o', sha256(''), sha256(''), 1, now(), '{}')");
    client.refused("ZA061", "DELETE FROM zeroauth_audit_internal.anchor_targets WHERE name = 't'");
    client.refused("ZA061", "UPDATE zeroauth_audit_internal.anchor_targets SET name = 'u' WHERE name = 't'");
    client
        .run(r#"UPDATE zeroauth_audit_internal.anchor_targets SET config = '{"path": "/mnt/moved/anchors"}' WHERE name = 't'"#);
    client.run("UPDATE zeroauth_audit_internal.anchor_targets SET enabled = false WHERE name = 't'");
    assert_eq!(
        client.lines("SELECT action, resource, severity FROM audit_events WHERE tenant_id = 'zeroauth_audit' ORDER BY seq"),
        ["anchor.target_disabled|t/0|high"]
    );
    client.run("DELETE FROM zeroauth_audit_internal.anchor_targets WHERE name = 'file'");
}

#[test]
fn a_copy_that_a_dump_made_never_anchors_until_somebody_says_so() {
    let (from, to) = (Database::audited("anchor_dump"), Database::empty("anchor_dump_to"));
    let mut client = from.client();
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    client.run(r#"UPDATE zeroauth_audit_internal.anchor_targets SET config = '{"path": "/mnt/worm/anchors"}', last_epoch = 7 WHERE name = 'file'"#);
    client.run(r#"INSERT INTO zeroauth_audit_internal.anchor_targets (name, driver, config) VALUES ('second', 'file', '{"path": "/mnt/worm/second"}')"#);
    client.run("SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.anchor_batches (target, epoch, origin, log_id, root, size, batch_time, machine, next_at) VALUES ('file', 7, 'o', sha256(''), sha256(''), 1, now(), '{}', now())");
    client.run("SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.tenant_status (tenant_id, state, since) VALUES ('acme', 'ok', now())");
    let dump = succeed(shared().command("pg_dump").arg(&from.name));
    let restored = shared().psql(&to.name, &dump).unwrap();
    assert!(restored.status.success(), "{}", restored.stderr);
    let mut copy = to.client();
    let rows = "SELECT name, config ->> 'path', enabled, enabled_since IS NULL, coalesce(disabled_because, '-'), last_epoch FROM zeroauth_audit_internal.anchor_targets ORDER BY name";
    assert_eq!(
        copy.lines(rows),
        ["file|/mnt/worm/anchors|f|t|restored|7", "second|/mnt/worm/second|f|t|restored|0"]
    );
    for table in ["zeroauth_audit_internal.anchor_batches", "zeroauth_audit_internal.tenant_status"] {
        let all = format!("SELECT t FROM {table} t");
        assert_eq!(copy.lines(&all), client.lines(&all), "{table}");
    }
    assert_eq!(
        copy.line("SELECT zeroauth_audit_internal.health_anchors() -> 'reasons'"),
        r#"["anchors_off", "anchor_target_disabled:file", "anchor_target_disabled:second"]"#
    );
    copy.run("UPDATE zeroauth_audit_internal.anchor_targets SET enabled = true");
    assert_eq!(copy.lines(rows)[0], "file|/mnt/worm/anchors|t|f|-|7");
}

#[test]
fn without_a_key_nothing_is_anchored_and_health_says_so() {
    let cluster = Cluster::builder("anchors_unsigned").start().unwrap();
    let mut client = cluster.client();
    client.run(
        "CREATE EXTENSION zeroauth_audit; UPDATE zeroauth_audit_internal.jobs SET schedule = '0 0 29 2 *'",
    );
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    worker_after(&mut watcher(&cluster), "audit", None);
    assert_eq!(run_job(&mut client, "anchor"), "succeeded|-|-");
    assert_eq!(client.line("SELECT count(*) FROM zeroauth_audit_internal.anchor_batches"), "0");
    let reasons = "SELECT state, reasons FROM jsonb_to_record(zeroauth_audit_internal.health_anchors()) h (state text, reasons jsonb)";
    assert_eq!(client.line(reasons), r#"degraded|["anchors_not_signed"]"#);
    key_file(&key_path(&cluster), ORIGIN, 7);
    client.run(&format!(
        "ALTER SYSTEM SET zeroauth_audit.checkpoint_key_file = '{}'",
        key_path(&cluster).display()
    ));
    client.run("SELECT pg_reload_conf()");
    assert_eq!(run_job(&mut client, "anchor"), "succeeded|-|-");
    wait_until(DEADLINE, "the anchor", || {
        client.lines("SELECT state FROM zeroauth_audit_internal.anchor_batches") == ["finalized"]
    });
    assert_eq!(client.line(reasons), "ok|[]");
}

#[test]
fn an_empty_database_plans_nothing_and_the_anchor_file_goes_where_it_is_set_to() {
    let mut server = Anchoring::start("anchors_place");
    let folder = crate::support::sealed::folder(&server.cluster, "worm");
    let (set, own) = (folder.join("set"), folder.join("own"));
    server.client.run(&format!("ALTER SYSTEM SET zeroauth_audit.anchor_file = '{}'", set.display()));
    server.client.run("SELECT pg_reload_conf()");
    server.client.run(&format!(
        "INSERT INTO zeroauth_audit_internal.anchor_targets (name, driver, config) VALUES ('own', 'file', '{{\"path\": \"{}\"}}')",
        own.display()
    ));
    server.client.run("UPDATE zeroauth_audit_internal.anchor_targets SET enabled = false WHERE name = 'file'; UPDATE zeroauth_audit_internal.anchor_targets SET enabled = true WHERE name = 'file'");
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    server.wait("file", "finalized");
    server.wait("own", "finalized");
    assert!(set.exists() && own.exists());
    assert!(!server.cluster.data_dir().join("zeroauth_audit_anchors").exists());
    assert_eq!(
        server
            .client
            .line("SELECT count(DISTINCT root), count(*) FROM zeroauth_audit_internal.anchor_batches"),
        "1|2",
        "one root for both"
    );
    // Nothing to anchor: a database of its own without events.
    let mut postgres = server.cluster.connect("postgres", "postgres").unwrap();
    postgres.run("CREATE DATABASE nothing");
    let mut client = server.cluster.connect("postgres", "nothing").unwrap();
    client.run("CREATE EXTENSION zeroauth_audit");
    assert_eq!(
        client.line("SELECT r ->> 'status', r -> 'summary' FROM zeroauth_audit_internal.run_job('anchor') r"),
        r#"succeeded|{"batches": 0, "entries": 0, "unlinked": 0}"#
    );
    assert_eq!(client.line("SELECT count(*) FROM zeroauth_audit_internal.anchor_batches"), "0");
}
