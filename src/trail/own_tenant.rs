//! Who may add an event to the trail of the extension itself: this library alone, so that what is said there about alerts and settings
//! is true. What is restored or replicated there brings its hashes.
//!
//! The permission is for one statement of this process. It is bound to the subtransaction that gave it, so an error takes it back,
//! and to the depth of triggers, so that somebody's trigger which runs inside of the statement does not have it.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::pg::error::{Failure, Kind};
use crate::pg::versions;
use crate::trail::membership::OWN_TENANT;

/// Transaction, subtransaction, and how many triggers run around it.
type Scope = (u32, u32, i32);

thread_local!(static ALLOWED: Cell<Option<Scope>> = const { Cell::new(None) });

fn here(triggers: i32) -> Scope {
    // SAFETY: reads transaction state of this process.
    (versions::local_transaction(), unsafe { pg_sys::GetCurrentSubTransactionId() }, triggers)
}

/// The next statement of this subtransaction may add events of the extension itself, until [`forbid`].
pub fn allow() {
    ALLOWED.set(Some(here(versions::trigger_depth() + 1)));
}

/// That statement has ended.
pub fn forbid() {
    ALLOWED.set(None);
}

/// Refuses an event of the extension's own tenant that the extension did not write. To be called by the trigger.
#[inline]
pub fn check(tenant: &[u8]) -> Result<(), Failure> {
    if tenant == OWN_TENANT.as_bytes() { check_writer() } else { Ok(()) }
}

#[cold]
fn check_writer() -> Result<(), Failure> {
    if ALLOWED.get().is_some_and(|scope| scope == here(versions::trigger_depth())) {
        return Ok(());
    }
    Err(Failure::new(
        Kind::InsufficientPrivilege,
        format!("tenant {OWN_TENANT} is the extension's own, which alone adds events to it"),
    )
    .hint("Give the event another tenant_id."))
}
