//! Time stamps by a real authority (`openssl ts`), by authorities that must not be trusted, and by servers that are none.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![forbid(unsafe_code)]

mod driver;
mod tokens;
mod tsa;
