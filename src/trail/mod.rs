//! Which table is the trail, who may read it, its columns as the fields that are hashed, what a finding is, and a transaction as the
//! extension's owner.
//!
//! No shared state and no locks of its own: answers come from the catalogs, each time but in `identity`. Imports from pg/ alone.

pub(crate) mod access;
pub(crate) mod caller;
pub(crate) mod citus;
pub(crate) mod columns;
pub(crate) mod finding;
pub(crate) mod handed_over;
pub(crate) mod hashes;
pub(crate) mod identity;
pub(crate) mod jsonb;
pub(crate) mod membership;
pub(crate) mod own_functions;
pub(crate) mod own_tenant;
pub(crate) mod owner_transaction;
pub(crate) mod rules;
pub(crate) mod scratch;
pub(crate) mod tenants;
