//! Whether a set of events in any order is a whole chain, in constant memory.
//!
//! Every event adds a keyed digest of (its `seq` + 1, its `event_hash`) and takes away one of (its `seq`, its
//! `prev_hash`). In a whole chain each event's link cancels its predecessor's, and what remains is the head's digest
//! less that of the genesis. The key must be random and fresh for every run: then nobody can prepare rows
//! whose digests cancel by design, and a chance collision has probability 2^-128.
//!
//! It answers yes or no; [`crate::replay`] names the places.

use core::hash::Hasher as _;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::digest::Digest;

/// The secret of one verification run.
#[derive(Clone, Copy)]
pub struct Key([u64; 2]);

impl Key {
    /// Wraps 128 random bits, made for this run alone.
    #[must_use]
    pub const fn new(halves: [u64; 2]) -> Self {
        Self(halves)
    }

    fn digest(&self, seq: i64, hash: &Digest) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.0[0], self.0[1]);
        let mut bytes = [0; 40];
        bytes[..8].copy_from_slice(&seq.to_le_bytes());
        bytes[8..].copy_from_slice(hash.as_bytes());
        hasher.write(&bytes);
        hasher.finish128().as_u128()
    }
}

/// The state of one chain. Its counts saturate: a state read from bytes may be at the end of their range already, and a
/// count that started over would forget bad events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainState {
    /// Events seen.
    pub events: u64,
    /// Events whose content does not match their hash, or which cannot be read as events at all.
    pub bad_events: u64,
    /// Smallest `seq` seen.
    pub first_seq: i64,
    /// Largest `seq` seen.
    pub last_seq: i64,
    /// `event_hash` at `last_seq`.
    pub head: Digest,
    balance: u128,
}

impl Default for ChainState {
    fn default() -> Self {
        Self {
            events: 0,
            bad_events: 0,
            first_seq: i64::MAX,
            last_seq: i64::MIN,
            head: Digest::GENESIS,
            balance: 0,
        }
    }
}

impl ChainState {
    /// Bytes of [`ChainState::to_bytes`].
    pub const BYTES: usize = 80;

    /// Adds an event whose content has been checked (`content_ok`).
    #[inline]
    pub fn add(&mut self, key: &Key, seq: i64, prev: &Digest, hash: &Digest, content_ok: bool) {
        self.count(seq, hash, content_ok);
        // A chain cannot reach i64::MAX; a row that claims to wraps to a place nothing links to.
        self.add_link(key, seq.wrapping_add(1), hash);
        self.take_link(key, seq, prev);
    }

    #[inline]
    fn add_link(&mut self, key: &Key, seq: i64, hash: &Digest) {
        self.balance = self.balance.wrapping_add(key.digest(seq, hash));
    }

    #[inline]
    fn take_link(&mut self, key: &Key, seq: i64, hash: &Digest) {
        self.balance = self.balance.wrapping_sub(key.digest(seq, hash));
    }

    #[inline]
    fn count(&mut self, seq: i64, hash: &Digest, content_ok: bool) {
        self.events = self.events.saturating_add(1);
        self.bad_events = self.bad_events.saturating_add(u64::from(!content_ok));
        self.first_seq = self.first_seq.min(seq);
        if seq > self.last_seq {
            self.last_seq = seq;
            self.head = *hash;
        }
    }

    /// Counts a row that is no event: a field that every event has is NULL or of the wrong size.
    #[inline]
    pub fn add_unreadable(&mut self) {
        self.events = self.events.saturating_add(1);
        self.bad_events = self.bad_events.saturating_add(1);
    }

    /// Adds what another worker saw of the same chain.
    pub fn merge(&mut self, other: &ChainState) {
        self.events = self.events.saturating_add(other.events);
        self.bad_events = self.bad_events.saturating_add(other.bad_events);
        self.first_seq = self.first_seq.min(other.first_seq);
        if other.last_seq > self.last_seq {
            self.last_seq = other.last_seq;
            self.head = other.head;
        }
        self.balance = self.balance.wrapping_add(other.balance);
    }

    /// Whether the events are exactly one whole chain from its first event on, all of them with the right content.
    #[must_use]
    pub fn is_whole(&self, key: &Key) -> bool {
        let expected = key
            .digest(self.last_seq.wrapping_add(1), &self.head)
            .wrapping_sub(key.digest(1, &Digest::GENESIS));
        self.bad_events == 0
            && self.first_seq == 1
            && u64::try_from(self.last_seq) == Ok(self.events)
            && self.balance == expected
    }

    /// A fixed form, to carry the state between processes of one server.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..8].copy_from_slice(&self.events.to_le_bytes());
        out[8..16].copy_from_slice(&self.bad_events.to_le_bytes());
        out[16..24].copy_from_slice(&self.first_seq.to_le_bytes());
        out[24..32].copy_from_slice(&self.last_seq.to_le_bytes());
        out[32..64].copy_from_slice(self.head.as_bytes());
        out[64..].copy_from_slice(&self.balance.to_le_bytes());
        out
    }

    /// Reads [`ChainState::to_bytes`] back; `None` when the length is wrong.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::BYTES {
            return None;
        }
        Some(Self {
            events: u64::from_le_bytes(bytes[..8].try_into().ok()?),
            bad_events: u64::from_le_bytes(bytes[8..16].try_into().ok()?),
            first_seq: i64::from_le_bytes(bytes[16..24].try_into().ok()?),
            last_seq: i64::from_le_bytes(bytes[24..32].try_into().ok()?),
            head: Digest::from_slice(&bytes[32..64])?,
            balance: u128::from_le_bytes(bytes[64..].try_into().ok()?),
        })
    }
}

/// Adds up one chain's events as a scan brings them: mostly in the order of the chain, since that is how they were stored.
///
/// What an event adds is exactly what its successor takes away. So while one event follows another, neither is computed: the
/// sums are those of [`ChainState::add`].
#[derive(Clone, Copy)]
pub struct Scan {
    key: Key,
    state: ChainState,
    /// What the event seen last adds, and the next one may take away.
    open: Option<(i64, Digest)>,
}

impl Scan {
    /// An empty scan, or one that goes on from a state that was made with the same key.
    #[must_use]
    pub const fn new(key: Key, state: ChainState) -> Self {
        Self { key, state, open: None }
    }

    /// Adds an event whose content has been checked (`content_ok`).
    #[inline]
    pub fn add(&mut self, seq: i64, prev: &Digest, hash: &Digest, content_ok: bool) {
        self.state.count(seq, hash, content_ok);
        let follows = self.open.is_some_and(|(next, before)| next == seq && before == *prev);
        if !follows {
            self.close();
            self.state.take_link(&self.key, seq, prev);
        }
        self.open = Some((seq.wrapping_add(1), *hash));
    }

    /// As [`ChainState::add_unreadable`].
    #[inline]
    pub fn add_unreadable(&mut self) {
        self.state.add_unreadable();
    }

    /// What has been seen so far.
    pub fn state(&mut self) -> ChainState {
        self.close();
        self.state
    }

    /// Adds what another worker saw of the same chain with the same key.
    pub fn merge(&mut self, other: &mut Scan) {
        self.close();
        self.state.merge(&other.state());
    }

    fn close(&mut self) {
        if let Some((next, hash)) = self.open.take() {
            self.state.add_link(&self.key, next, &hash);
        }
    }
}
