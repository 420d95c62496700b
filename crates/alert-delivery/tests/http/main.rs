//! Attempts against servers that behave, servers that do not, services that hold requests against their documents, and the real
//! Alertmanager.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![forbid(unsafe_code)]

mod alertmanager;
mod answers;
mod route;
mod senders;
mod services;
mod tls;
