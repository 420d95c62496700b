//! The registry: one log of all tenants' logs.
//!
//! Its entries ([`entry`]) say what the log of each tenant is, under its label ([`label`]); run files ([`run`]) carry them away from
//! the database, and whoever replays those ([`replay`]) knows that every log only grew. `docs/format.md`, sections 19 to 22.

pub mod entry;
pub mod label;
pub mod replay;
pub mod run;

pub use entry::Entry;
pub use label::Label;

/// A number in a text of the registry: what a `bigint` holds.
fn number(text: &str) -> Option<u64> {
    crate::checkpoint::decimal(text).filter(|number| i64::try_from(*number).is_ok())
}
