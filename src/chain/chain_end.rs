//! The end of a chain: the form in which it is read, remembered and shared.

use zeroauth_audit_core::Digest;

/// The end of a chain: its newest event.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The chain.
    pub chain: u16,
    /// `seq` of the newest event, 0 when there is none.
    pub seq: i64,
    /// Its `event_hash`, [`Digest::GENESIS`] when there is none.
    pub hash: Digest,
}
