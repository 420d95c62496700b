//! What an event must be: which columns it must have, and within which limits.
//!
//! Checked by the triggers and not by CHECK constraints, for two reasons. PostgreSQL parses and plans every CHECK anew for every
//! statement, which costs more than all the rest of an insert. And its error prints the whole row, private fields and salt included,
//! to the client and into the server log; the errors here have its SQLSTATEs and names, one line, and no value.
//!
//! NOT NULL constraints stay in the table, for what gets around the triggers; these rules come before them.

use pgrx::pg_sys;

use crate::pg::error::{Failure, Kind, Violated};
use crate::pg::{names, varlena};
use crate::trail::columns::{COLUMNS, at};

/// The longest `tenant_id`, in bytes.
const MOST_TENANT_BYTES: usize = 128;

/// 0001-01-01 00:00:00 and 9999-12-31 23:59:59.999999 in UTC, in microseconds since 2000.
const YEAR_1: i64 = -63_082_281_600_000_000;
const YEAR_9999: i64 = 252_455_615_999_999_999;

/// Columns that no stored event may lack, in the order of the table.
const NEVER_NULL: [usize; 12] = [
    at::TENANT_ID,
    at::CHAIN,
    at::SEQ,
    at::EVENT_ID,
    at::OCCURRED_AT,
    at::RECORDED_AT,
    at::ACTION,
    at::OUTCOME,
    at::SEVERITY,
    at::DB_ROLE,
    at::PREV_HASH,
    at::EVENT_HASH,
];

/// The bytes of a tenant's name, if it may be one.
///
/// # Safety
/// `relation` must be open; `tenant` must be a valid text, alive for `'a`.
#[inline]
pub unsafe fn tenant<'a>(
    relation: pg_sys::Relation,
    tenant: Option<pg_sys::Datum>,
) -> Result<&'a [u8], Failure> {
    let Some(tenant) = tenant else { return Err(missing(relation, at::TENANT_ID)) };
    // SAFETY: by contract.
    let bytes: &[u8] = unsafe { varlena::bytes(tenant) };
    if bytes.is_empty() || bytes.len() > MOST_TENANT_BYTES {
        return Err(Failure::new(
            Kind::InvalidEvent,
            format!("tenant_id is {} bytes long, not 1 to {MOST_TENANT_BYTES}", bytes.len()),
        )
        .hint("Give the tenant a short name, and keep its long one elsewhere."));
    }
    Ok(bytes)
}

/// What a producer says of an event: the columns that are neither the server's nor free.
///
/// # Safety
/// `relation` must be open; `value(n)` must return valid values of the types in [`COLUMNS`].
#[inline]
pub unsafe fn said(
    relation: pg_sys::Relation,
    value: impl Fn(usize) -> Option<pg_sys::Datum>,
) -> Result<(), Failure> {
    // SAFETY: text columns, by contract.
    let text = |n| value(n).map(|datum| -> &[u8] { unsafe { varlena::bytes(datum) } });
    match text(at::ACTION) {
        None => return Err(missing(relation, at::ACTION)),
        Some(b"") => {
            return Err(violated(relation, at::ACTION, "must not be empty")
                .hint("Say what was done, for example user.login."));
        }
        Some(_) => {}
    }
    match text(at::OUTCOME) {
        None => return Err(missing(relation, at::OUTCOME)),
        Some(b"success" | b"failure" | b"denied" | b"error") => {}
        Some(_) => {
            return Err(violated(relation, at::OUTCOME, "must be success, failure, denied or error")
                .hint("Leave it out for success; keep an outcome of your own in details."));
        }
    }
    match text(at::SEVERITY) {
        None => return Err(missing(relation, at::SEVERITY)),
        Some(b"info" | b"low" | b"medium" | b"high" | b"critical") => {}
        Some(_) => {
            return Err(violated(relation, at::SEVERITY, "must be info, low, medium, high or critical")
                .hint("Leave it out for info; keep a severity of your own in details."));
        }
    }
    for (n, digits) in [(at::TRACE_ID, 32), (at::SPAN_ID, 16)] {
        let hexadecimal = |id: &[u8]| id.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if text(n).is_some_and(|id| id.len() != digits || !hexadecimal(id)) {
            return Err(violated(relation, n, &format!("must be {digits} lower-case hexadecimal digits"))
                .hint("It is an id of W3C Trace Context; NULL where there is none."));
        }
    }
    time(relation, at::OCCURRED_AT, value(at::OCCURRED_AT), true)
}

/// All of an event as it is stored: what a row that brings its hashes, or a repair under maintenance, must be on top of that.
///
/// # Safety
/// As for [`said`].
pub unsafe fn stored(
    relation: pg_sys::Relation,
    value: impl Fn(usize) -> Option<pg_sys::Datum>,
) -> Result<(), Failure> {
    for n in NEVER_NULL.into_iter().chain([at::HASH_VERSION]) {
        if value(n).is_none() {
            return Err(missing(relation, n));
        }
    }
    // SAFETY: by contract.
    unsafe {
        tenant(relation, value(at::TENANT_ID))?;
        said(relation, &value)?;
    }
    let number = |n| value(n).map_or(0, |datum: pg_sys::Datum| datum.value() as i64);
    if (number(at::CHAIN) as i16) < 0 {
        return Err(violated(relation, at::CHAIN, "must be at least 0").hint(RESTORE));
    }
    // The next event's seq must be a number, too.
    if !(1..i64::MAX).contains(&number(at::SEQ)) {
        return Err(violated(relation, at::SEQ, "must be 1 to 9223372036854775806").hint(RESTORE));
    }
    time(relation, at::RECORDED_AT, value(at::RECORDED_AT), false)?;
    if number(at::HASH_VERSION) as i16 != zeroauth_audit_core::hash::HASH_VERSION {
        return Err(violated(relation, at::HASH_VERSION, "must be 1")
            .hint("A later version of zeroauth_audit wrote the event: update this one."));
    }
    // SAFETY: byteas, by contract.
    let length = |n| value(n).map(|datum| unsafe { varlena::bytes(datum) }.len());
    for (n, bytes) in [(at::SALT, 16), (at::PRIVATE_HASH, 32), (at::PREV_HASH, 32), (at::EVENT_HASH, 32)] {
        if length(n).is_some_and(|stored| stored != bytes) {
            return Err(violated(relation, n, &format!("must be {bytes} bytes long")).hint(RESTORE));
        }
    }
    match (length(at::SALT), length(at::PRIVATE_HASH)) {
        (Some(_), None) => Ok(()),
        (None, Some(_)) if (at::ACTOR_TYPE..=at::DETAILS).all(|n| value(n).is_none()) => Ok(()),
        (None, Some(_)) => {
            Err(violated(relation, at::PRIVATE_HASH, "must be NULL while there are private fields")
                .hint("An erased event keeps the hash of its private fields and none of them."))
        }
        _ => Err(violated(relation, at::SALT, "must be there exactly when private_hash is not")
            .hint("The salt is destroyed with the private fields, whose hash then stays.")),
    }
}

const RESTORE: &str = "Load an unchanged copy of the event.";

fn time(
    relation: pg_sys::Relation,
    n: usize,
    time: Option<pg_sys::Datum>,
    may_be_infinite: bool,
) -> Result<(), Failure> {
    let Some(time) = time else { return Err(missing(relation, n)) };
    match time.value() as i64 {
        YEAR_1..=YEAR_9999 => Ok(()),
        i64::MIN | i64::MAX if may_be_infinite => Ok(()),
        _ => Err(violated(relation, n, "must be in the years 1 to 9999")
            .hint("Every language can read such a time; infinity and -infinity are for occurred_at only.")),
    }
}

fn name_of(n: usize) -> &'static str {
    COLUMNS[n].0
}

/// Where a rule was broken, for programs: PostgreSQL's own fields of an error.
fn place(relation: pg_sys::Relation) -> (Option<String>, Option<String>) {
    // SAFETY: every caller holds the relation open.
    let (oid, schema) = unsafe { ((*relation).rd_id, (*(*relation).rd_rel).relnamespace) };
    (names::plain_schema(schema), names::plain_relation(oid))
}

/// PostgreSQL's own error, without its DETAIL: that prints the row.
#[cold]
fn missing(relation: pg_sys::Relation, n: usize) -> Failure {
    let (column, (schema, table)) = (name_of(n), place(relation));
    Failure::new(
        Kind::NotNullViolation,
        format!(
            "null value in column \"{column}\" of relation \"{}\" violates not-null constraint",
            table.as_deref().unwrap_or_default()
        ),
    )
    .hint("An event needs a value there, and the server has none of its own.")
    .violated(Violated { schema, table, column: Some(column), constraint: None })
}

#[cold]
fn violated(relation: pg_sys::Relation, n: usize, rule: &str) -> Failure {
    let (column, (schema, table)) = (name_of(n), place(relation));
    let constraint = Some(format!("audit_events_{column}_check"));
    Failure::new(Kind::CheckViolation, format!("{column} of an event {rule}")).violated(Violated {
        schema,
        table,
        column: Some(column),
        constraint,
    })
}
