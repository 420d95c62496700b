//! Anchors in an append-only file of signed lines: works with nothing else installed. What it proves is as good as the place where
//! the file is kept: a WORM mount, or a machine that the superuser does not rule.
//!
//! | module | what it does |
//! |---|---|
//! | [`entry`] | one line, and the whole file as a chain of lines |
//! | `append` | adds a line that is there afterwards, whatever happened before |
//! | `driver` | the target |

#[cfg(feature = "drivers")]
mod append;
#[cfg(feature = "drivers")]
mod driver;
pub mod entry;

#[cfg(feature = "drivers")]
pub use driver::{Config, FileDriver};
