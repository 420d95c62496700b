//! What Citus knows of a table, where Citus is installed: its catalogs are in `pg_catalog`.
//!
//! A table that it has more than one copy of would fork: the trigger runs on each node, with a salt and a clock of its own. One that is
//! distributed is empty on the coordinator, whatever its shards hold.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::error::{Failure, Kind};
use crate::pg::spi::{Parameter, Session};

/// The catalog of distributed tables; `None` without Citus.
fn partitions() -> Option<pg_sys::Oid> {
    const NAME: &CStr = c"pg_dist_partition";
    let schema = pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE);
    // SAFETY: a look-up in a transaction.
    let oid = unsafe { pg_sys::get_relname_relid(NAME.as_ptr(), schema) };
    (oid != pg_sys::Oid::INVALID).then_some(oid)
}

/// Whether the rows of a table are in shards.
pub fn is_distributed(table: pg_sys::Oid) -> bool {
    let Some(catalog) = partitions() else { return false };
    // SAFETY: a scan of a catalog, opened and closed here; its first column is the table (regclass).
    unsafe {
        let relation = pg_sys::table_open(catalog, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        let mut found = false;
        loop {
            let row = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if row.is_null() || found {
                break;
            }
            let mut null = true;
            let value = pg_sys::SPI_getbinval(row, (*relation).rd_att, 1, &mut null);
            found = !null && pg_sys::Oid::from(value.value() as u32) == table;
        }
        pg_sys::heap_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        found
    }
}

/// Refuses a table, or a shard of one, of which Citus keeps more than one copy.
pub fn refuse_copies(table: pg_sys::Oid) -> Result<(), Failure> {
    if partitions().is_none() {
        return Ok(());
    }
    let session = Session::connect();
    let mut copies = None;
    let sql = include_str!("../../sql/queries/citus_copies.sql");
    session.all(sql, &[Parameter::Int8(i64::from(table.to_u32()))], |row| {
        copies = row.text(0)?;
        Ok(())
    })?;
    drop(session);
    match copies {
        None => Ok(()),
        Some(copies) => Err(Failure::new(
            Kind::UnexpectedTable,
            format!("audit_events is {copies}: its chains would fork, one for each copy"),
        )
        .hint("Distribute it by tenant_id, with citus.shard_replication_factor = 1 (docs/scale.md).")),
    }
}
