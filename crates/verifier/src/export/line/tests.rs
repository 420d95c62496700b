//! Lines, held against serde_json.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

fn read(line: &[u8]) -> Result<Vec<(usize, Option<String>)>, Malformed> {
    let mut values = Values::default();
    values.read(line)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let present = |key| match values.value(line, key) {
        Value::Absent => None,
        Value::Null => Some((key, None)),
        Value::Text(bytes) => Some((key, Some(text(bytes)))),
    };
    Ok((0..KEYS.len()).filter_map(present).collect())
}

fn wrong(line: &str) -> (usize, What) {
    let Malformed { at, what } = read(line.as_bytes()).unwrap_err();
    (at, what)
}

#[test]
fn a_line_is_read_in_any_order_of_its_keys() {
    let line = br#"{"seq":"2", "tenant_id": "a\u00e9\ud83d\ude00\n\"\\\/", "later":"x", "chain" : null }"#;
    let expected = vec![(0, Some("aé😀\n\"\\/".into())), (1, None), (2, Some("2".into()))];
    assert_eq!(read(line), Ok(expected));
    assert_eq!(read(b"{}"), Ok(vec![]));
}

#[test]
fn what_is_no_line_of_an_export_is_named_with_its_byte() {
    let expected = |what| What::Expected(what);
    for (line, at, what) in [
        ("", 0, expected("{")),
        ("[]", 0, expected("{")),
        ("\u{feff}{}", 0, What::ByteOrderMark),
        ("{}\r", 2, What::Control),
        ("{\"a\":\"\0\"}", 6, What::Control),
        ("{", 1, expected("a string")),
        ("{,}", 1, expected("a string")),
        ("{\"a\"}", 4, expected(":")),
        ("{\"a\":}", 5, expected("a string or null")),
        ("{\"a\":1}", 5, expected("a string or null")),
        ("{\"a\":true}", 5, expected("a string or null")),
        ("{\"a\":{\"b\":null}}", 5, expected("a string or null")),
        ("{\"a\":[]}", 5, expected("a string or null")),
        ("{\"a\":nul", 5, expected("a string or null")),
        ("{\"a\":null", 9, expected("} or ,")),
        ("{\"a\":null,}", 10, expected("a string")),
        ("{\"a\":\"", 6, expected("the end of a string")),
        ("{\"a\":\"\\\"", 8, expected("the end of a string")),
        ("{\"a\":\"\\x\"}", 6, What::Escape),
        ("{\"a\":\"\\u00g0\"}", 6, What::Escape),
        ("{\"a\":\"\\ud800\"}", 6, What::Escape),
        ("{\"a\":\"\\ud800\\u0041\"}", 6, What::Escape),
        ("{\"a\":\"\\udc00\"}", 6, What::Escape),
        ("{\"a\":null,\"a\":null}", 10, What::Twice),
        ("{\"seq\":null,\"s\\u0065q\":null}", 12, What::Twice),
        ("{} {}", 3, expected("the end of the line")),
    ] {
        assert_eq!(wrong(line), (at, what), "{line:?}");
    }
    assert_eq!(read(b"{\"a\":\"\xff\"}"), Err(Malformed { at: 6, what: What::NotUtf8 }));
    let many: Vec<String> = (0..=MAX_UNKNOWN).map(|number| format!("\"{number}\":null")).collect();
    assert_eq!(wrong(&format!("{{{}}}", many.join(","))).1, What::Unknown);
}

#[test]
fn deep_nesting_is_refused_at_its_first_level() {
    let deep = format!("{{\"a\":{}", "[".repeat(1 << 20));
    assert_eq!(wrong(&deep), (5, What::Expected("a string or null")));
}

/// What serde_json makes of a line, if it is one: a flat object of strings and nulls.
fn by_serde(line: &[u8]) -> Option<BTreeMap<String, Option<String>>> {
    let value: Json = serde_json::from_slice(line).ok()?;
    let members = value.as_object()?.iter().map(|(key, value)| match value {
        Json::Null => Some((key.clone(), None)),
        Json::String(text) => Some((key.clone(), Some(text.clone()))),
        _ => None,
    });
    members.collect()
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![4 => prop::sample::select(&KEYS[..]).prop_map(str::to_owned), 1 => "[a-z\"\\\\é]{0,5}"]
}

proptest! {
    #[test]
    fn what_serde_json_writes_is_read_as_it_is(members in vec((key(), prop::option::of(any::<String>())), 0..40)) {
        let members: BTreeMap<_, _> = members.into_iter().collect();
        let line = serde_json::to_vec(&members).unwrap();
        let known = |(key, value): (String, Option<String>)| KEYS.iter().position(|k| *k == key).map(|at| (at, value));
        let expected: BTreeMap<usize, Option<String>> = members.into_iter().filter_map(known).collect();
        prop_assert_eq!(read(&line).map(|found| found.into_iter().collect()), Ok(expected));
    }

    #[test]
    fn what_is_accepted_is_what_serde_json_accepts(members in vec((key(), prop::option::of("[ -~é]{0,8}")), 0..4), changes in vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), Just(b'{'), Just(b',')]), 0..3)) {
        let mut line = serde_json::to_vec(&members.into_iter().collect::<BTreeMap<_, _>>()).unwrap();
        for (at, byte) in changes {
            let at = at.index(line.len());
            line[at] = byte;
        }
        if let Ok(found) = read(&line) {
            let theirs = by_serde(&line).expect("serde_json refuses it");
            for (key, value) in found {
                prop_assert_eq!(&theirs[KEYS[key]], &value);
            }
        } else if let Some(theirs) = by_serde(&line) {
            // Stricter: white space other than blanks, and a key twice, which serde_json drops.
            let printed = serde_json::to_vec(&theirs).unwrap();
            prop_assert!(line.iter().any(u8::is_ascii_control) || printed.len() < line.len());
        }
    }
}
