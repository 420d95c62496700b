//! The SQL functions behind the table `jobs`: schedules, the lock that lets a job run once at a time, the trigger that wakes the
//! worker. What a schedule means is decided in the crate `zeroauth-audit-schedule`.

use pgrx::pg_sys;
use zeroauth_audit_schedule::Schedule;

use crate::pg::call::{Arguments, Fires, sql_function, trigger_data};
use crate::pg::error::{Failure, Kind};
use crate::pg::shmem;
use crate::pg::time::{EPOCH_SECONDS, SECOND};
use crate::pg::varlena;
use crate::shared::databases;
use crate::shared::notices;

/// The fourth field of the advisory locks of jobs: see [`crate::chain::lock`] for the others.
const JOB_LOCK: u16 = 0x5A43;

fn text(arguments: &Arguments, n: usize) -> String {
    // SAFETY: the functions are declared STRICT, with a text there.
    let bytes = arguments.datum(n).map(|datum| unsafe { varlena::bytes(datum) });
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

fn schedule(arguments: &Arguments) -> Result<Schedule, Failure> {
    Schedule::new(&text(arguments, 0), &text(arguments, 1)).map_err(|error| {
        Failure::new(Kind::InvalidSchedule, error.to_string()).hint(
            "A schedule has the five fields of crontab: minute, hour, day, month, weekday. A time zone has a name such as Europe/Berlin or UTC.",
        )
    })
}

/// Argument `n`, a timestamptz, in seconds since 1970. Infinite times are as far away as any.
fn seconds(arguments: &Arguments, n: usize) -> i64 {
    arguments.int8(n).unwrap_or(0).div_euclid(SECOND) + EPOCH_SECONDS
}

fn time(arguments: &Arguments, seconds: Option<i64>) -> pg_sys::Datum {
    match seconds.and_then(|seconds| (seconds - EPOCH_SECONDS).checked_mul(SECOND)) {
        Some(time) => pg_sys::Datum::from(time),
        None => arguments.return_null(),
    }
}

fn next(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    Ok(time(arguments, schedule(arguments)?.next_after(seconds(arguments, 2))))
}

fn following(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    Ok(time(arguments, schedule(arguments)?.following(seconds(arguments, 2), seconds(arguments, 3))))
}

fn corrected(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    Ok(time(arguments, schedule(arguments)?.corrected(seconds(arguments, 2), seconds(arguments, 3))))
}

fn overdue(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    Ok(time(arguments, schedule(arguments)?.overdue_after(seconds(arguments, 2))))
}

/// FNV-1a of the name: two names with one hash would only keep each other waiting.
fn tag(job: &str) -> pg_sys::LOCKTAG {
    let hash =
        job.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    pg_sys::LOCKTAG {
        // SAFETY: set when the process connected.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: hash,
        locktag_field3: 0,
        locktag_field4: JOB_LOCK,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}

fn acquire(job: &str, for_session: bool) -> bool {
    // SAFETY: a complete tag; does not wait. Raises when the lock table is full, and leaves nothing behind.
    let result = unsafe { pg_sys::LockAcquire(&tag(job), pg_sys::ExclusiveLock as i32, for_session, true) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// The right to run a job, over as many transactions as it takes: given back when dropped.
pub struct Exclusive(String);

impl Exclusive {
    /// `None` when another process runs the job.
    pub fn acquire(job: &str) -> Option<Self> {
        acquire(job, true).then(|| Self(job.to_owned()))
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        // SAFETY: this process holds the lock.
        unsafe { pg_sys::LockRelease(&tag(&self.0), pg_sys::ExclusiveLock as i32, true) };
    }
}

fn job_lock(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    Ok(pg_sys::Datum::from(acquire(&text(arguments, 0), false)))
}

fn here() -> u32 {
    // SAFETY: set when the backend connected.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

/// `restore_since()`: since when events are being restored into this database, NULL when they are not.
fn restore_since(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let since = if shmem::is_shared() { databases::restores::since(here()) } else { None };
    Ok(since.map_or_else(|| arguments.return_null(), pg_sys::Datum::from))
}

/// `was_chained()`: whether an event was chained in this database since the server started.
fn was_chained(_: &Arguments) -> Result<pg_sys::Datum, Failure> {
    Ok(pg_sys::Datum::from(shmem::is_shared() && databases::restores::was_chained(here())))
}

fn jobs_changed(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    trigger_data(arguments, Fires::Whenever)?;
    if shmem::is_shared() {
        notices::jobs_touched();
    }
    Ok(pg_sys::Datum::null())
}

/// `worker_status()`: what the board says about this database, one row.
fn worker_status(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    use crate::pg::result_rows::{Rows, Value};
    use crate::shared::databases::State;
    let mut rows = Rows::start(arguments);
    if !shmem::is_shared() {
        return Ok(pg_sys::Datum::null());
    }
    let entry = databases::look_up(here());
    let state = match entry.map(|entry| entry.state) {
        None | Some(State::Free) => "none",
        Some(State::Requested | State::Starting | State::Looking) => "starting",
        Some(State::Running) => "running",
        Some(State::Waiting) => "waiting",
    };
    let pid = |pid: i32| if pid == 0 { Value::Null } else { Value::Int4(pid) };
    rows.push(vec![
        Value::Bool(crate::pg::settings::worker()),
        pid(databases::launcher()),
        Value::Text(state.to_owned()),
        pid(entry.map_or(0, |entry| entry.pid)),
        entry.map_or(Value::Null, |entry| Value::Int8(entry.since)),
    ]);
    Ok(pg_sys::Datum::null())
}

sql_function!(zeroauth_audit_schedule_next, pg_finfo_zeroauth_audit_schedule_next, next);
sql_function!(zeroauth_audit_schedule_following, pg_finfo_zeroauth_audit_schedule_following, following);
sql_function!(zeroauth_audit_schedule_corrected, pg_finfo_zeroauth_audit_schedule_corrected, corrected);
sql_function!(zeroauth_audit_schedule_overdue, pg_finfo_zeroauth_audit_schedule_overdue, overdue);
sql_function!(zeroauth_audit_job_lock, pg_finfo_zeroauth_audit_job_lock, job_lock);
sql_function!(zeroauth_audit_jobs_changed, pg_finfo_zeroauth_audit_jobs_changed, jobs_changed);
sql_function!(zeroauth_audit_restore_since, pg_finfo_zeroauth_audit_restore_since, restore_since);
sql_function!(zeroauth_audit_was_chained, pg_finfo_zeroauth_audit_was_chained, was_chained);
sql_function!(zeroauth_audit_worker_status, pg_finfo_zeroauth_audit_worker_status, worker_status);
