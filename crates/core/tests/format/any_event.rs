//! Random events, biased towards what an ambiguous encoding would confuse.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::plain::{Event, Kind, NEVER_NULL, PRIVATE, PUBLIC, Value};

/// Bytes of a text: mostly short, at times longer than any staging buffer, at times made of the format's own bytes.
pub fn text() -> impl Strategy<Value = Vec<u8>> {
    let imitation = prop_oneof![
        Just(vec![0x00]),
        Just(vec![0x01]),
        Just(vec![0x01, 0, 0, 0, 0]),
        Just(vec![0x01, 0, 0, 0, 1, b'x']),
        Just(vec![0, 0, 0, 8]),
        Just(b"zeroauth.audit/event/v1".to_vec()),
    ];
    prop_oneof![
        4 => vec(any::<u8>(), 0..24),
        3 => vec(imitation, 0..6).prop_map(|pieces| pieces.concat()),
        2 => "\\PC{0,12}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 900..1100),
        1 => vec(any::<u8>(), 2000..5000),
    ]
}

fn int() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), -2..3i64, Just(i64::MIN), Just(i64::MAX)]
}

fn value(name: &'static str, kind: Kind) -> BoxedStrategy<Value> {
    let required = NEVER_NULL.contains(&name);
    match kind {
        Kind::Text => proptest::option::weighted(0.8, text()).prop_map(Value::Text).boxed(),
        Kind::Int if required => int().prop_map(|number| Value::Int(Some(number))).boxed(),
        Kind::Int => proptest::option::weighted(0.8, int()).prop_map(Value::Int).boxed(),
        Kind::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
    }
}

fn values(fields: &'static [(&'static str, Kind)]) -> impl Strategy<Value = Vec<Value>> {
    fields.iter().map(|(name, kind)| value(name, *kind)).collect::<Vec<_>>()
}

/// Any event.
pub fn event() -> impl Strategy<Value = Event> {
    let fields = (any::<[u8; 32]>(), any::<[u8; 16]>(), values(&PUBLIC), values(&PRIVATE));
    fields.prop_map(|(prev, salt, public, private)| Event { prev, salt, public, private })
}

/// An event in which every field has a value of its own, short enough to try every bit of it.
pub fn full_event() -> Event {
    let values = |fields: &[(&str, Kind)]| {
        let of = |(index, (name, kind)): (usize, &(&str, Kind))| match kind {
            Kind::Text => Value::Text(Some(name.as_bytes().to_vec())),
            Kind::Int => Value::Int(Some(1000 + i64::try_from(index).unwrap())),
            Kind::Uuid => Value::Uuid(*b"sixteen bytes id"),
        };
        fields.iter().enumerate().map(of).collect()
    };
    Event { prev: [0xa5; 32], salt: [0x5a; 16], public: values(&PUBLIC), private: values(&PRIVATE) }
}
