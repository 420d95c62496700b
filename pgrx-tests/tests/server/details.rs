//! What is hashed of `details` is `jsonb::text`, byte for byte, however the value is stored. The extension writes that text itself
//! where it can, so PostgreSQL's own text of the same value is what it is compared with.

use std::io::Write;

use fastrand::Rng;
use zeroauth_audit_tests::Cluster;

use crate::support::{Sql, assert_whole};

/// The private hash of an event that has nothing but details, from PostgreSQL's own functions.
const EXPECTED: &str = r"sha256('\x00000019'::bytea || 'zeroauth.audit/private/v1'::bytea || '\x000102030405060708090a0b0c0d0e0f'::bytea
    || '\x000000000001'::bytea || int4send(octet_length(d::text)) || convert_to(d::text, 'UTF8'))";
const OURS: &str = r"zeroauth_audit_internal.private_hash('\x000102030405060708090a0b0c0d0e0f', NULL, NULL, NULL, NULL, NULL, d)";

/// Any JSON, of every kind that is stored in a way of its own.
fn any_json(rng: &mut Rng, depth: u8) -> String {
    match rng.u8(0..if depth == 0 { 7 } else { 9 }) {
        0 => ["null", "true", "false"][rng.usize(0..3)].into(),
        1 => format!("{}", rng.i64(-100_000..100_000)),
        2 => any_number(rng),
        3..=6 => any_string(rng),
        7 => {
            let parts: Vec<String> = (0..any_count(rng)).map(|_| any_json(rng, depth - 1)).collect();
            format!("[{}]", parts.join(","))
        }
        _ => {
            let parts: Vec<String> = (0..any_count(rng))
                .map(|_| format!("{}:{}", any_string(rng), any_json(rng, depth - 1)))
                .collect();
            format!("{{{}}}", parts.join(","))
        }
    }
}

/// Mostly few, now and then more than the 32 after which an offset is stored instead of a length.
fn any_count(rng: &mut Rng) -> usize {
    if rng.u8(0..20) == 0 { rng.usize(30..70) } else { rng.usize(0..5) }
}

fn any_number(rng: &mut Rng) -> String {
    let digits = |rng: &mut Rng, most: usize| -> String {
        (0..rng.usize(1..most)).map(|_| char::from(b'0' + rng.u8(0..10))).collect()
    };
    let sign = ["", "-"][rng.usize(0..2)];
    let whole = format!("{}{}", rng.u8(1..10), digits(rng, 30));
    match rng.u8(0..6) {
        0 => format!("{sign}0.{}", digits(rng, 12)),
        1 => format!("{sign}{whole}.{}", digits(rng, 70)),
        2 => format!("{sign}{whole}e{}", rng.i32(-40..40)),
        3 => format!("{sign}{}0000.0000{}", rng.u8(1..10), digits(rng, 6)),
        4 => format!("{sign}0.00000000{}", digits(rng, 9)),
        _ => format!("{sign}{whole}{}", digits(rng, 300)),
    }
}

fn any_string(rng: &mut Rng) -> String {
    let length = if rng.u8(0..30) == 0 { rng.usize(100..400) } else { rng.usize(0..12) };
    let text: String = (0..length)
        .map(|_| match rng.u8(0..12) {
            0 => ["\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"][rng.usize(0..8)].to_owned(),
            1 => format!("\\u00{:02x}", rng.u8(1..32)),
            2 => ["\u{7f}", "ä", "€", "𝄞", "\u{2028}", "\\u00e9"][rng.usize(0..6)].to_owned(),
            _ => char::from(b'a' + rng.u8(0..26)).to_string(),
        })
        .collect();
    format!("\"{text}\"")
}

#[test]
fn details_of_every_kind_are_hashed_as_postgresql_prints_them() {
    let cluster = Cluster::audited("details").unwrap();
    let mut client = cluster.client();
    client.run("CREATE TABLE samples (n serial, d jsonb)");
    let mut rng = Rng::with_seed(11);
    let special = [
        "{}",
        "[]",
        "\"\"",
        "0",
        "-0",
        "-0.0",
        "0.0",
        "1",
        "9999",
        "10000",
        "1e2",
        "1.50",
        "12345678.000100",
        "0.0001",
        "[[]]",
        "{\"\": {}}",
        "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]",
        "{\"a\": [1, {\"b\": null}, \"c\"]}",
    ]
    .map(String::from);
    let long = [2040, 2046, 2047, 2048, 2049, 20_000].map(|length| format!("\"{}\"", "x".repeat(length)));
    let mut copy = client
        .copy_in("COPY samples (d) FROM STDIN WITH (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02')")
        .unwrap();
    for json in special.into_iter().chain(long).chain((0..8000).map(|_| any_json(&mut rng, 4))) {
        writeln!(copy, "{json}").unwrap();
    }
    copy.finish().unwrap();
    assert_eq!(client.line("SELECT count(*) > 8000 AND bool_or(length(d::text) > 2048) AND count(DISTINCT jsonb_typeof(d)) = 6 FROM samples"), "t");
    assert_eq!(
        client.lines(&format!("SELECT n || ': ' || left(d::text, 300) FROM samples WHERE {OURS} IS DISTINCT FROM {EXPECTED} ORDER BY n LIMIT 5")),
        [] as [&str; 0],
    );
    // The same values as they are stored in the trail: with a short length, compressed, or in the TOAST table.
    client.run("INSERT INTO audit_events (tenant_id, action, details) SELECT 'acme', 'x', d FROM samples WHERE octet_length(d::text) < 1000000");
    assert_whole(&mut client);
    let stored =
        OURS.replace(r"'\x000102030405060708090a0b0c0d0e0f'", "e.salt").replace(", d)", ", e.details)");
    let expected = EXPECTED
        .replace(r"'\x000102030405060708090a0b0c0d0e0f'::bytea", "e.salt")
        .replace("d::text", "e.details::text");
    assert_eq!(
        client
            .line(&format!("SELECT count(*) FROM audit_events e WHERE {stored} IS DISTINCT FROM {expected}")),
        "0"
    );
}
