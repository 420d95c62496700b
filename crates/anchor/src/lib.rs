//! Anchors: checkpoints fixed outside the database.
//!
//! Knows nothing of Postgres. A batch is 32 bytes that the caller gives. A pure state machine decides what to do with it, and every call to the
//! outside goes through one trait.
//!
//! | module | what it does |
//! |---|---|
//! | [`batch`] | what is anchored |
//! | [`machine`] | (stored state, what happened) -> (new state, what to do next) |
//! | [`missed`] | when a tenant's anchors are late or degraded |
//! | [`driver`], [`failure`] | what a target can do, and how it fails |
//! | [`evm`] | anchors in a contract |
//! | [`file`] | anchors in an append-only file |
//! | [`rfc3161`] | anchors as time stamps of an authority |
//! | `targets` | drivers by the kind of their target |
//! | [`evidence`] | what an auditor checks, offline |
//! | [`pursue`](mod@pursue) | the loop around the machine: store, then act |
#![forbid(unsafe_code)]

pub mod batch;
pub mod driver;
pub mod evidence;
pub mod evm;
pub mod failure;
pub mod file;
pub mod machine;
pub mod missed;
pub mod pursue;
pub mod rfc3161;
#[cfg(feature = "drivers")]
pub mod targets;

pub use batch::{Batch, Hash, Moment, Seal};
pub use failure::{Failure, Refusal};
