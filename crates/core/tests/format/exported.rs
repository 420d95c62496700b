//! An exported event (`docs/format.md`, "The export") read into plain values.

use serde_json::Value as Json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::plain::{Event, Kind, PRIVATE, PUBLIC, Value};

const TIMES: [&str; 2] = ["occurred_at", "recorded_at"];

/// An exported event: its values and the hashes stored with it.
pub struct Exported {
    /// The values; of an erased event, no salt (zeros) and no private values.
    pub event: Event,
    /// The stored private hash: the private part was erased.
    pub erased: Option<[u8; 32]>,
    /// The stored event hash.
    pub event_hash: [u8; 32],
}

/// A hexadecimal string of `N` bytes.
pub fn hex<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

fn micros(text: &str) -> i64 {
    match text {
        "infinity" => i64::MAX,
        "-infinity" => i64::MIN,
        _ => {
            let since_epoch = OffsetDateTime::parse(text, &Rfc3339).unwrap() - OffsetDateTime::UNIX_EPOCH;
            assert_eq!(since_epoch.subsec_nanoseconds() % 1000, 0, "finer than a microsecond: {text}");
            i64::try_from(since_epoch.whole_microseconds()).unwrap()
        }
    }
}

fn value(text: Option<&str>, name: &str, kind: Kind) -> Value {
    match kind {
        Kind::Text => Value::Text(text.map(|text| text.as_bytes().to_vec())),
        Kind::Int if TIMES.contains(&name) => Value::Int(text.map(micros)),
        Kind::Int => Value::Int(text.map(|text| text.parse().unwrap())),
        Kind::Uuid => Value::Uuid(hex(&text.unwrap().replace('-', ""))),
    }
}

impl Exported {
    /// Reads one exported object.
    pub fn read(object: &Json) -> Self {
        let string = |name: &str| match &object[name] {
            Json::Null => None,
            Json::String(text) => Some(text.as_str()),
            other => panic!("{name} is neither a string nor null: {other}"),
        };
        let values = |fields: &[(&str, Kind)]| {
            fields.iter().map(|(name, kind)| value(string(name), name, *kind)).collect()
        };
        Self {
            event: Event {
                prev: hex(string("prev_hash").unwrap()),
                salt: string("salt").map_or([0; 16], hex),
                public: values(&PUBLIC),
                private: values(&PRIVATE),
            },
            erased: string("private_hash").map(hex),
            event_hash: hex(string("event_hash").unwrap()),
        }
    }
}

#[test]
fn times_are_exact_to_the_microsecond_also_before_1970_and_at_the_ends_of_the_calendar() {
    for (text, expected) in [
        ("1970-01-01T00:00:00+00:00", 0),
        ("1969-12-31T23:59:59.999999+00:00", -1),
        ("2026-11-21T12:34:56.5+00:00", 1_795_264_496_500_000),
        ("0001-01-01T00:00:00+00:00", -62_135_596_800_000_000),
        ("9999-12-31T23:59:59.999999+00:00", 253_402_300_799_999_999),
        ("infinity", i64::MAX),
        ("-infinity", i64::MIN),
    ] {
        assert_eq!(micros(text), expected, "{text}");
    }
}
