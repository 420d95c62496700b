//! The job drift and what was sealed: a superuser who also sets the watermarks is found by the log.

use postgres::Client;

use crate::drift::{alerts, drift};
use crate::log_tamper::{RECOMPUTE, sealed};
use crate::support::Sql;

/// What the job drift remembers, set to what is there now.
const FORGET: &str = "SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM zeroauth_audit_internal.watermarks; DELETE FROM zeroauth_audit_internal.tenants";

fn integrity(client: &mut Client, tenant: &str) -> String {
    client.line(&format!("SELECT state, reasons FROM audit_integrity('{tenant}')"))
}

#[test]
fn pitfall_15_16_17_18_27_drift_misses_what_was_sealed_whatever_its_memory_says() {
    let (_cluster, mut client) = sealed("drift_log");
    client.run(RECOMPUTE);
    drift(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
    for (tampering, tenant, alert, message) in [
        (
            "DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 0 AND seq > 599",
            "acme",
            "tail_truncated:acme:0",
            "the newest events of chain 0 of tenant \"acme\" are gone: 1, from seq 600 on",
        ),
        (
            "DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 1",
            "acme",
            "chain_missing:acme:1",
            "chain 1 of tenant \"acme\" is gone: 200 events",
        ),
        (
            "DELETE FROM audit_events WHERE tenant_id = 'globex'",
            "globex",
            "tenant_missing:globex:",
            "the whole trail of tenant \"globex\" is gone: 200 events",
        ),
        (
            "UPDATE audit_events SET outcome = 'failure' WHERE tenant_id = 'acme' AND chain = 1 AND seq = 150; SELECT recompute('acme', 1::smallint, 150)",
            "acme",
            "checkpoint_mismatch:acme:1",
            "events of chain 1 of tenant \"acme\", or its log, are not what was sealed, at seq 150 first",
        ),
        (
            "SET LOCAL zeroauth_audit.maintenance = on; UPDATE audit_events SET outcome = 'failure' WHERE tenant_id = 'globex' AND seq = 7; SELECT recompute('globex', 0::smallint, 7); UPDATE zeroauth_audit_internal.tiles SET hashes = (SELECT string_agg(sha256('\\x00' || event_hash), '' ORDER BY seq) FROM audit_events WHERE tenant_id = 'globex') WHERE tenant_id = 'globex'",
            "globex",
            "checkpoint_mismatch:globex:0",
            "events of chain 0 of tenant \"globex\", or its log, are not what was sealed, at seq 200 first",
        ),
        (
            "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.registry_entries SET root = sha256('x') WHERE tenant_id = 'globex'",
            "globex",
            "checkpoint_mismatch:globex:",
            "the log of tenant \"globex\" is not what was sealed",
        ),
    ] {
        client.run("BEGIN; SET LOCAL zeroauth_audit.maintenance = on");
        client.run(tampering);
        client.run(FORGET);
        drift(&mut client);
        assert_eq!(alerts(&mut client), [alert], "{tampering}");
        assert_eq!(
            client.line("SELECT severity, tenant, message, evidence ->> 'source' FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved'"),
            format!("1|{tenant}|{message}|log")
        );
        let class = alert.split(':').next().unwrap();
        assert_eq!(integrity(&mut client, tenant), format!("tampered|{{{class}}}"));
        assert_eq!(
            client.line(&format!(
                "SELECT count(*) FROM audit_integrity() WHERE state = 'tampered' AND tenant_id <> '{tenant}'"
            )),
            "0"
        );
        client.run("ROLLBACK");
    }
    drift(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
}

#[test]
fn what_the_log_misses_is_one_alert_that_ends_when_it_is_back() {
    let (_cluster, mut client) = sealed("drift_log_back");
    drift(&mut client);
    client.run("SET zeroauth_audit.maintenance = on; CREATE TABLE kept AS SELECT * FROM audit_events WHERE tenant_id = 'globex' AND seq > 190; DELETE FROM audit_events WHERE tenant_id = 'globex' AND seq > 190");
    for _ in 0..2 {
        drift(&mut client);
        // The watermark and the log miss the same: one alert.
        assert_eq!(alerts(&mut client), ["tail_truncated:globex:0"]);
        assert_eq!(
            client.lines(
                "SELECT source, events, suspected FROM zeroauth_audit_internal.drift_findings ORDER BY 1"
            ),
            ["log|10|f", "memory|10|f"]
        );
    }
    client.run("ALTER TABLE audit_events DISABLE TRIGGER ALL; INSERT INTO audit_events SELECT * FROM kept; ALTER TABLE audit_events ENABLE TRIGGER ALL; ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zzz_zeroauth_audit_chain");
    drift(&mut client);
    client.run("SELECT audit_alert_acknowledge(id, 'put back') FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved'");
    drift(&mut client);
    assert_eq!(client.lines("SELECT source FROM zeroauth_audit_internal.drift_findings"), [] as [&str; 0]);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
    assert_eq!(integrity(&mut client, "globex"), "ok|{}");
}

#[test]
fn a_known_loss_is_acknowledged_and_a_new_log_begins() {
    let (_cluster, mut client) = sealed("drift_log_known");
    drift(&mut client);
    client.refused("ZA052", "SELECT audit_restore_acknowledge('nothing was lost')");
    client.run("SET zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE tenant_id = 'globex' AND seq > 190; RESET zeroauth_audit.maintenance");
    drift(&mut client);
    assert_eq!(
        client.line("SELECT audit_restore_acknowledge('one table restored from the dump of Monday')"),
        "1"
    );
    client.refused("ZA052", "SELECT audit_restore_acknowledge('again')");
    assert_eq!(
        client.line("SELECT seq, details ->> 'note', details ->> 'lost', details #>> '{ended,tree_size}' FROM audit_events WHERE tenant_id = 'globex' AND action = 'log.restored'"),
        "191|one table restored from the dump of Monday|10|200"
    );
    client.run("SELECT audit_alert_acknowledge(id, 'known') FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved'; SELECT zeroauth_audit_internal.resolve_alert(fingerprint, 'known') FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved'");
    for _ in 0..2 {
        client.run("SELECT zeroauth_audit_internal.run_job('checkpoint')");
        drift(&mut client);
        assert_eq!(alerts(&mut client), [] as [&str; 0]);
        assert_eq!(integrity(&mut client, "globex"), "ok|{}");
        assert_eq!(client.line("SELECT ok FROM audit_verify('globex')"), "t");
    }
    assert_eq!(
        client.lines("SELECT epoch, state, tree_size FROM zeroauth_audit_internal.logs WHERE tenant_id = 'globex' ORDER BY 1"),
        ["0|ended|200", "1|open|191"]
    );
}

#[test]
fn a_log_that_cannot_be_read_is_a_failed_run_and_keeps_no_event_from_being_checked() {
    let (_cluster, mut client) = sealed("drift_log_broken");
    drift(&mut client);
    let toast = client.line(
        "SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 'zeroauth_audit_internal.tiles'::regclass",
    );
    client.run(&format!("CREATE EXTENSION pg_surgery; SELECT heap_force_kill('{toast}'::regclass, ARRAY(SELECT ctid FROM {toast}))"));
    client.run("SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'acme' AND chain = 0 AND seq = 5");
    let run = client.line(
        "SELECT r ->> 'status', r ->> 'code', r ->> 'error' FROM zeroauth_audit_internal.run_job('drift') r",
    );
    assert!(
        run.starts_with("failed|ZA006|could not check 2 places: tenant \"acme\": what was sealed: XX00"),
        "{run}"
    );
    assert_eq!(alerts(&mut client), ["content_mismatch:acme:0"]);
    assert_eq!(integrity(&mut client, "acme"), "tampered|{content_mismatch,could_not_check}");
    assert_eq!(integrity(&mut client, "globex"), "unchecked|{could_not_check}");
}

#[test]
fn a_dump_that_is_not_all_there_is_incomplete_and_no_alert_of_drift() {
    let (_cluster, mut client) = sealed("drift_log_dump");
    drift(&mut client);
    // As after a restore: another trail, and watermarks of events that are not there yet.
    client.run("SET zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.drift_state SET trail = gen_random_uuid(); CREATE TABLE kept AS SELECT * FROM audit_events WHERE tenant_id = 'globex' AND seq > 190; DELETE FROM audit_events WHERE tenant_id = 'globex' AND seq > 190");
    drift(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
    assert_eq!(integrity(&mut client, "globex"), "incomplete|{restored_incomplete}");
    assert_eq!(integrity(&mut client, "acme"), "ok|{}");
    client.run("ALTER TABLE audit_events DISABLE TRIGGER ALL; INSERT INTO audit_events SELECT * FROM kept; ALTER TABLE audit_events ENABLE TRIGGER ALL; ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zzz_zeroauth_audit_chain");
    drift(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
    assert_eq!(integrity(&mut client, "globex"), "ok|{}");
    // Who makes a tenant look like that hides nothing that was rewritten.
    client.run(RECOMPUTE);
    client.run("UPDATE audit_events SET outcome = 'failure' WHERE tenant_id = 'acme' AND chain = 1 AND seq = 150; SELECT recompute('acme', 1::smallint, 150)");
    client.run(FORGET);
    client.run("SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.watermarks (tenant_id, chain, trail, head_seq, head_hash, verified_at, verified_from) VALUES ('acme', 0, gen_random_uuid(), 1000000, sha256('x'), now(), 1)");
    drift(&mut client);
    assert_eq!(alerts(&mut client), ["checkpoint_mismatch:acme:1"]);
    assert_eq!(integrity(&mut client, "acme"), "tampered|{checkpoint_mismatch,restored_incomplete}");
}

#[test]
fn what_a_sink_or_an_anchor_disagrees_with_is_tampered() {
    let (_cluster, mut client) = sealed("drift_log_outside");
    drift(&mut client);
    assert_eq!(integrity(&mut client, "globex"), "ok|{}");
    for (set, reason) in [
        (
            "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.logs SET state = 'held', known_by = 'folder', known_size = tree_size, known_root = sha256('x') WHERE tenant_id = 'globex'",
            "checkpoint_mismatch",
        ),
        (
            "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.logs SET state = 'held', known_by = 'folder', known_size = tree_size + 1 WHERE tenant_id = 'globex'",
            "tail_truncated",
        ),
        (
            "SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.anchor_findings (kind, source, tenant_id, target, batch, detail) VALUES ('anchor_mismatch', 'events', 'globex', '', 0, 'x')",
            "anchor_mismatch",
        ),
    ] {
        client.run("BEGIN; SET LOCAL zeroauth_audit.maintenance = on");
        client.run(set);
        assert_eq!(integrity(&mut client, "globex"), format!("tampered|{{{reason}}}"));
        // The jobs that asked have told of it: drift does not tell again.
        drift(&mut client);
        assert_eq!(alerts(&mut client), [] as [&str; 0]);
        assert_eq!(integrity(&mut client, "globex"), format!("tampered|{{{reason}}}"));
        assert_eq!(integrity(&mut client, "acme"), "ok|{}");
        assert_eq!(client.line("SELECT ok, classes FROM audit_verify('globex')"), format!("f|{{{reason}}}"));
        client.run("ROLLBACK");
    }
}
