//! The Merkle log of each tenant: reading, sealing, comparing, proving, publishing, keys.
//!
//! Its state is in tables; whoever holds the lock of the job `checkpoint` is alone in writing tiles, intervals and checkpoints. How far a
//! step or a sink is belongs to the worker's process. Imports from shared/ (which database signs with which key), trail/ and pg/.

pub(crate) mod bundle;
pub(crate) mod compare;
pub(crate) mod consistency;
pub(crate) mod drill;
pub(crate) mod keys;
pub(crate) mod publish;
pub(crate) mod seal;
pub(crate) mod store;
