//! Rows that bring their hashes, as a transaction sees them: whether any of them was stored is known when it commits.
//!
//! The trigger fires for rows that are never stored (ON CONFLICT DO NOTHING, an error that is caught, a savepoint rolled back). So it only
//! keeps the row's place, and when the next such row comes, and at the latest before the commit, that place is looked up: a row there that
//! this transaction wrote was stored. What is known then goes the way of its savepoint: up when that is released, away when it is rolled
//! back. Once one row is known to be stored no other is looked up, so a restore of millions costs one look.
//!
//! If the transaction commits with such a row, and only then, a restore runs and the use is noted. A prepared transaction is told of when
//! it is prepared: it is committed by another session.
//!
//! State of this process. Nothing here raises once the transaction has committed; before, a look may.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;

use pgrx::pg_sys;

use crate::chain::head;
use crate::chain::neighbours::Event;
use crate::chain::primary_key::{self, Part};
use crate::pg::error::Failure;
use crate::pg::savepoint::Level;
use crate::pg::varlena;
use crate::shared::databases::restores;
use crate::shared::privileged_use::{self, What};
use crate::trail::membership;

/// Where a row was to be stored.
struct Place {
    relation: pg_sys::Oid,
    tenant: Vec<u8>,
    chain: i16,
    seq: i64,
}

/// The rows with hashes of a transaction so far.
#[derive(Default)]
struct Rows {
    /// The newest, not looked up yet, and its savepoint.
    newest: Option<(Place, Level)>,
    /// The savepoint that lasts longest of those in which one is known to be stored.
    stored_at: Option<Level>,
}

thread_local! {
    static ROWS: RefCell<Rows> = RefCell::default();
    /// A row of a tenant, and not of the extension itself, was chained.
    static CHAINED: Cell<bool> = const { Cell::new(false) };
    static CHAINED_BEFORE: Cell<bool> = const { Cell::new(false) };
}

/// A row was chained.
#[inline]
pub fn chained(of_tenant: bool) {
    if of_tenant {
        CHAINED.set(true);
    }
}

/// `event` brings its hashes and is about to be stored in `relation`, and no publisher sent it.
///
/// # Safety
/// `relation` must be open, not be made by this transaction, and have passed [`head::checked_key`], which returned `key`; `event.tenant`
/// must be a valid text.
pub unsafe fn note(relation: pg_sys::Relation, key: pg_sys::Oid, event: &Event) -> Result<(), Failure> {
    // SAFETY: open by contract.
    let oid = unsafe { (*relation).rd_id };
    let level = Level::here();
    let known = |rows: &Rows| rows.stored_at.is_some_and(|stored| stored <= level);
    if ROWS.with_borrow(known) || !membership::is_trail(oid) {
        return Ok(());
    }
    if let Some((before, its_level)) = ROWS.with_borrow_mut(|rows| rows.newest.take())
        && before.relation == oid
        // SAFETY: by contract.
        && unsafe { is_stored(relation, key, &before)? }
    {
        ROWS.with_borrow_mut(|rows| rows.stored(its_level));
    }
    // SAFETY: by contract.
    let tenant = unsafe { varlena::bytes(event.tenant) }.to_vec();
    ROWS.with_borrow_mut(|rows| {
        if !known(rows) {
            let place = Place { relation: oid, tenant, chain: event.chain, seq: event.seq };
            rows.newest = Some((place, level));
        }
    });
    Ok(())
}

impl Rows {
    fn stored(&mut self, level: Level) {
        self.stored_at = Some(self.stored_at.map_or(level, |known| known.min(level)));
    }
}

/// Whether this transaction stored a row there, and did not take it back.
///
/// # Safety
/// `relation` must be open and have passed [`head::checked_key`], which returned `key`.
unsafe fn is_stored(relation: pg_sys::Relation, key: pg_sys::Oid, place: &Place) -> Result<bool, Failure> {
    let part = Part {
        tenant: varlena::bytea(&place.tenant),
        chain: place.chain,
        from: Some(place.seq),
        to: Some(place.seq),
    };
    let mut stored = false;
    // SAFETY: by contract.
    unsafe {
        primary_key::opened(key, |index| {
            primary_key::look(relation, index, part, pg_sys::ScanDirection::ForwardScanDirection, |row| {
                stored = row.is_written_here();
                ControlFlow::Break(())
            });
            Ok(())
        })?;
    }
    Ok(stored)
}

/// Whether [`commit_begins`] has anything to do. Raises nothing.
pub fn is_pending() -> bool {
    ROWS.try_with(|rows| rows.try_borrow().is_ok_and(|rows| rows.newest.is_some())) == Ok(true)
}

/// The transaction is about to commit, or to be prepared. May raise, which rolls it back.
pub fn commit_begins() -> Result<(), Failure> {
    let Some((place, level)) = ROWS.with_borrow_mut(|rows| rows.newest.take()) else { return Ok(()) };
    // SAFETY: of a relation whose lock this transaction holds; null when it has dropped it.
    let relation = unsafe { pg_sys::RelationIdGetRelation(place.relation) };
    if relation.is_null() {
        return Ok(());
    }
    // SAFETY: open; a snapshot of the transaction is what a scan may count on, and is given back.
    let stored = unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let stored = head::checked_key(relation).and_then(|key| is_stored(relation, key, &place));
        pg_sys::PopActiveSnapshot();
        pg_sys::RelationClose(relation);
        stored?
    };
    if stored {
        ROWS.with_borrow_mut(|rows| rows.stored(level));
    }
    Ok(())
}

/// The transaction has committed, or was prepared. Raises nothing.
pub fn committed() {
    let stored = ROWS.try_with(|rows| {
        rows.try_borrow_mut().is_ok_and(|mut rows| {
            rows.newest = None;
            rows.stored_at.take().is_some()
        })
    });
    if stored == Ok(true) {
        restores::note();
        privileged_use::note(What::EventsSupplied);
    }
    if CHAINED.take() && !CHAINED_BEFORE.replace(true) {
        restores::note_chained();
    }
}

/// The transaction did not commit. Raises nothing.
pub fn not_committed() {
    CHAINED.set(false);
    with(|rows| (rows.newest, rows.stored_at) = (None, None));
}

/// A savepoint is being released: what it stored is of the one around it. Raises nothing.
pub fn released() {
    with(|rows| {
        rows.newest.iter_mut().for_each(|(_, level)| level.release());
        rows.stored_at.iter_mut().for_each(Level::release);
    });
}

/// A savepoint is rolled back, with all in it. Raises nothing.
pub fn rolled_back() {
    with(|rows| {
        rows.newest.take_if(|(_, level)| level.is_undone());
        rows.stored_at.take_if(|level| level.is_undone());
    });
}

/// Where a panic would take the cluster down.
fn with(change: impl FnOnce(&mut Rows)) {
    let _ = ROWS.try_with(|rows| {
        if let Ok(mut rows) = rows.try_borrow_mut() {
            change(&mut rows);
        }
    });
}
