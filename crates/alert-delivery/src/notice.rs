//! Deliveries and their routes. The body of a webhook is kept in the database as it will be sent, so that every
//! attempt sends the same bytes; what Alertmanager wants is made from it.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::severity::Severity;

/// The receiver at the end of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Alertmanager's v2 API.
    Alertmanager,
    /// Any server that takes a POST of JSON and checks its signature.
    Webhook,
    /// An incoming webhook of Slack.
    Slack,
    /// PagerDuty's Events API v2.
    PagerDuty,
    /// Opsgenie's Alert API v2.
    Opsgenie,
}

impl Kind {
    /// Every kind, by the name that it has in the database.
    pub const ALL: [(&'static str, Self); 5] = [
        ("alertmanager", Self::Alertmanager),
        ("opsgenie", Self::Opsgenie),
        ("pagerduty", Self::PagerDuty),
        ("slack", Self::Slack),
        ("webhook", Self::Webhook),
    ];

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// Whether a route of this kind needs a secret file: a key of signatures, or of the receiver's API.
    #[must_use]
    pub const fn needs_secret(self) -> bool {
        matches!(self, Self::Webhook | Self::PagerDuty | Self::Opsgenie)
    }

    /// Whether a route of this kind can have one. The URL of an incoming webhook is all of its secret.
    #[must_use]
    pub const fn takes_secret(self) -> bool {
        !matches!(self, Self::Slack)
    }

    /// Whether requests have a signature of ours, if there is a key.
    pub(crate) const fn is_signed(self) -> bool {
        matches!(self, Self::Webhook | Self::Alertmanager)
    }
}

/// A row of the table `alert_routes`: names of files, no content of them.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Its receiver.
    pub kind: Kind,
    /// The file that holds the URL.
    pub url_file: PathBuf,
    /// The file that holds the key of the signature, or of the receiver's API.
    pub secret_file: Option<PathBuf>,
    /// Certificates of the only authorities that are trusted on this route; the system's otherwise.
    pub ca_file: Option<PathBuf>,
}

/// One delivery: a row of the table `alert_deliveries`.
#[derive(Clone, Debug)]
pub struct Shipment {
    /// Its number in the database, for the report.
    pub id: i64,
    /// The key by which the receiver recognises a repeated delivery.
    pub key: String,
    /// The body of a webhook: a JSON object.
    pub body: String,
}

/// The parts of the body from which what other receivers get is made.
#[derive(Debug, Deserialize)]
pub(crate) struct Notice {
    pub(crate) what: What,
    pub(crate) level: u8,
    pub(crate) cluster: String,
    pub(crate) database: String,
    pub(crate) alert: Alert,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    Raised,
    Escalated,
    Acknowledged,
    Resolved,
}

impl What {
    /// As the body says it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            What::Raised => "raised",
            What::Escalated => "escalated",
            What::Acknowledged => "acknowledged",
            What::Resolved => "resolved",
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Alert {
    pub(crate) id: i64,
    pub(crate) kind: String,
    /// A word; a number in what was queued when there was no priority yet.
    severity: Value,
    /// 1 is the highest of four.
    priority: Option<u64>,
    runbook_url: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) fingerprint: String,
    pub(crate) message: String,
    pub(crate) evidence: Option<Value>,
    /// RFC 3339, UTC, with microseconds: two of them compare as text.
    pub(crate) raised_at: String,
    pub(crate) acknowledged_by: Option<String>,
    pub(crate) acknowledged_note: Option<String>,
    pub(crate) resolved_at: Option<String>,
    pub(crate) resolved_by: Option<String>,
    pub(crate) resolved_note: Option<String>,
    pub(crate) escalation_level: u8,
}

/// Longest evidence in bytes of its text: it ends up in mails and on telephones.
const MOST_EVIDENCE: usize = 2048;

impl Notice {
    /// Reads a webhook's body.
    pub(crate) fn read(body: &str) -> Result<Self, &'static str> {
        serde_json::from_str(body).map_err(|_| "the delivery is not as this version makes them")
    }
}

impl Alert {
    pub(crate) fn severity(&self) -> Severity {
        Severity::new(self.priority.or(self.severity.as_u64()).unwrap_or(0))
    }

    /// Where to read what to do.
    pub(crate) fn runbook_url(&self) -> String {
        self.runbook_url.clone().unwrap_or_else(|| format!("docs/runbook.md#{}", self.kind))
    }

    /// One line for a telephone.
    pub(crate) fn summary(&self) -> String {
        let tenant = self.tenant.as_deref().map(|tenant| format!(" of {tenant}")).unwrap_or_default();
        format!("{}{tenant}: {}", self.kind, self.message)
    }

    pub(crate) fn short_evidence(&self) -> Option<String> {
        self.evidence.as_ref().map(|evidence| short(&evidence.to_string(), MOST_EVIDENCE).to_owned())
    }
}

/// The beginning of a text, of at most so many bytes.
pub(crate) fn short(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let end = (0..=most).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    &text[..end]
}

/// A fingerprint as the key that a receiver knows an alert by; its digest if it is too long there, so that two do not become one.
pub(crate) fn identifier(fingerprint: &str, most: usize) -> String {
    if fingerprint.len() <= most {
        return fingerprint.to_owned();
    }
    let digest: String =
        Sha256::digest(fingerprint.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digest}")
}
