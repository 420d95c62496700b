//! `audit_export` and `audit_help`: they look at their caller, and functions of the internal schema give the rows as the owner.

use pgrx::pg_sys;

use crate::pg::call::{Arguments, raw_sql_function};
use crate::trail::access::table;
use crate::trail::caller::{AsOwner, Caller, hand_over};
use crate::trail::tenants;

/// `audit_export(tenant, private_fields)`: looks at the caller, then `export_lines` gives the events as the owner.
///
/// # Safety
/// To be called by PostgreSQL's function manager.
unsafe fn audit_export(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    let private = |arguments: &Arguments| {
        let (caller, table) = (Caller::now(), table()?);
        caller.require_no_policy(table)?;
        let wanted = arguments.datum(1).map(|datum| datum.value() != 0);
        let private = caller.private_fields(table, wanted)?;
        let _owner = AsOwner::begin()?;
        tenants::require(arguments.text(0)?.as_deref(), false)?;
        Ok(pg_sys::Datum::from(private))
    };
    // SAFETY: both are declared as returning a set of text; nothing here has a destructor.
    unsafe { hand_over(fcinfo, c"export_lines", pg_sys::BOOLOID, private) }
}

raw_sql_function!(zeroauth_audit_export, pg_finfo_zeroauth_audit_export, audit_export);

/// `audit_help(topic)`: `help` says for which role.
///
/// # Safety
/// To be called by PostgreSQL's function manager.
unsafe fn audit_help(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    let role = |_: &Arguments| Ok(pg_sys::Datum::from(Caller::now().oid()));
    // SAFETY: both are declared with the same result; nothing here has a destructor.
    unsafe { hand_over(fcinfo, c"help", pg_sys::OIDOID, role) }
}

raw_sql_function!(zeroauth_audit_help, pg_finfo_zeroauth_audit_help, audit_help);
