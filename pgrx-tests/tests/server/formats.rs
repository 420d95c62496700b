//! The form of what is exported and returned: others read it, so it may not drift.

use serde_json::Value;

use crate::support::audit::export;
use crate::support::{Database, Sql};
use crate::tamper_columns::COLUMNS;

#[test]
fn an_exported_event_has_exactly_the_fields_and_forms_of_the_reference() {
    let database = Database::audited("formats_export");
    let mut client = database.client();
    client.run(
        r#"SET timezone = 'Asia/Kolkata'; SET datestyle = 'SQL, DMY'; SET bytea_output = 'escape'; SET intervalstyle = 'iso_8601';
           INSERT INTO audit_events (tenant_id, action, event_id, occurred_at, ip, details, status_code, resource) VALUES
             ('acme', 'x', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '2024-05-06 07:08:09.5Z', '10.0.0.7/32', '{"b": 1.50, "a": "é\"\\"}', 200, E'tab\there "quoted" \\ 🔒'),
             ('acme', 'x', DEFAULT, 'infinity', '2001:DB8::/32', NULL, NULL, NULL), ('acme', 'x', DEFAULT, '-infinity', NULL, 'null', -1, '')"#,
    );
    let events: Vec<Value> =
        export(&mut client).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events[0].as_object().unwrap().keys().map(String::as_str).collect();
    // The reference has no hash_version: the format's version is in its domain strings.
    let mut expected: Vec<&str> = COLUMNS.into_iter().filter(|name| *name != "hash_version").collect();
    let mut names = names;
    names.retain(|name| *name != "hash_version");
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
    for event in &events {
        for (name, value) in event.as_object().unwrap() {
            assert!(value.is_string() || value.is_null(), "{name}: {value}");
        }
    }
    let first = &events[0];
    for (name, value) in [
        ("tenant_id", "acme"),
        ("chain", "0"),
        ("seq", "1"),
        ("event_id", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("ip", "10.0.0.7/32"),
        ("details", "{\"a\": \"é\\\"\\\\\", \"b\": 1.50}"),
        ("status_code", "200"),
        ("resource", "tab\there \"quoted\" \\ 🔒"),
        ("db_role", "postgres"),
    ] {
        assert_eq!(first[name], value, "{name}");
    }
    let time = first["occurred_at"].as_str().unwrap();
    assert!(
        time.starts_with("2024-05-06T07:08:09.5") && (time.ends_with("+00:00") || time.ends_with('Z')),
        "{time}"
    );
    assert_eq!(events[1]["occurred_at"], "infinity");
    assert_eq!(events[2]["occurred_at"], "-infinity");
    assert_eq!(events[1]["ip"], "2001:db8::/32");
    assert_eq!(events[2]["details"], "null", "a JSON null is not an SQL NULL");
    assert!(events[1]["details"].is_null());
    for (name, digits) in [("salt", 32), ("prev_hash", 64), ("event_hash", 64)] {
        let hex = first[name].as_str().unwrap();
        assert!(
            hex.len() == digits && hex.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)),
            "{name}: {hex}"
        );
    }
    assert!(first["private_hash"].is_null());
}

#[test]
fn one_tenant_s_export_is_that_tenant_s_lines_of_the_whole() {
    let database = Database::audited("formats_tenant");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 3, 'x' FROM generate_series(1, 30) i");
    let whole = export(&mut client);
    assert_eq!(whole.len(), 30);
    let one = client.lines("SELECT audit_export('tenant 1')");
    assert_eq!(one.len(), 10);
    assert_eq!(one, whole[10..20]);
    let refusal = client.refused("ZA005", "SELECT audit_export('tenant 7')");
    assert_eq!(refusal.message, "no events of tenant \"tenant 7\"");
    client.refused("ZA005", "SELECT audit_export_intervals('nobody')");
}

#[test]
fn the_functions_have_the_signatures_that_are_documented() {
    let database = Database::audited("formats_signatures");
    let mut client = database.client();
    let signature = |client: &mut postgres::Client, name: &str| {
        client.line(&format!("SELECT pg_get_function_arguments(oid), pg_get_function_result(oid) FROM pg_proc WHERE proname = '{name}' AND pronamespace = 'public'::regnamespace"))
    };
    for (name, expected) in [
        (
            "audit_verify",
            "tenant text DEFAULT NULL::text, n integer DEFAULT NULL::integer|TABLE(tenant_id text, ok boolean, events bigint, findings bigint, classes text[], chains integer, first_finding text)",
        ),
        (
            "audit_findings",
            "tenant text DEFAULT NULL::text, n integer DEFAULT NULL::integer|TABLE(tenant_id text, class text, chain smallint, seq bigint, event_id uuid, detail text, expected bytea, actual bytea)",
        ),
        (
            "audit_integrity",
            "tenant text DEFAULT NULL::text|TABLE(tenant_id text, state text, reasons text[], checked_at timestamp with time zone, open_alerts bigint, events bigint, last_event_at timestamp with time zone, history numeric)",
        ),
        ("audit_event_state", "tenant text, event uuid|TABLE(step text, ok boolean, detail text)"),
        (
            "audit_export",
            "tenant text DEFAULT NULL::text, private_fields boolean DEFAULT NULL::boolean|SETOF text",
        ),
        ("audit_export_intervals", "tenant text DEFAULT NULL::text|SETOF text"),
        ("audit_export_names", "|text"),
        ("audit_prove", "tenant text, event uuid, private_fields boolean DEFAULT NULL::boolean|text"),
        ("audit_prove_consistency", "tenant text, from_size bigint, to_size bigint|text"),
        (
            "audit_drill",
            "|TABLE(passed boolean, attack text, expected text, found text, ms numeric, pitfall integer)",
        ),
        ("audit_guards", "|TABLE(guard text, active boolean, detail text)"),
        ("audit_verify_installation", "|TABLE(object text, part text, was text, now text)"),
        ("audit_verify_pins", "|TABLE(path text, ok boolean, problem text, expected text, found text)"),
        ("audit_status", "|TABLE(state text, part text, detail text, hint text)"),
        ("audit_health", "|jsonb"),
        (
            "audit_progress",
            "|TABLE(pid integer, what text, tenant_id text, done bigint, total bigint, percent numeric, started_at timestamp with time zone)",
        ),
        (
            "audit_help",
            "topic text DEFAULT NULL::text|TABLE(call text, purpose text, duty text, yours boolean)",
        ),
        ("audit_copy_acknowledge", "note text|text"),
        ("audit_restore_acknowledge", "note text|integer"),
    ] {
        assert_eq!(signature(&mut client, name), expected, "{name}");
    }
}

#[test]
fn a_verdict_tells_the_first_finding() {
    let database = Database::audited("formats_verdict");
    let mut client = database.client();
    client.run(
        "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 10);
         INSERT INTO audit_events (tenant_id, action) VALUES ('globex', 'x');
         SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'y' WHERE seq = 4; DELETE FROM audit_events WHERE seq = 7",
    );
    for call in ["audit_verify('acme')", "audit_verify() WHERE tenant_id = 'acme'"] {
        assert_eq!(
            client.line(&format!("SELECT tenant_id, ok, events, chains, findings, (SELECT array_agg(c ORDER BY c) FROM unnest(classes) c) FROM {call}")),
            "acme|f|9|1|2|{content_mismatch,gap}",
            "{call}"
        );
        assert_eq!(
            client.line(&format!("SELECT first_finding FROM {call}")),
            "content_mismatch at chain 0, seq 4: the stored fields do not have the recorded hash"
        );
    }
    assert_eq!(client.line("SELECT ok, first_finding FROM audit_verify('globex')"), "t|~");
    let (expected, actual, event_id) = (
        client.line("SELECT encode(expected, 'hex') FROM audit_findings() WHERE class = 'content_mismatch'"),
        client.line("SELECT encode(actual, 'hex') FROM audit_findings() WHERE class = 'content_mismatch'"),
        client.line("SELECT event_id FROM audit_findings() WHERE class = 'content_mismatch'"),
    );
    assert_eq!(client.line("SELECT event_id FROM audit_events WHERE seq = 4"), event_id);
    let stored = client.line("SELECT encode(event_hash, 'hex') FROM audit_events WHERE seq = 4");
    assert!(
        expected != actual && (expected == stored || actual == stored),
        "stored {stored}, expected {expected}, actual {actual}"
    );
}
