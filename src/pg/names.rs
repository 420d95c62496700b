//! Names of schemas and relations: as SQL text, quoted where that is needed, or as they are.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;

/// A schema, quoted. Raises nothing; the schema must be there, which a lock or an object in it sees to.
pub fn schema(oid: pg_sys::Oid) -> Option<String> {
    // SAFETY: in a transaction; NULL if there is no such schema.
    let name = unsafe { pg_sys::get_namespace_name(oid) };
    // SAFETY: a NUL-terminated string of the current memory context.
    (!name.is_null()).then(|| unsafe { quoted(name) })
}

/// A relation's name without its schema, quoted.
pub fn relation(oid: pg_sys::Oid) -> Option<String> {
    // SAFETY: in a transaction; NULL if there is no such relation.
    let name = unsafe { pg_sys::get_rel_name(oid) };
    // SAFETY: a NUL-terminated string of the current memory context.
    (!name.is_null()).then(|| unsafe { quoted(name) })
}

/// A schema, as it is.
pub fn plain_schema(oid: pg_sys::Oid) -> Option<String> {
    // SAFETY: in a transaction; NULL if there is no such schema.
    unsafe { plain(pg_sys::get_namespace_name(oid)) }
}

/// A relation's name without its schema, as it is.
pub fn plain_relation(oid: pg_sys::Oid) -> Option<String> {
    // SAFETY: in a transaction; NULL if there is no such relation.
    unsafe { plain(pg_sys::get_rel_name(oid)) }
}

/// # Safety
/// `name` must be NULL or NUL-terminated.
unsafe fn plain(name: *const c_char) -> Option<String> {
    // SAFETY: by contract.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
}

/// # Safety
/// `name` must be NUL-terminated.
unsafe fn quoted(name: *const c_char) -> String {
    // SAFETY: by contract; quote_identifier returns a NUL-terminated string.
    unsafe { CStr::from_ptr(pg_sys::quote_identifier(name)) }.to_string_lossy().into_owned()
}
