//! Refusing changes of stored events and of the table itself: triggers for rows, hooks for DDL, and stopping the worker for DROP DATABASE
//! and its like.
//!
//! No shared state of its own: it writes to that of shared/ (exclusive use of a database, privileged use), and counts unlocked writers in
//! that of chain/. Imports from chain/, shared/, trail/ and pg/.

pub(crate) mod ddl;
pub(crate) mod exclusive_database;
pub(crate) mod row_changes;
pub(crate) mod statements;
pub(crate) mod view_edits;
