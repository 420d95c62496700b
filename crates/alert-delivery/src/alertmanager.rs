//! The body of `POST /api/v2/alerts` (Alertmanager's API, version 2).
//!
//! Alertmanager knows an alert by its labels and notifies people of new ones only. So each escalation is an alert of its
//! own, with one label more; an acknowledgement ends those, and leaves the first one firing until it is resolved. It
//! forgets an alert without an end after its `resolve_timeout`: a firing alert gets an end that is far away.

use serde_json::{Map, Value, json};

use crate::notice::{Notice, What};

/// Path below the URL of a route.
pub(crate) const PATH: &str = "/api/v2/alerts";
const FAR_AWAY: &str = "2999-12-31T00:00:00.000000Z";

/// The body for a notice.
pub(crate) fn body(notice: &Notice) -> Value {
    let starts = notice.alert.raised_at.as_str();
    // A clock that was set back must not make an alert that ends before it began: Alertmanager refuses such alerts.
    let ended = notice.alert.resolved_at.as_deref().unwrap_or(starts).max(starts);
    let escalations = 2..=notice.alert.escalation_level;
    let alerts: Vec<Value> = match notice.what {
        What::Raised => vec![alert(notice, 1, FAR_AWAY)],
        What::Escalated => vec![alert(notice, notice.level, FAR_AWAY)],
        What::Acknowledged => std::iter::once(alert(notice, 1, FAR_AWAY))
            .chain(escalations.map(|level| alert(notice, level, starts)))
            .collect(),
        What::Resolved => std::iter::once(alert(notice, 1, ended))
            .chain(escalations.map(|level| alert(notice, level, ended)))
            .collect(),
    };
    Value::Array(alerts)
}

fn alert(notice: &Notice, level: u8, ends: &str) -> Value {
    let alert = &notice.alert;
    let mut labels = texts([
        ("alertname", Some("zeroauth_audit")),
        ("kind", Some(&alert.kind)),
        ("tenant", alert.tenant.as_deref()),
        ("fingerprint", Some(&alert.fingerprint)),
        ("cluster", Some(&notice.cluster)),
        ("database", Some(&notice.database)),
    ]);
    let severity = alert.severity();
    labels.insert("severity".into(), severity.word().into());
    labels.insert("priority".into(), severity.priority().to_string().into());
    if level > 1 {
        labels.insert("escalation".into(), level.to_string().into());
    }
    let mut annotations = texts([
        ("summary", Some(&alert.message)),
        ("evidence", alert.short_evidence().as_deref()),
        ("runbook_url", Some(&*alert.runbook_url())),
        ("acknowledged_by", alert.acknowledged_by.as_deref()),
        ("note", alert.acknowledged_note.as_deref()),
    ]);
    annotations.insert("alert_id".into(), alert.id.to_string().into());
    json!({ "labels": labels, "annotations": annotations, "startsAt": alert.raised_at, "endsAt": ends })
}

/// Alertmanager takes a label without a value for none.
fn texts<const N: usize>(pairs: [(&str, Option<&str>); N]) -> Map<String, Value> {
    let present = pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    present.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(what: &str, level: u8, escalated_to: u8, resolved_at: Option<&str>) -> Value {
        let notice = json!({
            "version": 1, "delivery_id": "x", "what": what, "level": level, "cluster": "main", "database": "audit",
            "alert": {
                "id": 7, "kind": "gap", "severity": "critical", "priority": 1, "runbook_url": "https://wiki.example/gap", "tenant": "acme", "fingerprint": "gap:acme:0:2", "message": "m",
                "evidence": {"é": "é".repeat(2000)}, "raised_at": "2026-01-02T03:04:05.000000Z",
                "acknowledged_by": null, "acknowledged_note": null, "resolved_at": resolved_at, "escalation_level": escalated_to
            }
        });
        body(&Notice::read(&notice.to_string()).unwrap())
    }

    #[test]
    fn an_escalation_is_an_alert_of_its_own_and_ends_with_the_acknowledgement() {
        let raised = made("raised", 1, 1, None);
        assert_eq!(raised.as_array().unwrap().len(), 1);
        assert_eq!(
            raised[0]["labels"],
            json!({"alertname": "zeroauth_audit", "severity": "critical", "priority": "1", "kind": "gap", "tenant": "acme", "fingerprint": "gap:acme:0:2",
                   "cluster": "main", "database": "audit"})
        );
        assert_eq!(raised[0]["endsAt"], FAR_AWAY);
        assert_eq!(raised[0]["annotations"]["runbook_url"], "https://wiki.example/gap");
        let escalated = made("escalated", 3, 3, None);
        assert_eq!(escalated.as_array().unwrap().len(), 1);
        assert_eq!(escalated[0]["labels"]["escalation"], "3");
        let acknowledged = made("acknowledged", 1, 3, None);
        let ends: Vec<_> =
            acknowledged.as_array().unwrap().iter().map(|a| a["endsAt"].as_str().unwrap()).collect();
        assert_eq!(ends, [FAR_AWAY, "2026-01-02T03:04:05.000000Z", "2026-01-02T03:04:05.000000Z"]);
        let resolved = made("resolved", 1, 2, Some("2026-01-02T04:00:00.000000Z"));
        assert_eq!(resolved.as_array().unwrap().len(), 2);
        assert!(resolved.as_array().unwrap().iter().all(|a| a["endsAt"] == "2026-01-02T04:00:00.000000Z"));
    }

    #[test]
    fn an_alert_never_ends_before_it_began_and_its_evidence_is_cut_at_a_character() {
        let resolved = made("resolved", 1, 1, Some("2025-01-01T00:00:00.000000Z"));
        assert_eq!(resolved[0]["endsAt"], resolved[0]["startsAt"]);
        let evidence = resolved[0]["annotations"]["evidence"].as_str().unwrap();
        assert!(evidence.len() <= 2048 && evidence.ends_with('é'), "{}", evidence.len());
    }

    #[test]
    fn what_is_no_notice_is_an_error() {
        assert!(Notice::read("{}").is_err());
        assert!(Notice::read("").is_err());
    }
}
