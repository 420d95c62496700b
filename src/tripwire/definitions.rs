//! Compares what the catalogs say of the extension with what its version must be.
//!
//! The expected definitions are compiled in, from files that a test keeps (`sql/definitions`); how they are compared is decided
//! in the crate `zeroauth-audit-tripwire`. A version of the SQL objects other than the library's is not compared, but for the
//! guards of the trail, which no version changes: `ALTER EXTENSION .. UPDATE` is pending, or a restart is. Nothing is remembered
//! but what the worker has already said in the log.

use std::ffi::CStr;
use std::sync::{Mutex, OnceLock, PoisonError};

use pgrx::pg_sys;
use serde::Serialize;
use zeroauth_audit_tripwire::definitions::{Definition, Definitions, Difference};

use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::{Failure, Kind, log_line};
use crate::pg::result_rows::{Rows, Value};
use crate::pg::spi::{Session, Settings};
use crate::trail::owner_transaction::Open;

/// The version of this library.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// For PostgreSQL 15, and for all others as far as they do not differ.
const COMMON: &str = include_str!("../../sql/definitions/15.txt");
#[cfg(feature = "pg15")]
const DIFFERENT: &str = "";
#[cfg(feature = "pg16")]
const DIFFERENT: &str = include_str!("../../sql/definitions/16.txt");
#[cfg(feature = "pg17")]
const DIFFERENT: &str = include_str!("../../sql/definitions/17.txt");
#[cfg(feature = "pg18")]
const DIFFERENT: &str = include_str!("../../sql/definitions/18.txt");

/// Differences that a line of the log names.
const MOST_NAMED: usize = 20;

fn expected() -> Result<&'static Definitions, Failure> {
    static EXPECTED: OnceLock<Option<Definitions>> = OnceLock::new();
    let read = || {
        let mut definitions = Definitions::default();
        definitions.read(COMMON).and_then(|()| definitions.read(DIFFERENT)).ok()?;
        Some(definitions)
    };
    EXPECTED.get_or_init(read).as_ref().ok_or_else(|| {
        Failure::new(Kind::UnexpectedTable, "the library does not know what the extension is made of")
            .hint("Install the extension's files again.")
    })
}

/// What the texts of definitions depend on, to be fixed while they are read.
const SPELLING: [(&CStr, &CStr); 10] = [
    // So that everything that is elsewhere is written with its schema.
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"quote_all_identifiers", c"off"),
    (c"TimeZone", c"UTC"),
    (c"DateStyle", c"ISO"),
    (c"IntervalStyle", c"postgres"),
    (c"bytea_output", c"hex"),
    (c"extra_float_digits", c"1"),
    // Backslashes in what is read, and in what is written.
    (c"standard_conforming_strings", c"on"),
    (c"transform_null_equals", c"off"),
    (c"array_nulls", c"on"),
];

fn actual(session: &Session) -> Result<Vec<Definition>, Failure> {
    let _spelling = Settings::with(&SPELLING);
    let mut found = Vec::new();
    session.all(include_str!("../../sql/queries/installed_definitions.sql"), &[], |row| {
        let text = |n| Ok::<_, Failure>(row.text(n)?.unwrap_or_default());
        found.push(Definition { object: text(0)?, part: text(1)?, value: text(2)? });
        Ok(())
    })?;
    Ok(found)
}

/// The version of the SQL objects that are installed, and their schema, quoted.
fn installed(session: &Session) -> Result<Option<(String, String)>, Failure> {
    let _spelling = Settings::with(&SPELLING);
    let mut found = None;
    let sql = "SELECT e.extversion, quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'zeroauth_audit'";
    session.all(sql, &[], |row| {
        found = row.text(0)?.zip(row.text(1)?);
        Ok(())
    })?;
    Ok(found)
}

/// Differences from the expected definitions.
fn differences(session: &Session) -> Result<Vec<Difference>, Failure> {
    let Some((version, schema)) = installed(session)? else { return Ok(Vec::new()) };
    let same = version == VERSION;
    let guards = |object: &str| object.starts_with("trigger ") && object.ends_with(" on audit_events");
    Ok(expected()?.differences(&actual(session)?, &schema, |object| same || guards(object)))
}

/// Logs differences from the expected definitions, once for as long as they stay the same. The worker calls it by itself, beside the
/// job: an attacker who replaces the functions that raise alerts does not replace this.
pub fn witness(open: &Open) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Line<'a> {
        event: &'static str,
        differences: usize,
        objects: Vec<&'a str>,
    }
    static SAID: Mutex<String> = Mutex::new(String::new());
    let found = differences(&open.session)?;
    let mut objects: Vec<&str> = found.iter().map(|difference| difference.object.as_str()).collect();
    objects.dedup();
    objects.truncate(MOST_NAMED);
    let line = Line { event: "definitions_differ", differences: found.len(), objects };
    let line = serde_json::to_string(&line).unwrap_or_default();
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if found.is_empty() {
        said.clear();
    } else if *said != line {
        log_line(&format!("zeroauth_audit: {line}"));
        *said = line;
    }
    Ok(())
}

/// `definitions()`
fn audit_definitions(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let mut rows = Rows::start(arguments);
    for Definition { object, part, value } in actual(&Session::connect())? {
        rows.push(vec![Value::Text(object), Value::Text(part), Value::Text(value)]);
    }
    Ok(pg_sys::Datum::null())
}

/// `audit_verify_installation()`
fn audit_definition_differences(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let mut rows = Rows::start(arguments);
    let or_null = |text: Option<String>| text.map_or(Value::Null, Value::Text);
    for Difference { object, part, was, now } in differences(&Session::connect())? {
        rows.push(vec![Value::Text(object), Value::Text(part), or_null(was), or_null(now)]);
    }
    Ok(pg_sys::Datum::null())
}

/// `library_version()`
fn audit_library_version(_: &Arguments) -> Result<pg_sys::Datum, Failure> {
    const VERSION_NUL: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version has no NUL"),
        };
    // SAFETY: copies a NUL-terminated string into PostgreSQL's memory.
    Ok(pg_sys::Datum::from(unsafe { pg_sys::cstring_to_text(VERSION_NUL.as_ptr()) }))
}

sql_function!(zeroauth_audit_definitions, pg_finfo_zeroauth_audit_definitions, audit_definitions);
sql_function!(
    zeroauth_audit_definition_differences,
    pg_finfo_zeroauth_audit_definition_differences,
    audit_definition_differences
);
sql_function!(zeroauth_audit_library_version, pg_finfo_zeroauth_audit_library_version, audit_library_version);
