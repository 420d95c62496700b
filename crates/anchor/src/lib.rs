//! Anchors: checkpoints fixed outside the database.
//!
//! Knows nothing of Postgres. A batch is 32 bytes that are given; what to do with it is decided by a pure state machine, and what the
//! outside is asked goes through one trait.
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
//! | [`evidence`] | what an outsider checks, offline |
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
