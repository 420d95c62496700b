//! The two hashes of an event, version 1 (format section 3).

use zeroauth_audit_sha256_pair::{Buffer, Message, Writer};

use crate::digest::{Digest, Salt};
use crate::encode::{Sink, length_prefixed};
use crate::event::{PrivateFields, PublicFields};

/// The only version there is; a new or changed field is a new version with its own domain strings.
pub const HASH_VERSION: i16 = 1;

const EVENT_DOMAIN: &[u8] = b"zeroauth.audit/event/v1";
const PRIVATE_DOMAIN: &[u8] = b"zeroauth.audit/private/v1";

/// SHA-256 as the encoder's sink.
struct Input<'a, 'buffer>(Writer<'a, 'buffer>);

impl Sink for Input<'_, '_> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.0.put(bytes);
    }

    #[inline(always)]
    fn put_headed<const N: usize>(&mut self, head: [u8; N], bytes: &[u8]) {
        self.0.put_headed(head, bytes);
    }
}

fn private_input(salt: &Salt, fields: &PrivateFields<'_>, message: &mut Message<'_>) {
    let mut input = Input(message.writer());
    length_prefixed(&mut input, PRIVATE_DOMAIN);
    input.put(salt.as_bytes());
    fields.encode(&mut input);
    input.0.finish();
}

/// All but the private hash at its end.
fn event_input(prev: &Digest, public: &PublicFields<'_>, message: &mut Message<'_>) {
    let mut input = Input(message.writer());
    length_prefixed(&mut input, EVENT_DOMAIN);
    input.put(prev.as_bytes());
    public.encode(&mut input);
    input.0.finish();
}

/// The commitment to an event's private fields: it survives erasure, and reveals nothing without the salt.
#[must_use]
pub fn private_hash(salt: &Salt, fields: &PrivateFields<'_>) -> Digest {
    let mut buffer = Buffer::new();
    let mut message = Message::new(&mut buffer);
    private_input(salt, fields, &mut message);
    Digest::new(message.finish())
}

/// The hash of an event and of all before it in its chain.
///
/// `prev` is the event hash of the chain's previous event, [`Digest::GENESIS`] for the first.
#[must_use]
pub fn event_hash(prev: &Digest, public: &PublicFields<'_>, private: &Digest) -> Digest {
    let mut buffer = Buffer::new();
    let mut message = Message::new(&mut buffer);
    event_input(prev, public, &mut message);
    message.put(private.as_bytes());
    Digest::new(message.finish())
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
    let (mut private_buffer, mut event_buffer) = (Buffer::new(), Buffer::new());
    let (mut commitment, mut event) = (Message::new(&mut private_buffer), Message::new(&mut event_buffer));
    private_input(salt, private, &mut commitment);
    event_input(prev, public, &mut event);
    let commitment = commitment.finish_beside(&mut event);
    event.put(&commitment);
    Digest::new(event.finish())
}
