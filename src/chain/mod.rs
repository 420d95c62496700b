//! Appending: the chaining trigger, the lock of a chain, its head, and what a commit does.

pub(crate) mod at_commit;
pub(crate) mod chain_end;
pub(crate) mod head;
pub(crate) mod lock;
pub(crate) mod shared_heads;
pub(crate) mod trigger;
