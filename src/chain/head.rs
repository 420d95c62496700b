//! Where a chain ends: read from the primary key, or remembered while nothing can have made the memory false.
//!
//! The read sees every commit so far and this transaction's own rows ([`crate::chain::primary_key`]). The caller holds the chain's lock: no
//! other transaction can be appending to it.
//!
//! A remembered head would be false if the row of the previous call was never stored: ON CONFLICT DO NOTHING, a later
//! trigger that returns NULL, a savepoint rolled back, an error caught in PL/pgSQL. So the memory lives only within one
//! subtransaction of one transaction, and only while the relation's own counters say that since the previous call
//! exactly one row was inserted and none was updated or deleted ([`Counters`]). Anything else, a row that brought its
//! own hashes, a change of the table, or no counters (`track_counts = off`), and every head is read again.
//!
//! A savepoint that is released hands its memory to the subtransaction around it, as PostgreSQL hands over its counters and locks:
//! many a client library wraps each statement in one.
//!
//! When the transaction commits, what it remembers by then goes to [`crate::chain::shared_heads`], for the next that appends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::ptr::NonNull;

use pgrx::pg_sys;
use zeroauth_audit_core::Digest;

use crate::chain::chain_end::Head;
use crate::chain::lock::Claim;
use crate::chain::primary_key::{self, Part, Row};
use crate::chain::shared_heads::{self, Place, State};
use crate::pg::error::{Failure, Kind};
use crate::pg::out_of_memory;
use crate::pg::savepoint::Level;
use crate::pg::versions;
use crate::trail::citus;
use crate::trail::columns::{self, at};
use crate::trail::scratch;

// Never raises: called without pgrx's guard, which costs more than it does.
unsafe extern "C-unwind" {
    fn GetCurrentSubTransactionId() -> u32;
}

/// What this transaction has stored in the relation, as PostgreSQL counts it for the statistics views.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Counters {
    inserted: i64,
    updated: i64,
    deleted: i64,
}

impl Counters {
    /// # Safety
    /// `table` must be null, or the counters of a relation that this transaction has open or had open.
    unsafe fn read(table: *const pg_sys::PgStat_TableStatus) -> Option<Self> {
        // SAFETY: PostgreSQL hands counters over and frees them between transactions only.
        let table = unsafe { table.as_ref() }?;
        // SAFETY: lives to the end of the transaction; written by this process only.
        let counts = unsafe { table.trans.as_ref() };
        let Level(level) = Level::here();
        Some(match counts.filter(|counts| counts.nest_level == level) {
            Some(counts) => Self {
                inserted: counts.tuples_inserted,
                updated: counts.tuples_updated,
                deleted: counts.tuples_deleted,
            },
            None => Self { inserted: 0, updated: 0, deleted: 0 },
        })
    }

    /// What the counters of the subtransaction around this one will say once this one's have been added to them, and before that this
    /// one's. `None` where that is no addition: the table was emptied meanwhile.
    ///
    /// # Safety
    /// As for [`Counters::read`].
    unsafe fn read_released(table: *const pg_sys::PgStat_TableStatus) -> Option<(Self, Self)> {
        // SAFETY: by contract.
        let ours = unsafe { Self::read(table) }?;
        // SAFETY: by contract.
        let table = unsafe { table.as_ref() }?;
        // SAFETY: as in `read`; so is what each entry points to.
        let (counts, Level(level)) = (unsafe { table.trans.as_ref() }, Level::here());
        let Some(counts) = counts.filter(|counts| counts.nest_level == level) else {
            return None; // nothing was counted here, so no row was stored
        };
        if counts.truncdropped {
            return None;
        }
        // SAFETY: as above.
        let around = unsafe { counts.upper.as_ref() }.filter(|around| around.nest_level == level - 1);
        let sum = around.map_or(ours, |around| Self {
            inserted: around.tuples_inserted + ours.inserted,
            updated: around.tuples_updated + ours.updated,
            deleted: around.tuples_deleted + ours.deleted,
        });
        Some((ours, sum))
    }

    fn after_one_insert(self) -> Self {
        Self { inserted: self.inserted + 1, ..self }
    }
}

/// The scope in which the memory is valid.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Scope {
    transaction: u32,
    subtransaction: u32,
    place: Place,
    /// Needed only for the heads that go back to shared memory at the end of the transaction.
    unlocked_writers: State,
}

/// More heads than this are not remembered at once: a transaction over very many tenants reads them again.
const MOST_HEADS: usize = 4096;

#[derive(Default)]
struct Memory {
    scope: Scope,
    /// What the counters must say for the previous call's row to be stored.
    expected: Option<Counters>,
    /// Where those counters are, in this transaction.
    counted: Option<NonNull<pg_sys::PgStat_TableStatus>>,
    heads: HashMap<Vec<u8>, Head>,
    /// The transaction is about to commit, and all heads are those of stored rows.
    stored: bool,
}

impl Memory {
    fn forget(&mut self) {
        self.expected = None;
        self.counted = None;
        self.stored = false;
        self.heads.clear();
    }
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
    static LAYOUT: RefCell<Layout> = const { RefCell::new(Layout { relation: pg_sys::Oid::INVALID, key: pg_sys::Oid::INVALID }) };
}

/// The relation whose columns and primary key were last found to be right.
struct Layout {
    relation: pg_sys::Oid,
    key: pg_sys::Oid,
}

/// # Safety
/// `relation` must be open.
pub unsafe fn place(relation: pg_sys::Relation) -> Place {
    // SAFETY: open by contract.
    unsafe { Place { relation: (*relation).rd_id, file: versions::file_number(relation) } }
}

/// The counters of `relation`, null when nothing is counted. They are made at the first count after they were last sent, which may be
/// that of the row about to be stored.
///
/// # Safety
/// `relation` must be open.
pub unsafe fn counted(relation: pg_sys::Relation) -> *const pg_sys::PgStat_TableStatus {
    // SAFETY: open by contract; the call asks for exactly these two conditions.
    unsafe {
        if (*relation).pgstat_info.is_null() && (*relation).pgstat_enabled {
            pg_sys::pgstat_assoc_relation(relation);
        }
        (*relation).pgstat_info
    }
}

/// The head remembered for `tenant`; `None` when it must be claimed and read.
///
/// # Safety
/// `relation` must be open.
pub unsafe fn recall(relation: pg_sys::Relation, tenant: &[u8]) -> Option<Head> {
    // SAFETY: open by contract.
    let place = unsafe { place(relation) };
    let scope = Scope {
        transaction: versions::local_transaction(),
        // SAFETY: reads transaction state of this process.
        subtransaction: unsafe { GetCurrentSubTransactionId() },
        place,
        // Rows of a table that this transaction created have no locks, so none are held when it commits.
        // SAFETY: open by contract.
        unlocked_writers: if unsafe { scratch::is_created_here(relation) } {
            State::HAS_WRITERS
        } else {
            place.state()
        },
    };
    // SAFETY: open by contract.
    let counters = unsafe { Counters::read(counted(relation)) };
    MEMORY.with_borrow_mut(|memory| {
        memory.stored = false;
        let stored = memory.expected.take().is_some_and(|expected| Some(expected) == counters);
        if memory.scope != scope || !stored {
            memory.heads.clear();
            memory.scope = scope;
            return None;
        }
        memory.heads.get(tenant).copied()
    })
}

/// Remembers that `head` is what the row about to be stored makes of `tenant`'s chain. It reaches shared memory only if the end of the
/// transaction is watched ([`crate::chain::at_commit`]).
///
/// # Safety
/// `relation` must be open; to be called once, last, for every row that [`recall`] was called for.
pub unsafe fn remember(relation: pg_sys::Relation, tenant: &[u8], head: Head) {
    // SAFETY: open by contract.
    let counted = unsafe { counted(relation) };
    // SAFETY: the counters of an open relation.
    let counters = unsafe { Counters::read(counted) };
    MEMORY.with_borrow_mut(|memory| {
        memory.expected = counters.map(Counters::after_one_insert);
        memory.counted = NonNull::new(counted.cast_mut());
        if memory.heads.len() >= MOST_HEADS {
            memory.heads.clear();
        }
        if let Some(remembered) = memory.heads.get_mut(tenant) {
            *remembered = head;
        } else if memory.heads.try_reserve(1).is_ok() {
            memory.heads.insert(tenant.to_vec(), head);
        }
        if out_of_memory::is_short() {
            // Heads can be read again: the memory goes back.
            memory.heads = HashMap::new();
        }
    });
}

/// Forgets the heads: called for a row that is stored without [`remember`], which the counters cannot distinguish from the
/// row before it.
pub fn forget() {
    MEMORY.with_borrow_mut(|memory| memory.expected = None);
}

/// The transaction is about to commit: were all remembered rows stored? Raises nothing.
pub fn commit_begins() {
    let _ = MEMORY.try_with(|memory| {
        let Ok(mut memory) = memory.try_borrow_mut() else { return };
        let Some(expected) = memory.expected.take() else { return };
        // What a subtransaction appended that was not released into this one is left out.
        // SAFETY: reads transaction state of this process.
        let outermost = memory.scope.subtransaction == unsafe { GetCurrentSubTransactionId() };
        let counted = memory.counted.map_or(std::ptr::null(), |counted| counted.as_ptr().cast_const());
        // SAFETY: of a relation that this transaction had open.
        let counters = unsafe { Counters::read(counted) };
        memory.stored = outermost && counters == Some(expected);
    });
}

/// A savepoint is being released into the subtransaction `around` it, which gets its counters and its locks. Raises nothing.
pub fn released(child: u32, around: u32) {
    let _ = MEMORY.try_with(|memory| {
        let Ok(mut memory) = memory.try_borrow_mut() else { return };
        if memory.scope.subtransaction != child {
            return;
        }
        let expected = memory.expected.take();
        let counted = memory.counted.map_or(std::ptr::null(), |counted| counted.as_ptr().cast_const());
        // SAFETY: of a relation that this transaction had open; PostgreSQL adds the counters up after this.
        let counters = unsafe { Counters::read_released(counted) };
        match (expected, counters) {
            (Some(expected), Some((ours, sum))) if expected == ours => {
                memory.scope.subtransaction = around;
                memory.expected = Some(sum);
            }
            _ => memory.forget(),
        }
    });
}

/// A savepoint was rolled back, with all in it. What is remembered of it points to counters that go away. Raises nothing.
pub fn rolled_back(child: u32) {
    let _ = MEMORY.try_with(|memory| {
        if let Ok(mut memory) = memory.try_borrow_mut()
            // Subtransactions inside of it have larger numbers.
            && memory.scope.subtransaction >= child
        {
            memory.forget();
        }
    });
}

/// The transaction has committed and still holds its locks: its heads are those of their chains. Raises nothing.
pub fn committed() {
    let _ = MEMORY.try_with(|memory| {
        let Ok(mut memory) = memory.try_borrow_mut() else { return };
        if memory.stored {
            for (tenant, head) in &memory.heads {
                shared_heads::put(memory.scope.place, memory.scope.unlocked_writers, tenant, head);
            }
        }
        memory.forget();
    });
}

/// The transaction did not commit, or not yet. Raises nothing.
pub fn not_committed() {
    let _ = MEMORY.try_with(|memory| {
        if let Ok(mut memory) = memory.try_borrow_mut() {
            memory.forget();
        }
    });
}

/// Forgets everything: called when any relation was altered or truncated, or a trigger of it switched off.
unsafe extern "C-unwind" fn forget_all(_: pg_sys::Datum, _: pg_sys::Oid) {
    LAYOUT.with_borrow_mut(|layout| layout.relation = pg_sys::Oid::INVALID);
    forget();
}

/// The primary key of `relation`, once its columns and key are known to be those of the install script.
///
/// # Safety
/// `relation` must be open.
pub unsafe fn checked_key(relation: pg_sys::Relation) -> Result<pg_sys::Oid, Failure> {
    // SAFETY: open by contract.
    let oid = unsafe { (*relation).rd_id };
    if let Some(key) = LAYOUT.with_borrow(|layout| (layout.relation == oid).then_some(layout.key)) {
        return Ok(key);
    }
    thread_local!(static WATCHING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
    if !WATCHING.replace(true) {
        // SAFETY: registered once per backend; the callback only forgets.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(forget_all), pg_sys::Datum::from(0)) };
    }
    // SAFETY: open by contract.
    unsafe { columns::check_layout((*relation).rd_att)? };
    // SAFETY: open by contract.
    let key = unsafe { versions::primary_key(relation) };
    if key == pg_sys::Oid::INVALID {
        return Err(primary_key::missing());
    }
    citus::refuse_copies(oid)?;
    LAYOUT.set(Layout { relation: oid, key });
    Ok(key)
}

/// Reads the head of the claimed chain of the tenant in `tenant` from the primary key.
///
/// A scan backwards takes the whole leaf page of the index apart before it returns its first row. So the scan
/// stops at the seq where the head is thought to be; if no row is there or beyond, the guess was wrong, and it goes all the way.
///
/// # Safety
/// `relation` must be open and `key` be what [`checked_key`] returned for it; `tenant` must be a valid text.
pub unsafe fn read(
    relation: pg_sys::Relation,
    key: pg_sys::Oid,
    tenant: pg_sys::Datum,
    claim: Claim,
) -> Result<Head, Failure> {
    let chain = claim.chain;
    // SAFETY: by contract: the executor inserts into the relation.
    unsafe {
        primary_key::opened(key, |index| {
            let newest_from = |from| newest(relation, index, tenant, chain, from);
            let near = if claim.guess > 0 { newest_from(Some(claim.guess))? } else { None };
            let found = if near.is_some() { near } else { newest_from(None)? };
            Ok(found.unwrap_or(Head { chain, seq: 0, hash: Digest::GENESIS }))
        })
    }
}

/// # Safety
/// As for [`primary_key::look`].
unsafe fn newest(
    relation: pg_sys::Relation,
    index: pg_sys::Relation,
    tenant: pg_sys::Datum,
    chain: u16,
    from: Option<i64>,
) -> Result<Option<Head>, Failure> {
    let part = Part { tenant, chain: chain as i16, from, to: None };
    let mut head = Ok(None);
    let backwards = pg_sys::ScanDirection::BackwardScanDirection;
    // SAFETY: by contract.
    unsafe {
        primary_key::look(relation, index, part, backwards, |row| {
            head = head_of(row, chain).map(Some);
            ControlFlow::Break(())
        });
    }
    head
}

fn head_of(row: &Row, chain: u16) -> Result<Head, Failure> {
    // SAFETY: event_hash is a bytea.
    match (row.value(at::SEQ), unsafe { columns::digest(row.value(at::EVENT_HASH)) }) {
        (Some(seq), Some(hash)) => Ok(Head { chain, seq: seq.value() as i64, hash }),
        _ => Err(Failure::new(Kind::UnexpectedTable, format!("the head of chain {chain} has no event_hash"))
            .hint("Run audit_findings() for this tenant: the row was changed.")),
    }
}
