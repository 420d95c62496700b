//! Refusing changes of stored events, and of the table itself.

pub(crate) mod ddl;
pub(crate) mod exclusive_database;
pub(crate) mod row_changes;
pub(crate) mod statements;
pub(crate) mod view_edits;
