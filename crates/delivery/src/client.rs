//! One attempt over HTTP, and the files it needs.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::endpoint::Endpoint;
use crate::file::{self, Secret};
use crate::notice::{Kind, Route, Shipment};
use crate::outcome::Outcome;
use crate::{alertmanager, signature};

/// One attempt takes no longer, from resolving the name to the head of the answer.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// More than a well-meant head of an answer.
const MOST_HEADER_BYTES: usize = 16 * 1024;
/// RFC 2104 discourages shorter keys than the hash; this much we insist on.
const SHORTEST_KEY: usize = 16;

/// The end of a route, with its files read: used for a few attempts, then read again.
pub struct Target {
    kind: Kind,
    endpoint: Endpoint,
    key: Option<Secret>,
    agent: Agent,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Target {
    /// Reads the route's files. The error says which of them is at fault, and nothing of what is in it.
    pub fn open(route: &Route) -> Result<Self, String> {
        Self::open_within(route, DEADLINE)
    }

    /// As [`Target::open`], each attempt within `deadline`.
    pub fn open_within(route: &Route, deadline: Duration) -> Result<Self, String> {
        let url = file::secret(&route.url_file, "URL")?;
        let append = match route.kind {
            Kind::Alertmanager => alertmanager::PATH,
            Kind::Webhook => "",
        };
        let text = url.text().ok_or("the URL file does not hold one URL")?;
        let endpoint = Endpoint::parse(text, append)?;
        let key = match (&route.secret_file, route.kind) {
            (Some(path), _) => Some(file::secret(path, "secret")?),
            (None, Kind::Webhook) => return Err("a webhook needs a secret file".into()),
            (None, Kind::Alertmanager) => None,
        };
        if key.as_ref().is_some_and(|key| key.bytes().len() < SHORTEST_KEY) {
            return Err(format!("the secret is shorter than {SHORTEST_KEY} bytes"));
        }
        let roots = if endpoint.uri.scheme_str() == Some("https") { roots(route)? } else { Vec::new() };
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect could lead anywhere, the local network included: its status is the answer.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Nor may the environment of the server send us elsewhere.
            .proxy(None)
            .tls_config(tls)
            .timeout_global(Some(deadline))
            .max_response_header_size(MOST_HEADER_BYTES)
            .max_idle_connections(0)
            .user_agent(concat!("zeroauth_audit/", env!("CARGO_PKG_VERSION")))
            .accept("*/*")
            .build()
            .into();
        Ok(Self { kind: route.kind, endpoint, key, agent })
    }

    /// One attempt. The answer's status decides; its body is not read.
    #[must_use]
    pub fn send(&self, shipment: &Shipment) -> Outcome {
        let made;
        let body = match self.kind {
            Kind::Webhook => shipment.body.as_str(),
            Kind::Alertmanager => match alertmanager::body(&shipment.body) {
                Ok(body) => {
                    made = body;
                    &made
                }
                Err(error) => return Outcome::Refused { error: error.into() },
            },
        };
        let now = SystemTime::now();
        let mut request = self
            .agent
            .post(&self.endpoint.uri)
            .header("Content-Type", "application/json")
            .header(signature::ID, &shipment.key);
        if let Some(authorization) = &self.endpoint.authorization {
            request = request.header("Authorization", authorization);
        }
        if let Some(key) = &self.key {
            let timestamp = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            request = request
                .header(signature::TIMESTAMP, timestamp.to_string())
                .header(signature::SIGNATURE, signature::sign(key.bytes(), timestamp, body.as_bytes()));
        }
        match request.send(body) {
            Ok(response) => {
                let patience = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
                Outcome::of_status(response.status().as_u16(), patience, now)
            }
            Err(error) => Outcome::of_error(&error),
        }
    }
}

/// Who may vouch for the server: those in the route's file and no others, or whom the system trusts.
fn roots(route: &Route) -> Result<Vec<Certificate<'static>>, String> {
    let roots: Vec<Certificate<'static>> = match &route.ca_file {
        Some(path) => parse_pem(&file::public(path, "CA")?)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect(),
        None => rustls_native_certs::load_native_certs()
            .certs
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .collect(),
    };
    if roots.is_empty() {
        return Err(match route.ca_file {
            Some(_) => "the CA file holds no certificate".into(),
            None => "the system trusts no certificate authority: install ca-certificates, or name a CA file"
                .into(),
        });
    }
    Ok(roots)
}
