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

/// How many triggers run around the present one, and that one.
pub fn trigger_depth() -> i32 {
    // SAFETY: takes no argument, and reads a variable of this process.
    let depth =
        unsafe { pg_sys::OidFunctionCall0Coll(pg_sys::F_PG_TRIGGER_DEPTH.into(), pg_sys::Oid::INVALID) };
    depth.value() as i32
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

/// What `pg_stat_activity` shows as the event that a background process of ours waits for.
pub fn wait_event() -> u32 {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    return pg_sys::PG_WAIT_EXTENSION;
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    {
        static EVENT: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
        *EVENT.get_or_init(|| {
            // SAFETY: a NUL-terminated name; the same number for the same name in every process.
            unsafe { pg_sys::WaitEventExtensionNew(c"ZeroauthAuditMain".as_ptr()) }
        })
    }
}

/// Whether the current role owns a database.
pub fn owns_database(database: pg_sys::Oid) -> bool {
    #[cfg(feature = "pg15")]
    // SAFETY: a catalog look-up by oid.
    return unsafe { pg_sys::pg_database_ownercheck(database, pg_sys::GetUserId()) };
    #[cfg(not(feature = "pg15"))]
    // SAFETY: as above.
    return unsafe { pg_sys::object_ownercheck(pg_sys::DatabaseRelationId, database, pg_sys::GetUserId()) };
}

/// Whether the current role owns an extension.
pub fn owns_extension(extension: pg_sys::Oid) -> bool {
    #[cfg(feature = "pg15")]
    // SAFETY: a catalog look-up by oid.
    return unsafe { pg_sys::pg_extension_ownercheck(extension, pg_sys::GetUserId()) };
    #[cfg(not(feature = "pg15"))]
    // SAFETY: as above.
    return unsafe { pg_sys::object_ownercheck(pg_sys::ExtensionRelationId, extension, pg_sys::GetUserId()) };
}

// Not bound by pgrx. Never raise.
unsafe extern "C-unwind" {
    fn enable_timeout_after(id: std::ffi::c_int, delay_ms: std::ffi::c_int);
    fn disable_timeout(id: std::ffi::c_int, keep_indicator: bool);
}

/// `STATEMENT_TIMEOUT` of utils/timeout.h, the same in 15 to 18.
const STATEMENT_TIMEOUT: std::ffi::c_int = 3;

/// Has what runs now cancelled after `limit`, or not at all.
pub fn statement_timeout(limit: Option<std::time::Duration>) {
    match limit {
        // SAFETY: the timeout is registered in every process that connects to a database.
        Some(limit) => unsafe {
            enable_timeout_after(
                STATEMENT_TIMEOUT,
                i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1),
            );
        },
        // SAFETY: as above; harmless when it is not running.
        None => unsafe { disable_timeout(STATEMENT_TIMEOUT, false) },
    }
}

/// Sends what this process counted to the statistics, at once.
pub fn report_statistics() {
    // SAFETY: outside of a transaction.
    unsafe { pg_sys::pgstat_report_stat(true) };
}

/// A signal handler of PostgreSQL's.
pub type SignalHandler = unsafe extern "C-unwind" fn(std::ffi::c_int);

// By address, without pgrx's guard. A macro for another name in 18; what it returned before that is not needed.
unsafe extern "C-unwind" {
    #[cfg_attr(feature = "pg18", link_name = "pqsignal_be")]
    fn pqsignal(signal: std::ffi::c_int, handler: Option<SignalHandler>);
}

/// Installs a signal handler.
///
/// # Safety
/// `handler` must be safe to run whenever the signal comes.
pub unsafe fn handle_signal(signal: std::ffi::c_int, handler: SignalHandler) {
    // SAFETY: by contract.
    unsafe { pqsignal(signal, Some(handler)) };
}

/// Ends the process, after its exit callbacks.
///
/// # Safety
/// No lock may be held.
pub unsafe fn proc_exit(code: std::ffi::c_int) -> ! {
    // SAFETY: by contract.
    unsafe { pg_sys::proc_exit(code) };
    // The bindings of 18 do not say that it never returns.
    #[cfg(feature = "pg18")]
    std::process::abort()
}

/// The syscache whose entries say that a schema changed.
pub fn schema_cache() -> std::ffi::c_int {
    pg_sys::SysCacheIdentifier::NAMESPACEOID as std::ffi::c_int
}

/// Called with each relation of a statement that is about to add rows to it, when the rights to do so were found.
pub type Inserts = unsafe fn(relation: pg_sys::Oid);

static INSERTS: std::sync::OnceLock<Inserts> = std::sync::OnceLock::new();
static PREVIOUS_PERMISSIONS: std::sync::OnceLock<pg_sys::ExecutorCheckPerms_hook_type> =
    std::sync::OnceLock::new();

/// Puts a hook in front of those already there that look at permissions.
///
/// # Safety
/// `inserts` may raise, with nothing that has a destructor in its frame.
pub unsafe fn hook_permissions(inserts: Inserts) {
    // SAFETY: _PG_init runs in the only thread.
    unsafe {
        if INSERTS.set(inserts).is_ok() && PREVIOUS_PERMISSIONS.set(pg_sys::ExecutorCheckPerms_hook).is_ok() {
            pg_sys::ExecutorCheckPerms_hook = Some(permissions);
        }
    }
}

#[cfg(feature = "pg15")]
unsafe extern "C-unwind" fn permissions(relations: *mut pg_sys::List, raises: bool) -> bool {
    if let Some(Some(next)) = PREVIOUS_PERMISSIONS.get() {
        // SAFETY: the next hook, with our own arguments.
        if !unsafe { next(relations, raises) } {
            return false;
        }
    }
    // SAFETY: PostgreSQL passes a list of RangeTblEntry.
    for entry in unsafe { crate::pg::list::nodes(relations) } {
        let entry = entry.cast::<pg_sys::RangeTblEntry>();
        // SAFETY: as above.
        unsafe { tell((*entry).relid, (*entry).requiredPerms) };
    }
    true
}

#[cfg(not(feature = "pg15"))]
unsafe extern "C-unwind" fn permissions(
    relations: *mut pg_sys::List,
    wanted: *mut pg_sys::List,
    raises: bool,
) -> bool {
    if let Some(Some(next)) = PREVIOUS_PERMISSIONS.get() {
        // SAFETY: the next hook, with our own arguments.
        if !unsafe { next(relations, wanted, raises) } {
            return false;
        }
    }
    // SAFETY: PostgreSQL passes a list of RTEPermissionInfo.
    for entry in unsafe { crate::pg::list::nodes(wanted) } {
        let entry = entry.cast::<pg_sys::RTEPermissionInfo>();
        // SAFETY: as above.
        unsafe { tell((*entry).relid, (*entry).requiredPerms) };
    }
    true
}

/// # Safety
/// As for [`Inserts`].
unsafe fn tell(relation: pg_sys::Oid, wanted: pg_sys::AclMode) {
    if wanted & pg_sys::ACL_INSERT as pg_sys::AclMode != 0
        && relation != pg_sys::Oid::INVALID
        && let Some(inserts) = INSERTS.get()
    {
        // SAFETY: by contract of hook_permissions.
        unsafe { inserts(relation) };
    }
}

/// A hook around the executor's run of a statement. What the hook calls is not in pgrx's guard: errors pass through as they were raised.
pub mod executor_run {
    use std::ffi::c_void;
    use std::sync::OnceLock;

    use pgrx::pg_sys;

    /// What is called for every error while the statement runs. It must not raise.
    pub type OnError = Option<unsafe extern "C-unwind" fn(*mut c_void)>;
    /// Looks at a statement before it runs. It must not raise.
    pub type Begins = unsafe fn(*mut pg_sys::QueryDesc) -> OnError;

    static BEGINS: OnceLock<Begins> = OnceLock::new();
    static PREVIOUS: OnceLock<pg_sys::ExecutorRun_hook_type> = OnceLock::new();

    #[cfg(not(feature = "pg18"))]
    unsafe extern "C-unwind" {
        fn standard_ExecutorRun(
            query: *mut pg_sys::QueryDesc,
            direction: pg_sys::ScanDirection::Type,
            count: u64,
            once: bool,
        );
    }
    #[cfg(feature = "pg18")]
    unsafe extern "C-unwind" {
        fn standard_ExecutorRun(
            query: *mut pg_sys::QueryDesc,
            direction: pg_sys::ScanDirection::Type,
            count: u64,
        );
    }

    /// Puts the hook in front of those already there.
    pub fn install(begins: Begins) {
        // SAFETY: _PG_init runs in the only thread, before any statement of this session that could see the hook.
        unsafe {
            if BEGINS.set(begins).is_ok() && PREVIOUS.set(pg_sys::ExecutorRun_hook).is_ok() {
                pg_sys::ExecutorRun_hook = Some(run);
            }
        }
    }

    /// Has `on_error` called for errors while `body` runs.
    ///
    /// # Safety
    /// `query` must be live; nothing in the frames above may have a destructor.
    unsafe fn around(query: *mut pg_sys::QueryDesc, body: impl FnOnce()) {
        // SAFETY: by contract.
        let on_error = BEGINS.get().and_then(|begins| unsafe { begins(query) });
        if on_error.is_none() {
            return body();
        }
        // SAFETY: state of this process.
        let previous = unsafe { pg_sys::error_context_stack };
        let mut context =
            pg_sys::ErrorContextCallback { previous, callback: on_error, arg: std::ptr::null_mut() };
        // SAFETY: taken off below, or by PostgreSQL when an error leaves this frame.
        unsafe { pg_sys::error_context_stack = &raw mut context };
        body();
        // SAFETY: the stack as it was.
        unsafe { pg_sys::error_context_stack = previous };
    }

    #[cfg(not(feature = "pg18"))]
    unsafe extern "C-unwind" fn run(
        query: *mut pg_sys::QueryDesc,
        direction: pg_sys::ScanDirection::Type,
        count: u64,
        once: bool,
    ) {
        let next = PREVIOUS.get().copied().flatten().unwrap_or(standard_ExecutorRun);
        // SAFETY: the next hook, or the standard function, with our own arguments.
        unsafe { around(query, || next(query, direction, count, once)) };
    }

    #[cfg(feature = "pg18")]
    unsafe extern "C-unwind" fn run(
        query: *mut pg_sys::QueryDesc,
        direction: pg_sys::ScanDirection::Type,
        count: u64,
    ) {
        let next = PREVIOUS.get().copied().flatten().unwrap_or(standard_ExecutorRun);
        // SAFETY: as above.
        unsafe { around(query, || next(query, direction, count)) };
    }
}
