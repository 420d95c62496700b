//! The registry: what a reader of run files says of histories, good and bad.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

mod history;
mod random;
mod tampered;
