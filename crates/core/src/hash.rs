//! The two hashes of an event, version 1 (format section 3).

use zeroauth_audit_sha256_pair::Message;

use crate::digest::{Digest, Salt};
use crate::encode::{Sink, length_prefixed};
use crate::event::{PrivateFields, PublicFields};

/// The only version there is; a new or changed field is a new version with its own domain strings.
pub const HASH_VERSION: i16 = 1;

const EVENT_DOMAIN: &[u8] = b"zeroauth.audit/event/v1";
const PRIVATE_DOMAIN: &[u8] = b"zeroauth.audit/private/v1";

/// SHA-256 as the encoder's sink.
struct Input(Message);

impl Input {
    #[inline]
    const fn new() -> Self {
        Self(Message::new())
    }

    fn put_private(&mut self, salt: &Salt, fields: &PrivateFields<'_>) {
        length_prefixed(self, PRIVATE_DOMAIN);
        self.put(salt.as_bytes());
        fields.encode(self);
    }

    /// All but the private hash at its end.
    fn put_event(&mut self, prev: &Digest, public: &PublicFields<'_>) {
        length_prefixed(self, EVENT_DOMAIN);
        self.put(prev.as_bytes());
        public.encode(self);
    }
}

impl Sink for Input {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0.put(bytes);
    }

    #[inline]
    fn put_headed<const N: usize>(&mut self, head: [u8; N], bytes: &[u8]) {
        self.0.put_headed(head, bytes);
    }
}

/// The commitment to an event's private fields: it survives erasure, and reveals nothing without the salt.
#[must_use]
pub fn private_hash(salt: &Salt, fields: &PrivateFields<'_>) -> Digest {
    let mut input = Input::new();
    input.put_private(salt, fields);
    Digest::new(input.0.finish())
}

/// The hash of an event and of all before it in its chain.
///
/// `prev` is the event hash of the chain's previous event, [`Digest::GENESIS`] for the first.
#[must_use]
pub fn event_hash(prev: &Digest, public: &PublicFields<'_>, private: &Digest) -> Digest {
    let mut input = Input::new();
    input.put_event(prev, public);
    input.put(private.as_bytes());
    Digest::new(input.0.finish())
}

/// [`event_hash`] with the [`private_hash`] of these private fields: faster than one after the other, since most of both
/// is computed side by side.
#[must_use]
pub fn whole_event_hash(
    prev: &Digest,
    public: &PublicFields<'_>,
    salt: &Salt,
    private: &PrivateFields<'_>,
) -> Digest {
    let (mut commitment, mut event) = (Input::new(), Input::new());
    commitment.put_private(salt, private);
    event.put_event(prev, public);
    let commitment = commitment.0.finish_beside(&mut event.0);
    event.put(&commitment);
    Digest::new(event.0.finish())
}
