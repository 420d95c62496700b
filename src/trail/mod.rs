//! Which table is the trail, who may read it, and its columns as the fields that are hashed.

pub(crate) mod access;
pub(crate) mod caller;
pub(crate) mod columns;
pub(crate) mod hashes;
pub(crate) mod jsonb;
pub(crate) mod membership;
pub(crate) mod owner_transaction;
pub(crate) mod tenants;
