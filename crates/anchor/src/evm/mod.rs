//! Anchors in the `AuditAnchor` contract of an EVM chain.
//!
//! | module | what it does |
//! |---|---|
//! | [`contract`] | calls, events and errors of the contract, as bytes |
//! | [`answer`] | what nodes answer |
//! | [`signed`], [`trie`] | transactions, headers, receipts and their proofs, as the chain hashes them |
//! | [`seals`] | headers of chains that leave the seals of validators out of a block's hash |
//! | `config`, `driver`, `look`, `nodes`, `rpc` | the driver: several endpoints that must agree |
//! | `deploy` | the contract's own way onto a chain |
//! | `standing` | whether a block that evidence rests on is on the chain, and final |
//! | `fees`, `transaction` | offered fees; building and signing |

pub mod answer;
#[cfg(feature = "drivers")]
mod config;
pub mod contract;
#[cfg(feature = "drivers")]
pub mod deploy;
#[cfg(feature = "drivers")]
mod driver;
#[cfg(feature = "drivers")]
mod fees;
#[cfg(feature = "drivers")]
mod look;
#[cfg(feature = "drivers")]
mod nodes;
#[cfg(feature = "drivers")]
mod rpc;
pub mod seals;
pub mod signed;
#[cfg(feature = "drivers")]
pub mod standing;
#[cfg(feature = "drivers")]
mod transaction;
pub mod trie;

pub use alloy_primitives::Address;
#[cfg(feature = "drivers")]
pub use config::{Config, Finality, Signer};
#[cfg(feature = "drivers")]
pub use driver::EvmDriver;
