//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use zeroauth_audit_anchor::batch::Hash;
use zeroauth_audit_anchor::evm::Address;
use zeroauth_audit_verifier::export::MAX_LINE;

/// Checks exports, proof bundles and checkpoints of zeroauth_audit. Needs no database, and no network but for --rpc and
/// deploy-contract.
///
/// Exit codes: 0 verified, 1 tampered, 2 could not check, 3 restored to an earlier state.
#[derive(Parser)]
#[command(name = "zeroauth-audit", version, about, long_about, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a key that signs checkpoints, and print its public key
    Keygen {
        /// The key file to make, readable by its owner alone; nothing that is there is replaced
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The base origin, as a name of your own such as log.example.org/audit: the name of the key
        #[arg(long, value_name = "ORIGIN")]
        origin: String,
        /// Make an ML-DSA-44 key (FIPS 204): append it to the key file of a database, whose registry is then signed twice
        #[arg(long)]
        ml_dsa: bool,
    },
    /// Print the public keys of a key file, one a line
    PublicKey {
        /// The key file
        file: PathBuf,
    },
    /// Check every event and every chain of an export
    VerifyExport {
        /// What audit_export() gave, one event a line; - is standard input
        file: PathBuf,
        #[command(flatten)]
        trusted: Trusted,
        /// A checkpoint of a tenant's log that was sealed before the export was made: the export must hold just the events that it covers.
        /// May be given more than once
        #[arg(long = "checkpoint", value_name = "FILE")]
        checkpoints: Vec<PathBuf>,
        /// The export is of all tenants: one that has a log in the run files and no event is missing
        #[arg(long, requires = "runs")]
        all_tenants: bool,
        /// Leave out checkpoints that were not sealed before this time, such as 2026-11-21T09:30:00Z
        #[arg(long, value_name = "TIME")]
        before: Option<String>,
        /// What audit_export_intervals() gave: in which order events were sealed. Not needed for tenants with chain 0 alone
        #[arg(long, value_name = "FILE")]
        intervals: Option<PathBuf>,
        /// A directory of run files: the export must hold just the events of each tenant's log, as of its newest entry
        #[arg(long, value_name = "DIR", requires = "names")]
        runs: Option<PathBuf>,
        /// The file with the key of names of the registry, in base64: which log is whose
        #[arg(long, value_name = "FILE", requires = "runs")]
        names: Option<PathBuf>,
        /// A restore in the run files that you know of, by the number of its entry. May be given more than once
        #[arg(long = "accept-restore", value_name = "ENTRY", requires = "runs")]
        accepted: Vec<u64>,
        /// Bytes of a line at most
        #[arg(long, value_name = "BYTES", default_value_t = MAX_LINE)]
        max_line: usize,
    },
    /// Check events and their proofs, with their anchors
    VerifyBundle {
        /// What audit_prove() gave, one bundle a file. Each has its own verdict; the exit code is that of the worst
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        trusted: Trusted,
        #[command(flatten)]
        anchors: Anchors,
    },
    /// Check all run files of a directory: whether every log only grew
    VerifyCheckpoints {
        /// The directory that run files are published to
        folder: PathBuf,
        #[command(flatten)]
        trusted: Trusted,
        /// The longest time between two runs that is accepted
        #[arg(long, value_name = "SECONDS")]
        max_silence: Option<u64>,
        /// A restore that you know of, by the number of the registry's entry that says it. May be given more than once
        #[arg(long = "accept-restore", value_name = "ENTRY")]
        accepted: Vec<u64>,
        /// A checkpoint of the registry that you kept: run files must have had this state. May be given more than once
        #[arg(long, value_name = "FILE")]
        kept: Vec<PathBuf>,
    },
    /// Write the registry of a directory of run files as tiles (C2SP tlog-tiles), for mirrors and other tools
    ///
    /// The run files are verified first, and nothing is written unless they are. What is there already is never replaced but for
    /// the checkpoint.
    Tiles {
        /// The directory that run files are published to
        folder: PathBuf,
        #[command(flatten)]
        trusted: Trusted,
        /// The directory to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// A restore that you know of, by the number of the registry's entry that says it. May be given more than once
        #[arg(long = "accept-restore", value_name = "ENTRY")]
        accepted: Vec<u64>,
    },
    /// Watch a directory of run files: an independent witness, on somebody else's machine, that every log only grew
    ///
    /// Ends when something is found, or with --once after one round, with the exit code of the verdict.
    Monitor(Watch),
    /// Put the anchor contract on a chain, and print the call of audit_anchor_target_set() that anchors in it
    ///
    /// The transaction is signed, kept in the file --keep, and sent. If anything comes in between, run the same command again: it
    /// sends the same transaction, and there is never a second contract. Exit codes: 0 the contract is there, 2 it is not known to
    /// be there.
    #[cfg(feature = "network")]
    DeployContract(crate::network::Deploy),
}

/// What a monitor watches, and whom it tells.
#[derive(Args)]
pub(crate) struct Watch {
    /// The directory that run files are published to
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) trusted: Trusted,
    /// Look so often
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) interval: u64,
    /// Look once
    #[arg(long, conflicts_with = "interval")]
    pub(crate) once: bool,
    /// A file of the monitor's own that keeps the newest checkpoint that was verified: so a directory that was replaced as a whole is
    /// seen after a restart, too
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// The key file of the monitor: it signs what it verified. Its name is not that of the registry
    #[arg(long, value_name = "FILE", requires = "cosigned")]
    pub(crate) cosigner: Option<PathBuf>,
    /// The file that the newest checkpoint with the monitor's signature is written to
    #[arg(long, value_name = "FILE", requires = "cosigner")]
    pub(crate) cosigned: Option<PathBuf>,
    /// The file that numbers for Prometheus are written to, as node_exporter's textfile collector reads them
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics: Option<PathBuf>,
    /// The longest time without a new run that is accepted
    #[arg(long, value_name = "SECONDS")]
    pub(crate) max_silence: Option<u64>,
    /// A restore that you know of, by the number of the registry's entry that says it. May be given more than once
    #[arg(long = "accept-restore", value_name = "ENTRY")]
    pub(crate) accepted: Vec<u64>,
    #[cfg(feature = "network")]
    #[command(flatten)]
    pub(crate) webhook: crate::network::Webhook,
}

/// Whom to believe.
#[derive(Args)]
pub(crate) struct Trusted {
    /// The public key of the log, or a file with it. After a rotation give all of them
    #[arg(long = "key", value_name = "KEY|FILE")]
    pub(crate) keys: Vec<String>,
    /// The public key of a witness, or a file with it. May be given more than once
    #[arg(long = "witness", value_name = "KEY|FILE")]
    pub(crate) witnesses: Vec<String>,
    /// How many of the witnesses must have signed; all of them, unless given
    #[arg(long, value_name = "K")]
    pub(crate) quorum: Option<usize>,
    /// The public key of a monitor, or a file with it: what it has signed only grew. May be given more than once
    #[arg(long = "monitor", value_name = "KEY|FILE")]
    pub(crate) monitors: Vec<String>,
}

/// Whom to believe about anchors.
#[derive(Args)]
#[command(next_help_heading = "Anchors")]
pub(crate) struct Anchors {
    /// The public key of an anchor file, or a file with it; those of --key, unless given. May be given more than once
    #[arg(long = "anchor-key", value_name = "KEY|FILE")]
    pub(crate) anchor_keys: Vec<String>,
    /// A PEM file of certificates that may vouch for time-stamp authorities. May be given more than once
    #[arg(long = "tsa-ca", value_name = "FILE")]
    pub(crate) authorities: Vec<PathBuf>,
    /// The hash of a block that you know to be on its chain, and final. May be given more than once
    #[arg(long = "block-hash", value_name = "HEX", value_parser = hash)]
    pub(crate) blocks: Vec<Hash>,
    #[cfg(feature = "network")]
    #[command(flatten)]
    pub(crate) rpc: crate::network::Rpc,
    /// The address of the contract that the operator published; an anchor in another one is a mismatch. May be given more than
    /// once
    #[arg(long = "contract", value_name = "ADDRESS", value_parser = address)]
    pub(crate) contracts: Vec<Address>,
    /// The number of the chain that the operator published; an anchor on another one is a mismatch. May be given more than once
    #[arg(long = "chain-id", value_name = "N")]
    pub(crate) chain_ids: Vec<u64>,
    /// How many anchors of each bundle must be verified; with fewer, it could not be checked
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) require_anchors: usize,
}

/// 64 hexadecimal digits, with or without `0x`.
fn hash(text: &str) -> Result<Hash, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    format!("0x{digits}").parse().map_err(|_| "not 64 hexadecimal digits".into())
}

/// `0x` and 40 hexadecimal digits; with capital letters among them they are a checksum (EIP-55).
pub(crate) fn address(text: &str) -> Result<Address, String> {
    let digits = text.strip_prefix("0x").ok_or("an address begins with 0x")?;
    match digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Address::parse_checksummed(text, None).map_err(|_| "the checksum does not hold".into()),
        false => digits.parse().map_err(|_| "not 0x and 40 hexadecimal digits".into()),
    }
}
