//! Anchors: planning, sending, missed days, the daily check.

pub(crate) mod batches;
pub(crate) mod clock;
pub(crate) mod continuity;
pub(crate) mod driver_thread;
pub(crate) mod plan;
pub(crate) mod recompute;
pub(crate) mod sending;
pub(crate) mod status;
pub(crate) mod target;
pub(crate) mod target_check;
pub(crate) mod work;
