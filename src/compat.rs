//! What differs between PostgreSQL 15, 16, 17 and 18: here, and nowhere else.

use pgrx::pg_sys;

/// The backend-local number of the current transaction: never the same for two transactions of one backend.
#[inline]
pub fn local_transaction() -> u32 {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    // SAFETY: MyProc is set in every backend that can run SQL, and the field is written by this process only.
    return unsafe { (*pg_sys::MyProc).lxid };
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    // SAFETY: as above.
    return unsafe { (*pg_sys::MyProc).vxid.lxid };
}

/// The file of a relation: another after TRUNCATE or a rewrite.
///
/// # Safety
/// `relation` must be open.
pub unsafe fn file_number(relation: pg_sys::Relation) -> u32 {
    #[cfg(feature = "pg15")]
    // SAFETY: the caller holds the relation open.
    return unsafe { (*relation).rd_node.relNode }.to_u32();
    #[cfg(not(feature = "pg15"))]
    // SAFETY: as above.
    return unsafe { (*relation).rd_locator.relNumber }.to_u32();
}

/// The oid of a table's primary key, invalid when it has none.
///
/// # Safety
/// `relation` must be open.
pub unsafe fn primary_key(relation: pg_sys::Relation) -> pg_sys::Oid {
    #[cfg(not(feature = "pg18"))]
    // SAFETY: the caller holds the relation open.
    return unsafe { pg_sys::RelationGetPrimaryKeyIndex(relation) };
    #[cfg(feature = "pg18")]
    // SAFETY: as above; a deferrable key guards no less at commit.
    return unsafe { pg_sys::RelationGetPrimaryKeyIndex(relation, true) };
}

/// Begins an index scan.
///
/// # Safety
/// `table` and `index` must be open, `snapshot` must live as long as the scan.
pub unsafe fn begin_index_scan(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    keys: i32,
) -> pg_sys::IndexScanDesc {
    #[cfg(not(feature = "pg18"))]
    // SAFETY: passed on from the caller.
    return unsafe { pg_sys::index_beginscan(table, index, snapshot, keys, 0) };
    #[cfg(feature = "pg18")]
    // SAFETY: passed on from the caller; no instrumentation.
    return unsafe { pg_sys::index_beginscan(table, index, snapshot, std::ptr::null_mut(), keys, 0) };
}

/// One attribute of a tuple descriptor.
///
/// # Safety
/// `desc` must be live and `n` (from 0) less than its `natts`.
pub unsafe fn attribute(desc: pg_sys::TupleDesc, n: usize) -> pg_sys::Form_pg_attribute {
    #[cfg(not(feature = "pg18"))]
    // SAFETY: the caller keeps n in range.
    return unsafe { (*desc).attrs.as_mut_ptr().add(n) };
    #[cfg(feature = "pg18")]
    {
        // What the macro TupleDescAttr() computes: the full attributes follow as many compact ones.
        // SAFETY: the descriptor is live.
        let natts = unsafe { (*desc).natts } as usize;
        // SAFETY: as above; a descriptor is allocated with its natts compact attributes.
        let attributes = unsafe { (*desc).compact_attrs.as_mut_ptr().add(natts) };
        // SAFETY: and with as many full ones right behind them; the caller keeps n in range.
        unsafe { attributes.cast::<pg_sys::FormData_pg_attribute>().add(n) }
    }
}

/// The process id of the leader this backend works for in a parallel query, its own otherwise.
pub fn leader_pid() -> i32 {
    // SAFETY: MyProc is set; the leader outlives its workers' queries.
    let leader = unsafe { (*pg_sys::MyProc).lockGroupLeader };
    if leader.is_null() {
        // SAFETY: set at process start.
        return unsafe { pg_sys::MyProcPid };
    }
    // SAFETY: the lock group leader's PGPROC lives in shared memory.
    unsafe { (*leader).pid }
}
