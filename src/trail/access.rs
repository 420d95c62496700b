//! Which table is checked, and whether the current role sees all of it: the extension's owner, since what verifies is SECURITY DEFINER.
//!
//! A verifier that some rows are hidden from would report gaps that are not there, or miss those that are. So it is
//! refused up front, as "could not check", and so is one whose snapshot cannot show a whole trail.

use pgrx::pg_sys;

use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::{Failure, Kind};
use crate::pg::names;
use crate::trail::caller::Caller;
use crate::trail::columns;
use crate::trail::membership::{INTERNAL, extension_schema, trail_oid};
use crate::trail::scratch;

/// `audit_events` of the extension that the called function belongs to.
pub struct Trail {
    /// Its oid.
    pub oid: pg_sys::Oid,
    /// Its schema, quoted.
    pub schema: String,
    /// Its name, qualified and quoted.
    pub name: String,
    /// Schema of the tables of its logs, quoted: `None` for a table that has none.
    pub logs: Option<String>,
}

/// The oid of `audit_events`, whoever may read it.
pub fn table() -> Result<pg_sys::Oid, Failure> {
    trail_oid().ok_or_else(gone)
}

fn gone() -> Failure {
    Failure::new(Kind::UnexpectedTable, "table audit_events is not there")
        .hint("Restore it from a backup, or drop and create the extension.")
}

impl Trail {
    /// Finds the table, and makes sure that the current role sees every row.
    pub fn open() -> Result<Self, Failure> {
        let oid = table()?;
        require_every_row(oid)?;
        require_whole_snapshot()?;
        let schema = extension_schema().and_then(names::schema).ok_or_else(gone)?;
        Ok(Self { oid, name: format!("{schema}.audit_events"), logs: Some(INTERNAL.to_owned()), schema })
    }
}

impl Trail {
    /// A table of the trail's shape that this transaction created, as `audit_drill()` does. Its snapshot need not be
    /// checked: nobody else can have written to it.
    pub fn created_here(arguments: &Arguments) -> Result<Self, Failure> {
        let refused = || {
            Failure::new(Kind::InvalidArgument, "not a table that this transaction created")
                .hint("It is called by audit_drill(); the trail itself is for audit_findings().")
        };
        let oid =
            arguments.datum(0).map_or(pg_sys::Oid::INVALID, |datum| pg_sys::Oid::from(datum.value() as u32));
        // SAFETY: opened and closed here; raises for what is no table, NULL for what is gone.
        let (created_here, layout) = unsafe {
            let relation = pg_sys::try_table_open(oid, pg_sys::AccessShareLock as i32);
            if relation.is_null() {
                return Err(refused());
            }
            let found = (scratch::is_created_here(relation), columns::check_layout((*relation).rd_att));
            pg_sys::table_close(relation, pg_sys::NoLock as i32);
            found
        };
        if !created_here {
            return Err(refused());
        }
        layout?;
        require_every_row(oid)?;
        // SAFETY: in a transaction.
        let namespace = unsafe { pg_sys::get_rel_namespace(oid) };
        let (around, table) = names::schema(namespace).zip(names::relation(oid)).ok_or_else(refused)?;
        let extension = extension_schema().ok_or_else(refused)?;
        let schema = names::schema(extension).ok_or_else(refused)?;
        let name = format!("{around}.{table}");
        // The logs of the trail itself are never taken for those of a scratch table.
        let of_a_drill = namespace != extension && scratch::schema_of(oid).is_some();
        Ok(Self { oid, schema, name, logs: of_a_drill.then_some(around) })
    }
}

fn require_every_row(table: pg_sys::Oid) -> Result<(), Failure> {
    let caller = Caller::now();
    caller.require_select(table)?;
    caller.require_no_policy(table)
}

/// At REPEATABLE READ and above a transaction sees its own events but not those that others committed since it began,
/// which its own events follow: what it sees then has gaps that are none.
fn require_whole_snapshot() -> Result<(), Failure> {
    // SAFETY: reads transaction state of this process.
    let (level, wrote) = unsafe {
        (pg_sys::XactIsoLevel, pg_sys::GetTopTransactionIdIfAny() != pg_sys::TransactionId::INVALID)
    };
    if level >= pg_sys::XACT_REPEATABLE_READ as i32 && wrote {
        return Err(Failure::new(
            Kind::CouldNotCheck,
            "could not check: this transaction has written, and its snapshot may be older than that",
        )
        .hint("Verify in a transaction of its own, or at READ COMMITTED."));
    }
    Ok(())
}

/// `require_every_row()`: true, or the error that says why rows may be hidden; for views and exports.
fn audit_require_every_row(_: &Arguments) -> Result<pg_sys::Datum, Failure> {
    Trail::open()?;
    Ok(pg_sys::Datum::from(true))
}

sql_function!(
    zeroauth_audit_require_every_row,
    pg_finfo_zeroauth_audit_require_every_row,
    audit_require_every_row
);
