//! The end of a transaction or a savepoint: puts heads back into shared memory, hands them to the subtransaction around, counts unlocked
//! writers as ended, and says whether rows with hashes were stored.
//!
//! Two raw callbacks for each backend. pgrx's closures would outlive PREPARE TRANSACTION and fire in the next transaction. An error
//! or a panic after the commit would take the cluster down, so nothing here calls PostgreSQL or can fail, but for the look at rows with
//! hashes before the commit, whose error rolls the transaction back.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::chain::head;
use crate::chain::shared_heads;
use crate::chain::supplied;
use crate::pg::call;

/// Registers the callback in this backend, once.
pub fn watch() {
    thread_local!(static WATCHING: Cell<bool> = const { Cell::new(false) });
    if !WATCHING.replace(true) {
        // SAFETY: registered once per backend, for as long as it lives.
        unsafe { pg_sys::RegisterXactCallback(Some(transaction_ends), std::ptr::null_mut()) };
        // SAFETY: as above.
        unsafe { pg_sys::RegisterSubXactCallback(Some(subtransaction_ends), std::ptr::null_mut()) };
    }
}

unsafe extern "C-unwind" fn subtransaction_ends(
    event: pg_sys::SubXactEvent::Type,
    child: pg_sys::SubTransactionId,
    around: pg_sys::SubTransactionId,
    _: *mut std::ffi::c_void,
) {
    match event {
        // Its counters are still apart from those of the subtransaction around it.
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => {
            head::released(child, around);
            supplied::released();
        }
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => {
            head::rolled_back(child);
            supplied::rolled_back();
        }
        _ => {}
    }
}

unsafe extern "C-unwind" fn transaction_ends(event: pg_sys::XactEvent::Type, _: *mut std::ffi::c_void) {
    match event {
        // Deferred triggers have run. The counters of this transaction are still there; after the commit they are not.
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT => {
            head::commit_begins();
            look_for_supplied();
        }
        pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE => look_for_supplied(),
        // Everybody can see the rows, and the chains are still locked.
        pg_sys::XactEvent::XACT_EVENT_COMMIT => {
            head::committed();
            supplied::committed();
            shared_heads::unlocked_writer_ended(true);
        }
        // A prepared transaction keeps its chains locked, and commits by another statement: see [`crate::guard::ddl`].
        on @ (pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE) => {
            head::not_committed();
            if on == pg_sys::XactEvent::XACT_EVENT_PREPARE {
                supplied::committed();
            } else {
                supplied::not_committed();
            }
            shared_heads::unlocked_writer_ended(false);
        }
        _ => {}
    }
}

/// Most transactions have no such rows, and enter no guard.
fn look_for_supplied() {
    if supplied::is_pending() {
        // SAFETY: the frames above are those of the callback, which hold nothing, and PostgreSQL's.
        unsafe { call::guarded(supplied::commit_begins) };
    }
}
