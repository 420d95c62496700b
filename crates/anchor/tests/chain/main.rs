//! The contract and the evm driver on a real local chain.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![forbid(unsafe_code)]

mod anvil;
mod artifact;
mod contract;
mod deploy;
mod driver;
mod faults;
mod hostile;
mod live;
mod other_nodes;
mod proxy;
mod standing;
