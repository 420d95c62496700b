//! One attempt over HTTP, and the files it needs.

use std::borrow::Cow;
use std::fmt;
use std::io::Read as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::Agent;
use ureq::http::Uri;
use zeroauth_audit_transport::agent::agent;
use zeroauth_audit_transport::{Endpoint, Secret, file};

use crate::notice::{Kind, Notice, Route, Shipment};
use crate::outcome::Outcome;
use crate::refusal::{MOST_READ, Secrets};
use crate::{alertmanager, opsgenie, pagerduty, signature, slack};

/// One attempt takes no longer, from resolving the name to the head of the answer.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// RFC 2104 discourages shorter keys than the hash; this much we insist on.
const SHORTEST_KEY: usize = 16;

/// The endpoint of a route, with its files read. Used for a few attempts, then opened anew.
pub struct Target {
    kind: Kind,
    endpoint: Endpoint,
    key: Option<Secret>,
    secrets: Secrets,
    agent: Agent,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Whether a URL can be that of a route of this kind, as far as the kind says. The error is one line without any part of it.
pub fn check_url(kind: Kind, endpoint: &Endpoint) -> Result<(), &'static str> {
    let path = endpoint.uri.path().trim_end_matches('/');
    match kind {
        Kind::Alertmanager if path.ends_with("/api/v1/alerts") || path.ends_with("/api/v2") => {
            Err("the URL of an Alertmanager is that of its web page, without /api/..")
        }
        Kind::Opsgenie if endpoint.authorization.is_some() => {
            Err("the URL has a user or password, where the key of the secret file goes")
        }
        _ => Ok(()),
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
            Kind::PagerDuty => pagerduty::PATH,
            Kind::Opsgenie => opsgenie::PATH,
            Kind::Webhook | Kind::Slack => "",
        };
        let text = url.text().ok_or("the URL file does not hold one URL")?;
        check_url(route.kind, &Endpoint::parse(text, "")?)?;
        let endpoint = Endpoint::parse(text, append)?;
        let key = match &route.secret_file {
            Some(_) if !route.kind.takes_secret() => {
                return Err("this kind has no secret file: its URL is the secret".into());
            }
            Some(path) => Some(file::secret(path, "secret")?),
            None if route.kind == Kind::Webhook => return Err("a webhook needs a secret file".into()),
            None if route.kind.needs_secret() => {
                return Err("this kind needs a secret file, with the receiver's key".into());
            }
            None => None,
        };
        if key.as_ref().is_some_and(|key| key.bytes().len() < SHORTEST_KEY) {
            return Err(format!("the secret is shorter than {SHORTEST_KEY} bytes"));
        }
        // It goes into a header or a body as it is.
        let plain = |key: &Secret| key.bytes().iter().all(u8::is_ascii_graphic);
        if !route.kind.is_signed() && !key.as_ref().is_none_or(plain) {
            return Err(
                "the secret is no key of the receiver's: it has other characters than those of keys".into()
            );
        }
        let secrets = Secrets::of(&endpoint, text, key.as_ref());
        let agent = agent(&endpoint, route.ca_file.as_deref(), deadline)?;
        Ok(Self { kind: route.kind, endpoint, key, secrets, agent })
    }

    /// One attempt. The answer's status decides; of a refusal the beginning of its body is kept, without any part of the URL or the key.
    #[must_use]
    pub fn send(&self, shipment: &Shipment) -> Outcome {
        let (uri, body) = match self.request(shipment) {
            Ok(request) => request,
            Err(error) => return Outcome::Refused { error: error.into() },
        };
        let now = SystemTime::now();
        let mut request = self
            .agent
            .post(&uri)
            .header("Content-Type", "application/json")
            .header(signature::ID, &shipment.key);
        if let Some(authorization) = &self.endpoint.authorization {
            request = request.header("Authorization", authorization);
        }
        match &self.key {
            Some(key) if self.kind.is_signed() => {
                let timestamp = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                request = request
                    .header(signature::TIMESTAMP, timestamp.to_string())
                    .header(signature::SIGNATURE, signature::sign(key.bytes(), timestamp, body.as_bytes()));
            }
            Some(_) if self.kind == Kind::Opsgenie => {
                request = request.header("Authorization", format!("GenieKey {}", self.key_text()));
            }
            _ => {}
        }
        match request.send(&*body) {
            Ok(mut response) => {
                let patience = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
                let outcome = Outcome::of_status(response.status().as_u16(), patience, now);
                if !matches!(outcome, Outcome::Refused { .. }) {
                    return outcome;
                }
                // However it ends: what has come is looked at, and the status stands.
                let mut said = Vec::new();
                let _ = response.body_mut().as_reader().take(MOST_READ).read_to_end(&mut said);
                outcome.because(self.secrets.kept_of(&said))
            }
            Err(error) => Outcome::of_error(&error),
        }
    }

    /// Where a shipment goes, and as what.
    fn request<'a>(&self, shipment: &'a Shipment) -> Result<(Uri, Cow<'a, str>), &'static str> {
        let at_the_route =
            |body: serde_json::Value| (self.endpoint.uri.clone(), Cow::Owned(body.to_string()));
        if self.kind == Kind::Webhook {
            return Ok((self.endpoint.uri.clone(), Cow::Borrowed(shipment.body.as_str())));
        }
        let notice = Notice::read(&shipment.body)?;
        Ok(match self.kind {
            Kind::Webhook | Kind::Alertmanager => at_the_route(alertmanager::body(&notice)),
            Kind::Slack => at_the_route(slack::body(&notice)),
            Kind::PagerDuty => at_the_route(pagerduty::body(&notice, &self.key_text())),
            Kind::Opsgenie => {
                let (uri, body) = opsgenie::request(&notice, &self.endpoint.uri)?;
                (uri, Cow::Owned(body.to_string()))
            }
        })
    }

    /// The receiver's key, which is ASCII.
    fn key_text(&self) -> Cow<'_, str> {
        self.key.as_ref().map_or(Cow::Borrowed(""), |key| String::from_utf8_lossy(key.bytes()))
    }
}
