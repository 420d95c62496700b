//! The row that row-level security is about to judge: PostgreSQL applies the WITH CHECK of a policy after the trigger, and an INSERT that
//! fails there leaves nothing behind. So the trigger says here that it passed a row of the trail; who sees the error
//! ([`crate::guard`]) then knows what was refused.
//!
//! State of this process.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::pg::versions;
use crate::trail::scratch;

/// Transaction and subtransaction.
type Scope = (u32, u32);

thread_local!(static PASSED: Cell<Option<Scope>> = const { Cell::new(None) });

fn here() -> Scope {
    // SAFETY: reads transaction state of this process.
    (versions::local_transaction(), unsafe { pg_sys::GetCurrentSubTransactionId() })
}

/// The trigger has passed a row of `relation`.
///
/// # Safety
/// `relation` must be open.
#[inline]
pub unsafe fn passed(relation: pg_sys::Relation) {
    // SAFETY: open by contract.
    if unsafe { (*(*relation).rd_rel).relrowsecurity && !scratch::is_created_here(relation) } {
        PASSED.set(Some(here()));
    }
}

/// Another statement begins.
#[inline]
pub fn forget() {
    PASSED.set(None);
}

/// Whether a row was passed in this subtransaction, by the statement that runs. Says so once.
pub fn take() -> bool {
    PASSED.take().is_some_and(|scope| scope == here())
}
