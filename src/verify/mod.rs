//! `audit_verify` and its kin: the aggregate in any order, the replay in order, the newest events, drift, progress.
//!
//! Writes nothing but its progress: a board of slots under the lightweight lock `zeroauth_audit_progress`. A call reads all that it
//! compares from one snapshot. Imports from log/ (what was sealed), trail/ and pg/.

pub(crate) mod aggregate;
pub(crate) mod drift;
pub(crate) mod functions;
pub(crate) mod newest;
pub(crate) mod progress;
pub(crate) mod replay;
