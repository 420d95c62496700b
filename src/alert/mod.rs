//! What an alert leaves behind, and its delivery.

pub(crate) mod delivery;
pub(crate) mod own_event;
