//! A row of a system catalog by its oid, as a statement that is not over yet has left it: the hook that PostgreSQL calls after it made or
//! altered an object comes before the change is visible to others, caches included.

use std::ffi::CStr;

use pgrx::pg_sys;

/// A catalog whose rows have an oid in their first column.
#[derive(Clone, Copy)]
pub struct Catalog {
    /// Its oid.
    pub class: pg_sys::Oid,
    index: u32,
}

/// `pg_trigger`
pub const TRIGGERS: Catalog = Catalog { class: pg_sys::TriggerRelationId, index: pg_sys::TriggerOidIndexId };
/// `pg_index`, by the oid of the index.
pub const INDEXES: Catalog = Catalog { class: pg_sys::IndexRelationId, index: pg_sys::IndexRelidIndexId };
// Oids that pgrx does not have; they are the same in every version.
/// `pg_rewrite`
pub const RULES: Catalog = Catalog { class: oid(2618), index: 2692 };
/// `pg_policy`
pub const POLICIES: Catalog = Catalog { class: oid(3256), index: 3257 };
/// `pg_constraint`
pub const CONSTRAINTS: Catalog = Catalog { class: oid(2606), index: 2667 };
/// `pg_attrdef`
pub const DEFAULTS: Catalog = Catalog { class: oid(2604), index: 2657 };
/// `pg_class`
pub const RELATIONS: Catalog = Catalog { class: pg_sys::RelationRelationId, index: 2662 };
/// `pg_operator`
pub const OPERATORS: Catalog = Catalog { class: pg_sys::OperatorRelationId, index: 2688 };
/// `pg_proc`
pub const FUNCTIONS: Catalog = Catalog { class: pg_sys::ProcedureRelationId, index: 2690 };
/// `pg_inherits`, which has no oids.
pub const INHERITS: pg_sys::Oid = oid(2611);

const fn oid(number: u32) -> pg_sys::Oid {
    // SAFETY: a number is an oid; not a const fn of pgrx otherwise.
    unsafe { std::mem::transmute::<u32, pg_sys::Oid>(number) }
}

/// Shows the row of `object`, if there is one, with its shape.
pub fn look<T>(
    catalog: Catalog,
    object: pg_sys::Oid,
    see: impl FnOnce(pg_sys::HeapTuple, pg_sys::TupleDesc) -> T,
) -> Option<T> {
    // SAFETY: a scan in a catalog by the index over its first column, under a snapshot that is always there; the row is not kept.
    unsafe {
        let table = pg_sys::table_open(catalog.class, pg_sys::AccessShareLock as i32);
        let mut key = pg_sys::ScanKeyData::default();
        let equal = pg_sys::BTEqualStrategyNumber as u16;
        pg_sys::ScanKeyInit(&mut key, 1, equal, pg_sys::F_OIDEQ.into(), pg_sys::Datum::from(object));
        let snapshot = &raw mut pg_sys::SnapshotSelfData;
        let scan = pg_sys::systable_beginscan(table, catalog.index.into(), true, snapshot, 1, &mut key);
        let row = pg_sys::systable_getnext(scan);
        let seen = (!row.is_null()).then(|| see(row, (*table).rd_att));
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, pg_sys::AccessShareLock as i32);
        seen
    }
}

/// The fixed part of a catalog's row.
///
/// # Safety
/// `row` must be of the catalog whose rows begin with `T`, and outlive what is returned.
pub unsafe fn fixed<T>(row: pg_sys::HeapTuple) -> *const T {
    // SAFETY: by contract: the fixed part follows the row's header.
    unsafe {
        let header = (*row).t_data;
        header.cast::<u8>().add((*header).t_hoff as usize).cast()
    }
}

/// One column of the row of `object`; `None` for no row, no such column, and NULL.
pub fn column(catalog: Catalog, object: pg_sys::Oid, name: &CStr) -> Option<pg_sys::Datum> {
    look(catalog, object, |row, shape| {
        // SAFETY: row and shape are those of the catalog; a value that is not by reference outlives the scan.
        unsafe {
            let number = pg_sys::SPI_fnumber(shape, name.as_ptr());
            let mut is_null = true;
            let value = if number > 0 {
                pg_sys::SPI_getbinval(row, shape, number, &mut is_null)
            } else {
                pg_sys::Datum::null()
            };
            (!is_null).then_some(value)
        }
    })
    .flatten()
}

/// One column of the row of `object` that is an oid.
pub fn oid_column(catalog: Catalog, object: pg_sys::Oid, name: &CStr) -> Option<pg_sys::Oid> {
    column(catalog, object, name).map(|value| pg_sys::Oid::from(value.value() as u32))
}

/// Whether a column of the row of `object` is there and true.
pub fn is_true(catalog: Catalog, object: pg_sys::Oid, name: &CStr) -> bool {
    column(catalog, object, name).is_some_and(|value| value.value() as u8 != 0)
}

/// Whether a column of any type has a value in the row of `object`.
pub fn has(catalog: Catalog, object: pg_sys::Oid, number: u32) -> bool {
    look(catalog, object, |row, shape| {
        // SAFETY: as in column.
        !unsafe { pg_sys::heap_attisnull(row, number as i32, shape) }
    })
    .unwrap_or(false)
}
