//! The format the plain way: an event is a list of values, its input to SHA-256 one growing byte string.
//!
//! Written from `docs/format.md`, and slow on purpose: the only thing shared with the crate is SHA-256. The
//! conversion to the crate's own types is at the end.

use sha2::{Digest as _, Sha256};
use zeroauth_audit_core::{Digest, PrivateFields, PublicFields, Salt, event_hash, private_hash};

/// How a field is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes as stored.
    Text,
    /// Signed 64 bits; times are integers too.
    Int,
    /// 16 bytes.
    Uuid,
}

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(Option<Vec<u8>>),
    Int(Option<i64>),
    Uuid([u8; 16]),
}

/// The public fields in hash order.
pub const PUBLIC: [(&str, Kind); 23] = [
    ("tenant_id", Kind::Text),
    ("chain", Kind::Int),
    ("seq", Kind::Int),
    ("event_id", Kind::Uuid),
    ("occurred_at", Kind::Int),
    ("recorded_at", Kind::Int),
    ("category", Kind::Text),
    ("action", Kind::Text),
    ("outcome", Kind::Text),
    ("severity", Kind::Text),
    ("resource", Kind::Text),
    ("service_name", Kind::Text),
    ("env", Kind::Text),
    ("provider", Kind::Text),
    ("request_id", Kind::Text),
    ("correlation_id", Kind::Text),
    ("trace_id", Kind::Text),
    ("span_id", Kind::Text),
    ("status_code", Kind::Int),
    ("latency_ms", Kind::Int),
    ("payload_size", Kind::Int),
    ("error_code", Kind::Text),
    ("db_role", Kind::Text),
];

/// The private fields in hash order.
pub const PRIVATE: [(&str, Kind); 6] = [
    ("actor_type", Kind::Text),
    ("actor_id", Kind::Text),
    ("ip", Kind::Text),
    ("user_agent", Kind::Text),
    ("error_message", Kind::Text),
    ("details", Kind::Text),
];

/// Fields that no event lacks; the crate's types cannot express their absence.
pub const NEVER_NULL: [&str; 5] = ["chain", "seq", "event_id", "occurred_at", "recorded_at"];

/// One event: values in the order of [`PUBLIC`] and [`PRIVATE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub prev: [u8; 32],
    pub salt: [u8; 16],
    pub public: Vec<Value>,
    pub private: Vec<Value>,
}

fn lp(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}

fn opt(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        None => vec![0x00],
        Some(bytes) => [vec![0x01], lp(bytes)].concat(),
    }
}

fn encode(values: &[Value]) -> Vec<u8> {
    let encoded = values.iter().map(|value| match value {
        Value::Text(text) => opt(text.as_deref()),
        Value::Int(number) => opt(number.map(i64::to_be_bytes).as_ref().map(|bytes| &bytes[..])),
        Value::Uuid(uuid) => opt(Some(uuid)),
    });
    encoded.collect::<Vec<_>>().concat()
}

/// What is hashed into the private hash.
pub fn private_input(event: &Event) -> Vec<u8> {
    [lp(b"zeroauth.audit/private/v1"), event.salt.to_vec(), encode(&event.private)].concat()
}

/// What is hashed into the event hash.
pub fn event_input(event: &Event, private_hash: &[u8; 32]) -> Vec<u8> {
    let domain = lp(b"zeroauth.audit/event/v1");
    [domain, event.prev.to_vec(), encode(&event.public), private_hash.to_vec()].concat()
}

/// SHA-256 in one call.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Why bytes are not the encoding of any event.
#[derive(Debug, PartialEq, Eq)]
pub enum Malformed {
    Truncated,
    Domain,
    Presence(u8),
    Length(usize),
    Trailing(usize),
}

/// Reads an encoding from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        Ok(self.take(N)?.try_into().unwrap())
    }

    fn lp(&mut self) -> Result<&'a [u8], Malformed> {
        let length = u32::from_be_bytes(self.fixed()?);
        self.take(usize::try_from(length).unwrap())
    }

    fn opt(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.fixed()? {
            [0x00] => Ok(None),
            [0x01] => self.lp().map(Some),
            [other] => Err(Malformed::Presence(other)),
        }
    }

    fn value(&mut self, kind: Kind) -> Result<Value, Malformed> {
        let value = self.opt()?;
        let wrong_length = |bytes: &[u8]| Malformed::Length(bytes.len());
        Ok(match (kind, value) {
            (Kind::Text, text) => Value::Text(text.map(<[u8]>::to_vec)),
            (Kind::Int, None) => Value::Int(None),
            (Kind::Int, Some(bytes)) => {
                Value::Int(Some(i64::from_be_bytes(bytes.try_into().map_err(|_| wrong_length(bytes))?)))
            }
            (Kind::Uuid, bytes) => {
                let bytes = bytes.ok_or(Malformed::Length(0))?;
                Value::Uuid(bytes.try_into().map_err(|_| wrong_length(bytes))?)
            }
        })
    }

    fn domain(&mut self, expected: &[u8]) -> Result<(), Malformed> {
        if self.lp()? == expected { Ok(()) } else { Err(Malformed::Domain) }
    }

    fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Trailing(self.0.len())) }
    }
}

/// Reads values of the kinds of `fields` back from their encoding, which must hold nothing else.
pub fn decode(fields: &[(&str, Kind)], bytes: &[u8]) -> Result<Vec<Value>, Malformed> {
    let mut reader = Reader(bytes);
    let values = fields.iter().map(|(_, kind)| reader.value(*kind)).collect::<Result<_, _>>()?;
    reader.end().map(|()| values)
}

/// Reads [`private_input`] back: the salt and the private values.
pub fn decode_private_input(bytes: &[u8]) -> Result<([u8; 16], Vec<Value>), Malformed> {
    let mut reader = Reader(bytes);
    reader.domain(b"zeroauth.audit/private/v1")?;
    Ok((reader.fixed()?, decode(&PRIVATE, reader.0)?))
}

/// What [`event_input`] holds.
#[derive(Debug, PartialEq, Eq)]
pub struct EventInput {
    pub prev: [u8; 32],
    pub public: Vec<Value>,
    pub private_hash: [u8; 32],
}

/// Reads [`event_input`] back.
pub fn decode_event_input(bytes: &[u8]) -> Result<EventInput, Malformed> {
    let mut reader = Reader(bytes);
    reader.domain(b"zeroauth.audit/event/v1")?;
    let prev = reader.fixed()?;
    let public = PUBLIC.iter().map(|(_, kind)| reader.value(*kind)).collect::<Result<_, _>>()?;
    let private_hash = reader.fixed()?;
    reader.end().map(|()| EventInput { prev, public, private_hash })
}

impl Event {
    /// The value of the field called `name`.
    pub fn value(&mut self, name: &str) -> &mut Value {
        let public = PUBLIC.iter().position(|(field, _)| *field == name);
        let private = PRIVATE.iter().position(|(field, _)| *field == name);
        match (public, private) {
            (Some(index), _) => &mut self.public[index],
            (None, Some(index)) => &mut self.private[index],
            (None, None) => panic!("no field is called {name}"),
        }
    }

    /// The public fields as the crate takes them.
    pub fn public_fields(&self) -> PublicFields<'_> {
        let value = |name: &str| &self.public[PUBLIC.iter().position(|(field, _)| *field == name).unwrap()];
        let text = |name: &str| match value(name) {
            Value::Text(text) => text.as_deref(),
            other => panic!("{name} is {other:?}"),
        };
        let int = |name: &str| match value(name) {
            Value::Int(number) => *number,
            other => panic!("{name} is {other:?}"),
        };
        PublicFields {
            tenant_id: text("tenant_id"),
            chain: int("chain").unwrap(),
            seq: int("seq").unwrap(),
            event_id: match value("event_id") {
                Value::Uuid(uuid) => *uuid,
                other => panic!("event_id is {other:?}"),
            },
            occurred_at: int("occurred_at").unwrap(),
            recorded_at: int("recorded_at").unwrap(),
            category: text("category"),
            action: text("action"),
            outcome: text("outcome"),
            severity: text("severity"),
            resource: text("resource"),
            service_name: text("service_name"),
            env: text("env"),
            provider: text("provider"),
            request_id: text("request_id"),
            correlation_id: text("correlation_id"),
            trace_id: text("trace_id"),
            span_id: text("span_id"),
            status_code: int("status_code"),
            latency_ms: int("latency_ms"),
            payload_size: int("payload_size"),
            error_code: text("error_code"),
            db_role: text("db_role"),
        }
    }

    /// The private fields as the crate takes them.
    pub fn private_fields(&self) -> PrivateFields<'_> {
        let text = |name: &str| match &self.private[PRIVATE.iter().position(|(f, _)| *f == name).unwrap()] {
            Value::Text(text) => text.as_deref(),
            other => panic!("{name} is {other:?}"),
        };
        PrivateFields {
            actor_type: text("actor_type"),
            actor_id: text("actor_id"),
            ip: text("ip"),
            user_agent: text("user_agent"),
            error_message: text("error_message"),
            details: text("details"),
        }
    }

    /// The private hash that the crate computes.
    pub fn core_private_hash(&self) -> Digest {
        private_hash(&Salt::new(self.salt), &self.private_fields())
    }

    /// The event hash that the crate computes.
    pub fn core_event_hash(&self) -> Digest {
        event_hash(&Digest::new(self.prev), &self.public_fields(), &self.core_private_hash())
    }
}
