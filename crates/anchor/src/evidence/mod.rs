//! Evidence: what an auditor needs to check an anchor without the database and without a network.
//!
//! Everything in it is untrusted. The verdict names what is left to trust: a block's hash, an authority, or a key.

pub mod evm;
pub mod file;
pub mod rfc3161;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroauth_audit_core::note::VerifierKey;

use crate::batch::{Hash, Moment, Seal};
use crate::rfc3161::token::Authorities;

/// Why evidence does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be read.
    #[error("the evidence is malformed: {0}")]
    Malformed(&'static str),
    /// It is of a kind or version that is not known here.
    #[error("evidence of this kind or version is not known here")]
    Unknown,
    /// It says something else than it should.
    #[error("the evidence does not hold: {0}")]
    DoesNotHold(&'static str),
    /// It holds, for another root.
    #[error("the evidence is of another root: {found}")]
    OtherRoot {
        /// The root that it is of.
        found: Hash,
    },
    /// No trusted key or authority vouches for it.
    #[error("nobody who is trusted vouches for the evidence: {0}")]
    NotTrusted(&'static str),
}

/// What evidence proves, if what it rests on can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The log, where the target keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_id: Option<Hash>,
    /// Its epoch, where the target keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The anchored seal.
    pub seal: Seal,
    /// When, by the clock of what it rests on.
    pub anchored_at: Moment,
    /// What it rests on.
    pub rests_on: RestsOn,
}

/// The remaining trust in a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RestsOn {
    /// This block is on that chain: to be confirmed by a node that the auditor trusts.
    Block {
        /// EIP-155's number of the chain.
        chain_id: u64,
        /// Number of the block.
        block_number: u64,
        /// Its hash.
        block_hash: Hash,
        /// The contract, which must be the one that the operator published.
        contract: String,
        /// The account that anchored.
        anchorer: String,
        /// The transaction.
        transaction: Hash,
    },
    /// This authority stamps at the time that it says, and the certificates above it vouch for it rightly.
    Authority {
        /// Subject of its certificate.
        name: String,
        /// Its number of the token, in hexadecimal digits.
        serial: String,
        /// Its policy.
        policy: String,
    },
    /// The holder of this key signs only its own anchors, at the time that it says.
    Key {
        /// Name of the key.
        name: String,
    },
}

/// Whom a checker trusts.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Who vouches for time-stamp authorities.
    pub authorities: Authorities,
    /// Keys of anchor files.
    pub keys: Vec<VerifierKey>,
}

/// Checks evidence of `kind` (`evm`, `rfc3161` or `file`, as in `audit_anchor_targets`) that `root` is anchored. `json` is what the
/// driver gave, as it was stored.
///
/// A verdict on `evm` rests on a block's hash that nothing here can check: the caller must compare it, and the contract's address,
/// with what it knows from elsewhere.
pub fn verify_evidence(kind: &str, json: &[u8], root: &Hash, trust: &Trust) -> Result<Verdict, Error> {
    match kind {
        "evm" => read::<evm::Evidence>(json)?.verify(root),
        "rfc3161" => read::<rfc3161::Evidence>(json)?.verify(root, &trust.authorities),
        "file" => read::<file::Evidence>(json)?.verify(root, &trust.keys),
        _ => Err(Error::Unknown),
    }
}

/// More than any evidence: a receipt may be large.
const MOST_BYTES: usize = 8 << 20;

fn read<T: DeserializeOwned + Serialize>(json: &[u8]) -> Result<T, Error> {
    if json.len() > MOST_BYTES {
        return Err(Error::Malformed("it is too large"));
    }
    let other = |_| Error::Malformed("it is not the JSON of this kind");
    let evidence: T = serde_json::from_slice(json).map_err(other)?;
    // Upper-case digits would be a second form of the same evidence. Only the order of the fields and the space between them are free: databases
    // choose them anew.
    let given: Value = serde_json::from_slice(json).map_err(other)?;
    match serde_json::to_value(&evidence) {
        Ok(written) if written == given => Ok(evidence),
        _ => Err(Error::Malformed("it is not written as it would be")),
    }
}
