//! The Merkle log of each tenant and the registry, the log of them all: reading, sealing, comparing, proving, publishing, keys.
//!
//! Its state is in tables; only the holder of the lock of the job `checkpoint` writes tiles, intervals and checkpoints. The progress of a
//! step or of a sink belongs to the worker's process. Imports from shared/ (which database signs with which key), trail/ and pg/.

pub(crate) mod bundle;
pub(crate) mod compare;
pub(crate) mod cosignatures;
pub(crate) mod covering;
pub(crate) mod drill;
pub(crate) mod event_state;
pub(crate) mod job;
pub(crate) mod keys;
pub(crate) mod publish;
pub(crate) mod registry;
pub(crate) mod registry_entries;
pub(crate) mod registry_rows;
pub(crate) mod restart;
pub(crate) mod run_file;
pub(crate) mod seal;
pub(crate) mod snapshot;
pub(crate) mod store;
pub(crate) mod take_over;
