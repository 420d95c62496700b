//! The trail's primary key (tenant_id, chain, seq), and a look at a part of one chain through it.
//!
//! A look sees every commit so far and this transaction's own rows, whatever its snapshot (`SnapshotSelf`), so it is right at every
//! isolation level and takes no part in serialization conflicts.

use std::ops::ControlFlow;

use pgrx::pg_sys;

use crate::pg::error::{Failure, Kind};
use crate::pg::versions;
use crate::trail::columns::at;

const RESTORE: &str =
    "Restore the primary key (tenant_id, chain, seq): it is what keeps a chain from forking.";

/// The table has none.
#[cold]
pub fn missing() -> Failure {
    Failure::new(Kind::UnexpectedTable, "audit_events has no primary key").hint(RESTORE)
}

/// Opens `key` for `look`, once it is known to be over the right columns.
///
/// # Safety
/// `key` must be the primary key of a table that the executor inserts into; `look` must not keep the index.
pub unsafe fn opened<T>(
    key: pg_sys::Oid,
    look: impl FnOnce(pg_sys::Relation) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // SAFETY: the executor holds this lock on every index of a table it inserts into.
    let index = unsafe { pg_sys::index_open(key, pg_sys::RowExclusiveLock as i32) };
    // SAFETY: open.
    let found = unsafe { is_chain_key(index) }.then(|| look(index));
    // SAFETY: opened above; the lock is the executor's own, which it still holds.
    unsafe { pg_sys::index_close(index, pg_sys::RowExclusiveLock as i32) };
    found.unwrap_or_else(|| {
        let message = "the primary key of audit_events is not (tenant_id, chain, seq)";
        Err(Failure::new(Kind::UnexpectedTable, message).hint(RESTORE))
    })
}

/// # Safety
/// `index` must be open.
unsafe fn is_chain_key(index: pg_sys::Relation) -> bool {
    // SAFETY: open by contract; rd_index is set for indexes.
    let form = unsafe { &*(*index).rd_index };
    // SAFETY: indkey has indnatts elements.
    let keys = unsafe { form.indkey.values.as_slice(form.indnkeyatts as usize) };
    keys == [at::TENANT_ID as i16 + 1, at::CHAIN as i16 + 1, at::SEQ as i16 + 1]
}

/// A part of one chain.
#[derive(Clone, Copy)]
pub struct Part {
    /// Its tenant, a text.
    pub tenant: pg_sys::Datum,
    /// Its chain.
    pub chain: i16,
    /// The smallest seq; `None` for the beginning.
    pub from: Option<i64>,
    /// The largest seq; `None` for the end.
    pub to: Option<i64>,
}

/// A row that a look shows, up to its `event_hash`.
pub struct Row(*mut pg_sys::TupleTableSlot);

impl Row {
    /// Column `n`, up to `event_hash`.
    pub fn value(&self, n: usize) -> Option<pg_sys::Datum> {
        debug_assert!(n <= at::EVENT_HASH);
        // SAFETY: `look` has filled both arrays beyond n, and lends the row while the slot holds it.
        let (null, datum) = unsafe { (*(*self.0).tts_isnull.add(n), *(*self.0).tts_values.add(n)) };
        (!null).then_some(datum)
    }

    /// Whether this transaction, or a savepoint of it that was not rolled back, stored it.
    pub fn is_written_here(&self) -> bool {
        let mut null = false;
        let column = pg_sys::MinTransactionIdAttributeNumber;
        // SAFETY: `look` lends the row while the slot holds it; a slot of a table's rows has this column.
        unsafe {
            let read = (*(*self.0).tts_ops).getsysattr;
            let xmin = read.map(|read| read(self.0, column, &raw mut null));
            xmin.is_some_and(|xmin| pg_sys::TransactionIdIsCurrentTransactionId((xmin.value() as u32).into()))
        }
    }
}

/// Shows the rows of a part in the order of `direction`, until `see` breaks off.
///
/// # Safety
/// `relation` must be open and of the trail's shape, `index` be what [`opened`] gave for it, the tenant a valid text.
pub unsafe fn look(
    relation: pg_sys::Relation,
    index: pg_sys::Relation,
    part: Part,
    direction: pg_sys::ScanDirection::Type,
    mut see: impl FnMut(&Row) -> ControlFlow<()>,
) {
    // SAFETY: each call as its contract says; an error leaves buffers and slot to the resource owner.
    unsafe {
        let none = pg_sys::Oid::INVALID;
        let mut keys = [pg_sys::ScanKeyData::default(); 4];
        let mut count = 0;
        let mut key = |column: i16, strategy: u32, collation, function: u32, argument| {
            let entry = &mut keys[count];
            count += 1;
            let strategy = strategy as u16;
            pg_sys::ScanKeyEntryInitialize(
                entry,
                0,
                column,
                strategy,
                none,
                collation,
                function.into(),
                argument,
            );
        };
        let equal = pg_sys::BTEqualStrategyNumber;
        key(1, equal, *(*index).rd_indcollation, pg_sys::F_TEXTEQ, part.tenant);
        key(2, equal, none, pg_sys::F_INT2EQ, pg_sys::Datum::from(part.chain));
        if let Some(from) = part.from {
            key(3, pg_sys::BTGreaterEqualStrategyNumber, none, pg_sys::F_INT8GE, pg_sys::Datum::from(from));
        }
        if let Some(to) = part.to {
            key(3, pg_sys::BTLessEqualStrategyNumber, none, pg_sys::F_INT8LE, pg_sys::Datum::from(to));
        }
        let count = count as i32;
        let slot = pg_sys::table_slot_create(relation, std::ptr::null_mut());
        let scan = versions::begin_index_scan(relation, index, &raw mut pg_sys::SnapshotSelfData, count);
        pg_sys::index_rescan(scan, keys.as_mut_ptr(), count, std::ptr::null_mut(), 0);
        while pg_sys::index_getnext_slot(scan, direction, slot) {
            pg_sys::slot_getsomeattrs_int(slot, at::EVENT_HASH as i32 + 1);
            if see(&Row(slot)).is_break() {
                break;
            }
        }
        pg_sys::index_endscan(scan);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
    }
}
