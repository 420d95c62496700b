//! Deliveries and their routes. The body of a webhook is kept in the database as it will be sent, so that every
//! attempt sends the same bytes; what Alertmanager wants is made from it.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

/// The receiver at the end of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Alertmanager's v2 API.
    Alertmanager,
    /// Any server that takes a POST of JSON and checks its signature.
    Webhook,
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
    /// The file that holds the key of the signature; a webhook has one.
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

/// The parts of the body that Alertmanager gets.
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

#[derive(Debug, Deserialize)]
pub(crate) struct Alert {
    pub(crate) id: i64,
    pub(crate) kind: String,
    pub(crate) severity: u8,
    pub(crate) tenant: Option<String>,
    pub(crate) fingerprint: String,
    pub(crate) message: String,
    pub(crate) evidence: Option<Value>,
    /// RFC 3339, UTC, with microseconds: two of them compare as text.
    pub(crate) raised_at: String,
    pub(crate) acknowledged_by: Option<String>,
    pub(crate) acknowledged_note: Option<String>,
    pub(crate) resolved_at: Option<String>,
    pub(crate) escalation_level: u8,
}
