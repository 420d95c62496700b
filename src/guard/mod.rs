//! Refusing changes of stored events and of the table itself: triggers for rows, hooks for DDL, and workers that make way for DROP DATABASE
//! and its like.
//!
//! No shared state of its own: it writes to that of shared/ (holds of a database, privileged use), and counts in that of chain/ writers
//! that hold no chain's lock. Imports from chain/, shared/, trail/ and pg/.

pub(crate) mod ddl;
pub(crate) mod exclusive_database;
pub(crate) mod row_changes;
pub(crate) mod statements;
