//! Requests of Opsgenie's Alert API v2: an alert is created, acknowledged and closed by its alias, which is the fingerprint.
//!
//! An alias that is open is no second alert there but counts it up, so a repeated delivery does no harm.

use serde_json::{Map, Value, json};
use ureq::http::Uri;

use crate::notice::{Notice, What, identifier, short};

/// Path below the URL of a route.
pub(crate) const PATH: &str = "/v2/alerts";
/// Characters of each field at most.
const MOST_MESSAGE: usize = 130;
const MOST_ALIAS: usize = 512;
const MOST_DESCRIPTION: usize = 15_000;
const MOST_NOTE: usize = 25_000;
const MOST_SOURCE: usize = 100;
const MOST_TAG: usize = 50;

/// Where the request goes, and its body; `alerts` is the URL of all alerts.
pub(crate) fn request(notice: &Notice, alerts: &Uri) -> Result<(Uri, Value), &'static str> {
    let alert = &notice.alert;
    let source = format!("zeroauth_audit {}/{}", notice.cluster, notice.database);
    let source = short(&source, MOST_SOURCE);
    let alias = identifier(&alert.fingerprint, MOST_ALIAS);
    let (verb, whom, note) = match notice.what {
        What::Raised | What::Escalated => {
            let body = created(notice, &alias, source);
            return Ok((alerts.clone(), body));
        }
        What::Acknowledged => ("acknowledge", &alert.acknowledged_by, &alert.acknowledged_note),
        What::Resolved => ("close", &alert.resolved_by, &alert.resolved_note),
    };
    let (severity, runbook) = (alert.severity(), alert.runbook_url());
    // These requests have no fields of their own for it.
    let facts = format!(
        "severity: {}, priority: {}, runbook_url: {runbook}\n{}",
        severity.word(),
        severity.priority(),
        note.as_deref().unwrap_or(notice.what.word())
    );
    let body = json!({
        "user": short(whom.as_deref().unwrap_or("zeroauth_audit"), MOST_SOURCE),
        "source": source,
        "note": short(&facts, MOST_NOTE),
    });
    let path = format!("{}/{}/{verb}?identifierType=alias", alerts.path(), encoded(&alias));
    let mut parts = alerts.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    Uri::from_parts(parts).map(|uri| (uri, body)).map_err(|_| "the delivery has no such alias")
}

fn created(notice: &Notice, alias: &str, source: &str) -> Value {
    let alert = &notice.alert;
    let mut body = Map::new();
    body.insert("message".into(), json!(short(&alert.summary(), MOST_MESSAGE)));
    body.insert("alias".into(), json!(alias));
    let evidence = alert.short_evidence().unwrap_or_default();
    let description = format!("{}\n\nrunbook: {}\nevidence: {evidence}", alert.message, alert.runbook_url());
    body.insert("description".into(), json!(short(&description, MOST_DESCRIPTION)));
    let severity = alert.severity();
    // Values are texts there.
    let details: Map<String, Value> = [
        ("severity", Some(severity.word().to_owned())),
        ("priority", Some(severity.priority().to_string())),
        ("runbook_url", Some(alert.runbook_url())),
        ("kind", Some(alert.kind.clone())),
        ("tenant", alert.tenant.clone()),
        ("cluster", Some(notice.cluster.clone())),
        ("database", Some(notice.database.clone())),
        ("alert_id", Some(alert.id.to_string())),
        ("fingerprint", Some(alert.fingerprint.clone())),
        ("escalation_level", Some(alert.escalation_level.to_string())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), json!(value?))))
    .collect();
    body.insert("details".into(), Value::Object(details));
    body.insert("tags".into(), json!(["zeroauth_audit", short(&alert.kind, MOST_TAG)]));
    body.insert("source".into(), json!(source));
    body.insert("priority".into(), json!(severity.opsgenie()));
    if notice.what == What::Escalated {
        body.insert("note".into(), json!(format!("escalated to level {}", notice.level)));
    }
    Value::Object(body)
}

/// RFC 3986, 2.3: everything else in a segment of a path is percent-encoded.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
