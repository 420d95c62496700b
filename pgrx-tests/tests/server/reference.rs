//! Ten thousand random events, exported and replayed by the independent reference program; then the same after tampering.

use std::fmt::Write;

use fastrand::Rng;
use postgres::Client;

use crate::support::audit::{export, reference_places};
use crate::support::{Database, Sql, assert_whole, places};

const EVENTS: usize = 10_000;
const TENANTS: [&str; 8] =
    ["acme", "globex", "日本", "a b", "quote's", "tab\there", "new\nline", "back\\slash"];
const TEXTS: [&str; 14] = [
    "",
    " ",
    "x",
    "naïve",
    "é",
    "e\u{301}",
    "🔒🗝️",
    "quote's \"double\"",
    "back\\slash \\N \\x41 \\.",
    "tab\tnew\nline\rreturn",
    "a,b;c|d",
    "NULL",
    "{\"a\":1}",
    "\u{feff}\u{202e}\u{1}\u{7f}",
];
const ADDRESSES: [&str; 10] = [
    "10.0.0.7",
    "10.0.0.7/8",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "255.255.255.255",
    "::",
    "::1",
    "2001:db8::7/64",
    "::ffff:10.0.0.7",
    "fe80::1/128",
];
const TIMES: [&str; 9] = [
    "infinity",
    "-infinity",
    "0001-01-01 00:00:00+00",
    "9999-12-31 23:59:59.999999+00",
    "1970-01-01 00:00:00+00",
    "1969-12-31 23:59:59.999999+00",
    "2000-01-01 00:00:00+00",
    "2024-02-29 12:00:00.5+05:30",
    "1883-11-18 12:03:57-07:52:58",
];
const COLUMNS: [(&str, &str); 24] = [
    ("tenant_id", "text"),
    ("occurred_at", "timestamptz"),
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
    ("actor_type", "text"),
    ("actor_id", "text"),
    ("ip", "inet"),
    ("user_agent", "text"),
    ("error_message", "text"),
    ("details", "jsonb"),
];

#[test]
fn the_reference_program_agrees_over_ten_thousand_random_events() {
    let database = Database::audited("reference");
    let mut client = database.client();
    fill(&database, &mut Rng::with_seed(0x7a65_726f));

    assert_eq!(client.line("SELECT count(*) FROM audit_events"), EVENTS.to_string());
    assert!(
        client.line("SELECT max(chain) FROM audit_events").parse::<i32>().unwrap() >= 2,
        "several chains are wanted"
    );
    let lines = export(&mut client);
    assert_eq!(lines.len(), EVENTS, "one line an event, whatever its text contains");
    assert_whole(&mut client);
    export_is_in_order(&lines);

    tamper(&mut client);
    let found = places(&mut client);
    assert!(found.len() > 20, "{found:?}");
    assert_eq!(found, reference_places(&export(&mut client)), "verifier and reference name the same places");
}

/// Appends from several transactions at a time, so that every tenant gets more than one chain.
fn fill(database: &Database, rng: &mut Rng) {
    let names = COLUMNS.map(|(name, _)| name).join(", ");
    let values = COLUMNS
        .iter()
        .enumerate()
        .map(|(i, (name, sql_type))| format!("c{i}::{sql_type} AS {name}"))
        .collect::<Vec<_>>()
        .join(", ");
    let arrays = (1..=COLUMNS.len()).map(|i| format!("${i}::text[]")).collect::<Vec<_>>().join(", ");
    let aliases = (0..COLUMNS.len()).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
    let insert =
        format!("INSERT INTO audit_events ({names}) SELECT {values} FROM unnest({arrays}) AS u ({aliases})");

    let mut sessions: Vec<Client> = (0..4).map(|_| database.client()).collect();
    let batch = 100;
    for _ in 0..EVENTS / batch / sessions.len() {
        for client in &mut sessions {
            client.run("BEGIN");
            let mut columns = vec![Vec::with_capacity(batch); COLUMNS.len()];
            for _ in 0..batch {
                for (column, (name, _)) in columns.iter_mut().zip(COLUMNS) {
                    column.push(random_field(rng, name));
                }
            }
            let parameters: Vec<&(dyn postgres::types::ToSql + Sync)> =
                columns.iter().map(|c| c as _).collect();
            client.execute(&insert, &parameters).unwrap();
        }
        rng.shuffle(&mut sessions);
        for client in &mut sessions {
            client.run("COMMIT");
        }
    }
}

fn random_field(rng: &mut Rng, name: &str) -> Option<String> {
    let one = |rng: &mut Rng, of: &[&str]| Some(rng.choice(of).unwrap().to_string());
    match name {
        "tenant_id" => one(rng, &TENANTS),
        "action" => Some(random_text(rng)).filter(|text| !text.is_empty()).or(Some("a".into())),
        "outcome" => one(rng, &["success", "failure", "denied", "error"]),
        "severity" => one(rng, &["info", "low", "medium", "high", "critical"]),
        "occurred_at" => Some(random_time(rng)),
        _ if rng.u8(0..3) == 0 => None,
        "trace_id" => Some(format!("{:032x}", rng.u128(..))),
        "span_id" => Some(format!("{:016x}", rng.u64(..))),
        "status_code" | "latency_ms" => {
            Some(*rng.choice(&[0, -1, i32::MIN, i32::MAX, 200]).unwrap()).map(|i| i.to_string())
        }
        "payload_size" => {
            Some(*rng.choice(&[0, -1, i64::MIN, i64::MAX, 1 << 40]).unwrap()).map(|i| i.to_string())
        }
        "ip" => one(rng, &ADDRESSES),
        "details" => Some(random_details(rng)),
        _ => Some(random_text(rng)),
    }
}

fn random_text(rng: &mut Rng) -> String {
    match rng.u8(0..40) {
        0 => "long ".repeat(rng.usize(1..2_000)),
        1..=9 => (0..rng.usize(0..12)).map(|_| rng.char('\u{1}'..='\u{2fff}')).collect(),
        _ => rng.choice(TEXTS).unwrap().to_owned(),
    }
}

fn random_time(rng: &mut Rng) -> String {
    if rng.u8(0..8) == 0 {
        return rng.choice(TIMES).unwrap().to_owned();
    }
    let mut time = format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        rng.u16(2..9999),
        rng.u8(1..13),
        rng.u8(1..29),
        rng.u8(0..24),
        rng.u8(0..60),
        rng.u8(0..60)
    );
    // Up to nine digits: what is stored has six.
    let digits = rng.usize(0..10);
    if digits > 0 {
        write!(time, ".{:0digits$}", rng.u64(0..10u64.pow(digits as u32))).unwrap();
    }
    time + rng.choice(["+00", "Z", "+05:30", "-11:00", "+00:00:01"]).unwrap()
}

/// JSON in the forms clients send it: keys in any order and twice, numbers with odd scales and exponents, escapes,
/// white space, some deep and some large.
fn random_details(rng: &mut Rng) -> String {
    match rng.u8(0..100) {
        0 => format!("{}{}{}", "[".repeat(400), random_json(rng, 0), "]".repeat(400)),
        1 => format!(
            "{{\"large\": \"{}\"}}",
            (0..rng.usize(3_000..60_000)).map(|_| rng.alphanumeric()).collect::<String>()
        ),
        _ => random_json(rng, 3),
    }
}

fn random_json(rng: &mut Rng, depth: usize) -> String {
    let kinds = if depth == 0 { 5 } else { 9 };
    match rng.u8(0..kinds) {
        0 => "null".into(),
        1 => rng.bool().to_string(),
        2 | 3 => rng
            .choice([
                "0",
                "-0",
                "-0.0",
                "1.50",
                "1.5",
                "1.230e-5",
                "1E+3",
                "12345678901234567890123456789.000",
                "-9007199254740993",
                "0.1",
                "1e-40",
            ])
            .unwrap()
            .into(),
        4 => serde_json::to_string(&random_text(rng)).unwrap(),
        5 | 6 => {
            let items: Vec<String> = (0..rng.usize(0..4)).map(|_| random_json(rng, depth - 1)).collect();
            format!("[{}]", items.join(" ,\n"))
        }
        _ => {
            let members: Vec<String> = (0..rng.usize(0..5))
                .map(|_| {
                    let key = rng.choice(["k", "key", "zz", "a", "é", "\\u00e9", "\\\"", ""]).unwrap();
                    format!("\"{key}\":{}", random_json(rng, depth - 1))
                })
                .collect();
            format!("{{ {} }}", members.join(","))
        }
    }
}

/// The export's order is tenant (by its bytes), chain, seq.
fn export_is_in_order(lines: &[String]) {
    let key = |line: &String| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let number = |name: &str| event[name].as_str().unwrap().parse::<i64>().unwrap();
        (event["tenant_id"].as_str().unwrap().as_bytes().to_vec(), number("chain"), number("seq"))
    };
    assert!(lines.iter().map(key).is_sorted());
}

/// What a superuser could do, all over the table. No two rows get the same place: of two rows with one seq, each
/// program may take either for the first.
fn tamper(client: &mut Client) {
    client.run(
        "SET zeroauth_audit.maintenance = on;
         ALTER TABLE audit_events DISABLE TRIGGER ALL;
         UPDATE audit_events SET details = '{\"k\": 1}' WHERE seq % 97 = 0 AND details IS DISTINCT FROM '{\"k\": 1}';
         UPDATE audit_events SET actor_id = coalesce(actor_id, '') || ' ' WHERE seq = 41 AND chain = 1;
         UPDATE audit_events SET event_hash = sha256(event_hash) WHERE seq = 60;
         UPDATE audit_events SET prev_hash = sha256(prev_hash) WHERE seq = 80 AND chain = 0;
         DELETE FROM audit_events WHERE seq BETWEEN 20 AND 22 AND chain = 0;
         DELETE FROM audit_events WHERE seq = 1 AND tenant_id = 'acme';
         DELETE FROM audit_events WHERE seq = 150 AND tenant_id = 'new' || chr(10) || 'line';
         UPDATE audit_events SET tenant_id = 'moved' WHERE tenant_id = 'globex' AND chain = 0 AND seq = 30;
         ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zzz_zeroauth_audit_chain;
         ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_row;
         ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_statement;",
    );
}
