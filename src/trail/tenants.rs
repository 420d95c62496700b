//! A tenant that is not there, and whom the caller may have meant.

use pgrx::pg_sys;

use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::{Failure, Kind};
use crate::pg::spi::{Parameter, Session};
use crate::trail::access::Trail;
use crate::trail::membership::INTERNAL;

/// As many characters of a tenant's name are shown in an error.
const SHOWN: usize = 128;

/// More tenants than these are not searched for a name that is near.
const MOST: usize = 10_000;

/// What every error about a name says.
pub const BYTE_FOR_BYTE: &str = "Names are compared byte for byte.";

/// A tenant's name as an error shows it.
pub fn shown(tenant: &str) -> String {
    // No tenant's name is longer: the error shows where it begins.
    match tenant.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}..", &tenant[..end]),
        None => format!("{tenant:?}"),
    }
}

/// An argument that means nothing when it is NULL.
pub fn is_null(argument: &str) -> Failure {
    Failure::new(Kind::InvalidArgument, format!("{argument} is NULL")).hint(if argument == "tenant" {
        "Name one; audit_verify() and audit_export() take NULL as every tenant."
    } else {
        "NULL means nothing here: give a value."
    })
}

/// "`what` of tenant .." is not there; with the one name that is near, if the caller may see tenants.
pub fn unknown(session: &Session, trail: &Trail, what: &str, tenant: &str, may_see_tenants: bool) -> Failure {
    let failure = Failure::new(Kind::UnknownTenant, format!("no {what} of tenant {}", shown(tenant)));
    let near = may_see_tenants.then(|| near(session, trail, tenant)).transpose().ok().flatten().flatten();
    let failure = match near {
        Some(name) => failure.detail(format!("Did you mean {name:?}?")),
        None => failure,
    };
    failure.hint(BYTE_FOR_BYTE)
}

/// The one tenant whose name is near to `wanted`.
fn near(session: &Session, trail: &Trail, wanted: &str) -> Result<Option<String>, Failure> {
    let table = &trail.name;
    let sql = format!(
        "WITH RECURSIVE known AS (
            (SELECT tenant_id FROM {table} ORDER BY tenant_id LIMIT 1)
            UNION ALL
            SELECT (SELECT e.tenant_id FROM {table} e WHERE e.tenant_id > known.tenant_id ORDER BY e.tenant_id LIMIT 1)
            FROM known WHERE known.tenant_id IS NOT NULL)
         SELECT tenant_id FROM known WHERE tenant_id IS NOT NULL LIMIT $1"
    );
    let (mut seen, mut found) = (0, Vec::new());
    session.all(&sql, &[Parameter::Int8(MOST as i64 + 1)], |row| {
        seen += 1;
        found.extend(row.text(0)?.filter(|name| is_near(name, wanted)));
        Ok(())
    })?;
    let known = found.iter().any(|name| name == wanted);
    Ok(if seen > MOST || known || found.len() != 1 { None } else { found.pop() })
}

/// Whether one is the other with a letter or two mistaken, or in other case or with other blanks around.
fn is_near(name: &str, wanted: &str) -> bool {
    let (name, wanted) = (name.trim().to_lowercase(), wanted.trim().to_lowercase());
    let (name, wanted): (Vec<char>, Vec<char>) = (name.chars().collect(), wanted.chars().collect());
    let most = if wanted.len() < 4 { 0 } else { 1 + usize::from(wanted.len() >= 8) };
    name.len().abs_diff(wanted.len()) <= most && name.len() <= SHOWN && distance(&name, &wanted) <= most
}

/// How many letters must be changed, added or taken away to make one of the other (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let changed = before[j] + usize::from(left != right);
            row.push(changed.min(before[j + 1] + 1).min(row[j] + 1));
        }
        before = row;
    }
    before[b.len()]
}

/// An error unless `tenant` has events or, with `logs`, had some when its log was sealed; `None` is every tenant. As the owner, for
/// what shows every tenant anyway.
pub fn require(tenant: Option<&str>, logs: bool) -> Result<(), Failure> {
    let trail = Trail::open()?;
    let Some(tenant) = tenant else { return Ok(()) };
    let session = Session::connect();
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM {} WHERE tenant_id = $1)
            OR $2 = 1 AND EXISTS (SELECT 1 FROM {INTERNAL}.logs WHERE tenant_id = $1)",
        trail.name
    );
    let mut known = false;
    session.all(&sql, &[Parameter::Text(tenant), Parameter::Int8(i64::from(logs))], |row| {
        known = row.bool(0);
        Ok(())
    })?;
    if known { Ok(()) } else { Err(unknown(&session, &trail, "events", tenant, true)) }
}

/// `require_tenant(tenant, logs)`: true, or the error.
fn require_tenant(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let logs = arguments.datum(1).is_some_and(|datum| datum.value() != 0);
    require(arguments.text(0)?.as_deref(), logs)?;
    Ok(pg_sys::Datum::from(true))
}

sql_function!(zeroauth_audit_require_tenant, pg_finfo_zeroauth_audit_require_tenant, require_tenant);
