//! `audit_integrity()` and `audit_progress()`: what they say, to whom, at what price.

use crate::drift::drift;
use crate::support::{Database, Sql};
use crate::tamper::trail;

#[test]
fn a_tenant_is_unchecked_then_ok_then_tampered() {
    let (_database, mut client) = trail("integrity_states");
    let state = "SELECT tenant_id, state, reasons, events, open_alerts, history FROM audit_integrity()";
    assert_eq!(
        client.lines(state),
        ["acme|unchecked|{never_checked}|30|0|0.0000", "globex|unchecked|{never_checked}|30|0|0.0000"]
    );
    drift(&mut client);
    assert_eq!(client.lines(state), ["acme|ok|{}|30|0|1.0000", "globex|ok|{}|30|0|1.0000"]);
    assert_eq!(
        client.line("SELECT last_event_at = (SELECT max(recorded_at) FROM audit_events WHERE tenant_id = 'acme'), checked_at > last_event_at FROM audit_integrity('acme')"),
        "t|t"
    );
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    assert_eq!(client.line("SELECT state, events FROM audit_integrity('acme')"), "ok|31");
    client.run("DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 1; UPDATE audit_events SET action = 'y' WHERE tenant_id = 'acme' AND chain = 2 AND seq = 4");
    drift(&mut client);
    assert_eq!(
        client.line("SELECT state, reasons, events, open_alerts FROM audit_integrity('acme')"),
        "tampered|{chain_missing,content_mismatch}|21|2"
    );
    assert_eq!(client.line("SELECT state FROM audit_integrity('globex')"), "ok");
    assert_eq!(
        client.lines("SELECT tenant_id, state FROM audit_integrity()"),
        ["acme|tampered", "zeroauth_audit|unchecked", "globex|ok"],
        "the worst first"
    );
    // The extension's own trail is one like the others.
    assert_eq!(client.line("SELECT state, events FROM audit_integrity('zeroauth_audit')"), "unchecked|2");
    // Nobody looked for a long time.
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.tenants SET checked_at = checked_at - interval '3 hours'");
    assert_eq!(
        client.line("SELECT state, reasons FROM audit_integrity('globex')"),
        "unchecked|{checked_long_ago}"
    );
    // A whole tenant that is gone is still shown.
    client.run("DELETE FROM audit_events WHERE tenant_id = 'globex'");
    drift(&mut client);
    assert_eq!(
        client.line("SELECT state, reasons, events, history FROM audit_integrity('globex')"),
        "tampered|{tenant_missing}|0|~"
    );
    let refusal = client.refused("ZA005", "SELECT * FROM audit_integrity('acne')");
    assert_eq!(refusal.message, "no events of tenant \"acne\"");
}

#[test]
fn whoever_may_call_it_needs_nothing_else_and_no_policy_hides_a_tenant_from_it() {
    let database = Database::audited("integrity_roles");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    let mut auditor = database.client_as(&database.on_duty("auditor"));
    let mut nobody = database.client_as(&database.role("nobody"));
    assert_eq!(auditor.lines("SELECT * FROM audit_progress()"), [] as [&str; 0]);
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.drift_state SET phase = 'recent', tenants_done = 1, tenants_total = 8, pass_done = 10, pass_total = 30, pass_started_at = now()");
    assert_eq!(
        auditor.lines("SELECT pid, what, tenant_id, done, total, percent FROM audit_progress()"),
        ["~|drift: newest events of tenants|~|1|8|12.5", "~|drift: all history|~|10|30|33.3"]
    );
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.drift_state SET phase = 'idle', pass_started_at = NULL");
    drift(&mut client);
    assert_eq!(auditor.line("SELECT tenant_id, state FROM audit_integrity('acme')"), "acme|ok");
    for sql in ["SELECT * FROM audit_integrity()", "SELECT * FROM audit_progress()"] {
        nobody.refused("42501", sql);
    }
    for sql in [
        "SELECT zeroauth_audit_internal.job_drift()",
        "SELECT * FROM zeroauth_audit_internal.tenants",
        "UPDATE zeroauth_audit_internal.tenants SET drift_rows = 1",
        "DELETE FROM zeroauth_audit_internal.watermarks",
        "SELECT zeroauth_audit_internal.replay_tenants('', NULL, NULL, 1, true, 1)",
        "SELECT * FROM audit_events",
    ] {
        nobody.refused("42501", sql);
        auditor.refused("42501", sql);
    }
    // It reads as the owner, so that a policy about the auditor makes no trail look shorter.
    client.run("ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY");
    assert_eq!(auditor.line("SELECT tenant_id, state FROM audit_integrity('acme')"), "acme|ok");
}

#[test]
fn it_works_in_another_schema_and_in_a_session_that_has_loaded_nothing() {
    let database = Database::empty("integrity_schema");
    let mut client = database.client();
    client.run("CREATE SCHEMA \"Odd schema\"; CREATE EXTENSION zeroauth_audit SCHEMA \"Odd schema\"; INSERT INTO \"Odd schema\".audit_events (tenant_id, action) VALUES ('acme', 'x')");
    let mut client = database.client();
    assert_eq!(client.line("SELECT state FROM \"Odd schema\".audit_integrity()"), "unchecked");
    assert_eq!(client.line("SELECT zeroauth_audit_internal.run_job('drift') ->> 'status'"), "succeeded");
    assert_eq!(client.line("SELECT state FROM \"Odd schema\".audit_integrity()"), "ok");
}
