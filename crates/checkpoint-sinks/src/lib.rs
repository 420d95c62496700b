//! Where checkpoints go, so that nobody inside can take them back: a directory, a witness.
//!
//! Knows nothing of Postgres. Everything here blocks, and is called from a thread of the worker's.
#![forbid(unsafe_code)]

pub mod directory;
pub mod sink_thread;
pub mod witness;

pub use directory::{Directory, Stamp};
pub use sink_thread::{SinkReport, SinkWork, begin};
pub use witness::{Answer, Shown, Witness};

/// A signed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Of which log.
    pub origin: String,
    /// How many events it covers.
    pub size: u64,
    /// The root hash of their tree.
    pub root: [u8; 32],
    /// The signed note itself.
    pub note: String,
}

/// A checkpoint of a sink that contradicts the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Of which log.
    pub origin: String,
    /// Its tree size.
    pub size: u64,
    /// Its root hash, if the sink gives it.
    pub root: Option<[u8; 32]>,
}
