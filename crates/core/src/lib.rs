//! Formats and chain logic of `zeroauth_audit`.
//!
//! The hash of an event ([`event`], [`hash`]), whether events in order are a whole chain ([`replay`]), and the same
//! question without any order ([`multiset`]): none of these allocates.
//!
//! The Merkle log of a tenant: hashes and the verification of proofs ([`merkle`]), growing trees ([`range`], [`tile::builder`]),
//! making proofs ([`tile`], [`tree`]), where events are in it ([`intervals`]). Statements about it: its name ([`origin`]),
//! signed statements ([`note`], [`checkpoint`]), trusted keys ([`trust`]), files of them ([`proof`]).
//!
//! Everything is a pure function of its arguments: no Postgres, no I/O, no clock, no `std`. The formats are those of
//! `docs/format.md`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod checkpoint;
pub mod digest;
pub mod encode;
pub mod event;
pub mod hash;
pub mod intervals;
pub mod merkle;
pub mod multiset;
pub mod note;
pub mod origin;
pub mod proof;
pub mod range;
pub mod registry;
pub mod replay;
pub mod tile;
pub mod tree;
pub mod trust;

pub use digest::{Digest, Salt};
pub use event::{PrivateFields, PublicFields};
pub use hash::{event_hash, private_hash, whole_event_hash};
