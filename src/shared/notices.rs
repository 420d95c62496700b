//! Notices from a session to the launcher and the workers when its transaction ends: a database may have got the extension or
//! lost it, jobs changed, an exclusive use of a database has ended.
//!
//! Notices are kept until the commit, and sent once, when others can see the change. A prepared transaction sends none until
//! COMMIT PREPARED, whichever session runs that: see [`after_commit_prepared`].

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pgrx::{pg_guard, pg_sys};

use crate::pg::savepoint::Level;
use crate::pg::shmem;
use crate::shared::databases;
use crate::trail::membership::our_extension;

/// Whether any of the others is set: nearly every transaction of the server finds that there is nothing to do.
static PENDING: AtomicBool = AtomicBool::new(false);
static EXTENSION_TOUCHED: AtomicBool = AtomicBool::new(false);
static JOBS_TOUCHED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static DATABASES: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    /// The savepoint that uses databases exclusively: what one inside of it does is not its end.
    static HOLDING: Cell<Option<Level>> = const { Cell::new(None) };
}

/// Registers for the end of transactions. To be called once in a process that others are forked from, or by a session.
pub fn install() {
    if !shmem::is_shared() {
        return;
    }
    // SAFETY: the callbacks stay for ever.
    unsafe { pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut()) };
    // SAFETY: as above.
    unsafe { pg_sys::RegisterSubXactCallback(Some(at_subtransaction_end), std::ptr::null_mut()) };
}

/// An extension of this database was created, dropped or updated.
pub fn extension_touched() {
    EXTENSION_TOUCHED.store(true, Relaxed);
    PENDING.store(true, Relaxed);
}

/// Rows of the table `jobs` changed, or of a table of destinations.
pub fn jobs_touched() {
    JOBS_TOUCHED.store(true, Relaxed);
    PENDING.store(true, Relaxed);
}

/// Another database was created, or may be connected to now.
pub fn database_touched(database: pg_sys::Oid) {
    DATABASES.with_borrow_mut(|databases| databases.push(database.to_u32()));
    PENDING.store(true, Relaxed);
}

/// This session uses databases exclusively: see [`databases::exclusive_use`].
pub fn exclusive_use_begins() {
    HOLDING.set(HOLDING.get().or_else(|| Some(Level::here())));
    PENDING.store(true, Relaxed);
}

/// A prepared transaction was committed: it may have created or dropped the extension, or changed jobs.
pub fn after_commit_prepared() {
    if shmem::is_shared() && (our_extension().is_some() || databases::look_up(here()).is_some()) {
        databases::request(here());
    }
}

fn here() -> u32 {
    // SAFETY: set when the backend connected.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

fn let_go() {
    if HOLDING.take().is_some() {
        databases::exclusive_use::release_mine();
    }
}

fn forget() {
    EXTENSION_TOUCHED.store(false, Relaxed);
    JOBS_TOUCHED.store(false, Relaxed);
    DATABASES.with_borrow_mut(Vec::clear);
    PENDING.store(false, Relaxed);
}

/// Drops the notice if the extension was another one. The catalogs can still be read here.
fn before_commit() {
    if EXTENSION_TOUCHED.load(Relaxed) && our_extension().is_none() && databases::look_up(here()).is_none() {
        EXTENSION_TOUCHED.store(false, Relaxed);
    }
}

fn say() {
    if EXTENSION_TOUCHED.load(Relaxed) {
        databases::request(here());
    } else if JOBS_TOUCHED.load(Relaxed) {
        databases::wake(here());
    }
    DATABASES.with_borrow(|databases| databases.iter().copied().for_each(databases::request));
    forget();
}

/// Called at every end of every transaction of the server; pgrx's guard costs more than the question.
unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, argument: *mut c_void) {
    if PENDING.load(Relaxed) {
        // SAFETY: our own arguments.
        unsafe { transaction_ends(event, argument) };
    }
}

/// Nothing may fail after the commit: the functions called here load and store under a lock, and set latches.
#[pg_guard]
unsafe extern "C-unwind" fn transaction_ends(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent as on;
    match event {
        on::XACT_EVENT_PRE_COMMIT => before_commit(),
        on::XACT_EVENT_COMMIT => {
            let_go();
            say();
        }
        on::XACT_EVENT_ABORT | on::XACT_EVENT_PREPARE => {
            let_go();
            forget();
        }
        _ => {}
    }
}

unsafe extern "C-unwind" fn at_subtransaction_end(
    event: pg_sys::SubXactEvent::Type,
    _mine: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    let Some(mut held) = HOLDING.get() else { return };
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => {
            held.release();
            HOLDING.set(Some(held));
        }
        // SAFETY: takes nothing.
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB if held.is_undone() => unsafe {
            savepoint_rolled_back()
        },
        _ => {}
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn savepoint_rolled_back() {
    let_go();
}
