//! For every call to the outside: secrets in files, the URL of an endpoint, an HTTP client that is bounded in every way, and
//! failures in words that do not contain the URL.
//!
//! Knows nothing of Postgres, and nothing of the requests. URLs count as secrets: no error and no `Debug` of
//! this crate contains a part of one.
#![forbid(unsafe_code)]

pub mod agent;
pub mod failure;
pub mod file;
mod url;

pub use file::Secret;
pub use url::{Endpoint, Plaintext};
