//! How an EVM target is configured: read from JSON. Secrets are in files, never here.

use std::path::PathBuf;
use std::time::Duration;

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// How an EVM target is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// EIP-155's number of the chain; an endpoint on another one is not used.
    pub chain_id: u64,
    /// Address of the contract.
    pub contract: Address,
    /// Files with the URL of a JSON-RPC endpoint each. They must agree on everything that counts, so they should be run by
    /// different people.
    pub rpc_url_files: Vec<PathBuf>,
    /// A single endpoint is enough, and is trusted whatever it says. Off by default.
    #[serde(default)]
    pub allow_single_endpoint: bool,
    /// The only authorities that may vouch for the endpoints; without it, those that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Who signs.
    pub signer: Signer,
    /// No transaction offers more, in wei per gas.
    #[serde(default = "default_max_fee")]
    pub max_fee_per_gas: u64,
    /// The priority fee that is offered, if the chain asks for no more, in wei per gas.
    #[serde(default = "default_priority_fee")]
    pub min_priority_fee_per_gas: u64,
    /// No transaction may use more gas.
    #[serde(default = "default_max_gas")]
    pub max_gas: u64,
    /// When a block is final.
    #[serde(default)]
    pub finality: Finality,
    /// Each call takes at most so many seconds.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
}

/// Who signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Signer {
    /// A file with the key as 64 hexadecimal digits.
    Raw {
        /// Mode 0600 or 0400.
        key_file: PathBuf,
    },
    /// An encrypted key (Web3 Secret Storage, version 3).
    Keystore {
        /// Mode 0600 or 0400.
        key_file: PathBuf,
        /// The password: mode 0600 or 0400.
        password_file: PathBuf,
    },
    /// A signer that answers `eth_signTransaction`.
    Remote {
        /// File with its URL.
        url_file: PathBuf,
        /// The account it signs for.
        address: Address,
    },
}

/// When a block is final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Finality {
    /// When the chain says so: the block tag `finalized`.
    #[default]
    Tag,
    /// When so many blocks are on top of it, where a chain has no such tag.
    Blocks {
        /// At least 1.
        blocks: u64,
    },
}

fn default_max_fee() -> u64 {
    200_000_000_000
}

fn default_priority_fee() -> u64 {
    1_000_000
}

fn default_max_gas() -> u64 {
    200_000
}

fn default_timeout() -> u64 {
    10
}

/// A call that takes longer than this is given up, whatever the configuration says.
const LONGEST_TIMEOUT: u64 = 60;

impl Config {
    /// Checks what the types cannot express.
    pub fn check(&self) -> Result<(), Failure> {
        let problem = match self.rpc_url_files.as_slice() {
            [] => "names no endpoint",
            [_] if !self.allow_single_endpoint => {
                "names one endpoint only, and does not say allow_single_endpoint"
            }
            files if files.len() > 4 => "names more than four endpoints",
            files if files.iter().enumerate().any(|(at, file)| files[..at].contains(file)) => {
                "names one endpoint twice"
            }
            _ if self.finality == (Finality::Blocks { blocks: 0 }) => {
                "calls a block final with none on top of it"
            }
            _ if self.max_gas == 0 || self.max_fee_per_gas == 0 => "has a cap of 0",
            _ => return Ok(()),
        };
        Err(Failure::Configuration { problem: problem.into() })
    }

    pub(super) fn deadline(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.clamp(1, LONGEST_TIMEOUT))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(files: &[&str]) -> Config {
        serde_json::from_value(json!({
            "chain_id": 1,
            "contract": "0x5fbdb2315678afecb367f032d93f642f64180aa3",
            "rpc_url_files": files,
            "signer": { "kind": "raw", "key_file": "/k" },
        }))
        .unwrap()
    }

    #[test]
    fn two_endpoints_are_required_unless_one_is_allowed() {
        let problem = |config: &Config| match config.check() {
            Err(Failure::Configuration { problem }) => problem,
            other => panic!("{other:?}"),
        };
        assert_eq!(config(&["/a", "/b"]).check(), Ok(()));
        assert_eq!(problem(&config(&[])), "names no endpoint");
        assert_eq!(problem(&config(&["/a", "/a"])), "names one endpoint twice");
        let one = config(&["/a"]);
        assert_eq!(problem(&one), "names one endpoint only, and does not say allow_single_endpoint");
        assert_eq!(Config { allow_single_endpoint: true, ..one }.check(), Ok(()));
        let unsafe_finality = Config { finality: Finality::Blocks { blocks: 0 }, ..config(&["/a", "/b"]) };
        assert_eq!(problem(&unsafe_finality), "calls a block final with none on top of it");
    }

    #[test]
    fn a_key_that_is_no_setting_is_refused_and_so_is_a_secret() {
        let mut value = serde_json::to_value(config(&["/a", "/b"])).unwrap();
        assert!(serde_json::from_value::<Config>(value.clone()).is_ok());
        value["private_key"] = json!("0x01");
        assert!(serde_json::from_value::<Config>(value).is_err());
    }
}
