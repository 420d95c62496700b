//! The edge to PostgreSQL: calling conventions, errors, memory, SPI. Nothing here knows what an event is.

pub(crate) mod call;
pub(crate) mod error;
pub(crate) mod list;
pub(crate) mod out_of_memory;
pub(crate) mod random;
pub(crate) mod result_rows;
pub(crate) mod settings;
pub(crate) mod shmem;
pub(crate) mod spi;
pub(crate) mod time;
pub(crate) mod varlena;
pub(crate) mod versions;
