//! Whether this library has shared memory: only when the server itself loaded it, by `shared_preload_libraries`. Each module requests
//! its own piece; without shared memory, features that need it are off.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pgrx::pg_sys;

use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::Failure;

/// Set by the postmaster before any other process is there, which inherits it.
static SHARED: AtomicBool = AtomicBool::new(false);

/// Every module has requested its piece. To be called while the server loads the library.
pub fn requested() {
    SHARED.store(true, Relaxed);
}

/// Whether the library was loaded by the server itself.
pub fn is_shared() -> bool {
    SHARED.load(Relaxed)
}

/// `preloaded()`: whether the library was loaded by the server itself.
fn audit_preloaded(_: &Arguments) -> Result<pg_sys::Datum, Failure> {
    Ok(pg_sys::Datum::from(is_shared()))
}

sql_function!(zeroauth_audit_preloaded, pg_finfo_zeroauth_audit_preloaded, audit_preloaded);
