//! What an alert leaves behind, and its delivery. Raising and escalating are SQL (`sql/schema/alert/`).
//!
//! Deliveries under way belong to the worker's process; a delivery is taken and recorded in transactions of their own, and none is open
//! while something is sent. Imports from shared/ (waking the worker), trail/ and pg/.

pub(crate) mod delivery;
pub(crate) mod outbox;
pub(crate) mod own_event;
