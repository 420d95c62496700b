//! The parts of the command line that call somebody: endpoints to be asked, and deploying.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgGroup, Args};
use ureq::Agent;
use zeroauth_audit_anchor::evm::{Address, Signer};
use zeroauth_audit_transport::agent::agent;
use zeroauth_audit_transport::{Endpoint, file};
use zeroauth_audit_verifier::deploy::Request;
use zeroauth_audit_verifier::endpoints::Endpoints;
use zeroauth_audit_verifier::outside::Blocks;
use zeroauth_audit_verifier::verdict::Verdict;

use crate::cli::address;

/// A receiver that takes longer is told again in the next round.
const HOOK_DEADLINE: Duration = Duration::from_secs(10);

/// Whom to ask which blocks are on a chain.
#[derive(Args)]
pub(crate) struct Rpc {
    /// Ask this JSON-RPC endpoint whether the blocks of anchors are on the chain and final; a URL, or a file of mode 0600 with
    /// it, if it holds a password or a token. May be given more than once: all have to agree
    #[arg(long = "rpc", value_name = "URL|FILE")]
    rpc: Vec<String>,
    /// A PEM file of the only certificates that may vouch for the endpoints; the system's, unless given
    #[arg(long, value_name = "FILE", requires = "rpc")]
    rpc_ca: Option<PathBuf>,
    /// A block is final with so many blocks on top; for chains that do not say themselves which are final
    #[arg(long, value_name = "N", requires = "rpc")]
    confirmations: Option<u64>,
}

impl Rpc {
    pub(crate) fn open(&self) -> Result<Option<Box<dyn Blocks>>, String> {
        if self.rpc.is_empty() {
            return Ok(None);
        }
        let endpoints = Endpoints::open(&self.rpc, self.rpc_ca.as_deref(), self.confirmations)?;
        Ok(Some(Box::new(endpoints)))
    }
}

/// Whom a monitor tells.
#[derive(Args)]
pub(crate) struct Webhook {
    /// A file of mode 0600 with a URL: each change of the verdict is posted there, as the JSON that --json prints, and again until it is
    /// accepted
    #[arg(long, value_name = "FILE")]
    webhook_file: Option<PathBuf>,
    /// A PEM file of the only certificates that may vouch for it; the system's, unless given
    #[arg(long, value_name = "FILE", requires = "webhook_file")]
    webhook_ca: Option<PathBuf>,
}

impl Webhook {
    pub(crate) fn open(&self) -> Result<Option<Hook>, String> {
        let Some(file) = &self.webhook_file else { return Ok(None) };
        let secret = file::secret(&absolute(file)?, "URL")?;
        let url = secret.text().ok_or("the URL file does not hold one URL")?;
        let endpoint = Endpoint::parse(url, "")?;
        let ca_file = self.webhook_ca.as_deref().map(absolute).transpose()?;
        let agent = agent(&endpoint, ca_file.as_deref(), HOOK_DEADLINE)?;
        Ok(Some(Hook { endpoint, agent, is_told: true }))
    }
}

/// Where verdicts are posted to.
pub(crate) struct Hook {
    endpoint: Endpoint,
    agent: Agent,
    is_told: bool,
}

impl Hook {
    /// Posts a verdict that is new, or that was not accepted before.
    pub(crate) fn tell(&mut self, verdict: &Verdict, is_new: bool) -> Result<(), String> {
        if !is_new && self.is_told {
            return Ok(());
        }
        self.is_told = false;
        let mut request = self.agent.post(&self.endpoint.uri).header("Content-Type", "application/json");
        if let Some(authorization) = &self.endpoint.authorization {
            request = request.header("Authorization", authorization);
        }
        // Nothing of the URL is in these words.
        let answer = request.send(verdict.json()).map_err(|_| "the receiver cannot be reached".to_owned())?;
        if !answer.status().is_success() {
            return Err(format!("the receiver answers with status {}", answer.status().as_u16()));
        }
        self.is_told = true;
        Ok(())
    }
}

/// What to deploy, where, and by whom.
#[derive(Args)]
#[command(group = ArgGroup::new("signer").required(true).multiple(false))]
pub(crate) struct Deploy {
    /// A file of mode 0600 with the URL of a JSON-RPC endpoint. May be given up to four times: all have to agree
    #[arg(long = "rpc-file", value_name = "FILE", required = true)]
    rpc_files: Vec<PathBuf>,
    /// A PEM file of the only certificates that may vouch for the endpoints; the system's, unless given
    #[arg(long, value_name = "FILE")]
    rpc_ca: Option<PathBuf>,
    /// The number of the chain (EIP-155); nothing is sent to another one
    #[arg(long, value_name = "N")]
    chain_id: u64,
    /// The base origin of the log, the name of the key that signs checkpoints
    #[arg(long, value_name = "ORIGIN")]
    origin: String,
    /// The account that will anchor, as `signer` of the target
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    anchorer: Address,
    /// The account that appoints anchorers and pauses: better one whose key is kept offline
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    owner: Address,
    /// Who pays: a file of mode 0600 with the key as 64 hexadecimal digits
    #[arg(long, value_name = "FILE", group = "signer")]
    key_file: Option<PathBuf>,
    /// Who pays: an encrypted key (Web3 Secret Storage, version 3), a file of mode 0600
    #[arg(long, value_name = "FILE", group = "signer", requires = "password_file")]
    keystore: Option<PathBuf>,
    /// The password of the encrypted key, a file of mode 0600
    #[arg(long, value_name = "FILE", requires = "keystore")]
    password_file: Option<PathBuf>,
    /// Who pays: a signer that answers eth_signTransaction, a file of mode 0600 with its URL
    #[arg(long, value_name = "FILE", group = "signer", requires = "signer_address")]
    signer_url_file: Option<PathBuf>,
    /// The account that the signer signs for
    #[arg(long, value_name = "ADDRESS", value_parser = address, requires = "signer_url_file")]
    signer_address: Option<Address>,
    /// Where to keep the signed transaction before it is sent. If the file is there, its transaction is gone on with
    #[arg(long, value_name = "FILE")]
    keep: PathBuf,
    /// Offer no more, in wei per gas
    #[arg(long, value_name = "WEI", default_value_t = 200_000_000_000)]
    max_fee_per_gas: u64,
    /// Use no more gas
    #[arg(long, value_name = "GAS", default_value_t = 5_000_000)]
    max_gas: u64,
    /// How long to wait until the transaction is included
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait: u64,
}

impl Deploy {
    /// With absolute paths: the row that is printed is for a server that runs elsewhere.
    pub(crate) fn request(&self) -> Result<Request, String> {
        let rpc_url_files = self.rpc_files.iter().map(|file| absolute(file)).collect::<Result<_, _>>()?;
        Ok(Request {
            origin: self.origin.clone(),
            chain_id: self.chain_id,
            rpc_url_files,
            ca_file: self.rpc_ca.as_deref().map(absolute).transpose()?,
            signer: self.signer()?,
            owner: self.owner,
            anchorer: self.anchorer,
            max_fee_per_gas: self.max_fee_per_gas,
            max_gas: self.max_gas,
            keep: self.keep.clone(),
            patience: Duration::from_secs(self.wait),
        })
    }

    fn signer(&self) -> Result<Signer, String> {
        match (
            &self.key_file,
            &self.keystore,
            &self.password_file,
            &self.signer_url_file,
            self.signer_address,
        ) {
            (Some(key), ..) => Ok(Signer::Raw { key_file: absolute(key)? }),
            (_, Some(key), Some(password), ..) => {
                Ok(Signer::Keystore { key_file: absolute(key)?, password_file: absolute(password)? })
            }
            (.., Some(url), Some(address)) => Ok(Signer::Remote { url_file: absolute(url)?, address }),
            _ => Err("one of --key-file, --keystore and --signer-url-file is needed".into()),
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))
}
