//! Every error of the extension: its SQLSTATE (class `ZA`, documented in `docs/errors.md`), message, detail and hint.
//!
//! pgrx knows only PostgreSQL's own SQLSTATEs, so a [`Failure`] is raised here by `ereport`'s own steps, from
//! [`throw`], after every Rust frame with a destructor is gone.

use std::borrow::Cow;
use std::ffi::{CString, c_char, c_int};
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder};

/// What went wrong, as a user reads it.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
    detail: Option<String>,
    hint: Option<Cow<'static, str>>,
    violated: Option<Box<Violated>>,
}

/// Which rule of which table was broken: the fields of PostgreSQL's own errors about constraints.
#[derive(Debug)]
pub struct Violated {
    /// Of the table.
    pub schema: Option<String>,
    /// Its name.
    pub table: Option<String>,
    /// The column that the rule is about.
    pub column: Option<&'static str>,
    /// The rule's name.
    pub constraint: Option<String>,
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
    /// `audit_events` is not the table that the extension created.
    UnexpectedTable,
    /// A right that the caller does not have; PostgreSQL's own SQLSTATE.
    InsufficientPrivilege,
    /// No memory of the process, or no room in the lock table; PostgreSQL's own SQLSTATE.
    OutOfMemory,
    /// A schedule that is not a cron expression, or an unknown time zone.
    InvalidSchedule,
    /// pg_cron is not installed, or cannot express a job's schedule.
    PgCron,
    /// A pinned file has changed.
    PinMismatch,
    /// The setting of pinned files cannot be read.
    BadPins,
    /// No signed checkpoint covers an event yet.
    NotSealed,
    /// Tables of a log do not fit together, or not to the events.
    DamagedLog,
    /// A view that only shows is edited.
    EditRefused,
    /// A destination that cannot be used as it is configured.
    InvalidDestination,
    /// An event lacks a column; PostgreSQL's own SQLSTATE.
    NotNullViolation,
    /// A column of an event is out of its limits; PostgreSQL's own SQLSTATE.
    CheckViolation,
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
            Kind::InsufficientPrivilege => b"42501",
            Kind::OutOfMemory => b"53200",
            Kind::InvalidSchedule => b"ZA021",
            // ZA022 and ZA023, about jobs, are raised by functions written in SQL.
            Kind::PgCron => b"ZA024",
            Kind::PinMismatch => b"ZA040",
            Kind::BadPins => b"ZA041",
            Kind::NotSealed => b"ZA050",
            Kind::DamagedLog => b"ZA051",
            // ZA052, no restore to acknowledge, is raised by a function written in SQL.
            Kind::EditRefused => b"ZA011",
            Kind::InvalidDestination => b"ZA060",
            Kind::NotNullViolation => b"23502",
            Kind::CheckViolation => b"23514",
            // ZA061, a destination that is still needed, and ZA062, anchors that could not be checked, are raised by functions in SQL.
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
        Self { kind, message: message.into(), detail: None, hint: None, violated: None }
    }

    /// Adds a sentence of detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a sentence that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds which rule was broken.
    #[must_use]
    pub fn violated(mut self, violated: Violated) -> Self {
        self.violated = Some(Box::new(violated));
        self
    }
}

/// Runs `body`; an error of PostgreSQL inside it about memory becomes a [`Failure`], so that [`throw`] raises it again: pgrx would
/// palloc for that, and an error there ends the process. Every other error propagates unchanged.
pub fn without_memory_errors<T>(body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let payload = match std::panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => return result,
        Err(payload) => payload,
    };
    let memory = match payload.downcast_ref::<CaughtError>() {
        Some(CaughtError::PostgresError(error)) => {
            error.sql_error_code() == PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY
        }
        _ => false,
    };
    if !memory {
        std::panic::resume_unwind(payload);
    }
    // Through pgrx once more: it takes back what it noted of the place of the panic.
    PgTryBuilder::new(AssertUnwindSafe(|| -> Result<T, Failure> { std::panic::resume_unwind(payload) }))
        .catch_others(|caught| match caught {
            CaughtError::PostgresError(error) => Err(Failure {
                kind: Kind::OutOfMemory,
                message: error.message().to_owned(),
                detail: error.detail().map(str::to_owned),
                hint: error.hint().map(|hint| Cow::Owned(hint.to_owned())),
                violated: None,
            }),
            other => other.rethrow(),
        })
        .execute()
}

// Not wrapped by pgrx on purpose: `throw` is where Rust ends and PostgreSQL's own error handling begins.
unsafe extern "C-unwind" {
    fn errstart(elevel: c_int, domain: *const c_char) -> bool;
    fn errcode(sqlerrcode: c_int) -> c_int;
    fn errmsg(fmt: *const c_char, ...) -> c_int;
    fn errdetail(fmt: *const c_char, ...) -> c_int;
    fn errhint(fmt: *const c_char, ...) -> c_int;
    fn err_generic_string(field: c_int, text: *const c_char) -> c_int;
    fn errhidestmt(hide: bool) -> c_int;
    fn errhidecontext(hide: bool) -> c_int;
    fn errfinish(filename: *const c_char, lineno: c_int, funcname: *const c_char);
}

/// `text` as C has it, without what would end it early.
fn c_string(text: impl Into<Vec<u8>>) -> CString {
    let mut bytes: Vec<u8> = text.into();
    bytes.retain(|&byte| byte != 0);
    CString::new(bytes).unwrap_or_default()
}

/// Raises `failure` as a PostgreSQL ERROR.
///
/// Nothing is palloc'ed for it: PostgreSQL copies the texts into memory it keeps for errors, so that it can be raised when there
/// is no other memory left.
///
/// # Safety
/// Leaves by `longjmp`: no frame between the caller and PostgreSQL may hold anything with a destructor.
pub unsafe fn throw(failure: Failure) -> ! {
    // SAFETY: by contract.
    unsafe { raise(pgrx::PgLogLevel::ERROR, failure) }
}

/// Ends the start of the server with `failure`. To be called while it loads the library.
pub fn refuse_to_start(failure: Failure) -> ! {
    // SAFETY: FATAL ends the process instead of leaving a frame.
    unsafe { raise(pgrx::PgLogLevel::FATAL, failure) }
}

/// # Safety
/// As for [`throw`], unless `level` ends the process.
unsafe fn raise(level: pgrx::PgLogLevel, failure: Failure) -> ! {
    let Failure { kind, message, detail, hint, violated } = failure;
    let message = c_string(message);
    let detail = detail.map(c_string);
    let hint = hint.map(|hint| c_string(hint.into_owned()));
    // The field codes of postgres_ext.h.
    let fields = violated.map_or([const { None }; 4], |violated| {
        let Violated { schema, table, column, constraint } = *violated;
        [
            schema.map(|name| (b's', c_string(name))),
            table.map(|name| (b't', c_string(name))),
            column.map(|name| (b'c', c_string(name))),
            constraint.map(|name| (b'n', c_string(name))),
        ]
    });
    // SAFETY: ereport()'s own sequence of calls; every string is NUL-terminated, and copied by the call that gets it.
    unsafe {
        errstart(level as c_int, std::ptr::null());
        errcode(packed(kind.sqlstate()));
        errmsg(c"%s".as_ptr(), message.as_ptr());
        if let Some(detail) = &detail {
            errdetail(c"%s".as_ptr(), detail.as_ptr());
        }
        if let Some(hint) = &hint {
            errhint(c"%s".as_ptr(), hint.as_ptr());
        }
        for (field, name) in fields.iter().flatten() {
            err_generic_string(c_int::from(*field), name.as_ptr());
        }
    }
    drop((message, detail, hint, fields));
    // SAFETY: begun above; nothing in this frame has a destructor any more.
    unsafe { errfinish(std::ptr::null(), 0, std::ptr::null()) };
    unreachable!("errfinish returned from an error")
}

/// Takes `RUST_BACKTRACE` out of this process: with it, pgrx gives every error of PostgreSQL's that passes through it a backtrace as its
/// DETAIL, for the client to read.
///
/// # Safety
/// There must be no other thread.
pub unsafe fn hide_backtraces() {
    for variable in ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
        // SAFETY: by contract: nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(variable) };
    }
}

/// Writes `line` to the server log, alone: without the statement, which may hold what no log should.
pub fn log_line(line: &str) {
    let line = c_string(line);
    // SAFETY: ereport(LOG)'s own sequence of calls, none of which raises; the string is NUL-terminated, and copied.
    unsafe {
        if errstart(pgrx::PgLogLevel::LOG_SERVER_ONLY as c_int, std::ptr::null()) {
            errmsg(c"%s".as_ptr(), line.as_ptr());
            errhidestmt(true);
            errhidecontext(true);
            errfinish(std::ptr::null(), 0, std::ptr::null());
        }
    }
}

/// Sends a NOTICE to the client: a line, and a hint.
pub fn notice(message: &str, hint: &str) {
    let (message, hint) = (c_string(message), c_string(hint));
    // SAFETY: ereport(NOTICE)'s own sequence of calls, none of which raises; both strings are NUL-terminated, and copied.
    unsafe {
        if errstart(pgrx::PgLogLevel::NOTICE as c_int, std::ptr::null()) {
            errmsg(c"%s".as_ptr(), message.as_ptr());
            errhint(c"%s".as_ptr(), hint.as_ptr());
            errfinish(std::ptr::null(), 0, std::ptr::null());
        }
    }
}
