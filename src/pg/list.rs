//! Lists of PostgreSQL's parser.

use pgrx::pg_sys;

/// The nodes of a list.
///
/// # Safety
/// `list` must be NULL or a list of nodes.
pub unsafe fn nodes(list: *mut pg_sys::List) -> impl Iterator<Item = *mut pg_sys::Node> {
    // SAFETY: by contract.
    let length = if list.is_null() { 0 } else { unsafe { (*list).length as usize } };
    // SAFETY: a list of nodes has pointers in its cells, and as many as its length says.
    (0..length).map(move |n| unsafe { (*(*list).elements.add(n)).ptr_value.cast() })
}
