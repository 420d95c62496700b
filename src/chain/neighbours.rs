//! The events beside one that brings its hashes: where they are stored already, the chain must go through them.
//!
//! A restore with several jobs brings rows in any order, so only what is there is compared; what is not there yet compares itself when
//! it comes. The look-up sees every commit so far and this transaction's own rows, as in [`crate::chain::head`].

use pgrx::pg_sys;
use zeroauth_audit_core::Digest;

use crate::pg::error::{Failure, Kind};
use crate::pg::versions;
use crate::trail::columns::{self, at};

/// An event's place, and its two hashes.
pub struct Event {
    /// Its tenant, a text.
    pub tenant: pg_sys::Datum,
    /// Its chain.
    pub chain: i16,
    /// Its seq.
    pub seq: i64,
    /// Its prev_hash.
    pub prev: Option<Digest>,
    /// Its event_hash.
    pub hash: Option<Digest>,
}

/// Which neighbour does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It is the first of its chain and continues another event.
    First,
    /// Its prev_hash is not the event_hash of the event before it.
    Before,
    /// The event after it does not continue it.
    After,
}

/// What `event` contradicts, of the events stored beside it; `None` for nothing.
///
/// # Safety
/// `relation` must be open and have passed [`crate::chain::head::checked_key`], which returned `key`; `event.tenant` must be a valid text.
pub unsafe fn misfit(
    relation: pg_sys::Relation,
    key: pg_sys::Oid,
    event: &Event,
) -> Result<Option<Misfit>, Failure> {
    if event.seq == 1 && event.prev != Some(Digest::GENESIS) {
        return Ok(Some(Misfit::First));
    }
    // SAFETY: the executor holds this lock on every index of a table it inserts into.
    let index = unsafe { pg_sys::index_open(key, pg_sys::RowExclusiveLock as i32) };
    // SAFETY: relation and index are open.
    let found = unsafe { scan(relation, index, event) };
    // SAFETY: opened above; the lock is the executor's own, which it still holds.
    unsafe { pg_sys::index_close(index, pg_sys::RowExclusiveLock as i32) };
    found
}

/// # Safety
/// Relation and index must be open; the rest as for [`misfit`].
unsafe fn scan(
    relation: pg_sys::Relation,
    index: pg_sys::Relation,
    event: &Event,
) -> Result<Option<Misfit>, Failure> {
    // SAFETY: `rd_index` is set for indexes.
    if !unsafe { super::head::is_chain_key(index) } {
        return Err(Failure::new(
            Kind::UnexpectedTable,
            "the primary key of audit_events is not (tenant_id, chain, seq)",
        )
        .hint("Restore the primary key (tenant_id, chain, seq): it is what keeps a chain from forking."));
    }
    let none = pg_sys::Oid::INVALID;
    let mut keys = [pg_sys::ScanKeyData::default(); 4];
    // SAFETY: each call as its contract says; an error leaves buffers and slot to the resource owner.
    unsafe {
        let mut key = |place: usize, n: i16, strategy: u32, collation, function: u32, argument| {
            pg_sys::ScanKeyEntryInitialize(
                &mut keys[place],
                0,
                n,
                strategy as u16,
                none,
                collation,
                function.into(),
                argument,
            );
        };
        let equal = pg_sys::BTEqualStrategyNumber;
        key(0, 1, equal, *(*index).rd_indcollation, pg_sys::F_TEXTEQ, event.tenant);
        key(1, 2, equal, none, pg_sys::F_INT2EQ, pg_sys::Datum::from(event.chain));
        let from = pg_sys::Datum::from(event.seq.saturating_sub(1));
        key(2, 3, pg_sys::BTGreaterEqualStrategyNumber, none, pg_sys::F_INT8GE, from);
        let to = pg_sys::Datum::from(event.seq.saturating_add(1));
        key(3, 3, pg_sys::BTLessEqualStrategyNumber, none, pg_sys::F_INT8LE, to);
        let slot = pg_sys::table_slot_create(relation, std::ptr::null_mut());
        let scan = versions::begin_index_scan(relation, index, &raw mut pg_sys::SnapshotSelfData, 4);
        pg_sys::index_rescan(scan, keys.as_mut_ptr(), 4, std::ptr::null_mut(), 0);
        let mut found = None;
        while found.is_none()
            && pg_sys::index_getnext_slot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot)
        {
            pg_sys::slot_getsomeattrs_int(slot, at::EVENT_HASH as i32 + 1);
            let value = |n: usize| {
                let (null, datum) = (*(*slot).tts_isnull.add(n), *(*slot).tts_values.add(n));
                (!null).then_some(datum)
            };
            let seq = value(at::SEQ).map_or(0, |seq| seq.value() as i64);
            if seq == event.seq - 1 && columns::digest(value(at::EVENT_HASH)) != event.prev {
                found = Some(Misfit::Before);
            } else if seq == event.seq + 1 && columns::digest(value(at::PREV_HASH)) != event.hash {
                found = Some(Misfit::After);
            }
        }
        pg_sys::index_endscan(scan);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        Ok(found)
    }
}
