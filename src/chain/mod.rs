//! Appending: the chaining trigger, the lock of a chain, its head, heads in shared memory, and what a commit does.
//!
//! A transaction holds the heavyweight lock of each chain that it appends to until it ends: see [`lock`]. Heads lie in shared memory, each
//! slot under a flag of its own: see [`shared_heads`]. What a transaction remembers belongs to its process. Imports from shared/, trail/
//! and pg/.

pub(crate) mod at_commit;
pub(crate) mod chain_end;
pub(crate) mod head;
pub(crate) mod lock;
pub(crate) mod neighbours;
pub(crate) mod primary_key;
pub(crate) mod shared_heads;
pub(crate) mod supplied;
pub(crate) mod trigger;
pub(crate) mod under_policy;
