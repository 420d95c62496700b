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
    let line = br#"{"seq":"2", "tenant_id": "a\u00e9\ud83d\ude00\n\"\\\/", "chain" : null }"#;
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
        ("{\"ip\":\"\0\"}", 7, What::Control),
        ("{", 1, expected("a string")),
        ("{,}", 1, expected("a string")),
        ("{\"ip\"}", 5, expected(":")),
        ("{\"ip\":}", 6, expected("a string or null")),
        ("{\"ip\":1}", 6, expected("a string or null")),
        ("{\"ip\":true}", 6, expected("a string or null")),
        ("{\"ip\":{\"b\":null}}", 6, expected("a string or null")),
        ("{\"ip\":[]}", 6, expected("a string or null")),
        ("{\"ip\":nul", 6, expected("a string or null")),
        ("{\"ip\":null", 10, expected("} or ,")),
        ("{\"ip\":null,}", 11, expected("a string")),
        ("{\"ip\":\"", 7, expected("the end of a string")),
        ("{\"ip\":\"\\\"", 9, expected("the end of a string")),
        ("{\"ip\":\"\\x\"}", 7, What::Escape),
        ("{\"ip\":\"\\u00g0\"}", 7, What::Escape),
        ("{\"ip\":\"\\ud800\"}", 7, What::Escape),
        ("{\"ip\":\"\\ud800\\u0041\"}", 7, What::Escape),
        ("{\"ip\":\"\\udc00\"}", 7, What::Escape),
        ("{\"ip\":null,\"ip\":null}", 11, What::Twice),
        ("{\"seq\":null,\"s\\u0065q\":null}", 12, What::Twice),
        ("{} {}", 3, expected("the end of the line")),
    ] {
        assert_eq!(wrong(line), (at, what), "{line:?}");
    }
    assert_eq!(read(b"{\"ip\":\"\xff\"}"), Err(Malformed { at: 7, what: What::NotUtf8 }));
}

#[test]
fn a_key_that_no_hash_covers_is_named_however_it_is_spelled() {
    for (key, shown) in [
        ("Action", "\"Action\""),
        ("outcome_final", "\"outcome_final\""),
        ("action ", "\"action \""),
        ("", "\"\""),
        // A Cyrillic letter, a joiner that no screen shows, and a colour for a terminal.
        ("\u{430}ction", "\"\u{430}ction\""),
        ("act\\u200dion", "\"act\\u{200d}ion\""),
        ("\\u001b[31mx", "\"\\u{1b}[31mx\""),
    ] {
        let line = format!("{{\"seq\":\"1\",\"{key}\":null}}");
        let (at, what) = wrong(&line);
        assert_eq!((at, what.to_string()), (11, format!("unknown key {shown}, which no hash covers")));
    }
    let long = wrong(&format!("{{\"{}\":null}}", "é".repeat(1000))).1.to_string();
    assert_eq!(long, format!("unknown key \"{}\".., which no hash covers", "é".repeat(64)));
}

#[test]
fn deep_nesting_is_refused_at_its_first_level() {
    let deep = format!("{{\"ip\":{}", "[".repeat(1 << 20));
    assert_eq!(wrong(&deep), (6, What::Expected("a string or null")));
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

fn known_key() -> impl Strategy<Value = String> {
    prop::sample::select(&KEYS[..]).prop_map(str::to_owned)
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![100 => known_key(), 1 => "[a-z\"\\\\é]{0,5}"]
}

proptest! {
    #[test]
    fn what_serde_json_writes_is_read_as_it_is(members in vec((key(), prop::option::of(any::<String>())), 0..40)) {
        let members: BTreeMap<_, _> = members.into_iter().collect();
        let line = serde_json::to_vec(&members).unwrap();
        let place = |key: &str| KEYS.iter().position(|known| *known == key);
        match members.keys().find(|key| place(key).is_none()) {
            Some(first) => prop_assert_eq!(read(&line).unwrap_err().what, What::Unknown(first.as_str().into())),
            None => {
                let expected: BTreeMap<usize, Option<String>> =
                    members.into_iter().filter_map(|(key, value)| Some((place(&key)?, value))).collect();
                prop_assert_eq!(read(&line).map(|found| found.into_iter().collect()), Ok(expected));
            }
        }
    }

    #[test]
    fn what_is_accepted_is_what_serde_json_accepts(members in vec((known_key(), prop::option::of("[ -~é]{0,8}")), 0..4), changes in vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), Just(b'{'), Just(b',')]), 0..3)) {
        let mut line = serde_json::to_vec(&members.into_iter().collect::<BTreeMap<_, _>>()).unwrap();
        for (at, byte) in changes {
            let at = at.index(line.len());
            line[at] = byte;
        }
        if let Ok(found) = read(&line) {
            let theirs = by_serde(&line).expect("serde_json refuses it");
            prop_assert_eq!(found.len(), theirs.len());
            for (key, value) in found {
                prop_assert_eq!(&theirs[KEYS[key]], &value);
            }
        } else if let Some(theirs) = by_serde(&line) {
            // Stricter: white space other than blanks, a key twice, which serde_json drops, and a key that is not known.
            let printed = serde_json::to_vec(&theirs).unwrap();
            let unknown = theirs.keys().any(|key| !KEYS.contains(&key.as_str()));
            prop_assert!(unknown || line.iter().any(u8::is_ascii_control) || printed.len() < line.len());
        }
    }
}
