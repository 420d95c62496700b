//! Names of schemas and relations: as SQL text, quoted where that is needed, or as they are.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;

/// A schema, quoted; `None` if there is none.
pub fn schema(oid: pg_sys::Oid) -> Option<String> {
    // SAFETY: in a transaction; NULL if there is no such schema.
    unsafe { quoted(pg_sys::get_namespace_name(oid)) }
}

/// A relation's name without its schema, quoted; `None` if there is none.
pub fn relation(oid: pg_sys::Oid) -> Option<String> {
    // SAFETY: in a transaction; NULL if there is no such relation.
    unsafe { quoted(pg_sys::get_rel_name(oid)) }
}

/// A schema, as it is; `None` if there is none.
pub fn plain_schema(oid: pg_sys::Oid) -> Option<String> {
    // SAFETY: as in `schema`.
    unsafe { plain(pg_sys::get_namespace_name(oid)) }
}

/// A relation's name without its schema, as it is; `None` if there is none.
pub fn plain_relation(oid: pg_sys::Oid) -> Option<String> {
    // SAFETY: as in `relation`.
    unsafe { plain(pg_sys::get_rel_name(oid)) }
}

/// # Safety
/// `name` must be NULL or NUL-terminated.
unsafe fn quoted(name: *const c_char) -> Option<String> {
    if name.is_null() {
        return None;
    }
    // SAFETY: by contract; quote_identifier returns a NUL-terminated string.
    unsafe { plain(pg_sys::quote_identifier(name)) }
}

/// # Safety
/// As for [`quoted`].
unsafe fn plain(name: *const c_char) -> Option<String> {
    // SAFETY: by contract.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
}
