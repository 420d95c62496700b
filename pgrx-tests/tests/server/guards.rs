//! UPDATE, DELETE and TRUNCATE are refused to everyone, in every form, unless a superuser is in maintenance; each
//! attempt is one line of JSON in the server log.

use serde_json::Value;
use zeroauth_audit_tests::wait_until;

use crate::support::{DEADLINE, Database, Sql, assert_whole, shared};

/// The audit lines of the server log about one database, as JSON.
pub fn log_lines(database: &Database) -> Vec<Value> {
    let log = shared().log();
    let lines = log
        .lines()
        .filter_map(|line| line.split_once("LOG:  zeroauth_audit: "))
        .map(|(_, json)| serde_json::from_str::<Value>(json).expect(json));
    lines.filter(|line| line["database"] == database.name.as_str()).collect()
}

/// Waits for a log line with these members.
#[track_caller]
pub fn assert_logged(database: &Database, event: &str, operation: &str, object: &str, role: &str) {
    wait_until(
        DEADLINE,
        &format!("{event} {operation} on {object} by {role} in the log: {:#?}", log_lines(database).last()),
        || {
            log_lines(database).iter().any(|line| {
                line["event"] == event
                    && line["operation"].as_str().is_some_and(|o| o.contains(operation))
                    && line["object"].as_str().is_some_and(|o| o.contains(object))
                    && line["role"] == role
            })
        },
    );
}

/// An audited database with events of two tenants, whose table belongs to a role without superuser's rights.
pub fn owned(name: &str) -> (Database, String) {
    let database = Database::audited(name);
    let owner = database.role("owner");
    database.client().run(&format!(
        "INSERT INTO audit_events (tenant_id, action) SELECT CASE WHEN i % 2 = 0 THEN 'acme' ELSE 'globex' END, 'x' FROM generate_series(1, 10) i;
         SET zeroauth_audit.maintenance = on;
         ALTER TABLE audit_events OWNER TO \"{owner}\";
         GRANT CREATE ON SCHEMA public TO \"{owner}\""
    ));
    (database, owner)
}

const CHANGES: [(&str, &str); 12] = [
    ("UPDATE", "UPDATE audit_events SET action = 'y' WHERE seq = 1"),
    ("UPDATE", "UPDATE audit_events SET action = action"),
    ("UPDATE", "UPDATE audit_events SET action = 'y' WHERE false"),
    ("UPDATE", "WITH u AS (UPDATE audit_events SET tenant_id = 'b' RETURNING 1) SELECT count(*) FROM u"),
    ("DELETE", "DELETE FROM audit_events WHERE tenant_id = 'acme'"),
    ("DELETE", "DELETE FROM audit_events WHERE false"),
    ("DELETE", "WITH d AS (DELETE FROM audit_events RETURNING 1) SELECT count(*) FROM d"),
    ("DELETE", "MERGE INTO audit_events e USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE"),
    ("TRUNCATE", "TRUNCATE audit_events"),
    ("TRUNCATE", "TRUNCATE ONLY audit_events RESTART IDENTITY CASCADE"),
    ("UPDATE", "SET session_replication_role = origin; UPDATE audit_events SET action = 'y'"),
    ("DELETE", "DO $$ BEGIN EXECUTE 'DELETE FROM audit_events'; END $$"),
];

#[test]
fn nobody_changes_what_is_written_neither_the_owner_nor_a_superuser() {
    let (database, owner) = owned("guards_change");
    for role in [owner.as_str(), "postgres"] {
        let mut client = database.client_as(role);
        for (operation, sql) in CHANGES {
            if role != "postgres" && sql.starts_with("SET") {
                continue;
            }
            let refusal = client.refused("ZA003", sql);
            assert!(!refusal.hint.is_empty() && !refusal.message.contains('\n'), "{refusal:?}");
            assert!(
                refusal.message.starts_with(char::is_lowercase) || refusal.message.starts_with(operation),
                "{refusal:?}"
            );
            assert_logged(&database, "change_refused", operation, "audit_events", role);
        }
    }
    assert_eq!(database.client().line("SELECT count(*) FROM audit_events"), "10");
    assert_whole(&mut database.client());
}

#[test]
fn each_refused_attempt_is_one_json_line_in_the_log_and_none_for_the_client() {
    let (database, owner) = owned("guards_log");
    let before = log_lines(&database).len();
    let output = shared()
        .psql(&database.name, "SET client_min_messages = debug5;\nDELETE FROM audit_events;")
        .unwrap();
    assert!(output.stderr.contains("ZA003"), "{output:?}");
    assert!(
        !output.stderr.contains("change_refused"),
        "the line is the server log's alone: {}",
        output.stderr
    );
    // Also when the client asked for fewer messages, and when the attempt was made inside a caught error.
    let mut client = database.client_as(&owner);
    client.run("SET client_min_messages = error; DO $$ BEGIN DELETE FROM audit_events; EXCEPTION WHEN SQLSTATE 'ZA003' THEN NULL; END $$");
    wait_until(DEADLINE, "two more lines", || log_lines(&database).len() >= before + 2);
    let lines = &log_lines(&database)[before..];
    assert_eq!(lines.len(), 2, "one line an attempt: {lines:?}");
    for (line, role) in lines.iter().zip(["postgres", owner.as_str()]) {
        let mut names: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["database", "event", "object", "operation", "role"]);
        assert_eq!(
            (&line["event"], &line["operation"], &line["role"]),
            (&Value::from("change_refused"), &Value::from("DELETE"), &Value::from(role))
        );
    }
}

#[test]
fn a_name_with_quotes_and_newlines_keeps_the_log_line_one_json_line() {
    let database = Database::audited("guards_names");
    let role = "odd \"role\"\nLOG:  zeroauth_audit: {\\";
    let mut client = database.client();
    client.run(&format!(
        "CREATE ROLE {0} LOGIN; GRANT ALL ON audit_events TO {0}",
        crate::support::quoted(role)
    ));
    let mut odd = database.client_as(role);
    odd.refused("ZA003", "DELETE FROM audit_events");
    assert_logged(&database, "change_refused", "DELETE", "audit_events", role);
    drop(odd);
    client.run(&format!("DROP OWNED BY {0}; DROP ROLE {0}", crate::support::quoted(role)));
}

#[test]
fn maintenance_lets_a_superuser_through_and_is_logged() {
    let (database, _) = owned("guards_maintenance");
    let mut client = database.client();
    client.run("SET zeroauth_audit.maintenance = on");
    for (operation, sql) in [
        ("UPDATE", "UPDATE audit_events SET action = 'y' WHERE seq = 1"),
        ("DELETE", "DELETE FROM audit_events WHERE seq = 2"),
        ("TRUNCATE", "TRUNCATE audit_events"),
    ] {
        client.run(sql);
        assert_logged(&database, "change_allowed", operation, "audit_events", "postgres");
    }
    client.run("SET zeroauth_audit.maintenance = off; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    client.refused("ZA003", "DELETE FROM audit_events");
    client.run(
        "BEGIN; SET LOCAL zeroauth_audit.maintenance = on; UPDATE audit_events SET action = action; COMMIT",
    );
    client.refused("ZA003", "UPDATE audit_events SET action = action");
    assert_whole(&mut client);
}

#[test]
fn an_unprivileged_role_cannot_set_maintenance_and_gains_nothing_where_it_is_set_for_it() {
    let (database, owner) = owned("guards_unprivileged");
    let mut client = database.client_as(&owner);
    client.refused("42501", "SET zeroauth_audit.maintenance = on");
    client.refused("42501", "ALTER DATABASE postgres SET zeroauth_audit.maintenance = on");
    client.refused("42501", &format!("ALTER ROLE \"{owner}\" SET zeroauth_audit.maintenance = on"));
    // A superuser who set it for somebody else did not make that somebody a superuser.
    database.client().run(&format!("ALTER ROLE \"{owner}\" SET zeroauth_audit.maintenance = on"));
    let mut client = database.client_as(&owner);
    assert_eq!(client.line("SHOW zeroauth_audit.maintenance"), "on");
    client.refused("ZA003", "UPDATE audit_events SET action = 'y'");
    client.refused("ZA003", "TRUNCATE audit_events");
    client.refused("ZA004", "ALTER TABLE audit_events DISABLE TRIGGER ALL");
    // Nor does a superuser's session keep the right after it gave up the role.
    let mut client = database.client();
    client.run(&format!("SET zeroauth_audit.maintenance = on; SET ROLE \"{owner}\""));
    client.refused("ZA003", "UPDATE audit_events SET action = 'y'");
    client.refused("ZA004", "ALTER TABLE audit_events DISABLE TRIGGER ALL");
    assert_whole(&mut database.client());
}

#[test]
fn a_cascade_from_another_table_does_not_reach_the_trail() {
    let database = Database::audited("guards_cascade");
    let mut client = database.client();
    client.run("CREATE TABLE tenant (id text PRIMARY KEY); INSERT INTO tenant VALUES ('acme'); INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    client.refused(
        "ZA004",
        "ALTER TABLE audit_events ADD FOREIGN KEY (tenant_id) REFERENCES tenant ON DELETE CASCADE",
    );
    client.run("CREATE TABLE note (tenant_id text, event_id uuid, FOREIGN KEY (tenant_id, event_id) REFERENCES audit_events (tenant_id, event_id) ON DELETE CASCADE); INSERT INTO note SELECT tenant_id, event_id FROM audit_events");
    client.run("TRUNCATE note");
    client.refused("ZA003", "TRUNCATE audit_events, note");
    client.refused("ZA003", "TRUNCATE audit_events CASCADE");
    // A view and a rule on it end at the table's own triggers.
    client.run("CREATE VIEW trail AS SELECT * FROM audit_events");
    client.refused("ZA003", "UPDATE trail SET action = 'y'");
    client.refused("ZA003", "DELETE FROM trail");
    client.run("INSERT INTO trail (tenant_id, action) VALUES ('acme', 'through a view')");
    assert_whole(&mut client);
}
