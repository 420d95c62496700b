//! Anchors as time stamps of RFC 3161: an authority signs that it saw the batch's statement.
//!
//! | module | what it does |
//! |---|---|
//! | [`message`] | requests and responses as bytes |
//! | [`token`] | checks a token against authorities, at the time in the token |
//! | `ecdsa` | signatures that ring does not have |
//! | `driver` | requests tokens of an authority |

#[cfg(feature = "drivers")]
mod driver;
mod ecdsa;
pub mod message;
pub mod token;

#[cfg(feature = "drivers")]
pub use driver::{Config, PLAINTEXT, Rfc3161Driver};
