//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use zeroauth_audit_verifier::export::MAX_LINE;

/// Checks exports, proof bundles and checkpoints of zeroauth_audit. Needs no database and no network.
///
/// Exit codes: 0 verified, 1 tampered, 2 could not check.
#[derive(Parser)]
#[command(name = "zeroauth-audit", version, about, long_about, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print the verdict as one JSON object
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
        /// The base origin, as in zeroauth_audit.origin: the name of the key
        #[arg(long, value_name = "ORIGIN")]
        origin: String,
    },
    /// Print the public key of a key file
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
        /// A checkpoint that was sealed before the export was made, a file of the directory sink, or its whole directory: the
        /// export must hold just the events that it covers. May be given more than once
        #[arg(long = "checkpoint", value_name = "FILE|DIR")]
        checkpoints: Vec<PathBuf>,
        /// The export is of all tenants: one that has a checkpoint in a directory and no event is missing
        #[arg(long)]
        all_tenants: bool,
        /// Leave out checkpoints that were not sealed before this time, such as 2026-11-21T09:30:00Z
        #[arg(long, value_name = "TIME")]
        before: Option<String>,
        /// What audit_export_intervals() gave: in which order events were sealed. Not needed for tenants with chain 0 alone
        #[arg(long, value_name = "FILE")]
        intervals: Option<PathBuf>,
        /// Bytes of a line at most
        #[arg(long, value_name = "BYTES", default_value_t = MAX_LINE)]
        max_line: usize,
    },
    /// Check one event and its proof
    VerifyBundle {
        /// What audit_prove() gave
        file: PathBuf,
        #[command(flatten)]
        trusted: Trusted,
    },
    /// Check all checkpoints of a directory against each other
    VerifyCheckpoints {
        /// The directory that checkpoints are published to
        folder: PathBuf,
        #[command(flatten)]
        trusted: Trusted,
        /// A consistency proof and its checkpoint, as sent to witnesses. May be given more than once
        #[arg(long, value_name = "FILE")]
        consistency: Vec<PathBuf>,
        /// A directory with the tiles of logs, to make consistency proofs of
        #[arg(long, value_name = "DIR")]
        tiles: Option<PathBuf>,
        /// The longest time between two checkpoints of a log that is accepted
        #[arg(long, value_name = "SECONDS")]
        max_silence: Option<u64>,
    },
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
}
