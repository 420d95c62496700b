//! Each column of one row changed by a superuser: all 34 of them are covered by a finding.

use crate::support::audit::{Place, place};
use crate::support::{Sql, findings};
use crate::tamper::trail;

/// The columns of `audit_events` in their order.
pub const COLUMNS: [&str; 34] = [
    "tenant_id",
    "chain",
    "seq",
    "event_id",
    "occurred_at",
    "recorded_at",
    "category",
    "action",
    "outcome",
    "severity",
    "resource",
    "service_name",
    "env",
    "provider",
    "request_id",
    "correlation_id",
    "trace_id",
    "span_id",
    "status_code",
    "latency_ms",
    "payload_size",
    "error_code",
    "db_role",
    "actor_type",
    "actor_id",
    "ip",
    "user_agent",
    "error_message",
    "details",
    "salt",
    "private_hash",
    "prev_hash",
    "event_hash",
    "hash_version",
];

/// What a column of a given type is changed to.
fn changed(column: &str, sql_type: &str) -> String {
    match (column, sql_type) {
        ("tenant_id", _) => "'initech'".into(),
        ("chain", _) => "9".into(),
        ("seq", _) => "99".into(),
        ("outcome", _) => "'denied'".into(),
        ("severity", _) => "'low'".into(),
        ("trace_id", _) => "repeat('a', 32)".into(),
        ("span_id", _) => "repeat('a', 16)".into(),
        ("salt", _) => "substr(sha256(salt), 1, 16)".into(),
        ("private_hash", _) => "sha256(salt)".into(),
        (_, "bytea") => format!("sha256({column})"),
        (_, "text") => format!("coalesce({column}, '') || 'x'"),
        (_, "uuid") => "'00000000-0000-7000-8000-000000000000'".into(),
        (_, "timestamp with time zone") => format!("{column} + interval '1 microsecond'"),
        (_, "smallint" | "integer" | "bigint") => format!("coalesce({column}, 0) + 1"),
        (_, "inet") => "'10.0.0.7/8'".into(),
        (_, "jsonb") => r#"'{"amount": 5.0}'"#.into(),
        other => panic!("a new type of column: {other:?}"),
    }
}

#[test]
fn a_change_to_any_column_of_one_row_is_named_with_class_and_place() {
    let (_database, mut client) = trail("tamper_columns");
    let columns = client.rows("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'audit_events'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum");
    let columns: Vec<(String, String)> =
        columns.into_iter().map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap())).collect();
    assert_eq!(columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), COLUMNS);
    let unchecked = "ALTER TABLE audit_events DISABLE TRIGGER zeroauth_audit_refuse_row;";

    for (column, sql_type) in &columns {
        let expected = expected(column);
        for value in [changed(column, sql_type), "NULL".into()] {
            let nullable = client.line(&format!("SELECT NOT attnotnull FROM pg_attribute WHERE attrelid = 'audit_events'::regclass AND attname = '{column}'")) == "t";
            if value == "NULL" && (!nullable || client.line(&format!("SELECT {column} IS NULL FROM audit_events WHERE tenant_id = 'acme' AND chain = 1 AND seq = 5")) == "t") {
                continue;
            }
            client.run(&format!("BEGIN; {unchecked} UPDATE audit_events SET {column} = {value} WHERE tenant_id = 'acme' AND chain = 1 AND seq = 5"));
            assert_eq!(findings(&mut client, ""), expected, "{column} = {value}");
            let own: Vec<Place> =
                expected.iter().filter(|(_, tenant, ..)| tenant == "acme").cloned().collect();
            assert_eq!(findings(&mut client, "'acme'"), own, "{column} = {value}");
            assert_eq!(client.line("SELECT ok FROM audit_verify('acme')"), "f", "{column} = {value}");
            assert_eq!(
                client.line("SELECT ok FROM audit_verify() WHERE tenant_id = 'acme'"),
                "f",
                "{column} = {value}"
            );
            client.run("ROLLBACK");
        }
    }
    assert_eq!(findings(&mut client, ""), []);
}

/// What a change to one column of acme's event 1/5 has to be called.
fn expected(column: &str) -> Vec<Place> {
    let mut places = match column {
        "tenant_id" => vec![
            place("gap", "acme", 1, 5),
            place("gap", "initech", 1, 1),
            place("content_mismatch", "initech", 1, 5),
        ],
        "chain" => vec![
            place("gap", "acme", 1, 5),
            place("gap", "acme", 9, 1),
            place("content_mismatch", "acme", 9, 5),
        ],
        "seq" => vec![
            place("gap", "acme", 1, 5),
            place("gap", "acme", 1, 11),
            place("content_mismatch", "acme", 1, 99),
        ],
        "prev_hash" => vec![place("content_mismatch", "acme", 1, 5), place("link_broken", "acme", 1, 5)],
        "event_hash" => vec![place("content_mismatch", "acme", 1, 5), place("link_broken", "acme", 1, 6)],
        _ => vec![place("content_mismatch", "acme", 1, 5)],
    };
    places.sort();
    places
}

#[test]
fn event_by_event_recomputed_hashes_from_one_row_to_the_head_are_beyond_the_database() {
    // Documented, so that nobody believes otherwise: who recomputes the rest of a chain leaves nothing to find inside
    // the database. What left it before (checkpoints, anchors) is what finds this.
    let (_database, mut client) = trail("tamper_recomputed");
    let fields = COLUMNS[..23].join(", ");
    client.run(&format!(
        "UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'acme' AND chain = 1 AND seq = 5;
         DO $$ BEGIN FOR i IN 5 .. 10 LOOP
           UPDATE audit_events SET prev_hash = (SELECT event_hash FROM audit_events WHERE tenant_id = 'acme' AND chain = 1 AND seq = i - 1) WHERE tenant_id = 'acme' AND chain = 1 AND seq = i;
           UPDATE audit_events SET event_hash = zeroauth_audit_internal.event_hash(prev_hash, {fields}, zeroauth_audit_internal.private_hash(salt, actor_type, actor_id, ip, user_agent, error_message, details)) WHERE tenant_id = 'acme' AND chain = 1 AND seq = i;
         END LOOP; END $$"
    ));
    assert_eq!(findings(&mut client, ""), []);
}
