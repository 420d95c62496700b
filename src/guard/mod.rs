//! Refusing changes of stored events and of the table itself: triggers for rows, hooks for what writes and for DDL, and stopping the
//! worker for DROP DATABASE and its like.
//!
//! No shared state of its own: it writes to that of shared/ (exclusive use of a database, privileged use), and counts unlocked writers in
//! that of chain/. Imports from chain/, shared/, trail/ and pg/.

pub(crate) mod by_oid;
pub(crate) mod ddl;
pub(crate) mod exclusive_database;
pub(crate) mod executor;
pub(crate) mod functions;
pub(crate) mod refused_writes;
pub(crate) mod row_changes;
pub(crate) mod state_tables;
pub(crate) mod statements;
pub(crate) mod view_edits;

use crate::pg::call::guarded;
use crate::pg::error::Failure;
use crate::pg::out_of_memory;

/// Raises what `check` finds, with no Rust frame left to unwind.
///
/// # Safety
/// To be called from a hook, with nothing that has a destructor in the caller's frame.
unsafe fn refuse_if(check: impl FnOnce() -> Result<(), Failure>) {
    // SAFETY: the only frames above are PostgreSQL's and the hook's own.
    unsafe {
        guarded(|| {
            // A reserve that cannot be had stops no statement: a ROLLBACK comes through here too.
            out_of_memory::take_reserve();
            check()
        });
    }
}
