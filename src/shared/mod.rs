//! Shared memory between processes: databases with their workers, restores under way, privileged use of the trail; and what the end of
//! a transaction tells others through it.
//!
//! Two boards, each under its own lightweight lock (`zeroauth_audit_registry`, `zeroauth_audit_uses`), which is held for a few loads and
//! stores and never across anything that can raise or wait. Imports from trail/ and pg/.

pub(crate) mod databases;
pub(crate) mod notices;
pub(crate) mod privileged_use;
