//! The scratch table of `audit_drill()`: what the guards take for a trail, so that attacks on it can be played.
//!
//! Nothing is cached: the table is known by its name, its schema's name, and by this transaction having created it. So no other
//! session can see it, and it is never the trail itself, nor any table that a user left under such a name.

use std::ffi::CStr;

use pgrx::pg_sys;

/// What the name of the drill's schema begins with.
pub const SCHEMA_PREFIX: &str = "zeroauth_audit_drill_";
/// `InvalidSubTransactionId`, which pgrx does not have.
const NO_SUBTRANSACTION: pg_sys::SubTransactionId = 0;

/// Whether this transaction created `relation`, so that no other sees it.
///
/// # Safety
/// `relation` must be open.
#[inline]
pub unsafe fn is_created_here(relation: pg_sys::Relation) -> bool {
    // SAFETY: open by contract.
    unsafe { (*relation).rd_createSubid != NO_SUBTRANSACTION }
}

/// The schema of `relation` when it is a drill's, of a drill that this transaction plays. Does not check the name of
/// the table: only the one named like the trail is guarded.
pub fn schema_of(relation: pg_sys::Oid) -> Option<String> {
    // SAFETY: catalog look-ups by oid, NULL for none.
    let schema = unsafe { pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation)) };
    if schema.is_null() {
        return None;
    }
    // SAFETY: NUL-terminated.
    let schema = unsafe { CStr::from_ptr(schema) }.to_str().ok()?;
    if !schema.starts_with(SCHEMA_PREFIX) {
        return None;
    }
    // SAFETY: takes no lock, which DDL on another table might wait for later; NULL for none. What this
    // transaction created, it holds locked already, and only for that is the answer yes.
    unsafe {
        let open = pg_sys::RelationIdGetRelation(relation);
        if open.is_null() {
            return None;
        }
        let created_here = is_created_here(open);
        pg_sys::RelationClose(open);
        created_here.then(|| schema.to_owned())
    }
}

/// What `relation` is called in log lines and errors: a drill's with its schema, so that it causes no alarm.
pub fn shown(relation: pg_sys::Oid, name: &str) -> String {
    schema_of(relation).map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}"))
}
