//! The published vectors through the SQL functions, byte for byte.

use serde_json::Value;

use crate::support::{Database, Sql};

const PUBLIC_FIELDS: [(&str, &str); 23] = [
    ("tenant_id", "text"),
    ("chain", "smallint"),
    ("seq", "bigint"),
    ("event_id", "uuid"),
    ("occurred_at", "timestamptz"),
    ("recorded_at", "timestamptz"),
    ("category", "text"),
    ("action", "text"),
    ("outcome", "text"),
    ("severity", "text"),
    ("resource", "text"),
    ("service_name", "text"),
    ("env", "text"),
    ("provider", "text"),
    ("request_id", "text"),
    ("correlation_id", "text"),
    ("trace_id", "text"),
    ("span_id", "text"),
    ("status_code", "integer"),
    ("latency_ms", "integer"),
    ("payload_size", "bigint"),
    ("error_code", "text"),
    ("db_role", "text"),
];
const PRIVATE_FIELDS: [(&str, &str); 6] = [
    ("actor_type", "text"),
    ("actor_id", "text"),
    ("ip", "inet"),
    ("user_agent", "text"),
    ("error_message", "text"),
    ("details", "jsonb"),
];

fn vectors() -> Vec<Value> {
    let text =
        std::fs::read_to_string(zeroauth_audit_tests::workspace().join("pgrx-tests/vectors/hash_v1.json"))
            .unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    file["events"].as_array().unwrap().clone()
}

/// An SQL literal of a field that is a JSON string or null.
fn literal(value: &Value, sql_type: &str) -> String {
    match value.as_str() {
        None => format!("NULL::{sql_type}"),
        Some(text) => format!("E'{}'::{sql_type}", text.replace('\\', "\\\\").replace('\'', "''")),
    }
}

fn literals(event: &Value, fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(name, sql_type)| literal(&event[name], sql_type)).collect::<Vec<_>>().join(", ")
}

fn private_hash_call(event: &Value) -> String {
    format!(
        "zeroauth_audit_internal.private_hash(decode('{}', 'hex'), {})",
        event["salt"].as_str().unwrap(),
        literals(event, &PRIVATE_FIELDS)
    )
}

fn event_hash_call(event: &Value, private_hash: &str) -> String {
    format!(
        "zeroauth_audit_internal.event_hash(decode('{}', 'hex'), {}, {private_hash})",
        event["prev_hash"].as_str().unwrap(),
        literals(event, &PUBLIC_FIELDS)
    )
}

#[test]
fn published_vectors_come_out_of_sql_byte_for_byte() {
    let database = Database::audited("vectors");
    let mut client = database.client();
    let vectors = vectors();
    assert_eq!(vectors.len(), 40, "none may get lost");
    let mut commitments = 0;
    for (number, vector) in vectors.iter().enumerate() {
        let event = &vector["event"];
        if event["details"].is_string() {
            let details = literal(&event["details"], "jsonb");
            assert_eq!(Some(client.line(&format!("SELECT {details}")).as_str()), event["details"].as_str());
        }
        let stored = format!("decode('{}', 'hex')", vector["private_hash"].as_str().unwrap());
        let ip = event["ip"].as_str();
        // An address without its prefix length is a vector of the encoding alone: inet::text always prints one. And an
        // erased event has nothing to commit to but its commitment.
        let private_hash = if ip.is_some_and(|ip| client.line(&format!("SELECT '{ip}'::inet::text")) != ip)
            || event["private_hash"].is_string()
        {
            stored.clone()
        } else {
            commitments += 1;
            private_hash_call(event)
        };
        let event_hash = event_hash_call(event, &private_hash);
        let line = client.line(&format!("SELECT {private_hash} = {stored}, encode({event_hash}, 'hex')"));
        assert_eq!(line, format!("t|{}", vector["event_hash"].as_str().unwrap()), "vector {number}: {event}");
    }
    assert!(commitments >= 15, "{commitments} of the vectors' private parts were hashed");
}

#[test]
fn a_result_does_not_depend_on_the_session_s_settings() {
    let database = Database::audited("vectors_settings");
    let vector = &vectors()[1];
    let call = event_hash_call(&vector["event"], &private_hash_call(&vector["event"]));
    let expected = format!("\\x{}", vector["event_hash"].as_str().unwrap());
    for setting in [
        "timezone = 'Asia/Kolkata'",
        "datestyle = 'SQL, DMY'",
        "intervalstyle = 'iso_8601'",
        "extra_float_digits = 0",
    ] {
        let mut client = database.client();
        client.run(&format!("SET {setting}"));
        assert_eq!(client.line(&format!("SELECT {call}")), expected, "{setting}");
    }
}

#[test]
fn stored_rows_are_hashed_as_the_sql_functions_hash_them() {
    let database = Database::audited("vectors_rows");
    let mut client = database.client();
    client.run(
        "INSERT INTO audit_events (tenant_id, action, actor_id, ip, details, error_message)
         SELECT 'acme', 'step ' || i, nullif(i % 3, 0)::text, CASE WHEN i % 2 = 0 THEN inet '10.0.0.7' END, jsonb_build_object('i', i), repeat('x', i)
         FROM generate_series(1, 50) i",
    );
    let public = PUBLIC_FIELDS.map(|(name, _)| name).join(", ");
    let private = PRIVATE_FIELDS.map(|(name, _)| name).join(", ");
    let differing = client.line(&format!(
        "SELECT count(*), count(*) FILTER (WHERE event_hash = zeroauth_audit_internal.event_hash(prev_hash, {public}, zeroauth_audit_internal.private_hash(salt, {private}))) FROM audit_events"
    ));
    assert_eq!(differing, "50|50");
}

#[test]
fn pitfall_13_a_byte_moved_to_the_next_field_or_null_for_empty_changes_the_hash() {
    let database = Database::audited("vectors_bleed");
    let mut client = database.client();
    let salt = "decode(repeat('00', 16), 'hex')";
    let of = |fields: &str| format!("zeroauth_audit_internal.private_hash({salt}, {fields})");
    let distinct = [
        of("'ab', 'c', NULL, NULL, NULL, NULL"),
        of("'a', 'bc', NULL, NULL, NULL, NULL"),
        of("'abc', NULL, NULL, NULL, NULL, NULL"),
        of("'abc', '', NULL, NULL, NULL, NULL"),
        of("NULL, 'abc', NULL, NULL, NULL, NULL"),
        of("'', 'abc', NULL, NULL, NULL, NULL"),
        of("NULL, NULL, NULL, 'abc', NULL, NULL"),
        of("NULL, NULL, NULL, NULL, 'abc', NULL"),
        of("NULL, NULL, NULL, NULL, NULL, NULL"),
        of("NULL, NULL, NULL, NULL, NULL, 'null'"),
        of("NULL, NULL, NULL, NULL, NULL, '\"\"'"),
        of("NULL, NULL, '10.0.0.7', NULL, NULL, NULL"),
        of("NULL, NULL, '10.0.0.7/24', NULL, NULL, NULL"),
        of("NULL, NULL, NULL, '10.0.0.7', NULL, NULL"),
    ];
    let values = distinct.join("), (");
    assert_eq!(
        client.line(&format!("SELECT count(DISTINCT h) FROM (VALUES ({values})) AS v (h)")),
        distinct.len().to_string()
    );
}

#[test]
fn arguments_that_no_event_can_have_are_refused_and_private_parts_may_be_empty() {
    let database = Database::audited("vectors_arguments");
    let mut client = database.client();
    let zeros = |bytes: u32| format!("decode(repeat('00', {bytes}), 'hex')");
    for salt in [zeros(15), zeros(17), zeros(0), "NULL".into()] {
        let call = format!(
            "SELECT zeroauth_audit_internal.private_hash({salt}, NULL, NULL, NULL, NULL, NULL, NULL)"
        );
        match client.simple_query(&call) {
            // NULL in, NULL out is as good as an error; a hash is not.
            Ok(_) => assert_eq!(client.line(&call), "~", "{call}"),
            Err(_) => drop(client.refused("ZA009", &call)),
        }
    }
    let event = |prev: String, action: &str, private: String| {
        format!(
            "SELECT zeroauth_audit_internal.event_hash({prev}, 'acme', 0::smallint, 1, gen_random_uuid(), now(), now(), NULL, {action}, 'success', 'info', NULL, NULL,
                                     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'app', {private})"
        )
    };
    client.run(&event(zeros(32), "'x'", zeros(32)));
    for call in [
        event(zeros(31), "'x'", zeros(32)),
        event(zeros(32), "'x'", zeros(33)),
        event("NULL".into(), "'x'", zeros(32)),
        event(zeros(32), "'x'", "NULL".into()),
        event(zeros(32), "'x'", zeros(32)).replace("'acme'", "NULL"),
    ] {
        let refusal = client.refused("ZA009", &call);
        assert!(!refusal.hint.is_empty(), "{refusal:?}");
    }
}
