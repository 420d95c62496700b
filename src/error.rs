//! Every error of the extension: its SQLSTATE (class `ZA`, documented in the README), message, detail and hint.
//!
//! pgrx knows only PostgreSQL's own SQLSTATEs, so a [`Failure`] is raised here by `ereport`'s own steps, from
//! [`throw`], after every Rust frame with a destructor is gone.

use std::ffi::{CString, c_char, c_int};

use pgrx::pg_sys;

/// What went wrong, as a user reads it.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
    detail: Option<String>,
    hint: Option<&'static str>,
}

/// What went wrong, as a program reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A caller supplied a column that the server sets.
    ServerColumnSupplied,
    /// A row that came with its hashes does not match them.
    SuppliedRowMismatch,
    /// UPDATE, DELETE or TRUNCATE of events.
    ChangeRefused,
    /// DDL that would weaken the trail.
    DdlRefused,
    /// No event of this tenant.
    UnknownTenant,
    /// Rows are hidden from the verifier, or table and index disagree: neither ok nor tampered.
    CouldNotCheck,
    /// An event that cannot be taken.
    InvalidEvent,
    /// An argument out of its range.
    InvalidArgument,
    /// `audit_events` is not as the extension made it.
    UnexpectedTable,
    /// No cron expression, or no time zone.
    InvalidSchedule,
    /// pg_cron is not here, or cannot run a job when it is to run.
    PgCron,
}

impl Kind {
    const fn sqlstate(self) -> &'static [u8; 5] {
        match self {
            Kind::ServerColumnSupplied => b"ZA001",
            Kind::SuppliedRowMismatch => b"ZA002",
            Kind::ChangeRefused => b"ZA003",
            Kind::DdlRefused => b"ZA004",
            Kind::UnknownTenant => b"ZA005",
            Kind::CouldNotCheck => b"ZA006",
            Kind::InvalidEvent => b"ZA007",
            // ZA008, a database that is not UTF-8, is raised by the install script.
            Kind::InvalidArgument => b"ZA009",
            Kind::UnexpectedTable => b"ZA010",
            Kind::InvalidSchedule => b"ZA021",
            // ZA022 and ZA023, about jobs, are raised by functions written in SQL.
            Kind::PgCron => b"ZA024",
        }
    }
}

/// The five characters packed six bits each, as `MAKE_SQLSTATE` does.
const fn packed(sqlstate: &[u8; 5]) -> c_int {
    let mut code = 0;
    let mut i = 0;
    while i < 5 {
        code |= (((sqlstate[i] - b'0') & 0x3f) as c_int) << (6 * i);
        i += 1;
    }
    code
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Failure {
    /// An error with `message`: lower case, factual, one line.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), detail: None, hint: None }
    }

    /// Adds a sentence of detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a sentence that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
}

// Not wrapped by pgrx on purpose: `throw` is where Rust ends and PostgreSQL's own error handling begins.
unsafe extern "C-unwind" {
    fn errstart(elevel: c_int, domain: *const c_char) -> bool;
    fn errcode(sqlerrcode: c_int) -> c_int;
    fn errmsg(fmt: *const c_char, ...) -> c_int;
    fn errdetail(fmt: *const c_char, ...) -> c_int;
    fn errhint(fmt: *const c_char, ...) -> c_int;
    fn errhidestmt(hide: bool) -> c_int;
    fn errhidecontext(hide: bool) -> c_int;
    fn errfinish(filename: *const c_char, lineno: c_int, funcname: *const c_char);
}

/// `text` in memory that PostgreSQL frees when the error has been reported.
fn palloced(text: &str) -> *const c_char {
    let clean: Vec<u8> = text.bytes().filter(|&b| b != 0).collect();
    let owned = CString::new(clean).unwrap_or_default();
    // SAFETY: copies a NUL-terminated string into the current memory context.
    unsafe { pg_sys::pstrdup(owned.as_ptr()) }
}

/// Raises `failure` as a PostgreSQL ERROR.
///
/// # Safety
/// Leaves by `longjmp`: no frame between the caller and PostgreSQL may hold anything with a destructor.
pub unsafe fn throw(failure: Failure) -> ! {
    let code = packed(failure.kind.sqlstate());
    let message = palloced(&failure.message);
    let detail = failure.detail.as_deref().map_or(std::ptr::null(), palloced);
    let hint = failure.hint.map_or(std::ptr::null(), palloced);
    drop(failure);
    // SAFETY: ereport(ERROR)'s own sequence of calls; every string is palloc'ed and NUL-terminated; nothing in this
    // frame has a destructor any more.
    unsafe {
        errstart(pgrx::PgLogLevel::ERROR as c_int, std::ptr::null());
        errcode(code);
        errmsg(c"%s".as_ptr(), message);
        if !detail.is_null() {
            errdetail(c"%s".as_ptr(), detail);
        }
        if !hint.is_null() {
            errhint(c"%s".as_ptr(), hint);
        }
        errfinish(std::ptr::null(), 0, std::ptr::null());
    }
    unreachable!("errfinish returned from an ERROR")
}

/// Writes `line` to the server log, alone: without the statement, which may hold what no log should.
pub fn log_line(line: &str) {
    let line = palloced(line);
    // SAFETY: ereport(LOG)'s own sequence of calls; the string is palloc'ed and NUL-terminated.
    unsafe {
        if errstart(pgrx::PgLogLevel::LOG_SERVER_ONLY as c_int, std::ptr::null()) {
            errmsg(c"%s".as_ptr(), line);
            errhidestmt(true);
            errhidecontext(true);
            errfinish(std::ptr::null(), 0, std::ptr::null());
        }
    }
}
