//! HTTP servers whose every answer is up to a test, and certificate authorities to go with them. For tests only: errors
//! panic.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc, missing_docs)]

pub mod authority;
pub mod receivers;
pub mod server;

pub use authority::Authority;
pub use server::{Server, respond};
