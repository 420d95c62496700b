//! The tables that the extension remembers by (logs, tiles, checkpoints, watermarks, findings, alerts, deliveries, anchors, runs): its own
//! functions write them, and nobody else, the owner and superusers included.
//!
//! Under maintenance a superuser may; each time is a line of the server log, and an alert. COPY into a table without a row is a restore.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::guard::row_changes::Attempt;
use crate::pg::error::{Failure, Kind};
use crate::pg::settings;
use crate::pg::shmem;
use crate::pg::spi::Session;
use crate::shared::databases::restores;
use crate::shared::privileged_use::{self, What};
use crate::trail::membership::{INTERNAL, runs_own_script, trail_oid};
use crate::trail::own_functions;

/// Refuses what is not one of ours.
///
/// # Safety
/// `relation` must be open, and such a table.
pub unsafe fn check(relation: pg_sys::Relation, operation: &str) -> Result<(), Failure> {
    if own_functions::running() || runs_own_script() {
        return Ok(());
    }
    // SAFETY: by contract; its name is NUL-terminated.
    let name = unsafe { CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr()) };
    let name = name.to_string_lossy();
    if settings::maintenance() {
        // SAFETY: by contract.
        privileged_use::note_object(What::StateWritten, unsafe { (*relation).rd_id });
        Attempt::log("change_allowed", operation, &name);
        return Ok(());
    }
    Attempt::log("change_refused", operation, &name);
    Err(Failure::new(Kind::ChangeRefused, format!("{operation} of {name} is refused"))
        .detail("Only the extension's own functions write to it. The attempt is in the server log.")
        .hint(if settings::may_open_maintenance() {
            "For repairs: SET zeroauth_audit.maintenance = on. It is an alert."
        } else {
            "SELECT * FROM audit_help() has the calls that change what it shows."
        }))
}

/// Notes who writes by hand what the extension's functions set: jobs, sinks, targets, routes.
///
/// # Safety
/// `relation` must be open, and such a table.
pub unsafe fn note_settings(relation: pg_sys::Relation) {
    if !own_functions::running() && !runs_own_script() {
        // SAFETY: by contract.
        privileged_use::note_object(What::SettingsWritten, unsafe { (*relation).rd_id });
    }
}

/// What the job drift writes while a restore is under way: its triggers reconcile both, whichever comes first.
const RECONCILED: [&CStr; 2] = [c"tenants", c"watermarks"];
/// Tables that tripwires write to, which look on while a dump is restored; and the column that says when.
const WATCHERS_WRITE: [(&str, &str); 3] =
    [("alerts", "raised_at"), ("alert_deliveries", "created_at"), ("job_runs", "started_at")];

/// Whether COPY into the table is a restore: it has no row, or gets along with those there are, or has only what tripwires had to
/// say before the dump came.
///
/// # Safety
/// `relation` must be open, and such a table.
pub unsafe fn takes_a_dump(relation: pg_sys::Relation) -> bool {
    // SAFETY: by contract; its name is NUL-terminated.
    let name = unsafe { CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr()) };
    // SAFETY: by contract.
    if RECONCILED.contains(&name) || unsafe { is_empty(relation) } {
        return true;
    }
    let watched = WATCHERS_WRITE.iter().find(|(table, _)| table.as_bytes() == name.to_bytes());
    watched.is_some_and(|(table, at)| may_be_restored() && has_nothing_of_a_dump(table, at))
}

/// Whether a dump may be on its way into this database: events of one have come, or there are none yet.
pub fn may_be_restored() -> bool {
    // SAFETY: set when the backend connected.
    let here = unsafe { pg_sys::MyDatabaseId }.to_u32();
    shmem::is_shared() && restores::since(here).is_some() || trail_is_empty()
}

/// Whether every row of `table` is younger than this trail.
fn has_nothing_of_a_dump(table: &str, at: &str) -> bool {
    let mut nothing = false;
    let sql = format!(
        "SELECT NOT EXISTS (SELECT 1 FROM {INTERNAL}.{table} t WHERE t.{at} OPERATOR(pg_catalog.<) (SELECT s.began_at FROM {INTERNAL}.drift_state s))"
    );
    let asked = Session::connect().all(&sql, &[], |row| {
        nothing = row.bool(0);
        Ok(())
    });
    asked.is_ok() && nothing
}

fn trail_is_empty() -> bool {
    let Some(trail) = trail_oid() else { return false };
    // SAFETY: opened and closed here.
    unsafe {
        let open = pg_sys::try_table_open(trail, pg_sys::AccessShareLock as i32);
        if open.is_null() {
            return false;
        }
        let empty = is_empty(open);
        pg_sys::table_close(open, pg_sys::AccessShareLock as i32);
        empty
    }
}

/// Whether the table has no row that this transaction sees.
///
/// # Safety
/// `relation` must be open.
unsafe fn is_empty(relation: pg_sys::Relation) -> bool {
    // SAFETY: by contract; in a transaction, with a snapshot that is registered by the scan.
    unsafe {
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        let found = !pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection).is_null();
        pg_sys::heap_endscan(scan);
        !found
    }
}
