//! Why a call to a target failed. Stored with the state and shown to people: no URL, no key, nothing that a server said.

use serde::{Deserialize, Serialize};

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Failure {
    /// No connection, no answer in time, or TLS failed; in fixed words.
    #[error("endpoint {endpoint}: {reason}")]
    Unreachable {
        /// Which of the configured endpoints, from 1.
        endpoint: usize,
        /// What happened.
        reason: String,
    },
    /// An answer that cannot be read, or is larger than any honest one.
    #[error("endpoint {endpoint}: the answer to {method} {problem}")]
    BadAnswer {
        /// Which of the configured endpoints, from 1.
        endpoint: usize,
        /// What was queried.
        method: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The endpoint answered with an error.
    #[error("endpoint {endpoint}: {method} failed with error {code}")]
    CallFailed {
        /// Which of the configured endpoints, from 1.
        endpoint: usize,
        /// What was queried.
        method: String,
        /// The code of the error.
        code: i64,
    },
    /// The endpoint has no block of the tag that says what is final.
    #[error(
        "endpoint {endpoint} does not know the block tag finalized: set finality to {{\"kind\": \"blocks\", \"blocks\": N}}"
    )]
    NoFinalTag {
        /// Which of the configured endpoints, from 1.
        endpoint: usize,
    },
    /// The endpoint has the event of a transaction, and not its receipt.
    #[error("endpoint {endpoint} has no receipt of the transaction yet")]
    NoReceipt {
        /// Which of the configured endpoints, from 1.
        endpoint: usize,
    },
    /// The chain hashes its headers by a rule that is not known here: no evidence could ever be made.
    #[error("this chain's block hashes are not those of its headers")]
    OtherHashes,
    /// Endpoints say different things where they must agree.
    #[error("the endpoints disagree about {about}")]
    Disagreement {
        /// What they disagree about.
        about: String,
    },
    /// Another chain than the configured one.
    #[error("endpoint {endpoint} is on chain {found}, not {expected}")]
    WrongChain {
        /// Which of the configured endpoints, from 1.
        endpoint: usize,
        /// What was configured.
        expected: u64,
        /// What the endpoint says.
        found: u64,
    },
    /// There is no contract at the configured address, or another one.
    #[error("there is no anchor contract at the configured address")]
    NoContract,
    /// The contract would refuse the anchor.
    #[error("the contract refuses: {refusal}")]
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// The account cannot pay.
    #[error("the account cannot pay for the transaction")]
    NoFunds,
    /// The fees that the chain asks for are above the configured cap.
    #[error("the chain asks for {needed} wei per gas, the cap is {cap}")]
    FeesAboveCap {
        /// What would be needed, in wei per gas.
        needed: u64,
        /// The configured cap.
        cap: u64,
    },
    /// The call needs more gas than the configured cap.
    #[error("the transaction needs {needed} gas, the cap is {cap}")]
    GasAboveCap {
        /// What would be needed.
        needed: u64,
        /// The configured cap.
        cap: u64,
    },
    /// The transaction was included and failed.
    #[error("the transaction was included and reverted")]
    Reverted,
    /// Sent, and not included for longer than it should take.
    #[error("the transaction is not included yet")]
    Stuck,
    /// Included, and not final for longer than it should take.
    #[error("the anchor is not final yet")]
    NotFinal,
    /// The authority refused the request.
    #[error("the authority refused: {status}")]
    Rejected {
        /// PKIStatus and failure bits, in words.
        status: String,
    },
    /// A token or evidence that does not hold.
    #[error("the answer does not hold: {problem}")]
    Unverified {
        /// Which check failed.
        problem: String,
    },
    /// What the target keeps was changed after it was put there.
    #[error("{problem}")]
    Altered {
        /// What shows the change.
        problem: String,
    },
    /// A file that cannot be used: a key, a password, a URL, the anchor file.
    #[error("{reason}")]
    File {
        /// What is wrong with which file, without its content.
        reason: String,
    },
    /// The configuration cannot be used.
    #[error("the configuration of the target {problem}")]
    Configuration {
        /// What is wrong with it.
        problem: String,
    },
    /// Our own defect: the call contradicts the state.
    #[error("defect: {what}")]
    Defect {
        /// What does not fit.
        what: String,
    },
}

/// Why the contract refuses an anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// The owner paused it.
    #[error("it is paused")]
    Paused,
    /// The account is no anchorer of the log.
    #[error("the account is not an anchorer of this log")]
    NotAnchorer,
    /// The log has this epoch or a later one already.
    #[error("the log is at epoch {latest} already")]
    EpochNotRising {
        /// The newest epoch of the log.
        latest: u64,
    },
    /// The epoch is too far above the last one.
    #[error("the epoch is too far above {latest}")]
    EpochTooFar {
        /// The newest epoch of the log.
        latest: u64,
    },
    /// An error that this contract never raises.
    #[error("for no reason that it has")]
    Unknown,
}
