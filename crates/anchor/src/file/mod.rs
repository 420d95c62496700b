//! Anchors in an append-only file of signed lines: works with nothing else installed. Its proof is as good as the place where
//! the file is kept: a WORM mount, or a machine that the superuser does not control.
//!
//! | module | what it does |
//! |---|---|
//! | [`entry`] | one line, and the whole file as a chain of lines |
//! | `append` | adds a line durably, also after the crash of another writer |
//! | `driver` | the target |

#[cfg(feature = "drivers")]
mod append;
#[cfg(feature = "drivers")]
mod driver;
pub mod entry;

#[cfg(feature = "drivers")]
pub use driver::{Config, FileDriver};
