//! Rows that bring their hashes, as a transaction sees them: whether any of them was stored is known when it commits.
//!
//! The trigger fires for rows that are never stored (ON CONFLICT DO NOTHING, an error that is caught, a rollback). So nothing is said
//! by the trigger. At the commit PostgreSQL's counters say how many rows the transaction stored; if they are more than the rows that
//! were chained, some brought their hashes. Then, and only then, a restore runs and the use is noted. Without counters
//! (`track_counts = off`) nothing is held, and the use is noted as if all were stored.
//!
//! State of this process; nothing here raises once the transaction has committed.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::chain::head;
use crate::shared::databases::restores;
use crate::shared::privileged_use::{self, What};
use crate::trail::membership;

/// The rows of a transaction so far.
#[derive(Clone, Copy)]
struct Rows {
    /// Calls of the trigger that chained a row.
    chained: i64,
    /// One of them was of a tenant, and not of the extension itself.
    of_tenants: bool,
    /// Rows came with their hashes, and nobody but a session brought them.
    supplied: bool,
    /// The trail's counters, null for none.
    counted: *const pg_sys::PgStat_TableStatus,
    /// A row with hashes is about to be committed, and whether counters say so.
    stored: Option<bool>,
}

const NONE: Rows =
    Rows { chained: 0, of_tenants: false, supplied: false, counted: std::ptr::null(), stored: None };

thread_local! {
    static ROWS: Cell<Rows> = const { Cell::new(NONE) };
    static CHAINED_BEFORE: Cell<bool> = const { Cell::new(false) };
}

/// A row was chained.
#[inline]
pub fn chained(of_tenant: bool) {
    ROWS.with(|rows| {
        let now = rows.get();
        rows.set(Rows { chained: now.chained + 1, of_tenants: now.of_tenants || of_tenant, ..now });
    });
}

/// A row that brings its hashes is about to be stored in `relation`, by a session and not by replication.
///
/// # Safety
/// `relation` must be open, and not be made by this transaction.
pub unsafe fn note(relation: pg_sys::Relation) {
    let now = ROWS.get();
    // SAFETY: open by contract.
    if now.supplied || !membership::is_trail(unsafe { (*relation).rd_id }) {
        return;
    }
    // SAFETY: open by contract.
    let counted = unsafe { head::counted(relation) };
    ROWS.set(Rows { supplied: true, counted, ..now });
}

/// The transaction is about to commit. Raises nothing.
pub fn commit_begins() {
    let now = ROWS.get();
    if !now.supplied {
        return;
    }
    // SAFETY: PostgreSQL hands counters over and frees them between transactions only.
    let stored = match unsafe { now.counted.as_ref() } {
        // SAFETY: of this transaction, at its outermost level: its subtransactions have ended.
        Some(counted) => match unsafe { counted.trans.as_ref() } {
            Some(counts) => (counts.tuples_inserted - counts.tuples_deleted > now.chained).then_some(true),
            None => None,
        },
        None => Some(false),
    };
    ROWS.set(Rows { stored, ..now });
}

/// The transaction has committed. Raises nothing.
pub fn committed() {
    let now = ROWS.replace(NONE);
    if let Some(counted) = now.stored {
        if counted {
            restores::note();
        }
        privileged_use::note(What::EventsSupplied);
    }
    if now.of_tenants && !CHAINED_BEFORE.replace(true) {
        restores::note_chained();
    }
}

/// The transaction did not commit, or not yet. Raises nothing.
pub fn not_committed() {
    ROWS.set(NONE);
}
