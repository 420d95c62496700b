//! The two hashes of an event, version 1 (format section 3).

use sha2::{Digest as _, Sha256};

use crate::digest::{Digest, Salt};
use crate::encode::{Sink, Staged, length_prefixed};
use crate::event::{PrivateFields, PublicFields};

/// The only version there is; a new or changed field is a new version with its own domain strings.
pub const HASH_VERSION: i16 = 1;

const EVENT_DOMAIN: &[u8] = b"zeroauth.audit/event/v1";
const PRIVATE_DOMAIN: &[u8] = b"zeroauth.audit/private/v1";

/// SHA-256 as the encoder's sink.
struct Hasher(Sha256);

impl Sink for Hasher {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

fn hashed(write: impl FnOnce(&mut Staged<Hasher>)) -> Digest {
    let mut staged = Staged::new(Hasher(Sha256::new()));
    write(&mut staged);
    Digest::new(staged.finish().0.finalize().into())
}

/// The commitment to an event's private fields: it survives erasure, and reveals nothing without the salt.
#[must_use]
pub fn private_hash(salt: &Salt, fields: &PrivateFields<'_>) -> Digest {
    hashed(|sink| {
        length_prefixed(sink, PRIVATE_DOMAIN);
        sink.put(salt.as_bytes());
        fields.encode(sink);
    })
}

/// The hash of an event and of all before it in its chain.
///
/// `prev` is the event hash of the chain's previous event, [`Digest::GENESIS`] for the first.
#[must_use]
pub fn event_hash(prev: &Digest, public: &PublicFields<'_>, private: &Digest) -> Digest {
    hashed(|sink| {
        length_prefixed(sink, EVENT_DOMAIN);
        sink.put(prev.as_bytes());
        public.encode(sink);
        sink.put(private.as_bytes());
    })
}
