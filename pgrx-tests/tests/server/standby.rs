//! A hot standby: everything that reads works there, and after a promotion the chains go on.

use std::time::Duration;

use zeroauth_audit_tests::{Cluster, wait_until};

use crate::dump::DIGEST;
use crate::support::{Sql, assert_whole, findings, promote, standby_of};

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn a_hot_standby_verifies_and_exports_and_goes_on_after_promotion() {
    let primary = Cluster::builder("primary").conf("fsync", "off").start().unwrap();
    let mut on_primary = primary.client();
    on_primary.run("CREATE EXTENSION zeroauth_audit");
    let mut holder = primary.client();
    holder.run("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'open')");
    on_primary.run("INSERT INTO audit_events (tenant_id, action, details) SELECT CASE WHEN i % 2 = 0 THEN 'acme' ELSE 'globex' END, 'x', to_jsonb(i) FROM generate_series(1, 20000) i");
    holder.run("COMMIT");

    let standby = standby_of(&primary, "standby");
    let mut on_standby = standby.client();
    assert_eq!(on_standby.line("SELECT pg_is_in_recovery()"), "t");
    wait_until(DEADLINE, "the standby to have replayed", || {
        on_primary.line(DIGEST) == on_standby.line(DIGEST)
    });
    assert_whole(&mut on_standby);
    assert_eq!(on_standby.line("SELECT ok, events, chains FROM audit_verify('acme')"), "t|10001|2");
    on_standby.run("SET max_parallel_workers_per_gather = 4; SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0");
    assert_eq!(on_standby.line("SELECT bool_and(ok), sum(events) FROM audit_verify()"), "t|20001");
    on_standby.run(
        "SELECT * FROM audit_progress(); SELECT * FROM audit_guards(); SELECT zeroauth_audit_internal.uuid_v7()",
    );
    on_standby.refused("25006", "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    on_standby.refused("ZA005", "SELECT * FROM audit_verify('nobody')");
    let refusal = on_standby.refused("25006", "SELECT * FROM audit_drill()");
    assert!(refusal.message.starts_with("audit_drill() "), "{refusal:?}");
    let refusal = on_standby.refused("ZA012", "SELECT audit_grant('app', 'writer')");
    assert_eq!(refusal.message, "this server is a standby");
    assert_eq!(on_standby.line("SELECT duty FROM audit_duties WHERE role = 'postgres'"), "owner");

    // What is tampered with at the primary is found at the standby.
    on_primary.run("SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'globex' AND seq = 4711");
    wait_until(DEADLINE, "the tampering to arrive", || !findings(&mut on_standby, "").is_empty());
    assert_eq!(
        on_standby.line("SELECT class, tenant_id, chain, seq FROM audit_findings()"),
        "content_mismatch|globex|0|4711"
    );
    on_primary.run("UPDATE audit_events SET action = 'x' WHERE tenant_id = 'globex' AND seq = 4711");
    wait_until(DEADLINE, "the repair to arrive", || findings(&mut on_standby, "").is_empty());

    primary.crash().unwrap();
    let mut promoted = standby.client();
    promote(&mut promoted);
    assert_eq!(promoted.line("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'after promotion') RETURNING chain = 0, seq > 1"), "t|t");
    // A session that was there before goes on too.
    on_standby
        .run("RESET ALL; INSERT INTO audit_events (tenant_id, action) VALUES ('globex', 'after promotion')");
    assert_whole(&mut promoted);
    assert_eq!(promoted.line("SELECT count(*) FROM audit_events"), "20003");
}
