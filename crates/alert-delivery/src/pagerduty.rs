//! An event of PagerDuty's Events API v2: `trigger`, `acknowledge` or `resolve` of the incident whose `dedup_key` is the fingerprint.
//!
//! A fingerprint that was triggered before and is not resolved is no new incident there, so a repeated delivery does no harm.

use serde_json::{Map, Value, json};

use crate::notice::{Notice, What, identifier, short};

/// Path below the URL of a route.
pub(crate) const PATH: &str = "/v2/enqueue";
/// Characters of a summary and of a key at most.
const MOST_SUMMARY: usize = 1024;
const MOST_KEY: usize = 255;

pub(crate) fn body(notice: &Notice, routing_key: &str) -> Value {
    let alert = &notice.alert;
    let severity = alert.severity();
    let action = match notice.what {
        What::Raised | What::Escalated => "trigger",
        What::Acknowledged => "acknowledge",
        What::Resolved => "resolve",
    };
    let runbook = alert.runbook_url();
    let mut details = Map::new();
    for (name, value) in [
        ("severity", json!(severity.word())),
        ("priority", json!(severity.priority())),
        ("runbook_url", json!(runbook)),
        ("turn", json!(notice.what.word())),
        ("escalation_level", json!(alert.escalation_level)),
        ("alert_id", json!(alert.id)),
        ("tenant", json!(alert.tenant)),
        ("cluster", json!(notice.cluster)),
        ("database", json!(notice.database)),
        ("fingerprint", json!(alert.fingerprint)),
        ("evidence", json!(alert.short_evidence())),
        ("acknowledged_by", json!(alert.acknowledged_by)),
        ("acknowledged_note", json!(alert.acknowledged_note)),
        ("resolved_note", json!(alert.resolved_note)),
    ] {
        if !value.is_null() {
            details.insert(name.into(), value);
        }
    }
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": identifier(&alert.fingerprint, MOST_KEY),
        "client": "zeroauth_audit",
        "payload": {
            "summary": short(&alert.summary(), MOST_SUMMARY),
            "source": format!("{}/{}", notice.cluster, notice.database),
            "severity": severity.pagerduty(),
            "timestamp": alert.raised_at,
            "component": "zeroauth_audit",
            "group": alert.tenant.as_deref().unwrap_or(&notice.database),
            "class": alert.kind,
            "custom_details": details,
        },
    });
    // A link must be one; a heading of the manual is none.
    if runbook.contains("://") {
        event["links"] = json!([{ "href": runbook, "text": "runbook" }]);
    }
    event
}
