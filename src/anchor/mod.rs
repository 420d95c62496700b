//! Anchors: planning, sending, missed days, the daily check. What to do is decided by the crate `zeroauth-audit-anchor`.
//!
//! The state of a batch is in its row, which is locked while a step is stored; what each thread was given belongs to the worker's process.
//! No transaction is open while a target is queried. Imports from log/ (tiles for proofs) and pg/.

pub(crate) mod batches;
pub(crate) mod clock;
pub(crate) mod driver_thread;
pub(crate) mod plan;
pub(crate) mod recompute;
pub(crate) mod sending;
pub(crate) mod status;
pub(crate) mod target;
pub(crate) mod target_check;
pub(crate) mod work;
