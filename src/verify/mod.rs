//! `audit_verify` and its kin: replay, the newest events, drift, progress.

pub(crate) mod aggregate;
pub(crate) mod drift;
pub(crate) mod functions;
pub(crate) mod newest;
pub(crate) mod progress;
pub(crate) mod replay;
