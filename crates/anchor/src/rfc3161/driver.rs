//! The driver: requests a token of an authority, and takes it only if it verifies.

use std::path::PathBuf;
use std::time::Duration;

use der::asn1::ObjectIdentifier;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ureq::Agent;
use zeroauth_audit_transport::agent::agent;
use zeroauth_audit_transport::{Endpoint, Plaintext, failure, file};

use super::message::{TimeStampReq, TimeStampResp, read, write};
use super::token::{self, Authorities};
use crate::batch::{Batch, Hash, Moment};
use crate::driver::{Attempt, Driver, Inclusion, Need, Place, Sent, View};
use crate::evidence::rfc3161::Evidence;
use crate::failure::Failure;

/// Most public authorities speak no TLS. A token is signed, and is of our hash and our nonce: all that another could read on the way is
/// that hash, and all that it could do is to keep the token from us.
pub const PLAINTEXT: Plaintext = Plaintext::Anywhere;

/// How an RFC 3161 target is configured: read from JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// File with the authority's URL.
    pub url_file: PathBuf,
    /// PEM file of the certificates that may vouch for the authority's.
    pub authorities_file: PathBuf,
    /// The only certificates that may vouch for the URL's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The policy to ask for, such as `1.3.6.1.4.1.4146.2.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Each call takes at most so many seconds.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
}

fn default_timeout() -> u64 {
    10
}

/// An authority.
pub struct Rfc3161Driver {
    endpoint: Endpoint,
    agent: Agent,
    authorities: Authorities,
    policy: Option<ObjectIdentifier>,
}

impl Rfc3161Driver {
    /// Reads the files of the configuration, and makes no call.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        let open = || {
            let url = file::secret(&config.url_file, "URL")?;
            let text = url.text().ok_or("the URL file does not hold one URL")?;
            let endpoint = Endpoint::parse_allowing(text, "", PLAINTEXT)?;
            let deadline = Duration::from_secs(config.timeout_seconds.clamp(1, 60));
            let agent = agent(&endpoint, config.ca_file.as_deref(), deadline)?;
            let pem = file::public(&config.authorities_file, "authorities")?;
            let authorities = Authorities::from_pem(&pem)
                .map_err(|_| "the authorities file holds no certificate, or one that cannot be read")?;
            Ok::<_, String>((endpoint, agent, authorities))
        };
        let (endpoint, agent, authorities) = open().map_err(|reason| Failure::File { reason })?;
        let policy = config.policy.as_deref().map(ObjectIdentifier::new).transpose();
        let policy = policy.map_err(|_| Failure::Configuration {
            problem: "names a policy that is no object identifier".into(),
        })?;
        Ok(Self { endpoint, agent, authorities, policy })
    }

    fn ask(&self, request: &[u8]) -> Result<Vec<u8>, Failure> {
        let unreachable =
            |error: &ureq::Error| Failure::Unreachable { endpoint: 1, reason: failure::describe(error) };
        let mut post =
            self.agent.post(&self.endpoint.uri).header("Content-Type", "application/timestamp-query");
        if let Some(authorization) = &self.endpoint.authorization {
            post = post.header("Authorization", authorization);
        }
        let mut response = post.send(request).map_err(|error| unreachable(&error))?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(bad(&format!("has status {status}")));
        }
        match response.body_mut().with_config().limit(token::MOST_BYTES as u64).read_to_vec() {
            Ok(body) => Ok(body),
            Err(ureq::Error::BodyExceedsLimit(_)) => Err(bad("is too large")),
            Err(error) => Err(unreachable(&error)),
        }
    }
}

fn bad(problem: &str) -> Failure {
    Failure::BadAnswer { endpoint: 1, method: "the request".into(), problem: problem.into() }
}

fn defect(what: &str) -> Failure {
    Failure::Defect { what: what.into() }
}

impl Driver for Rfc3161Driver {
    /// An authority keeps no tokens: a lost one is requested again.
    fn look(&self, _: &Batch, _: &[&Attempt]) -> Result<View, Failure> {
        Ok(View { place: Place::Free, waiting: false, nonces: None, reverted: false })
    }

    fn prepare(&self, batch: &Batch, _: &Need, now: Moment) -> Result<Attempt, Failure> {
        let mut nonce = [0; 8];
        SystemRandom::new().fill(&mut nonce).map_err(|_| defect("there is no randomness"))?;
        let hash = Hash::sha256(batch.statement().as_bytes());
        let request = TimeStampReq::new(&hash.0, nonce, self.policy).ok().and_then(|request| write(&request));
        let request = request.ok_or_else(|| defect("the request cannot be written"))?;
        Ok(Attempt {
            id: Hash::sha256(&request).to_string(),
            bytes: hex::encode(request),
            nonce: None,
            fees: None,
            prepared_at: now,
            sent_at: None,
            sends: 0,
            underpriced: false,
        })
    }

    fn send(&self, batch: &Batch, attempt: &Attempt) -> Result<Sent, Failure> {
        let hash = Hash::sha256(batch.statement().as_bytes());
        let bytes = hex::decode(&attempt.bytes).unwrap_or_default();
        let request: TimeStampReq = read(&bytes)
            .filter(|request: &TimeStampReq| {
                request.message_imprint.is_sha256(&hash.0) && request.nonce.is_some()
            })
            .ok_or_else(|| defect("the stored request is not for this batch"))?;
        let answer = self.ask(&bytes)?;
        let response: TimeStampResp = read(&answer).ok_or_else(|| bad("is no time-stamp response"))?;
        if !response.status.is_granted() {
            return Err(Failure::Rejected { status: response.status.words() });
        }
        let token = response.time_stamp_token.and_then(|token| write(&token));
        let token = token.ok_or_else(|| bad("grants, and has no token"))?;
        let nonce = request.nonce.as_ref().map(|nonce| nonce.as_bytes());
        let verified = token::verify(&token, &hash.0, nonce, &self.authorities)
            .map_err(|error| Failure::Unverified { problem: error.to_string() })?;
        Ok(Sent::Anchored(Inclusion {
            seal: batch.seal(),
            id: verified.serial,
            block_number: None,
            block_hash: None,
            anchored_at: Moment(i64::try_from(verified.seconds).unwrap_or(i64::MAX)),
            // A signature cannot be undone.
            finalized: true,
            token: Some(hex::encode(token)),
        }))
    }

    fn evidence(&self, batch: &Batch, inclusion: &Inclusion) -> Result<Value, Failure> {
        let token = inclusion.token.as_ref().and_then(|token| hex::decode(token).ok());
        let token = token.ok_or_else(|| defect("the inclusion has no token"))?;
        let evidence = Evidence::new(batch, token);
        evidence
            .verify(&batch.root, &self.authorities)
            .map_err(|error| Failure::Unverified { problem: error.to_string() })?;
        serde_json::to_value(&evidence).map_err(|_| defect("evidence is no JSON"))
    }
}
