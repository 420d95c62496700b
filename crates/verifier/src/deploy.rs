//! The anchor contract's way onto a chain, and the call of `audit_anchor_target_set()` that anchors in it.
//!
//! The signed transaction is kept in a file before it is sent. Whoever is interrupted runs the same again: the same bytes are sent,
//! and there is never a second contract. Keys, passwords and URLs are in files alone, and nothing here shows them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use zeroauth_audit_anchor::batch::{Batch, Hash};
use zeroauth_audit_anchor::evm::deploy::{Deployer, Deployment, Prepared};
use zeroauth_audit_anchor::evm::{Address, Signer};
use zeroauth_audit_anchor::failure::Failure;
use zeroauth_audit_core::origin::Base;

use crate::placed;
use crate::sealed::read_file;

/// How long to wait before looking for the transaction again.
const PAUSE: Duration = Duration::from_secs(1);

/// More than any transaction that deploys.
const MOST_BYTES: u64 = 1 << 20;

/// What is to be deployed.
pub struct Request {
    /// The base origin of the log: the name of the key that signs checkpoints.
    pub origin: String,
    /// Number of the chain.
    pub chain_id: u64,
    /// Files with the URL of an endpoint each, by absolute paths.
    pub rpc_url_files: Vec<PathBuf>,
    /// Certificates that may vouch for the endpoints.
    pub ca_file: Option<PathBuf>,
    /// Who signs and pays.
    pub signer: Signer,
    /// Who appoints anchorers and pauses.
    pub owner: Address,
    /// Who anchors.
    pub anchorer: Address,
    /// Offers no more, in wei per gas.
    pub max_fee_per_gas: u64,
    /// Uses no more gas.
    pub max_gas: u64,
    /// Where the signed transaction is kept before it is sent.
    pub keep: PathBuf,
    /// How long to wait until it is included.
    pub patience: Duration,
}

/// What was deployed.
#[derive(Clone, Debug, Serialize)]
pub struct Deployed {
    /// The contract.
    pub contract: Address,
    /// The transaction's hash.
    pub transaction: String,
    /// Number of the chain.
    pub chain_id: u64,
    /// Who signed and paid.
    pub account: Address,
    /// Who appoints anchorers and pauses.
    pub owner: Address,
    /// Who anchors.
    pub anchorer: Address,
    /// The base origin.
    pub origin: String,
    /// Its SHA-256: the log's name in the contract.
    pub log_id: Hash,
    /// `config` of the target.
    pub config: Value,
    /// What is left to do.
    pub notes: Vec<String>,
}

/// Deploys, and waits until every endpoint has the contract with its anchorer. `tell` is told what happens meanwhile.
///
/// # Errors
/// What is wrong, in words, and what to do when something may have been sent.
pub fn deploy(request: &Request, tell: &mut dyn FnMut(&str)) -> Result<Deployed, String> {
    Base::parse(&request.origin)
        .map_err(|error| format!("{:?} cannot be a base origin: {error}", request.origin))?;
    let deployment = Deployment {
        chain_id: request.chain_id,
        rpc_url_files: request.rpc_url_files.clone(),
        ca_file: request.ca_file.clone(),
        signer: request.signer.clone(),
        owner: request.owner,
        log_id: Batch::log_id(&request.origin),
        anchorer: request.anchorer,
        max_fee_per_gas: request.max_fee_per_gas,
        max_gas: request.max_gas,
    };
    let deployer = Deployer::open(deployment).map_err(|failure| words(&failure))?;
    let prepared = prepare(&deployer, request, tell)?;
    let again = |failure: Failure| {
        format!("{}; run the same command again: it goes on with the kept transaction", words(&failure))
    };
    let begin = Instant::now();
    let mut is_there = deployer.is_there(&prepared).map_err(again)?;
    if !is_there {
        deployer.send(&prepared).map_err(again)?;
        tell(&format!("sent {}", prepared.id));
    }
    while !is_there {
        if begin.elapsed() >= request.patience {
            return Err(again(Failure::Stuck));
        }
        sleep(PAUSE);
        is_there = deployer.is_there(&prepared).map_err(again)?;
    }
    Ok(deployed(request, &deployer, &prepared))
}

/// What is sent: the transaction that was kept, or a new one, which is kept first.
fn prepare(deployer: &Deployer, request: &Request, tell: &mut dyn FnMut(&str)) -> Result<Prepared, String> {
    let keep = request.keep.display();
    // Asked of the name itself: a link that leads nowhere is not taken for a file that is not there.
    if request.keep.symlink_metadata().is_ok() {
        let bytes = read_file(&request.keep, MOST_BYTES).map_err(|what| format!("{keep} {what}"))?;
        let text = String::from_utf8(bytes).unwrap_or_default();
        let bytes = hex::decode(text.trim_end()).map_err(|_| format!("{keep} holds no transaction"))?;
        let prepared = deployer.resume(&bytes).map_err(|failure| format!("{keep}: {}", words(&failure)))?;
        tell(&format!("goes on with the transaction in {keep}"));
        return Ok(prepared);
    }
    let prepared = deployer.prepare().map_err(|failure| words(&failure))?;
    let text = format!("{}\n", hex::encode(prepared.transaction.to_bytes()));
    placed::new_file(&request.keep, text.as_bytes())?;
    tell(&format!("signed {}, kept in {keep}", prepared.id));
    Ok(prepared)
}

fn deployed(request: &Request, deployer: &Deployer, prepared: &Prepared) -> Deployed {
    let account = deployer.account();
    let mut notes = Vec::new();
    let mut config = json!({
        "chain_id": request.chain_id,
        "contract": prepared.contract,
        "rpc_url_files": request.rpc_url_files,
    });
    if request.rpc_url_files.len() == 1 {
        config["allow_single_endpoint"] = true.into();
        notes.push("one endpoint alone is believed whatever it says: better name a second one".into());
    }
    if let Some(ca_file) = &request.ca_file {
        config["ca_file"] = json!(ca_file);
    }
    if account == request.anchorer {
        config["signer"] = json!(request.signer);
    } else {
        notes.push(format!("add \"signer\" to the config: the files with the key of {}", request.anchorer));
    }
    if account == request.owner || request.anchorer == request.owner {
        notes.push("the owner's key is in use here: better an owner that is kept offline".into());
    }
    Deployed {
        contract: prepared.contract,
        transaction: prepared.id.to_string(),
        chain_id: request.chain_id,
        account,
        owner: request.owner,
        anchorer: request.anchorer,
        origin: request.origin.clone(),
        log_id: Batch::log_id(&request.origin),
        config,
        notes,
    }
}

/// A failure as it is told of a command line, not of a target.
fn words(failure: &Failure) -> String {
    match failure {
        Failure::Configuration { problem } => format!("the deployment {problem}"),
        other => other.to_string(),
    }
}

impl Deployed {
    /// One JSON object in one line.
    #[must_use]
    pub fn json(&self) -> String {
        // Strings and numbers under keys that are strings: nothing here fails to be JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "contract: {} on chain {}", self.contract, self.chain_id);
        let _ = writeln!(out, "transaction: {} by {}", self.transaction, self.account);
        let _ = writeln!(out, "owner: {}", self.owner);
        let _ = writeln!(out, "anchorer: {} of log {} ({})", self.anchorer, self.log_id, self.origin);
        let _ = writeln!(out, "config: {}", self.config);
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        // In a string of SQL a quote is written twice.
        let config = self.config.to_string().replace('\'', "''");
        let _ = writeln!(out, "SELECT audit_anchor_target_set('evm', 'evm', '{config}');");
        out
    }
}
