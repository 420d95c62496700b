//! What is not an event is refused early, with the exact SQLSTATE, and leaves no trace in the chain.

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
        assert!(
            refusal.message.contains(&format!("audit_events_{column}_check")),
            "{column} = {value}: {}",
            refusal.message
        );
    }
    let refusal = client.refused("23514", "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', '')");
    assert!(refusal.message.contains("audit_events_action_check"), "{}", refusal.message);
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
    for column in ["outcome", "severity"] {
        let refusal = client.refused("23502", &with(column, "NULL"));
        assert!(refusal.message.contains(column), "{}", refusal.message);
    }
    client.refused("23502", "INSERT INTO audit_events (tenant_id) VALUES ('acme')");
    client.refused("23502", "INSERT INTO audit_events (action) VALUES ('x')");
    assert_eq!(client.line("SELECT count(*) FROM audit_events"), "0");
    // NULL is what an ORM sends for a column it leaves alone: these two have a value of the server's.
    client.run("INSERT INTO audit_events (tenant_id, action, event_id, occurred_at) VALUES ('acme', 'x', NULL, NULL)");
    assert_eq!(client.line("SELECT substr(event_id::text, 15, 1), occurred_at BETWEEN now() - interval '1 minute' AND now() FROM audit_events"), "7|t");
    assert_whole(&mut client);
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
    // All of them together are still refused to an ordinary role.
    let all = columns.map(|(c, _)| c).join(", ");
    let values = columns.map(|(_, v)| v).join(", ");
    app.refused("ZA001", &with(&all, &values));
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
