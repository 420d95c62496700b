//! An INSERT into the trail that row-level security refuses: somebody wrote as another tenant. The transaction rolls back, so it is noted
//! in shared memory, and the job `tripwire` tells of it.
//!
//! An error context around every INSERT that the executor runs: PostgreSQL calls it for each error, whether somebody catches it or not
//! and whatever is logged. It looks at two variables, and notes an error of privilege that comes after the trigger passed a row of a
//! trail with policies. An AFTER trigger that lacks a right looks the same, and is a refused write as well.

use std::ffi::c_void;

use pgrx::{PgSqlErrorCode, pg_sys};

use crate::chain::under_policy;
use crate::pg::versions::executor_run;
use crate::shared::privileged_use::{self, What};

/// Puts our hook in front of those already there. To be called once, by `_PG_init`.
pub fn install() {
    executor_run::install(begins);
}

/// Returns the callback for errors of a statement that inserts; `None` for others.
///
/// # Safety
/// `query` must be a live query that the executor is about to run.
unsafe fn begins(query: *mut pg_sys::QueryDesc) -> executor_run::OnError {
    // SAFETY: live by contract.
    let (operation, statement) = unsafe { ((*query).operation, (*query).plannedstmt) };
    // SAFETY: of a live query.
    let nested = || unsafe { !statement.is_null() && (*statement).hasModifyingCTE };
    if !matches!(operation, pg_sys::CmdType::CMD_INSERT | pg_sys::CmdType::CMD_MERGE) && !nested() {
        return None;
    }
    under_policy::forget();
    Some(on_error)
}

unsafe extern "C-unwind" fn on_error(_: *mut c_void) {
    // SAFETY: called while an error is reported, so there is one.
    let code = unsafe { pg_sys::geterrcode() };
    if code == PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE as i32 && under_policy::take() {
        privileged_use::note(What::WriteRefused);
    }
}
