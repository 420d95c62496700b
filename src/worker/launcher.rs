//! The launcher: one process of the server that starts a worker for every database that has the extension.
//!
//! It is connected to no database, and cannot see extensions. So a worker is started for every database once, after the
//! server started or was reloaded, and leaves at once where there is nothing to do; afterwards only for databases that a
//! session requested: by CREATE EXTENSION or CREATE DATABASE. It waits for its latch in between, for as long as nothing is due.
//!
//! On a standby there is a launcher only if `zeroauth_audit.verify_on_standby` is on. A promotion starts the real one,
//! which stops that one and its workers.

use std::time::Duration;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_guard, pg_sys};

use crate::pg::settings;
use crate::pg::time::{self, SECOND};
use crate::shared::databases::launch::{self, Next};
use crate::worker::process::{accept_signals, describe, dying, leave, reload_if_asked, show, wait};

/// Names of the processes in `pg_stat_activity.backend_type`.
const LAUNCHER: &std::ffi::CStr = c"zeroauth_audit launcher";
const WORKER: &std::ffi::CStr = c"zeroauth_audit worker";

/// Seconds until the server restarts a launcher that ended.
const RESTART_SECONDS: i32 = 1;
/// The first and the longest wait, in seconds, when `max_worker_processes` are in use.
const NO_ROOM: (i64, i64) = (5, 60);

/// Has the server start the launcher. To be called while it loads the library.
pub fn register() {
    use pg_sys::BgWorkerStartTime::{BgWorkerStart_ConsistentState, BgWorkerStart_RecoveryFinished};
    if !settings::worker() {
        return;
    }
    let register = |start, function| {
        let mut launcher =
            describe("zeroauth_audit launcher", LAUNCHER, function, start, Some(RESTART_SECONDS));
        // SAFETY: the server is loading the library; the description is copied.
        unsafe { pg_sys::RegisterBackgroundWorker(&mut launcher) };
    };
    register(BgWorkerStart_RecoveryFinished, c"zeroauth_audit_launcher_main");
    if settings::verify_on_standby() {
        register(BgWorkerStart_ConsistentState, c"zeroauth_audit_standby_launcher_main");
    }
}

/// The launcher of a server that is no standby.
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn zeroauth_audit_launcher_main(_argument: pg_sys::Datum) {
    run(false);
}

/// The launcher of a standby: gone as soon as the server is none.
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn zeroauth_audit_standby_launcher_main(_argument: pg_sys::Datum) {
    // SAFETY: reads shared state.
    if !unsafe { pg_sys::RecoveryInProgress() } {
        leave(0);
    }
    run(true);
}

#[pg_guard]
unsafe extern "C-unwind" fn at_exit(_code: i32, _argument: pg_sys::Datum) {
    launch::end();
}

fn run(standby: bool) -> ! {
    // SAFETY: at the start of a background process; the callback needs nothing that is gone by then.
    unsafe { pg_sys::on_shmem_exit(Some(at_exit), pg_sys::Datum::from(0)) };
    accept_signals();
    // SAFETY: once, at the start; no database.
    unsafe { pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0) };
    // SAFETY: a NUL-terminated name.
    unsafe { pg_sys::pgstat_report_appname(c"zeroauth_audit".as_ptr()) };
    launch::begin(standby);
    let mut room = Room::default();
    loop {
        if dying() {
            // A standby's launcher that a promotion stopped must not come back.
            // SAFETY: reads shared state.
            leave(if standby && !unsafe { pg_sys::RecoveryInProgress() } { 0 } else { 1 });
        }
        if reload_if_asked() {
            launch::request_all();
        }
        let now = time::now();
        match launch::due(now) {
            Next::Databases => {
                show(true, "looking at the list of databases");
                if let Some(database) = launch::reconcile(&databases(), now) {
                    show(true, &format!("starting the worker of database {database}"));
                    room.start(database);
                }
            }
            Next::Wait(until) => {
                show(false, "waiting for a database that needs a worker");
                let woken = wait(until.map(|at| Duration::from_micros(u64::try_from(at - now).unwrap_or(0))));
                // Also when the server has reaped a worker: only then is its place free.
                if woken && room.refused > 0 {
                    launch::retry_postponed();
                }
            }
        }
    }
}

/// Whether the server had room for the last worker.
#[derive(Default)]
struct Room {
    refused: u32,
}

impl Room {
    fn start(&mut self, database: u32) {
        let start = pg_sys::BgWorkerStartTime::BgWorkerStart_ConsistentState;
        let name = format!("zeroauth_audit worker for database {database}");
        let mut worker = describe(&name, WORKER, c"zeroauth_audit_worker_main", start, None);
        worker.bgw_main_arg = pg_sys::Datum::from(database);
        // SAFETY: set at process start. This process is woken when the worker starts and when it ends.
        worker.bgw_notify_pid = unsafe { pg_sys::MyProcPid };
        // SAFETY: a complete description, copied into shared memory; no handle is wanted.
        if unsafe { pg_sys::RegisterDynamicBackgroundWorker(&mut worker, std::ptr::null_mut()) } {
            self.refused = 0;
            return;
        }
        if self.refused == 0 {
            let used = max_worker_processes();
            ErrorReport::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
                format!("zeroauth_audit cannot start the worker of database {database}: all {used} background workers are in use"),
                "start",
            )
            .set_hint("Raise max_worker_processes: zeroauth_audit needs one, and one more for each database that has the extension. It is tried again.")
            .report(PgLogLevel::WARNING);
        }
        let wait = (NO_ROOM.0 << self.refused.min(8)).min(NO_ROOM.1);
        self.refused += 1;
        launch::postpone(database, time::now() + wait * SECOND);
    }
}

fn max_worker_processes() -> i32 {
    // SAFETY: set when the server started.
    unsafe { pg_sys::max_worker_processes }
}

/// The databases that a worker can connect to.
fn databases() -> Vec<u32> {
    let mut found = Vec::new();
    // SAFETY: outside of a transaction; ended below. An error ends the process, and the server starts it again.
    unsafe {
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let catalog = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::table_beginscan_catalog(catalog, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let header = (*tuple).t_data;
            let row =
                header.cast::<u8>().add((*header).t_hoff as usize).cast::<pg_sys::FormData_pg_database>();
            // A limit of -2 marks a database whose DROP was interrupted: nobody can connect to it.
            if (*row).datallowconn && (*row).datconnlimit != -2 {
                found.push((*row).oid.to_u32());
            }
        }
        pg_sys::heap_endscan(scan);
        pg_sys::table_close(catalog, pg_sys::AccessShareLock as i32);
        pg_sys::PopActiveSnapshot();
        pg_sys::CommitTransactionCommand();
    }
    found
}
