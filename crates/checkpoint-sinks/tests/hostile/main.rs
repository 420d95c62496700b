//! The client of a witness against servers that behave, and servers that do not.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![forbid(unsafe_code)]

mod answers;
mod files;
mod tls;
