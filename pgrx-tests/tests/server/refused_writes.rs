//! An event that row-level security refuses leaves nothing behind but a note, and people are told.

use crate::support::{Database, Sql};
use crate::tripwire::look;

#[test]
fn an_event_that_a_policy_refuses_is_counted_by_role_although_its_transaction_rolls_back() {
    let database = Database::audited("refused_policy");
    let writer = database.on_duty("writer");
    let mut client = database.client();
    client.run("ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON audit_events FOR INSERT WITH CHECK (tenant_id = current_setting('app.tenant', true))");
    let mut session = database.client_as(&writer);
    session.run("SET app.tenant = 'acme'");
    session.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    look(&mut client);
    let told = "SELECT severity, state, occurrences, message FROM zeroauth_audit_internal.alerts WHERE kind = 'write_refused'";
    assert_eq!(client.lines(told), [] as [&str; 0]);
    let forged = "INSERT INTO audit_events (tenant_id, action) VALUES ('globex', 'forged')";
    session.refused("42501", forged);
    // Caught, in a savepoint, from a function, with nothing in the log.
    session.run(&format!("DO $$ BEGIN {forged}; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$"));
    session.run("BEGIN; SAVEPOINT s");
    session.refused("42501", forged);
    session.run("ROLLBACK TO s; COMMIT");
    session.refused("42501", "WITH w AS (INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'), ('globex', 'forged') RETURNING 1) SELECT count(*) FROM w");
    look(&mut client);
    assert_eq!(
        client.lines(told),
        [format!("3|open|1|row-level security refused events that {writer} wrote, in 4 transactions")]
    );
    assert_eq!(
        client.line(
            "SELECT evidence ->> 'role' FROM zeroauth_audit_internal.alerts WHERE kind = 'write_refused'"
        ),
        writer
    );
    // Another error of privilege is none of that.
    session.refused("42501", "UPDATE audit_events SET action = 'x'");
    session.refused("42501", "INSERT INTO zeroauth_audit_internal.alerts (severity, kind, fingerprint, message) VALUES (1, 'x', 'x', 'x')");
    session.refused("42501", "INSERT INTO audit_events (tenant_id, action) VALUES ('zeroauth_audit', 'x')");
    look(&mut client);
    assert_eq!(
        client.line("SELECT occurrences FROM zeroauth_audit_internal.alerts WHERE kind = 'write_refused'"),
        "1"
    );
}
