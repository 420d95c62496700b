//! Refuses DDL that would weaken the trail, for owners and superusers alike: a ProcessUtility hook for statements that
//! name a table or view of the extension, an object access hook for what they reach in the end, whatever name led there.
//!
//! Active in every session when the library is in `shared_preload_libraries`; otherwise only in sessions that have
//! called a function of the library. A superuser who sets `zeroauth_audit.maintenance` is let through. Every attempt,
//! refused or let through, is one line in the server log.
//!
//! The statement itself runs outside of pgrx's guard: an error inside it (a DO block that raises an SQLSTATE of its
//! own) must reach the client exactly as it was raised.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;

use pgrx::pg_sys;

use crate::chain::at_commit;
use crate::chain::shared_heads;
use crate::guard::by_oid::{self, Access};
use crate::guard::exclusive_database;
use crate::guard::executor;
use crate::guard::refuse_if;
use crate::guard::row_changes::Attempt;
use crate::guard::statements::{self, Running};
use crate::pg::error::{Failure, Kind};
use crate::pg::settings;
use crate::pg::versions;
use crate::shared::notices;
use crate::shared::privileged_use::{self, What};
use crate::trail::citus;
use crate::trail::identity;
use crate::trail::membership::{is_trail, runs_own_script, trail_name, trail_oid};
use crate::trail::scratch;

static PREVIOUS_UTILITY: OnceLock<pg_sys::ProcessUtility_hook_type> = OnceLock::new();
static PREVIOUS_ACCESS: OnceLock<pg_sys::object_access_hook_type> = OnceLock::new();

thread_local! {
    /// The utility statement that runs, and whether its attempt was told of. An error leaves it as it was: the next statement sets it.
    static RUNNING: Cell<(Running, bool)> = const { Cell::new((Running::NONE, false)) };
}

/// Puts our hooks in front of those already there.
pub fn install_hooks() {
    // SAFETY: _PG_init runs in the only thread, before any statement of this session that could see the hooks.
    unsafe {
        if PREVIOUS_UTILITY.set(pg_sys::ProcessUtility_hook).is_ok() {
            pg_sys::ProcessUtility_hook = Some(utility);
        }
        if PREVIOUS_ACCESS.set(pg_sys::object_access_hook).is_ok() {
            pg_sys::object_access_hook = Some(access);
        }
    }
}

// Called without pgrx's guard on purpose, see the header.
unsafe extern "C-unwind" {
    fn standard_ProcessUtility(
        pstmt: *mut pg_sys::PlannedStmt,
        query_string: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        query_env: *mut pg_sys::QueryEnvironment,
        dest: *mut pg_sys::DestReceiver,
        qc: *mut pg_sys::QueryCompletion,
    );
}

#[allow(clippy::too_many_arguments)] // PostgreSQL's signature
unsafe extern "C-unwind" fn utility(
    pstmt: *mut pg_sys::PlannedStmt,
    query_string: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    query_env: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    qc: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: PostgreSQL passes a live statement.
    let outer = RUNNING.replace((unsafe { Running::of((*pstmt).utilityStmt) }, false));
    // SAFETY: as above.
    let commits_prepared = unsafe { commits_prepared((*pstmt).utilityStmt) };
    // SAFETY: as above.
    unsafe {
        refuse_if(|| {
            if commits_prepared {
                at_commit::watch();
                shared_heads::unlocked_writer_of_all_begins(); // it may have brought rows with hashes
            }
            check_statement((*pstmt).utilityStmt)?;
            exclusive_database::stop_worker_for((*pstmt).utilityStmt);
            Ok(())
        });
    }
    // SAFETY: as above; looked at before the statement runs, which may change it.
    let kind = unsafe { (*(*pstmt).utilityStmt).type_ };
    let updates_extension = kind == pg_sys::NodeTag::T_AlterExtensionStmt;
    let copies = kind == pg_sys::NodeTag::T_CopyStmt;
    // SAFETY: in a transaction.
    let file_before = rewrites(kind).then(|| unsafe { trail_file() }).flatten();
    if copies {
        executor::copying(true);
    }
    let next = PREVIOUS_UTILITY.get().copied().flatten().unwrap_or(standard_ProcessUtility);
    // SAFETY: the next hook, or the standard function, with our own arguments.
    unsafe { next(pstmt, query_string, read_only_tree, context, params, query_env, dest, qc) };
    RUNNING.set(outer);
    if copies {
        executor::copying(false);
    }
    if updates_extension {
        notices::extension_touched();
    }
    if let Some(before) = file_before {
        // SAFETY: in a transaction: such a statement begins one when its own are over.
        unsafe { note_rewrite(before) };
    }
    if commits_prepared {
        // SAFETY: the statement is over, and its transaction is not.
        unsafe {
            refuse_if(|| {
                notices::after_commit_prepared();
                Ok(())
            });
        }
    }
}

/// Whether a statement may give a table another file although its rows stay.
fn rewrites(kind: pg_sys::NodeTag) -> bool {
    use pg_sys::NodeTag as tag;
    matches!(kind, tag::T_VacuumStmt | tag::T_ClusterStmt | tag::T_AlterTableMoveAllStmt)
}

/// The trail and its file; `None` where there is none.
///
/// # Safety
/// In a transaction.
unsafe fn trail_file() -> Option<(pg_sys::Oid, u32)> {
    let mut found = None;
    // SAFETY: by contract; nothing with a destructor is here.
    unsafe {
        refuse_if(|| {
            let Some(trail) = trail_oid() else { return Ok(()) };
            executor::with_open(trail, |relation| {
                found = Some((trail, versions::file_number(relation)));
                Ok(())
            })
        });
    }
    found
}

/// Notes that the statement gave the trail another file, if it did: the job tripwire then knows by whom.
///
/// # Safety
/// In a transaction.
#[cold]
unsafe fn note_rewrite((trail, file): (pg_sys::Oid, u32)) {
    // SAFETY: by contract.
    if unsafe { trail_file() }.is_some_and(|(still, now)| still == trail && now != file) {
        privileged_use::note_object(What::TableRewritten, trail);
    }
}

/// Whether `statement` is COMMIT PREPARED.
///
/// # Safety
/// `statement` must be a live node.
unsafe fn commits_prepared(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: a node begins with its tag, which says what it is.
    unsafe {
        (*statement).type_ == pg_sys::NodeTag::T_TransactionStmt
            && (*statement.cast::<pg_sys::TransactionStmt>()).kind
                == pg_sys::TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED
    }
}

unsafe extern "C-unwind" fn access(
    kind: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub: c_int,
    argument: *mut c_void,
) {
    if let Some(Some(next)) = PREVIOUS_ACCESS.get() {
        // SAFETY: the next hook, with our own arguments.
        unsafe { next(kind, class, object, sub, argument) };
    }
    use pg_sys::ObjectAccessType::{OAT_DROP, OAT_POST_ALTER, OAT_POST_CREATE, OAT_TRUNCATE};
    // Every look-up of a schema and every first call of a function calls this hook too: return at once for them.
    if matches!(kind, OAT_DROP | OAT_POST_ALTER | OAT_POST_CREATE | OAT_TRUNCATE) {
        if class == pg_sys::ExtensionRelationId {
            notices::extension_touched();
        } else if class == pg_sys::DatabaseRelationId && kind != OAT_DROP {
            notices::database_touched(object);
        }
        // SAFETY: called by PostgreSQL inside a transaction.
        unsafe { refuse_if(|| check_access(Access { kind, class, object, sub, argument })) };
    }
}

fn refused(operation: &str, object: &str) -> Failure {
    Failure::new(Kind::DdlRefused, format!("{operation} of {object} is refused"))
        .detail("It would change what events are stored or how they are guarded.")
        .hint("docs/ddl.md lists what is allowed, such as CREATE INDEX.")
}

/// Logs an attempt, once for each statement; `Err` unless it is let through.
fn attempt(operation: &str, object: &str) -> Result<(), Failure> {
    let (running, told) = RUNNING.get();
    if told && settings::maintenance() {
        return Ok(());
    }
    RUNNING.set((running, true));
    if settings::maintenance() {
        if !object.starts_with(scratch::SCHEMA_PREFIX) {
            privileged_use::note(What::MaintenanceDdl);
        }
        Attempt::log("ddl_allowed", operation, object);
        return Ok(());
    }
    Attempt::log("ddl_refused", operation, object);
    Err(refused(operation, object))
}

/// # Safety
/// `statement` must be NULL or a live utility statement.
unsafe fn check_statement(statement: *mut pg_sys::Node) -> Result<(), Failure> {
    // SAFETY: passed on from the caller.
    unsafe { statements::tried(statement) }.map_or(Ok(()), |(operation, on)| attempt(operation, &on))
}

fn check_access(access: Access) -> Result<(), Failure> {
    use pg_sys::ObjectAccessType as of;
    let Access { kind, class, object, sub, .. } = access;
    if kind == of::OAT_TRUNCATE {
        // SAFETY: called by PostgreSQL inside a transaction.
        return unsafe { check_truncate(object) };
    }
    let drops_table = kind == of::OAT_DROP && class == pg_sys::RelationRelationId && sub == 0;
    if drops_table
        && !runs_own_script()
        && is_trail(object)
        && (has_events(object) || citus::is_distributed(object))
    {
        return attempt("DROP", &trail_name(object));
    }
    // SAFETY: as above, with PostgreSQL's own argument.
    unsafe { by_oid::tried(access, RUNNING.get().0) }
        .map_or(Ok(()), |(operation, on)| attempt(operation, &on))
}

/// The trail's trigger refuses TRUNCATE, too, if it is there. Who has no right to truncate is told so by PostgreSQL.
///
/// # Safety
/// In a transaction.
unsafe fn check_truncate(table: pg_sys::Oid) -> Result<(), Failure> {
    // SAFETY: look-ups by oid; closed below, or by the error.
    unsafe {
        let right = pg_sys::ACL_TRUNCATE as pg_sys::AclMode;
        if pg_sys::pg_class_aclcheck(table, pg_sys::GetUserId(), right) != pg_sys::AclResult::ACLCHECK_OK {
            return Ok(());
        }
        executor::with_open(table, |relation| {
            if identity::may_matter(relation) { executor::check_truncate(relation) } else { Ok(()) }
        })
    }
}

/// Whether the table has a row.
fn has_events(table: pg_sys::Oid) -> bool {
    // SAFETY: opened and closed here under a lock that the dropping statement holds already; the scan sees what is
    // committed and what this transaction did.
    unsafe {
        let relation = pg_sys::try_table_open(table, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return false;
        }
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        let found = !pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection).is_null();
        pg_sys::heap_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        found
    }
}
