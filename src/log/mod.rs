//! The Merkle log of each tenant: reading, sealing, comparing, proving, publishing, keys.

pub(crate) mod bundle;
pub(crate) mod compare;
pub(crate) mod consistency;
pub(crate) mod drill;
pub(crate) mod event_state;
pub(crate) mod keys;
pub(crate) mod publish;
pub(crate) mod seal;
pub(crate) mod store;
