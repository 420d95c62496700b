//! Which objects belong to the extension: looked up in the catalogs, by oid, each time; nothing is cached.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::catalog_row;
use crate::trail::scratch;

/// The schema of everything that no person calls. Its name is fixed, whatever schema the extension was created in.
pub const INTERNAL: &str = "zeroauth_audit_internal";
/// The extension's name.
pub const EXTENSION: &CStr = c"zeroauth_audit";
/// The tenant whose trail records what was done to the extension itself.
pub const OWN_TENANT: &str = "zeroauth_audit";
const TABLE: &CStr = c"audit_events";

/// The extension's oid, when it is installed in this database.
pub fn our_extension() -> Option<pg_sys::Oid> {
    // SAFETY: a catalog look-up by name; missing is allowed.
    let oid = unsafe { pg_sys::get_extension_oid(EXTENSION.as_ptr(), true) };
    (oid != pg_sys::Oid::INVALID).then_some(oid)
}

/// Whether the extension's own script runs, by CREATE EXTENSION or ALTER EXTENSION .. UPDATE, and no other extension's.
pub fn runs_own_script() -> bool {
    // SAFETY: state of this process.
    let (runs, whose) = unsafe { (pg_sys::creating_extension, pg_sys::CurrentExtensionObject) };
    runs && our_extension() == Some(whose)
}

/// Whether an object is a member of the extension.
pub fn is_member(class: pg_sys::Oid, object: pg_sys::Oid) -> bool {
    our_extension().is_some_and(|ours| {
        // SAFETY: a catalog look-up by oid.
        ours == unsafe { pg_sys::getExtensionOfObject(class, object) }
    })
}

/// Whether `relation` is the extension's `audit_events`, or the table that stands for it in a drill of this transaction.
pub fn is_trail(relation: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up by oid, NULL for none.
    let name = unsafe { pg_sys::get_rel_name(relation) };
    // SAFETY: NUL-terminated unless NULL.
    !name.is_null()
        && unsafe { CStr::from_ptr(name) } == TABLE
        && (is_member(pg_sys::RelationRelationId, relation) || stands_for_trail(relation))
}

/// A drill's table is guarded only if the trail is: otherwise the drill would succeed where the trail fails.
fn stands_for_trail(relation: pg_sys::Oid) -> bool {
    scratch::schema_of(relation).is_some()
        && trail_oid().is_some_and(|trail| is_member(pg_sys::RelationRelationId, trail))
}

/// The trail's name in a log line: a drill's with its schema, so that it causes no alarm.
pub fn trail_name(relation: pg_sys::Oid) -> String {
    scratch::shown(relation, "audit_events")
}

/// The extension's `audit_events` in this database.
pub fn trail_oid() -> Option<pg_sys::Oid> {
    let schema = extension_schema()?;
    // SAFETY: a catalog look-up by name and schema.
    let oid = unsafe { pg_sys::get_relname_relid(TABLE.as_ptr(), schema) };
    (oid != pg_sys::Oid::INVALID).then_some(oid)
}

/// The schema of the extension, when it is installed in this database.
pub fn extension_schema() -> Option<pg_sys::Oid> {
    extension_row().map(|(schema, _)| schema)
}

/// The schema of the extension and its owner, when it is installed in this database.
pub fn extension_row() -> Option<(pg_sys::Oid, pg_sys::Oid)> {
    // SAFETY: look-ups in the catalog of extensions under its own lock; a NULL result is no extension.
    unsafe {
        let oid = pg_sys::get_extension_oid(EXTENSION.as_ptr(), true);
        if oid == pg_sys::Oid::INVALID {
            return None;
        }
        let catalog = pg_sys::table_open(pg_sys::ExtensionRelationId, pg_sys::AccessShareLock as i32);
        let mut key = pg_sys::ScanKeyData::default();
        let equal = pg_sys::BTEqualStrategyNumber as u16;
        pg_sys::ScanKeyInit(&mut key, 1, equal, pg_sys::F_OIDEQ.into(), pg_sys::Datum::from(oid));
        let index = pg_sys::ExtensionOidIndexId.into();
        let scan = pg_sys::systable_beginscan(catalog, index, true, std::ptr::null_mut(), 1, &mut key);
        let tuple = pg_sys::systable_getnext(scan);
        let row = (!tuple.is_null()).then(|| {
            let form = catalog_row::fixed::<pg_sys::FormData_pg_extension>(tuple);
            ((*form).extnamespace, (*form).extowner)
        });
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(catalog, pg_sys::AccessShareLock as i32);
        row
    }
}
