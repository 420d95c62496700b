//! What an alert leaves behind besides its row and its deliveries: an event of the extension's own tenant, and a line in the
//! server log. Raising the alert is SQL (`sql/schema/alert/alerts.sql`).

use std::ffi::{CString, c_char, c_int, c_long};

use pgrx::pg_sys;

use crate::pg::call::{Arguments, enter, raw_sql_function, sql_function};
use crate::pg::error::{Failure, Kind, log_line, throw};
use crate::pg::names;
use crate::pg::random;
use crate::pg::time;
use crate::shared::notices;
use crate::trail::membership::{OWN_TENANT, extension_schema, trail_oid};
use crate::trail::own_tenant;

/// `$1` id, `$2` tenant, `$3` category, `$4` action, `$5` severity, `$6` resource, `$7` details.
const PARAMETERS: usize = 7;

fn absent() -> Failure {
    Failure::new(Kind::InvalidArgument, "an argument of a function of alerts is NULL")
        .hint("It is called by the extension.")
}

fn text(arguments: &Arguments, n: usize) -> Result<String, Failure> {
    arguments.text(n)?.ok_or_else(absent)
}

fn json(arguments: &Arguments, n: usize) -> Result<String, Failure> {
    arguments.json(n)?.ok_or_else(absent)
}

/// An INSERT that is parsed and has its values, all of it in PostgreSQL's memory; nothing to destroy.
#[derive(Clone, Copy)]
struct Prepared {
    plan: pg_sys::SPIPlanPtr,
    values: *mut pg_sys::Datum,
    owner: pg_sys::Oid,
}

fn prepare(arguments: &Arguments) -> Result<Prepared, Failure> {
    let missing = || {
        Failure::new(Kind::UnexpectedTable, "audit_events is not there")
            .hint("Create the extension in this database.")
    };
    let trail = trail_oid().ok_or_else(missing)?;
    let schema = extension_schema().and_then(names::schema).ok_or_else(missing)?;
    // SAFETY: inside a transaction.
    let owner = unsafe { owner_of(trail) }.ok_or_else(missing)?;
    let sql = format!(
        "INSERT INTO {schema}.audit_events (event_id, tenant_id, category, action, severity, resource, service_name, details)
         VALUES ($1::pg_catalog.uuid, $2, $3, $4, $5, $6, 'zeroauth_audit', $7::pg_catalog.jsonb)"
    );
    let sql = CString::new(sql).unwrap_or_default();
    // SAFETY: reads the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    // Set here, so that the table's owner needs no right on the default's function.
    let id = pgrx::datum::Uuid::from_bytes(random::uuid_v7(now + time::EPOCH)).to_string();
    let action = text(arguments, 0)?;
    // SAFETY: live for the length of the call.
    let named = unsafe { (*arguments.raw()).nargs } > 4;
    let texts = [
        id,
        if named { text(arguments, 4)? } else { OWN_TENANT.to_owned() },
        action.split('.').next().unwrap_or_default().to_owned(),
        action,
        text(arguments, 1)?,
        text(arguments, 2)?,
        json(arguments, 3)?,
    ];
    let mut types = [pg_sys::TEXTOID; PARAMETERS];
    // SAFETY: SPI is finished in `append_own`, or by the end of the transaction after an error; the arrays have one element
    // for each parameter. Parsed as the caller, who can see the schema, whether the table's owner can or not.
    unsafe {
        pg_sys::SPI_connect();
        let plan = pg_sys::SPI_prepare(sql.as_ptr(), PARAMETERS as i32, types.as_mut_ptr());
        let values = pg_sys::palloc(PARAMETERS * size_of::<pg_sys::Datum>()).cast::<pg_sys::Datum>();
        for (n, text) in texts.iter().enumerate() {
            values.add(n).write(pg_sys::Datum::from(pgrx::varlena::rust_str_to_text_p(text).into_pg()));
        }
        Ok(Prepared { plan, values, owner })
    }
}

// Called without pgrx's guard on purpose: an error that a trigger raises must keep its own SQLSTATE.
unsafe extern "C-unwind" {
    fn SPI_execute_plan(
        plan: pg_sys::SPIPlanPtr,
        values: *mut pg_sys::Datum,
        nulls: *const c_char,
        read_only: bool,
        count: c_long,
    ) -> c_int;
}

/// # Safety
/// To be called by PostgreSQL's function manager.
unsafe fn append_own(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the only frames above are PostgreSQL's; the closure owns nothing with a destructor.
    let prepared = unsafe { enter(fcinfo, prepare) };
    let (mut user, mut context) = (pg_sys::Oid::INVALID, 0);
    let restricted = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;
    // SAFETY: state of this process, inside a transaction whose abort puts the user back; the plan is of this SPI connection
    // and its values are as many as it has parameters.
    let stored = unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        pg_sys::SetUserIdAndSecContext(prepared.owner, context | restricted);
        own_tenant::allow();
        let done = SPI_execute_plan(prepared.plan, prepared.values, std::ptr::null(), false, 0);
        own_tenant::forbid();
        pg_sys::SetUserIdAndSecContext(user, context);
        let stored = done == pg_sys::SPI_OK_INSERT as c_int && pg_sys::SPI_processed == 1;
        pg_sys::SPI_finish();
        stored
    };
    if !stored {
        let failure = Failure::new(Kind::UnexpectedTable, "audit_events did not store an event")
            .hint("Look for triggers and rules of audit_events that are not the extension's.");
        // SAFETY: nothing in this frame has a destructor but what is thrown.
        unsafe { throw(failure) }
    }
    pg_sys::Datum::from(0)
}

/// # Safety
/// To be called inside a transaction.
unsafe fn owner_of(relation: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: opened and closed here, under a lock that an INSERT takes anyway.
    unsafe {
        let table = pg_sys::try_table_open(relation, pg_sys::RowExclusiveLock as i32);
        if table.is_null() {
            return None;
        }
        let owner = (*(*table).rd_rel).relowner;
        pg_sys::table_close(table, pg_sys::NoLock as i32);
        Some(owner)
    }
}

fn log(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    log_line(&format!("zeroauth_audit: {}", json(arguments, 0)?));
    // There may be something to deliver.
    notices::jobs_touched();
    Ok(pg_sys::Datum::from(0))
}

raw_sql_function!(zeroauth_audit_append_own, pg_finfo_zeroauth_audit_append_own, append_own);
sql_function!(zeroauth_audit_log, pg_finfo_zeroauth_audit_log, log);
