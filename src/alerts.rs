//! What an alert leaves behind besides its row and its deliveries: an event of the extension's own tenant, and a line in the
//! server log. The rest of it is SQL (`sql/schema/05_alerts.sql`).

use std::ffi::CString;

use pgrx::pg_sys;

use crate::call::{Arguments, sql_function};
use crate::columns;
use crate::error::{Failure, Kind, log_line};
use crate::member::trail_oid;
use crate::random;

/// The tenant of the extension's own events.
const TENANT: &str = "zeroauth_audit";
/// `$1` id, `$2` tenant, `$3` action, `$4` severity, `$5` resource, `$6` details.
const PARAMETERS: usize = 6;

fn text(arguments: &Arguments, n: usize) -> Result<String, Failure> {
    let datum = arguments.datum(n).ok_or_else(|| {
        Failure::new(Kind::InvalidArgument, "an event of our own has no NULL in it")
            .hint("Called by the extension.")
    })?;
    // SAFETY: these arguments are declared as text.
    let bytes = unsafe { columns::varlena_bytes(datum) };
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// A jsonb argument in its text form.
fn json(arguments: &Arguments, n: usize) -> Result<String, Failure> {
    let datum = arguments.datum(n).ok_or_else(|| {
        Failure::new(Kind::InvalidArgument, "an event of our own has no NULL in it")
            .hint("Called by the extension.")
    })?;
    // SAFETY: the argument is declared as jsonb; the output function returns a palloc'ed, NUL-terminated string.
    let out = unsafe { pg_sys::OidOutputFunctionCall(pg_sys::F_JSONB_OUT.into(), datum) };
    // SAFETY: as above.
    Ok(unsafe { std::ffi::CStr::from_ptr(out) }.to_string_lossy().into_owned())
}

/// The user that acts, put back when dropped; after an error PostgreSQL puts it back itself.
struct ActingAs(pg_sys::Oid, i32);

impl ActingAs {
    /// `user`, who may not change what the session looks like afterwards.
    fn restricted(user: pg_sys::Oid) -> Self {
        let (mut before, mut context) = (pg_sys::Oid::INVALID, 0);
        let flags = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;
        // SAFETY: reads and sets state of this process, inside a transaction.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut before, &mut context);
            pg_sys::SetUserIdAndSecContext(user, context | flags);
        }
        Self(before, context)
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        // SAFETY: what was read when this was made.
        unsafe { pg_sys::SetUserIdAndSecContext(self.0, self.1) };
    }
}

fn append_own(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let missing = || {
        Failure::new(Kind::UnexpectedTable, "audit_events is not there")
            .hint("Create the extension in this database.")
    };
    let trail = trail_oid().ok_or_else(missing)?;
    // SAFETY: a catalog look-up by oid.
    let owner = unsafe { owner_of(trail) }.ok_or_else(missing)?;
    let schema = arguments.schema();
    // SAFETY: the name of a schema that is there, quoted; NUL-terminated.
    let schema =
        unsafe { std::ffi::CStr::from_ptr(pg_sys::quote_identifier(pg_sys::get_namespace_name(schema))) };
    let sql = format!(
        "INSERT INTO {}.audit_events (event_id, tenant_id, category, action, severity, resource, service_name, details)
         VALUES ($1::pg_catalog.uuid, $2, 'alert', $3, $4, $5, 'zeroauth_audit', $6::pg_catalog.jsonb)",
        schema.to_string_lossy()
    );
    // SAFETY: reads the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    // Ours, so that the table's owner needs no right on the default's function.
    let id = pgrx::datum::Uuid::from_bytes(random::uuid_v7(now + random::POSTGRES_EPOCH)).to_string();
    let values = [
        id,
        TENANT.to_owned(),
        text(arguments, 0)?,
        text(arguments, 1)?,
        text(arguments, 2)?,
        json(arguments, 3)?,
    ];
    insert_as(owner, &sql, &values)?;
    Ok(pg_sys::Datum::from(0))
}

/// Runs an INSERT with text parameters as `user`. It is parsed as the caller, who can surely see the schema.
fn insert_as(user: pg_sys::Oid, sql: &str, values: &[String; PARAMETERS]) -> Result<(), Failure> {
    let sql = CString::new(sql).unwrap_or_default();
    let mut types = [pg_sys::TEXTOID; PARAMETERS];
    // SAFETY: SPI is connected and finished here, and by the end of the transaction after an error; the arrays have one
    // element for each parameter.
    unsafe {
        pg_sys::SPI_connect();
        let plan = pg_sys::SPI_prepare(sql.as_ptr(), PARAMETERS as i32, types.as_mut_ptr());
        let mut datums = values
            .each_ref()
            .map(|value| pg_sys::Datum::from(pgrx::varlena::rust_str_to_text_p(value).into_pg()));
        let acting = ActingAs::restricted(user);
        let done = pg_sys::SPI_execute_plan(plan, datums.as_mut_ptr(), std::ptr::null(), false, 0);
        drop(acting);
        let stored = pg_sys::SPI_processed;
        pg_sys::SPI_finish();
        if done != pg_sys::SPI_OK_INSERT as i32 || stored != 1 {
            return Err(Failure::new(Kind::UnexpectedTable, "audit_events did not store an event")
                .detail("A trigger or a rule of somebody else's left it out.")
                .hint("Look for triggers of audit_events that are not the extension's."));
        }
    }
    Ok(())
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
    Ok(pg_sys::Datum::from(0))
}

sql_function!(zeroauth_audit_append_own, pg_finfo_zeroauth_audit_append_own, append_own);
sql_function!(zeroauth_audit_log, pg_finfo_zeroauth_audit_log, log);
