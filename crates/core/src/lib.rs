//! Formats and chain logic of `zeroauth_audit`.
//!
//! What an event's hash is ([`event`], [`hash`]), whether a run of events in order is a whole chain ([`replay`]),
//! and the same question without any order ([`multiset`]). Everything is a pure function of its arguments: no
//! Postgres, no I/O, no clock, no allocation, no `std`. The formats are those of `docs/format.md`.
#![no_std]
#![forbid(unsafe_code)]

pub mod digest;
pub mod encode;
pub mod event;
pub mod hash;
pub mod multiset;
pub mod replay;

pub use digest::{Digest, Salt};
pub use event::{PrivateFields, PublicFields};
pub use hash::{event_hash, private_hash};
