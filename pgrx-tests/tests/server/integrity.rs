//! `audit_integrity()` and `drift_progress`: what they say, to whom, at what price.

use crate::drift::drift;
use crate::roles::grants;
use crate::support::{Database, Sql, quoted};
use crate::tamper::trail;

#[test]
fn a_tenant_is_unchecked_then_ok_then_tampered() {
    let (_database, mut client) = trail("integrity_states");
    let state = "SELECT tenant_id, state, reasons, events, chains, open_findings, open_alerts, history_share FROM audit_integrity() ORDER BY 1";
    assert_eq!(
        client.lines(state),
        [
            "acme|unchecked|{never_checked}|30|3|0|0|0.0000",
            "globex|unchecked|{never_checked}|30|3|0|0|0.0000"
        ]
    );
    drift(&mut client);
    assert_eq!(client.lines(state), ["acme|ok|{}|30|3|0|0|1.0000", "globex|ok|{}|30|3|0|0|1.0000"]);
    assert_eq!(
        client.line("SELECT last_event_at = (SELECT max(recorded_at) FROM audit_events WHERE tenant_id = 'acme'), verified_up_to = last_event_at, last_drift_at > last_event_at FROM audit_integrity('acme')"),
        "t|t|t"
    );
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    assert_eq!(
        client.line("SELECT state, verified_up_to < last_event_at, events FROM audit_integrity('acme')"),
        "ok|t|31"
    );
    client.run("DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 1; UPDATE audit_events SET action = 'y' WHERE tenant_id = 'acme' AND chain = 2 AND seq = 4");
    drift(&mut client);
    assert_eq!(
        client.line(
            "SELECT state, reasons, events, chains, open_findings, open_alerts FROM audit_integrity('acme')"
        ),
        "tampered|{chain_missing,content_mismatch}|21|2|2|2"
    );
    assert_eq!(client.line("SELECT state FROM audit_integrity('globex')"), "ok");
    // The extension's own trail is one like the others.
    assert_eq!(client.line("SELECT state, events FROM audit_integrity('zeroauth_audit')"), "unchecked|2");
    // Nobody looked for a long time.
    client.run("UPDATE zeroauth_audit_internal.tenants SET checked_at = checked_at - interval '3 hours'");
    assert_eq!(
        client.line("SELECT state, reasons FROM audit_integrity('globex')"),
        "unchecked|{checked_long_ago}"
    );
    // A whole tenant that is gone is still shown.
    client.run("DELETE FROM audit_events WHERE tenant_id = 'globex'");
    drift(&mut client);
    assert_eq!(
        client.line("SELECT state, reasons, events, chains, history_share FROM audit_integrity('globex')"),
        "tampered|{tenant_missing}|0|0|~"
    );
    let refusal = client.refused("ZA005", "SELECT * FROM audit_integrity('acne')");
    assert_eq!(refusal.message, "no events of tenant \"acne\"");
}

#[test]
fn an_auditor_may_ask_with_the_documented_grants_and_nobody_else() {
    let database = Database::audited("integrity_roles");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    drift(&mut client);
    let auditor = format!("{}_auditor", database.name);
    client.run(&grants(3, "auditor", &auditor));
    client.run(&format!("ALTER ROLE {} LOGIN", quoted(&auditor)));
    let nobody = database.role("nobody");
    let (mut auditor, mut nobody) = (database.client_as(&auditor), database.client_as(&nobody));
    assert_eq!(auditor.line("SELECT tenant_id, state FROM audit_integrity()"), "acme|ok");
    assert_eq!(
        auditor.line("SELECT phase, tenants_done FROM zeroauth_audit_internal.drift_progress"),
        "idle|1"
    );
    for sql in [
        "SELECT * FROM audit_integrity()",
        "SELECT * FROM zeroauth_audit_internal.drift_progress",
        "SELECT zeroauth_audit_internal.job_drift()",
        "SELECT * FROM zeroauth_audit_internal.tenants",
    ] {
        nobody.refused("42501", sql);
    }
    for sql in [
        "SELECT zeroauth_audit_internal.job_drift()",
        "UPDATE zeroauth_audit_internal.tenants SET drift_rows = 1",
        "DELETE FROM zeroauth_audit_internal.watermarks",
        "SELECT zeroauth_audit_internal.replay_tenants('', NULL, NULL, 1, true, 1)",
    ] {
        auditor.refused("42501", sql);
    }
    // Rows that a policy hides would look like a shorter trail.
    client.run("ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY");
    auditor.refused("ZA006", "SELECT * FROM audit_integrity()");
}

#[test]
fn it_works_in_another_schema_and_in_a_session_that_has_loaded_nothing() {
    let database = Database::empty("integrity_schema");
    let mut client = database.client();
    client.run("CREATE SCHEMA \"Odd schema\"; CREATE EXTENSION zeroauth_audit SCHEMA \"Odd schema\"; INSERT INTO \"Odd schema\".audit_events (tenant_id, action) VALUES ('acme', 'x')");
    let mut client = database.client();
    assert_eq!(client.line("SELECT state FROM \"Odd schema\".audit_integrity()"), "unchecked");
    assert_eq!(
        client.line("SELECT zeroauth_audit_internal.run_job('drift') ->> 'status'"),
        "succeeded"
    );
    assert_eq!(client.line("SELECT state FROM \"Odd schema\".audit_integrity()"), "ok");
}
