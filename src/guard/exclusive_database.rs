//! Statements that need a database free of other sessions: DROP DATABASE, ALTER DATABASE .. SET TABLESPACE and .. RENAME,
//! CREATE DATABASE .. TEMPLATE; and DROP EXTENSION, which needs the worker's locks.
//!
//! The worker of that database is stopped before the statement runs, and not started again until the transaction commits or
//! aborts. Only a role that may run the statement can stop a worker this way.

use std::ffi::{CStr, c_char};
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use crate::pg::list::nodes;
use crate::pg::shmem;
use crate::pg::versions;
use crate::shared::databases;
use crate::shared::notices;
use crate::trail::membership::{EXTENSION, our_extension};

/// PostgreSQL itself waits 5 s for other sessions to go; a worker that takes longer is left to it.
const PATIENCE: Duration = Duration::from_secs(4);
const STEP: Duration = Duration::from_millis(5);

/// Stops the worker that `statement` would wait for.
///
/// # Safety
/// `statement` must be NULL or a live utility statement.
pub unsafe fn stop_worker_for(statement: *mut pg_sys::Node) {
    if statement.is_null() || !shmem::is_shared() {
        return;
    }
    // SAFETY: passed on from the caller.
    let Some(database) = (unsafe { wanted(statement) }) else { return };
    let database = database.to_u32();
    if !databases::exclusive_use::take(database) {
        return;
    }
    notices::exclusive_use_begins();
    let since = Instant::now();
    while databases::exclusive_use::stop_worker(database).is_some() && since.elapsed() < PATIENCE {
        pgrx::check_for_interrupts!();
        std::thread::sleep(STEP);
    }
}

/// The database that the statement needs for itself, when the current role may run it.
///
/// # Safety
/// `statement` must be a live utility statement.
unsafe fn wanted(statement: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    use pg_sys::NodeTag as tag;
    // SAFETY: each cast follows the node's tag, and pointers inside a statement are NULL or live.
    unsafe {
        match (*statement).type_ {
            tag::T_DropdbStmt => owned((*statement.cast::<pg_sys::DropdbStmt>()).dbname),
            tag::T_RenameStmt => {
                let rename = &*statement.cast::<pg_sys::RenameStmt>();
                (rename.renameType == pg_sys::ObjectType::OBJECT_DATABASE).then(|| owned(rename.subname))?
            }
            tag::T_AlterDatabaseStmt => {
                let alter = &*statement.cast::<pg_sys::AlterDatabaseStmt>();
                option(alter.options, c"tablespace").and_then(|_| owned(alter.dbname))
            }
            tag::T_CreatedbStmt => {
                let create = &*statement.cast::<pg_sys::CreatedbStmt>();
                let named = option(create.options, c"template").map(|option| pg_sys::defGetString(option));
                template(named.unwrap_or(c"template1".as_ptr().cast_mut()))
            }
            tag::T_DropStmt => drops_ours(&*statement.cast()).then_some(pg_sys::MyDatabaseId),
            _ => None,
        }
    }
}

/// # Safety
/// `name` must be NULL or NUL-terminated.
unsafe fn by_name(name: *const c_char) -> Option<pg_sys::Oid> {
    if name.is_null() {
        return None;
    }
    // SAFETY: a catalog look-up by name; missing is allowed.
    let oid = unsafe { pg_sys::get_database_oid(name, true) };
    (oid != pg_sys::Oid::INVALID).then_some(oid)
}

/// # Safety
/// As for [`by_name`].
unsafe fn owned(name: *const c_char) -> Option<pg_sys::Oid> {
    // SAFETY: by contract.
    unsafe { by_name(name) }.filter(|database| versions::owns_database(*database))
}

/// A database that the current role can copy: its own, or one marked as a template if the role may create databases.
///
/// # Safety
/// As for [`by_name`].
unsafe fn template(name: *const c_char) -> Option<pg_sys::Oid> {
    // SAFETY: by contract.
    unsafe { by_name(name) }.filter(|database| {
        versions::owns_database(*database) || (is_template(*database) && may_create_databases())
    })
}

fn may_create_databases() -> bool {
    // SAFETY: looks at the current role.
    let role = pg_sys::Datum::from(unsafe { pg_sys::GetUserId() });
    let may = |row: &pg_sys::FormData_pg_authid| row.rolcreatedb;
    // SAFETY: the rows of this cache are of this type.
    unsafe { cached(pg_sys::SysCacheIdentifier::AUTHOID, role, may) }
}

fn is_template(database: pg_sys::Oid) -> bool {
    let is = |row: &pg_sys::FormData_pg_database| row.datistemplate;
    // SAFETY: the rows of this cache are of this type.
    unsafe { cached(pg_sys::SysCacheIdentifier::DATABASEOID, pg_sys::Datum::from(database), is) }
}

/// Applies `look` to a catalog row; false when there is none.
///
/// # Safety
/// `Row` must be the fixed part of the rows of `cache`.
unsafe fn cached<Row>(
    cache: pg_sys::SysCacheIdentifier::Type,
    key: pg_sys::Datum,
    look: impl FnOnce(&Row) -> bool,
) -> bool {
    // SAFETY: a look-up by the cache's own key.
    let tuple = unsafe { pg_sys::SearchSysCache1(cache as i32, key) };
    if tuple.is_null() {
        return false;
    }
    // SAFETY: a tuple that the cache holds until it is released.
    let said = unsafe {
        let header = (*tuple).t_data;
        look(&*header.cast::<u8>().add((*header).t_hoff as usize).cast::<Row>())
    };
    // SAFETY: found above.
    unsafe { pg_sys::ReleaseSysCache(tuple) };
    said
}

/// # Safety
/// `options` must be NULL or a list of DefElem.
unsafe fn option(options: *mut pg_sys::List, name: &CStr) -> Option<*mut pg_sys::DefElem> {
    // SAFETY: by contract.
    unsafe { nodes(options) }.map(|node| node.cast::<pg_sys::DefElem>()).find(|element| {
        // SAFETY: by contract; an option has a name.
        unsafe { CStr::from_ptr((**element).defname) == name && !(**element).arg.is_null() }
    })
}

/// # Safety
/// Pointers inside the statement must be NULL or live.
unsafe fn drops_ours(statement: &pg_sys::DropStmt) -> bool {
    if statement.removeType != pg_sys::ObjectType::OBJECT_EXTENSION {
        return false;
    }
    // SAFETY: the objects of DROP EXTENSION are names.
    let names_ours =
        unsafe { nodes(statement.objects) }.any(|name| unsafe { string(name) } == Some(EXTENSION));
    names_ours && our_extension().is_some_and(versions::owns_extension)
}

/// # Safety
/// `node` must be NULL or live.
unsafe fn string<'a>(node: *mut pg_sys::Node) -> Option<&'a CStr> {
    // SAFETY: by contract.
    if node.is_null() || unsafe { (*node).type_ } != pg_sys::NodeTag::T_String {
        return None;
    }
    // SAFETY: the tag says so; its text is NUL-terminated and lives with the statement.
    Some(unsafe { CStr::from_ptr((*node.cast::<pg_sys::String>()).sval) })
}
