//! What every input must satisfy: one check for each fuzz target, a function of bytes that panics when it does not hold.
//!
//! The targets (`fuzz_targets/`) run them under libFuzzer; `crates/core/tests/fuzzed.rs` runs them over the committed
//! corpus and over random bytes, on any machine.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a check that fails panics")]

#[path = "../../crates/core/tests/format/plain.rs"]
#[allow(dead_code, reason = "the tests of the format use all of it")]
mod plain;

pub mod formats;

use plain::{EventInput, Kind, PRIVATE, PUBLIC, Value};
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::encode::Sink;
use zeroauth_audit_core::multiset::{ChainState, Key};
use zeroauth_audit_core::replay::{LinkFinding, Replay};

/// A check, by the name of its target and of its corpus.
pub type Check = fn(&[u8]);

/// Every check there is.
pub const CHECKS: [(&str, Check); 10] = [
    ("bundle", formats::bundle),
    ("chain_state", chain_state),
    ("checkpoint", formats::checkpoint),
    ("decoder", decoder),
    ("event", event),
    ("key", formats::key),
    ("links", links),
    ("registry_entry", formats::registry_entry),
    ("run_file", formats::run_file),
    ("signed_note", formats::signed_note),
];

/// Takes values from the front of the input; zeros when it is used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let taken = self.0.len().min(N);
        out[..taken].copy_from_slice(&self.0[..taken]);
        self.0 = &self.0[taken..];
        out
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.bytes();
        byte
    }

    /// An integer, mostly small, at times at the ends of the range.
    fn int(&mut self) -> i64 {
        match self.byte() {
            0xff => i64::from_le_bytes(self.bytes()),
            0xfe => i64::MAX - i64::from(self.byte()),
            0xfd => i64::MIN + i64::from(self.byte()),
            small => i64::from(small) - 2,
        }
    }

    /// A text; its length of two bytes reaches beyond the encoder's stage.
    fn text(&mut self) -> Vec<u8> {
        let length = usize::from(u16::from_le_bytes(self.bytes()) % 3000);
        (0..length).map(|_| self.byte()).collect()
    }
}

struct Bytes(Vec<u8>);

impl Sink for Bytes {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Bytes that claim to be the state of a chain: read or refused, written back the same, merged without a panic.
pub fn chain_state(data: &[u8]) {
    let Some(state) = ChainState::from_bytes(data) else {
        assert_ne!(data.len(), ChainState::BYTES, "refused for another reason than its length");
        return;
    };
    assert_eq!(state.to_bytes(), data, "a state is written as it was read");
    let key = Key::new([1, 2]);
    let mut twice = state;
    twice.merge(&state);
    twice.add_unreadable();
    assert!(!twice.is_whole(&key), "an unreadable row is forgotten");
    let mut alone = state;
    alone.merge(&ChainState::default());
    assert_eq!(alone.is_whole(&key), state.is_whole(&key), "nothing added, and another verdict");
    // No place is beyond the range.
    let mut more = state;
    more.add(&key, i64::MAX, &Digest::GENESIS, &Digest::GENESIS, false);
    assert!(!more.is_whole(&key), "a bad event is forgotten");
}

/// Bytes that claim to be what an event's hash is taken of: if they can be read, they are the only encoding of what was read,
/// and the crate hashes them.
pub fn decoder(data: &[u8]) {
    if let Ok(EventInput { prev, public, private_hash }) = plain::decode_event_input(data) {
        let required = |(value, (name, _)): (&Value, &(&str, Kind))| {
            !plain::NEVER_NULL.contains(name) || !matches!(value, Value::Int(None))
        };
        if !public.iter().zip(&PUBLIC).all(required) {
            return; // the crate's types cannot say it
        }
        let event = plain::Event { prev, salt: [0; 16], public, private: nothing_private() };
        assert_eq!(plain::event_input(&event, &private_hash), data, "two encodings of one event");
        let hash = zeroauth_audit_core::event_hash(
            &Digest::new(prev),
            &event.public_fields(),
            &Digest::new(private_hash),
        );
        assert_eq!(hash.as_bytes(), &plain::sha256(data));
    }
    if let Ok((salt, private)) = plain::decode_private_input(data) {
        let public = PUBLIC.map(|(_, kind)| zero(kind)).to_vec();
        let event = plain::Event { prev: [0; 32], salt, public, private };
        assert_eq!(plain::private_input(&event), data, "two encodings of one private part");
        assert_eq!(event.core_private_hash().as_bytes(), &plain::sha256(data));
    }
}

fn nothing_private() -> Vec<Value> {
    PRIVATE.map(|_| Value::Text(None)).to_vec()
}

fn zero(kind: Kind) -> Value {
    match kind {
        Kind::Text => Value::Text(None),
        Kind::Int => Value::Int(Some(0)),
        Kind::Uuid => Value::Uuid([0; 16]),
    }
}

/// Any event: its encoding reads back to it, and its hashes are those of the plain implementation.
pub fn event(data: &[u8]) {
    let mut input = Input(data);
    let mut value = |(name, kind): (&str, Kind)| match kind {
        Kind::Text => Value::Text((input.byte() % 4 != 0).then(|| input.text())),
        Kind::Int if plain::NEVER_NULL.contains(&name) => Value::Int(Some(input.int())),
        Kind::Int => Value::Int((input.byte() % 4 != 0).then(|| input.int())),
        Kind::Uuid => Value::Uuid(input.bytes()),
    };
    let public = PUBLIC.map(&mut value).to_vec();
    let private = PRIVATE.map(&mut value).to_vec();
    let event = plain::Event { prev: input.bytes(), salt: input.bytes(), public, private };

    let mut encoded = Bytes(Vec::new());
    event.public_fields().encode(&mut encoded);
    assert_eq!(plain::decode(&PUBLIC, &encoded.0), Ok(event.public.clone()));
    let mut encoded = Bytes(Vec::new());
    event.private_fields().encode(&mut encoded);
    assert_eq!(plain::decode(&PRIVATE, &encoded.0), Ok(event.private.clone()));

    let private_hash = plain::sha256(&plain::private_input(&event));
    assert_eq!(event.core_private_hash().as_bytes(), &private_hash);
    assert_eq!(
        event.core_event_hash().as_bytes(),
        &plain::sha256(&plain::event_input(&event, &private_hash))
    );
}

/// Any list of links: the replay in order says what a naive model says, and the order-free check agrees with both.
pub fn links(data: &[u8]) {
    let mut input = Input(data);
    let key = Key::new([u64::from(input.byte()), 7]);
    let mut links = Vec::new();
    while !input.0.is_empty() && links.len() < 64 {
        let digest = |number: u8| Digest::new([number % 8; 32]);
        links.push((input.int(), digest(input.byte()), digest(input.byte())));
    }
    let mut state = ChainState::default();
    for (seq, prev, hash) in &links {
        state.add(&key, *seq, prev, hash, true);
    }
    let unsorted = links.clone();
    links.sort_by_key(|(seq, ..)| *seq);
    let mut replay = Replay::from_genesis();
    let found: Vec<_> = links.iter().map(|(seq, prev, hash)| replay.step(*seq, prev, hash)).collect();
    assert_eq!(found, model(&links));
    let whole = !links.is_empty() && found.iter().all(Option::is_none);
    assert_eq!(state.is_whole(&key), whole, "the order-free check and the replay disagree");

    // However the work is shared.
    let (left, right) = unsorted.split_at(unsorted.len() / 2);
    let mut halves = [ChainState::default(); 2];
    for (half, links) in halves.iter_mut().zip([left, right]) {
        links.iter().for_each(|(seq, prev, hash)| half.add(&key, *seq, prev, hash, true));
    }
    let [mut both, other] = halves;
    both.merge(&other);
    assert_eq!(both.is_whole(&key), whole);
}

/// What is wrong at each place of sorted links, each judged by itself and its neighbour, in numbers that cannot overflow.
fn model(links: &[(i64, Digest, Digest)]) -> Vec<Option<LinkFinding>> {
    let genesis = (0, Digest::GENESIS, Digest::GENESIS);
    let before = std::iter::once(&genesis).chain(links);
    let judge = |((last, _, expected), (seq, prev, _)): (&(i64, _, Digest), &(i64, Digest, Digest))| {
        match i128::from(*seq) - i128::from(*last) {
            ..=0 => Some(LinkFinding::Fork),
            1 if expected == prev => None,
            1 => Some(LinkFinding::LinkBroken { expected: *expected }),
            _ => Some(LinkFinding::Gap { from: last + 1, to: seq - 1 }),
        }
    };
    before.zip(links).map(judge).collect()
}
