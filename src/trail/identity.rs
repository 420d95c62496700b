//! What an open relation is to the extension, for the hooks that every writing statement passes: a few comparisons, no look-up.
//!
//! Kept for this process: the oid of the internal schema until some schema changes, and which table called `audit_events` is the trail
//! and which is not, until the relation cache says that one of them changed. What was the trail a moment ago stays it although somebody
//! takes its row out of a catalog.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pgrx::pg_sys;

use crate::pg::versions;
use crate::trail::membership::{INTERNAL, is_trail, trail_oid};

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// `audit_events`, or what stands for it in a drill.
    Trail,
    /// A table of the internal schema that only the extension's functions write.
    State,
    /// A table of the internal schema that holds what people set.
    Settings,
    /// A system catalog, in a database that has the extension.
    Catalog,
    /// Anything else.
    Other,
}

/// Tables of the internal schema that hold what people set.
const SETTINGS: [&CStr; 4] = [c"jobs", c"sinks", c"anchor_targets", c"alert_routes"];
const TRAIL: &CStr = c"audit_events";
/// The function of the chaining trigger.
pub const CHAIN_FUNCTION: &CStr = c"chain";

/// Nothing is known.
const UNKNOWN: u32 = 0;
/// There is no such thing; the oid of a catalog, so never that of a schema or a table of a user.
const NONE: u32 = 1;

static INTERNAL_SCHEMA: AtomicU32 = AtomicU32::new(UNKNOWN);
static THE_TRAIL: AtomicU32 = AtomicU32::new(UNKNOWN);
static NO_TRAIL: AtomicU32 = AtomicU32::new(UNKNOWN);
/// The function of the chaining trigger, until some function changes.
static CHAINS: AtomicU32 = AtomicU32::new(UNKNOWN);

/// Registers what forgets. To be called once, when the library is loaded.
pub fn watch() {
    // SAFETY: the callbacks only store numbers, and are there as long as the process; child processes inherit them.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0));
        let schemas = versions::schema_cache();
        pg_sys::CacheRegisterSyscacheCallback(schemas, Some(schema_changed), pg_sys::Datum::from(0));
        let functions = pg_sys::SysCacheIdentifier::PROCOID as i32;
        pg_sys::CacheRegisterSyscacheCallback(functions, Some(function_changed), pg_sys::Datum::from(0));
    }
}

unsafe extern "C-unwind" fn relation_changed(_: pg_sys::Datum, relation: pg_sys::Oid) {
    for known in [&THE_TRAIL, &NO_TRAIL] {
        if relation == pg_sys::Oid::INVALID || known.load(Relaxed) == relation.to_u32() {
            known.store(UNKNOWN, Relaxed);
        }
    }
}

unsafe extern "C-unwind" fn schema_changed(_: pg_sys::Datum, _: i32, _: u32) {
    INTERNAL_SCHEMA.store(UNKNOWN, Relaxed);
    CHAINS.store(UNKNOWN, Relaxed);
}

unsafe extern "C-unwind" fn function_changed(_: pg_sys::Datum, _: i32, _: u32) {
    CHAINS.store(UNKNOWN, Relaxed);
}

/// Whether a function is the internal schema's of that name. To be called as [`of`].
pub fn is_internal_function(function: pg_sys::Oid, name: &CStr) -> bool {
    let chains = name == CHAIN_FUNCTION;
    if chains && CHAINS.load(Relaxed) == function.to_u32() {
        return true;
    }
    // SAFETY: look-ups by oid, invalid and NULL for none; a palloc'ed, NUL-terminated name.
    let found = unsafe {
        let its_name = pg_sys::get_func_name(function);
        !its_name.is_null()
            && CStr::from_ptr(its_name) == name
            && internal_schema() == Some(pg_sys::get_func_namespace(function))
    };
    if found && chains {
        CHAINS.store(function.to_u32(), Relaxed);
    }
    found
}

/// Whether [`of`] could say anything else than [`Is::Other`]. Looks nothing up, and raises nothing.
///
/// # Safety
/// `relation` must be open.
#[inline]
pub unsafe fn may_matter(relation: pg_sys::Relation) -> bool {
    // SAFETY: open by contract.
    let (oid, form) = unsafe { ((*relation).rd_id.to_u32(), &*(*relation).rd_rel) };
    let schema = INTERNAL_SCHEMA.load(Relaxed);
    if schema == NONE {
        return false;
    }
    oid < pg_sys::FirstUnpinnedObjectId
        || schema == UNKNOWN
        || schema == form.relnamespace.to_u32()
        || NO_TRAIL.load(Relaxed) != oid && is_named(form, TRAIL)
}

fn is_named(form: &pg_sys::FormData_pg_class, name: &CStr) -> bool {
    // SAFETY: a relation's name is NUL-terminated.
    unsafe { CStr::from_ptr(form.relname.data.as_ptr()) == name }
}

/// What `relation` is. To be called inside of a guard, in a transaction.
///
/// # Safety
/// `relation` must be open.
pub unsafe fn of(relation: pg_sys::Relation) -> Is {
    // SAFETY: open by contract.
    let (oid, form) = unsafe { ((*relation).rd_id, &*(*relation).rd_rel) };
    let Some(schema) = internal_schema() else { return Is::Other };
    if oid.to_u32() < pg_sys::FirstUnpinnedObjectId {
        return Is::Catalog;
    }
    if form.relnamespace == schema {
        return if form.relkind as u8 != pg_sys::RELKIND_RELATION {
            Is::Other
        } else if SETTINGS.iter().any(|name| is_named(form, name)) {
            Is::Settings
        } else {
            Is::State
        };
    }
    if !is_named(form, TRAIL) {
        return Is::Other;
    }
    if is_the_trail(oid) { Is::Trail } else { Is::Other }
}

/// Whether a table that is called so is the trail, or stands for it in a drill.
fn is_the_trail(oid: pg_sys::Oid) -> bool {
    if THE_TRAIL.load(Relaxed) == oid.to_u32() {
        return true;
    }
    if NO_TRAIL.load(Relaxed) == oid.to_u32() {
        return false;
    }
    let found = is_trail(oid) || trail_oid() == Some(oid);
    let known = if found { &THE_TRAIL } else { &NO_TRAIL };
    known.store(oid.to_u32(), Relaxed);
    found
}

/// The schema of everything that no person calls, when there is one in this database. To be called inside of a guard, in a transaction.
pub fn internal_schema() -> Option<pg_sys::Oid> {
    let known = match INTERNAL_SCHEMA.load(Relaxed) {
        UNKNOWN => {
            let name = std::ffi::CString::new(INTERNAL).unwrap_or_default();
            // SAFETY: a look-up by name; missing is allowed.
            let found = unsafe { pg_sys::get_namespace_oid(name.as_ptr(), true) }.to_u32();
            let found = if found == UNKNOWN { NONE } else { found };
            INTERNAL_SCHEMA.store(found, Relaxed);
            found
        }
        known => known,
    };
    (known != NONE).then(|| pg_sys::Oid::from(known))
}
