//! What is not an event is refused early, with the exact SQLSTATE, and leaves no trace in the chain.

use zeroauth_audit_tests::Cluster;

use crate::support::{Database, Sql, assert_whole, quoted, verdict};

/// Inserts one event with one column set to an SQL expression.
fn with(column: &str, value: &str) -> String {
    format!("INSERT INTO audit_events (tenant_id, action, {column}) VALUES ('acme', 'x', {value})")
}

#[test]
fn nonsense_in_a_column_is_a_check_violation_named_after_the_column() {
    let database = Database::audited("checks_columns");
    let mut client = database.client();
    for (column, value) in [
        ("outcome", "'ok'"),
        ("outcome", "'Success'"),
        ("outcome", "''"),
        ("severity", "'warn'"),
        ("severity", "'INFO'"),
        ("trace_id", "'abc'"),
        ("trace_id", "repeat('A', 32)"),
        ("trace_id", "repeat('g', 32)"),
        ("trace_id", "repeat('a', 33)"),
        ("trace_id", "repeat('a', 31) || E'\\n'"),
        ("trace_id", "''"),
        ("span_id", "repeat('a', 15)"),
        ("span_id", "repeat('a', 32)"),
        ("span_id", "repeat('F', 16)"),
        ("occurred_at", "'0001-12-31 12:00:00+00 BC'"),
        ("occurred_at", "'10000-01-01 00:00:00+00'"),
    ] {
        let refusal = client.refused("23514", &with(column, value));
        assert_eq!(
            (refusal.constraint, refusal.column.as_str(), refusal.detail.as_str()),
            (format!("audit_events_{column}_check"), column, ""),
            "{value}"
        );
        assert!(
            refusal.message.starts_with(&format!("{column} of an event must be ")),
            "{}",
            refusal.message
        );
        assert!(!refusal.hint.is_empty(), "{column}");
    }
    let refusal = client.refused("23514", "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', '')");
    assert_eq!(
        (refusal.constraint.as_str(), refusal.message.as_str()),
        ("audit_events_action_check", "action of an event must not be empty")
    );
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    assert_eq!(verdict(&mut client, "acme"), "t|1|1|0|{}");
    assert_whole(&mut client);
}

#[test]
fn every_legal_value_goes_through() {
    let database = Database::audited("checks_legal");
    let mut client = database.client();
    let mut count = 0;
    for (column, values) in [
        ("outcome", vec!["'success'", "'failure'", "'denied'", "'error'"]),
        ("severity", vec!["'info'", "'low'", "'medium'", "'high'", "'critical'"]),
        ("trace_id", vec!["repeat('0', 32)", "'0123456789abcdef0123456789abcdef'", "NULL"]),
        ("span_id", vec!["repeat('f', 16)", "NULL"]),
        (
            "occurred_at",
            vec!["'infinity'", "'-infinity'", "'0001-01-01 00:00:00+00'", "'9999-12-31 23:59:59.999999+00'"],
        ),
        ("category", vec!["''"]),
        ("actor_id", vec!["''", "repeat('x', 100000)"]),
    ] {
        for value in values {
            client.run(&with(column, value));
            count += 1;
        }
    }
    assert_eq!(verdict(&mut client, "acme"), format!("t|{count}|1|0|{{}}"));
    assert_whole(&mut client);
}

#[test]
fn a_tenant_is_1_to_128_bytes() {
    let database = Database::audited("checks_tenant");
    let mut client = database.client();
    let insert =
        |tenant: &str| format!("INSERT INTO audit_events (tenant_id, action) VALUES ({tenant}, 'x')");
    for tenant in ["''", "repeat('x', 129)", "repeat('é', 65)", "repeat('x', 100000)"] {
        let refusal = client.refused("ZA007", &insert(tenant));
        assert!(!refusal.hint.is_empty(), "{refusal:?}");
    }
    for tenant in ["'x'", "' '", "repeat('x', 128)", "repeat('é', 64)", "'日本'"] {
        client.run(&insert(tenant));
    }
    assert_eq!(client.line("SELECT count(*) FROM audit_verify() WHERE ok"), "5");
    assert_whole(&mut client);
}

#[test]
fn what_an_event_needs_is_not_null() {
    let database = Database::audited("checks_null");
    let mut client = database.client();
    for (column, insert) in [
        ("action", "INSERT INTO audit_events (tenant_id) VALUES ('acme')"),
        ("tenant_id", "INSERT INTO audit_events (action) VALUES ('x')"),
    ] {
        let refusal = client.refused("23502", insert);
        assert_eq!(
            refusal.message,
            format!(
                "null value in column \"{column}\" of relation \"audit_events\" violates not-null constraint"
            )
        );
        assert_eq!((refusal.column.as_str(), refusal.detail.as_str()), (column, ""));
    }
    assert_eq!(client.line("SELECT count(*) FROM audit_events"), "0");
}

#[test]
fn public_report_a1_an_explicit_null_gets_the_default_of_its_column() {
    let database = Database::audited("checks_null_default");
    let mut client = database.client();
    // What log shippers write: every column, NULL where the event has none.
    client.run(
        r#"BEGIN;
           INSERT INTO audit_events SELECT * FROM jsonb_populate_recordset(NULL::audit_events,
               '[{"tenant_id": "acme", "action": "login", "details": {"a": 1}}, {"tenant_id": "acme", "action": "logout"}]')"#,
    );
    assert_eq!(
        client.lines(
            "SELECT outcome, severity, substr(event_id::text, 15, 1), occurred_at = now() FROM audit_events"
        ),
        ["success|info|7|t", "success|info|7|t"]
    );
    client.run("COMMIT");
    // What is filled in is what is hashed.
    assert_whole(&mut client);
}

#[test]
fn pitfall_42_no_error_of_an_event_prints_the_row_to_the_client_or_into_the_log() {
    let cluster = Cluster::audited("checks_log").unwrap();
    let mut client = cluster.client();
    client.run("INSERT INTO audit_events (tenant_id, action, actor_id) VALUES ('acme', 'x', 'first-secret')");
    let insert = |column: &str, value: &str| {
        format!(
            "INSERT INTO audit_events (tenant_id, action, actor_id, {column}) SELECT 'acme', 'x', convert_from(decode('73656372657421', 'hex'), 'UTF8'), {value}"
        )
    };
    let supplied = |changes: &str| {
        format!(
            "INSERT INTO audit_events SELECT (jsonb_populate_record(e, jsonb_build_object({changes}))).* FROM audit_events e"
        )
    };
    client.run("SET zeroauth_audit.maintenance = on");
    let refusals = [
        client.refused("23514", &insert("outcome", "'no'")),
        client.refused("23514", &insert("trace_id", "'no'")),
        client.refused("23514", &insert("occurred_at", "'10000-01-01'")),
        client.refused("ZA007", &insert("details", "to_jsonb(repeat('x', 2000000))")),
        client.refused("23502", "INSERT INTO audit_events (tenant_id, actor_id) SELECT 'acme', convert_from(decode('73656372657421', 'hex'), 'UTF8')"),
        client.refused("23502", "INSERT INTO audit_events (action, actor_id) SELECT 'x', convert_from(decode('73656372657421', 'hex'), 'UTF8')"),
        client.refused("ZA002", &supplied("'outcome', 'no'")),
        client.refused("ZA002", &supplied("'seq', 0")),
        client.refused("23514", "UPDATE audit_events SET outcome = 'no'"),
        client.refused("23514", "UPDATE audit_events SET seq = 0"),
        client.refused("23514", "UPDATE audit_events SET salt = salt || salt"),
        client.refused("23514", "UPDATE audit_events SET salt = NULL"),
        client.refused("23514", "UPDATE audit_events SET salt = NULL, private_hash = sha256('')"),
        client.refused("23514", "UPDATE audit_events SET prev_hash = ''"),
        client.refused("23514", "UPDATE audit_events SET hash_version = 2"),
        client.refused("23514", "UPDATE audit_events SET recorded_at = 'infinity'"),
        client.refused("23502", "UPDATE audit_events SET db_role = NULL"),
    ];
    let salt = client.line("SELECT encode(salt, 'hex') FROM audit_events");
    let log = cluster.log();
    for secret in ["secret!", "first-secret,", salt.as_str(), "Failing row"] {
        assert!(!log.contains(secret), "{secret} is in the log");
        for refusal in &refusals {
            assert!(!format!("{refusal:?}").contains(secret), "{secret}: {refusal:?}");
        }
    }
    for refusal in refusals {
        assert!(!refusal.message.contains('\n') && !refusal.hint.is_empty(), "{refusal:?}");
    }
    assert_whole(&mut client);
}

#[test]
fn an_event_that_brings_right_hashes_over_nonsense_is_refused_as_nonsense() {
    let database = Database::audited("checks_supplied_nonsense");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    let hash = "zeroauth_audit_internal.event_hash(prev_hash, tenant_id, chain, seq, event_id, occurred_at, recorded_at, category, action, outcome, severity, resource, service_name, env, provider, request_id, correlation_id, trace_id, span_id, status_code, latency_ms, payload_size, error_code, db_role, zeroauth_audit_internal.private_hash(salt, actor_type, actor_id, ip, user_agent, error_message, details))";
    for (set, constraint) in [
        ("outcome = 'no'", "outcome"),
        ("severity = 'no'", "severity"),
        ("action = ''", "action"),
        ("trace_id = 'no'", "trace_id"),
        ("span_id = 'no'", "span_id"),
        ("occurred_at = '10000-01-01'", "occurred_at"),
        ("recorded_at = '10000-01-01'", "recorded_at"),
        ("chain = -1", "chain"),
        ("seq = 0", "seq"),
        ("seq = 9223372036854775807", "seq"),
    ] {
        client.run(&format!(
            "BEGIN; CREATE TEMP TABLE made ON COMMIT DROP AS SELECT * FROM audit_events; UPDATE made SET {set}; UPDATE made SET event_hash = {hash}"
        ));
        let refusal = client.refused("23514", "INSERT INTO audit_events SELECT * FROM made");
        assert_eq!(refusal.constraint, format!("audit_events_{constraint}_check"), "{refusal:?}");
        client.run("ROLLBACK");
    }
    assert_whole(&mut client);
}

#[test]
fn review_1_13_our_trigger_functions_fired_otherwise_raise_an_error_and_crash_nothing() {
    let database = Database::audited("checks_fired");
    let mut client = database.client();
    client.run("CREATE TABLE other (tenant_id text, action text)");
    for (function, trigger, statement) in [
        ("chain", "AFTER INSERT ON other FOR EACH STATEMENT", "INSERT INTO other DEFAULT VALUES"),
        ("chain", "BEFORE INSERT ON other FOR EACH STATEMENT", "INSERT INTO other DEFAULT VALUES"),
        ("chain", "BEFORE UPDATE ON other FOR EACH STATEMENT", "UPDATE other SET action = 'x'"),
        ("chain", "BEFORE TRUNCATE ON other FOR EACH STATEMENT", "TRUNCATE other"),
        ("refuse_row", "BEFORE DELETE ON other FOR EACH STATEMENT", "DELETE FROM other"),
        ("refuse_statement", "AFTER DELETE ON other FOR EACH STATEMENT", "DELETE FROM other"),
        ("refuse_edit", "BEFORE TRUNCATE ON other FOR EACH STATEMENT", "TRUNCATE other"),
    ] {
        client.run(&format!(
            "CREATE TRIGGER t {trigger} EXECUTE FUNCTION zeroauth_audit_internal.{function}()"
        ));
        client.refused("ZA009", statement);
        client.run("DROP TRIGGER t ON other");
    }
    client.refused("ZA009", "SELECT zeroauth_audit_internal.chain()");
}

#[test]
fn details_are_limited_by_the_setting() {
    let database = Database::audited("checks_details");
    let mut client = database.client();
    // jsonb::text of a string of n characters is n + 2 bytes.
    let details = |bytes: usize| with("details", &format!("to_jsonb(repeat('x', {}))", bytes - 2));
    client.run(&details(1_048_576));
    let refusal = client.refused("ZA007", &details(1_048_577));
    assert!(refusal.message.contains("details"), "{refusal:?}");
    assert!(!refusal.hint.is_empty(), "{refusal:?}");
    client.run("SET zeroauth_audit.max_details_bytes = 100");
    client.run(&details(100));
    client.refused("ZA007", &details(101));
    client.run("RESET zeroauth_audit.max_details_bytes");
    client.run(&details(101));
    assert_eq!(verdict(&mut client, "acme"), "t|3|1|0|{}");
    assert_whole(&mut client);
}

#[test]
fn what_the_server_sets_cannot_be_supplied() {
    let database = Database::audited("checks_supplied");
    let role = database.role("app");
    let mut client = database.client();
    client.run(&format!("SELECT audit_grant('{role}', 'writer'), audit_grant('{role}', 'reader')"));
    let mut app = database.client_as(&role);
    let columns = [
        ("chain", "0"),
        ("seq", "1"),
        ("recorded_at", "now()"),
        ("db_role", "current_user"),
        ("salt", "decode(repeat('ab', 16), 'hex')"),
        ("private_hash", "decode(repeat('ab', 32), 'hex')"),
        ("prev_hash", "decode(repeat('00', 32), 'hex')"),
        ("event_hash", "decode(repeat('ab', 32), 'hex')"),
        ("hash_version", "1"),
    ];
    for (column, value) in columns {
        // Of a superuser too: only all of them together make a supplied row.
        for session in [&mut app, &mut client] {
            let refusal = session.refused("ZA001", &with(column, value));
            assert!(refusal.message.contains(column), "{column}: {}", refusal.message);
            assert!(!refusal.hint.is_empty());
        }
    }
    // NULL is what an ORM sends for a column it leaves alone.
    app.run("INSERT INTO audit_events (tenant_id, action, seq, event_hash, salt) VALUES ('acme', 'x', NULL, NULL, NULL)");
    // All of them together are still refused to an ordinary role, who seems to restore.
    let all = columns.map(|(c, _)| c).join(", ");
    let values = columns.map(|(_, v)| v).join(", ");
    let refusal = app.refused("ZA001", &with(&all, &values));
    assert!(refusal.hint.starts_with("Restore as a superuser"), "{refusal:?}");
    assert_eq!(
        app.line("SELECT count(*), min(db_role) FROM audit_events WHERE tenant_id = 'acme'"),
        format!("1|{role}")
    );
    assert_whole(&mut client);
}

#[test]
fn db_role_is_who_logged_in_whatever_the_current_role() {
    let database = Database::audited("checks_db_role");
    let (login, other) = (database.role("login"), database.role("other"));
    let mut client = database.client();
    client.run(&format!("GRANT \"{other}\" TO \"{login}\"; SELECT audit_grant('{other}', 'writer')"));
    let mut session = database.client_as(&login);
    session.run(&format!(
        "SET ROLE \"{other}\"; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')"
    ));
    assert_eq!(client.line("SELECT db_role FROM audit_events WHERE tenant_id = 'acme'"), login);
    // A role renamed while it is logged in is known by its new name from the next transaction on.
    client.run(&format!("ALTER ROLE {0} RENAME TO {1}", quoted(&login), quoted(&format!("{login}2"))));
    session.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'y')");
    assert_eq!(
        client.line("SELECT db_role FROM audit_events WHERE tenant_id = 'acme' AND seq = 2"),
        format!("{login}2")
    );
    client.run(&format!("SET SESSION AUTHORIZATION {}; INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('acme', gen_random_uuid(), 'z'); RESET SESSION AUTHORIZATION", quoted(&other)));
    assert_eq!(client.line("SELECT db_role FROM audit_events WHERE tenant_id = 'acme' AND seq = 3"), other);
    assert_whole(&mut client);
}

#[test]
fn recorded_at_is_the_server_s_clock_not_the_transaction_s_start() {
    let database = Database::audited("checks_recorded");
    let mut client = database.client();
    client.run("BEGIN; SELECT now()");
    let mut other = database.client();
    let before = other.line("SELECT extract(epoch FROM clock_timestamp())");
    client.run("INSERT INTO audit_events (tenant_id, action, occurred_at) VALUES ('acme', 'x', '1999-01-01'); COMMIT");
    assert_eq!(other.line(&format!("SELECT extract(epoch FROM recorded_at) >= {before}, recorded_at <= clock_timestamp() FROM audit_events")), "t|t");
}

#[test]
fn a_disabled_trigger_lets_nothing_unchained_in() {
    let database = Database::audited("checks_disabled");
    let mut client = database.client();
    client.run("SET zeroauth_audit.maintenance = on; ALTER TABLE audit_events DISABLE TRIGGER zzz_zeroauth_audit_chain");
    client.refused("23502", "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
}
