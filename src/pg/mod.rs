//! The edge to PostgreSQL: calling conventions, errors, memory, SPI, time, settings. Nothing here knows what an event is, and
//! nothing here imports from another folder.
//!
//! Takes no locks. Its state belongs to one process: random bytes in store, the emergency reserve of memory, and whether the server itself
//! loaded the library, which processes inherit from the postmaster.

pub(crate) mod call;
pub(crate) mod catalog_row;
pub(crate) mod error;
pub(crate) mod list;
pub(crate) mod names;
pub(crate) mod out_of_memory;
pub(crate) mod random;
pub(crate) mod result_rows;
pub(crate) mod savepoint;
pub(crate) mod settings;
pub(crate) mod shmem;
pub(crate) mod spi;
pub(crate) mod time;
pub(crate) mod varlena;
pub(crate) mod versions;
