//! Shared memory between processes: databases with their workers, restores under way, privileged use of the trail; and the notices
//! that go through it at the end of a transaction.
//!
//! Two boards, each under its own lightweight lock (`zeroauth_audit_databases`, `zeroauth_audit_privileged_use`), which is held for a few loads and
//! stores and never across anything that can raise or wait. Imports from trail/ and pg/.

pub(crate) mod databases;
pub(crate) mod notices;
pub(crate) mod privileged_use;
