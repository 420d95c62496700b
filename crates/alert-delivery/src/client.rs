//! One attempt over HTTP, and the files it needs.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::Agent;
use zeroauth_audit_transport::agent::agent;
use zeroauth_audit_transport::{Endpoint, Secret, file};

use crate::notice::{Kind, Route, Shipment};
use crate::outcome::Outcome;
use crate::{alertmanager, signature};

/// One attempt takes no longer, from resolving the name to the head of the answer.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// RFC 2104 discourages shorter keys than the hash; this much we insist on.
const SHORTEST_KEY: usize = 16;

/// The endpoint of a route, with its files read. Used for a few attempts, then opened anew.
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
    /// Reads the route's files. The error says which of them is at fault, and nothing of its content.
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
        let agent = agent(&endpoint, route.ca_file.as_deref(), deadline)?;
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
