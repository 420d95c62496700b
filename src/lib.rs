//! The extension.
::pgrx::pg_module_magic!();
