//! The state machine against a model of a chain: faults and crashes at every point, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![forbid(unsafe_code)]

mod decisions;
mod faults;
mod properties;
mod world;
