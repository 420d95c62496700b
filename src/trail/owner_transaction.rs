//! One transaction of a worker, as the extension's owner and restricted: a user's trigger in it has no more rights than the
//! owner, and cannot change the session.
//!
//! An error ends the transaction and is the caller's to record. SIGTERM ends the process.

use std::ffi::c_int;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;

use crate::pg::error::Failure;
use crate::pg::names;
use crate::pg::out_of_memory;
use crate::pg::spi::Session;
use crate::pg::versions;
use crate::trail::membership::{INTERNAL, extension_row};
use crate::trail::own_functions;

/// Why a transaction did not commit.
#[derive(Debug)]
pub enum WorkerError {
    /// The extension is not there any more.
    Gone,
    /// An error, in words.
    Error(String),
}

/// A transaction that is open.
pub struct Open {
    /// The schema of what only the extension uses.
    pub schema: &'static str,
    /// The schema that the extension was created in, quoted.
    pub public: String,
    /// For statements.
    pub session: Session,
}

/// Runs `work` in a transaction of its own, and commits. With a `limit`, it is cancelled after that time.
pub fn run<T>(
    limit: Option<Duration>,
    work: impl FnOnce(&Open) -> Result<T, Failure>,
) -> Result<T, WorkerError> {
    if !out_of_memory::take_reserve() {
        return Err(WorkerError::Error(out_of_memory::failure().to_string()));
    }
    own_functions::begin(own_functions::WORKER);
    let done = pgrx::PgTryBuilder::new(AssertUnwindSafe(|| committed(limit, work)))
        .catch_others(|cause| Err(WorkerError::Error(words(&cause))))
        .execute();
    own_functions::end(own_functions::WORKER);
    if done.is_err() {
        versions::statement_timeout(None);
        // SAFETY: outside of every guarded frame; ends the rest of the transaction, and its rights with it.
        unsafe { pg_sys::AbortCurrentTransaction() };
        // SAFETY: a cancel that came too late was for the transaction that is gone.
        unsafe { pg_sys::QueryCancelPending = 0 };
    }
    done
}

fn committed<T>(
    limit: Option<Duration>,
    work: impl FnOnce(&Open) -> Result<T, Failure>,
) -> Result<T, WorkerError> {
    // SAFETY: outside of a transaction.
    unsafe { pg_sys::SetCurrentStatementStartTimestamp() };
    // SAFETY: as above; ended below or by the caller.
    unsafe { pg_sys::StartTransactionCommand() };
    // SAFETY: in a transaction; popped below.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
    let Some((schema, owner)) = extension_row() else { return Err(WorkerError::Gone) };
    let Some(public) = names::schema(schema) else { return Err(WorkerError::Gone) };
    let (mut user, mut context) = (pg_sys::Oid::INVALID, 0);
    // SAFETY: writes to two locals.
    unsafe { pg_sys::GetUserIdAndSecContext(&mut user, &mut context) };
    let restricted = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as c_int;
    // SAFETY: put back below, or by the end of a transaction that fails. Not before the commit: deferred triggers run there.
    unsafe { pg_sys::SetUserIdAndSecContext(owner, context | restricted) };
    versions::statement_timeout(limit);
    let open = Open { schema: INTERNAL, public, session: Session::connect() };
    let done = work(&open).map_err(|failure| WorkerError::Error(failure.to_string()))?;
    drop(open);
    versions::statement_timeout(None);
    // SAFETY: pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
    // SAFETY: started above.
    unsafe { pg_sys::CommitTransactionCommand() };
    // SAFETY: read above.
    unsafe { pg_sys::SetUserIdAndSecContext(user, context) };
    versions::report_statistics();
    Ok(done)
}

fn words(cause: &CaughtError) -> String {
    match cause {
        CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic { ereport: report, .. } => report.message().to_owned(),
    }
}
