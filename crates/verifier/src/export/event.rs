//! One exported event: its place, its links, and whether its fields have its hash.
//!
//! The same verdicts, in the same words, as those of `audit_findings()` inside the database. What is no event of an export at
//! all (a key that is absent, a number that is none) is [`Unreadable`]: it says nothing about the trail.

use zeroauth_audit_core::hash::HASH_VERSION;
use zeroauth_audit_core::{Digest, PrivateFields, PublicFields, Salt, event_hash, whole_event_hash};

use super::line::{KEYS, Value, Values};
use super::time::micros;

/// Index of each key that the code names.
mod at {
    pub const TENANT_ID: usize = 0;
    pub const CHAIN: usize = 1;
    pub const SEQ: usize = 2;
    pub const EVENT_ID: usize = 3;
    pub const OCCURRED_AT: usize = 4;
    pub const RECORDED_AT: usize = 5;
    pub const ACTOR_TYPE: usize = 23;
    pub const SALT: usize = 29;
    pub const PRIVATE_HASH: usize = 30;
    pub const PREV_HASH: usize = 31;
    pub const EVENT_HASH: usize = 32;
    pub const HASH_VERSION: usize = 33;
}

/// Why a line is no event of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreadable {
    /// A key is not there.
    Absent(&'static str),
    /// A value is not of its type.
    Value(&'static str),
    /// It cannot be placed: one of the three is null.
    Place,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unreadable::Absent(key) => write!(f, "no event of an export: {key} is not there"),
            Unreadable::Value(key) => write!(f, "no event of an export: malformed {key}"),
            Unreadable::Place => f.write_str("no event of an export: tenant_id, chain or seq is null"),
        }
    }
}

/// What is wrong with an event's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Nothing.
    Whole,
    /// Its fields do not have the hash that is stored.
    Mismatch {
        /// The hash its fields have.
        recomputed: Digest,
    },
    /// It is no event as the format has them, or its private part is gone.
    Wrong(&'static str),
    /// It has a version of the hash that is not known here.
    UnknownVersion(i64),
}

/// An event as far as the trail needs it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Whose trail it is on.
    pub tenant: &'a str,
    /// Which chain.
    pub chain: i16,
    /// Where in the chain.
    pub seq: i64,
    /// The producer's id; `None` when it is null.
    pub event_id: Option<[u8; 16]>,
    /// The stored `prev_hash` and `event_hash`; `Err` says which has another length than 32 bytes.
    pub links: Result<(Digest, Digest), &'static str>,
    /// What is wrong with its content.
    pub content: Content,
    /// Whether the line leaves out the private fields, and has their hash instead: whoever exported it might not read them.
    pub withheld: bool,
}

impl<'a> Event<'a> {
    /// Judges the event that `values` read from `line`.
    ///
    /// # Errors
    /// Any [`Unreadable`].
    pub fn judge(values: &'a Values, line: &'a [u8]) -> Result<Self, Unreadable> {
        let row = Row { values, line };
        // All of the private part or nothing of it: a null is a value, and an erased event has nulls.
        let withheld = values.lacks_just(at::ACTOR_TYPE..at::PRIVATE_HASH);
        if let Some(key) = values.absent().filter(|_| !withheld) {
            return Err(Unreadable::Absent(key));
        }
        let (Some(tenant), Some(chain), Some(seq)) =
            (row.text(at::TENANT_ID), row.int(at::CHAIN)?, row.int(at::SEQ)?)
        else {
            return Err(Unreadable::Place);
        };
        // The line is UTF-8, and so is what its escapes stand for.
        let tenant = std::str::from_utf8(tenant).map_err(|_| Unreadable::Value(KEYS[at::TENANT_ID]))?;
        let place = i16::try_from(chain).map_err(|_| Unreadable::Value(KEYS[at::CHAIN]))?;
        let event_id = row.uuid(at::EVENT_ID)?;
        let prev = row.bytes::<32>(at::PREV_HASH)?.ok_or("prev_hash is not 32 bytes");
        let stored = row.bytes::<32>(at::EVENT_HASH)?.ok_or("event_hash is not 32 bytes");
        let links = prev.and_then(|prev| Ok((Digest::new(prev), Digest::new(stored?))));
        let content = match links {
            Err(why) => Content::Wrong(why),
            Ok((prev, stored)) => row.content((tenant, chain, seq), event_id, withheld, &prev, &stored)?,
        };
        Ok(Self { tenant, chain: place, seq, event_id, links, content, withheld })
    }
}

struct Row<'a> {
    values: &'a Values,
    line: &'a [u8],
}

impl<'a> Row<'a> {
    fn content(
        &self,
        (tenant, chain, seq): (&str, i64, i64),
        event_id: Option<[u8; 16]>,
        withheld: bool,
        prev: &Digest,
        stored: &Digest,
    ) -> Result<Content, Unreadable> {
        match self.int(at::HASH_VERSION)? {
            Some(version) if version == i64::from(HASH_VERSION) => {}
            Some(version) => return Ok(Content::UnknownVersion(version)),
            None => return Ok(Content::Wrong("hash_version is not 1")),
        }
        let times = (self.time(at::OCCURRED_AT)?, self.time(at::RECORDED_AT)?);
        let (Some(event_id), (Some(occurred_at), Some(recorded_at))) = (event_id, times) else {
            return Ok(Content::Wrong("event_id, occurred_at or recorded_at is null"));
        };
        let public = PublicFields {
            tenant_id: Some(tenant.as_bytes()),
            chain,
            seq,
            event_id,
            occurred_at,
            recorded_at,
            category: self.text(6),
            action: self.text(7),
            outcome: self.text(8),
            severity: self.text(9),
            resource: self.text(10),
            service_name: self.text(11),
            env: self.text(12),
            provider: self.text(13),
            request_id: self.text(14),
            correlation_id: self.text(15),
            trace_id: self.text(16),
            span_id: self.text(17),
            status_code: self.int(18)?,
            latency_ms: self.int(19)?,
            payload_size: self.int(20)?,
            error_code: self.text(21),
            db_role: self.text(22),
        };
        let private = PrivateFields {
            actor_type: self.text(23),
            actor_id: self.text(24),
            ip: self.text(25),
            user_agent: self.text(26),
            error_message: self.text(27),
            details: self.text(28),
        };
        let (no_salt, not_erased) = (self.text(at::SALT).is_none(), self.text(at::PRIVATE_HASH).is_none());
        let salt = self.bytes::<16>(at::SALT)?.map(Salt::new);
        let erased = self.bytes::<32>(at::PRIVATE_HASH)?.map(Digest::new);
        let recomputed = match (salt, erased) {
            (Some(salt), None) if not_erased => whole_event_hash(prev, &public, &salt, &private),
            (None, Some(erased)) if no_salt && private.is_empty() => event_hash(prev, &public, &erased),
            _ => {
                return Ok(Content::Wrong("salt, private_hash and the private fields contradict each other"));
            }
        };
        if recomputed != *stored {
            return Ok(Content::Mismatch { recomputed });
        }
        Ok(match erased {
            None => Content::Whole,
            Some(_) if withheld => Content::Whole,
            Some(_) => Content::Wrong("the private part is gone and no chained event explains it"),
        })
    }

    fn text(&self, key: usize) -> Option<&'a [u8]> {
        match self.values.value(self.line, key) {
            Value::Text(text) => Some(text),
            Value::Null | Value::Absent => None,
        }
    }

    fn typed<T>(&self, key: usize, read: impl Fn(&[u8]) -> Option<T>) -> Result<Option<T>, Unreadable> {
        let Some(text) = self.text(key) else { return Ok(None) };
        read(text).map(Some).ok_or(Unreadable::Value(KEYS[key]))
    }

    fn int(&self, key: usize) -> Result<Option<i64>, Unreadable> {
        self.typed(key, int)
    }

    fn time(&self, key: usize) -> Result<Option<i64>, Unreadable> {
        self.typed(key, micros)
    }

    fn uuid(&self, key: usize) -> Result<Option<[u8; 16]>, Unreadable> {
        self.typed(key, uuid)
    }

    /// Bytes in hexadecimal; `None` for null and for another number of them.
    fn bytes<const N: usize>(&self, key: usize) -> Result<Option<[u8; N]>, Unreadable> {
        let Some(text) = self.text(key) else { return Ok(None) };
        if text.len() == 2 * N {
            return hexadecimal(text).map(Some).ok_or(Unreadable::Value(KEYS[key]));
        }
        let other_length =
            text.len().is_multiple_of(2) && text.iter().all(|digit| NIBBLES[usize::from(*digit)] < 16);
        if other_length { Ok(None) } else { Err(Unreadable::Value(KEYS[key])) }
    }
}

/// A decimal number as it is printed.
fn int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, text),
    };
    let canonical = match digits {
        [] => false,
        [b'0'] => !negative,
        [first, ..] => *first != b'0',
    };
    if !canonical || digits.len() > 19 {
        return None;
    }
    let mut number: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    match negative {
        false => i64::try_from(number).ok(),
        true => 0_i64.checked_sub_unsigned(number),
    }
}

/// What each byte is worth as a hexadecimal digit; a high bit for those that are none.
const NIBBLES: [u8; 256] = {
    let mut worth = [0x80; 256];
    let mut digit = 0;
    while digit < 16 {
        worth[b"0123456789abcdef"[digit] as usize] = digit as u8;
        digit += 1;
    }
    worth
};

fn hexadecimal<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let pairs: &[[u8; 2]; N] = pairs.try_into().ok()?;
    let mut wrong = 0;
    // All are read before one is found wrong: nothing to branch on.
    let bytes = pairs.map(|[high, low]| {
        let (high, low) = (NIBBLES[usize::from(high)], NIBBLES[usize::from(low)]);
        wrong |= high | low;
        high << 4 | low
    });
    (wrong < 0x80).then_some(bytes)
}

/// A UUID as it is printed.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut digits = [0; 32];
    let parts: [&[u8]; 5] = match text.len() {
        36 => [&text[..8], &text[9..13], &text[14..18], &text[19..23], &text[24..]],
        _ => return None,
    };
    if [8, 13, 18, 23].iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut at = 0;
    for part in parts {
        digits[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    hexadecimal(&digits)
}

/// A UUID in its usual form.
pub fn print_uuid(id: &[u8; 16]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(36);
    for (at, byte) in id.iter().enumerate() {
        if [4, 6, 8, 10].contains(&at) {
            text.push('-');
        }
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_printed_alone() {
        for number in [0, 1, -1, 42, i64::MAX, i64::MIN, i64::MAX - 1, 10_000] {
            assert_eq!(int(number.to_string().as_bytes()), Some(number));
        }
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            "00",
            " 1",
            "1 ",
            "1.0",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "0x1",
            "١",
        ] {
            assert_eq!(int(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn uuids_are_read_as_they_are_printed_alone() {
        let id: [u8; 16] = std::array::from_fn(|at| at as u8 * 17);
        let text = print_uuid(&id);
        assert_eq!(text, "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(uuid(text.as_bytes()), Some(id));
        for wrong in
            [text.to_uppercase(), text.replace('-', ""), text.replace('0', "g"), format!("{{{text}}}")]
        {
            assert_eq!(uuid(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn every_event_of_the_published_vectors_has_its_hash() {
        let file = include_str!("../../../core/tests/vectors/hash_v1.json");
        let file: serde_json::Value = serde_json::from_str(file).unwrap();
        let mut erased = 0;
        for entry in file["events"].as_array().unwrap() {
            let mut event = entry["event"].clone();
            event["hash_version"] = "1".into();
            let line = serde_json::to_vec(&event).unwrap();
            let mut values = Values::default();
            values.read(&line).unwrap();
            match Event::judge(&values, &line).unwrap().content {
                Content::Whole => {}
                Content::Wrong("the private part is gone and no chained event explains it") => erased += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(erased, 3);
    }
}
