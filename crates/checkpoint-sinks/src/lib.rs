//! Where checkpoints go, so that nobody inside can take them back: a directory, a witness.
//!
//! Knows nothing of Postgres. Everything here blocks, and is called from a thread of the worker's.
#![forbid(unsafe_code)]

pub mod directory;
pub mod sink_thread;
pub mod witness;

pub use directory::{Directory, RunFile, Unwritten};
pub use sink_thread::{SinkReport, SinkWork, begin};
pub use witness::{Answer, Shown, Witness};
