//! Slack, PagerDuty and Opsgenie, as they document their requests and answers.

use serde_json::{Value, json};
use zeroauth_audit_alert_delivery::{Kind, Outcome, Shipment, Target};
use zeroauth_audit_test_servers::{Server, receivers};

use super::route::{Files, secret};

const ROUTING_KEY: &str = "a1b2c3d4e5f60718a9b0c1d2e3f40516";
const GENIE_KEY: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

/// A notice as the database queues it.
fn notice(what: &str, priority: u8, changes: Value) -> Shipment {
    let word = ["critical", "high", "warning", "info"][usize::from(priority) - 1];
    let mut alert = json!({
        "id": 7, "kind": "content_mismatch", "severity": word, "priority": priority, "tenant": "acme & <!channel> é",
        "runbook_url": "https://wiki.example/audit#content_mismatch", "fingerprint": "content_mismatch:acme/1:0:2",
        "message": "an event was changed <!everyone>", "evidence": {"seq": 2}, "state": "open", "occurrences": 1,
        "raised_at": "2026-01-02T03:04:05.000000Z", "acknowledged_at": null, "acknowledged_by": null, "acknowledged_note": null,
        "resolved_at": null, "resolved_by": null, "resolved_note": null, "escalation_level": 1
    });
    for (key, value) in changes.as_object().unwrap() {
        alert[key] = value.clone();
    }
    let level = alert["escalation_level"].clone();
    let body = json!({ "version": 1, "delivery_id": "0d1e", "what": what, "level": level, "cluster": "main", "database": "audit", "alert": alert });
    Shipment { id: 1, key: "0d1e".into(), body: body.to_string() }
}

/// All turns of an alert, and texts that are as long as they can be.
fn turns() -> Vec<Shipment> {
    let acknowledged = json!({ "acknowledged_by": "zoe", "acknowledged_note": "on it\n<!here>" });
    let resolved = json!({ "resolved_by": "worker", "resolved_note": "gone", "resolved_at": "2026-01-02T04:00:00.000000Z" });
    let long = json!({ "message": "<&>é".repeat(500), "fingerprint": "é".repeat(512), "tenant": "t".repeat(5000), "kind": "k".repeat(63),
        "evidence": { "cut": "x".repeat(32_000) }, "acknowledged_note": "n".repeat(100_000), "runbook_url": null });
    let mut turns = vec![
        notice("raised", 1, json!({})),
        notice("raised", 2, json!({ "tenant": null, "evidence": null, "runbook_url": null })),
        notice("escalated", 1, json!({ "escalation_level": 3 })),
        notice("acknowledged", 3, acknowledged),
        notice("resolved", 4, resolved),
    ];
    turns.extend(
        ["raised", "escalated", "acknowledged", "resolved"].map(|what| notice(what, 1, long.clone())),
    );
    turns
}

fn service(kind: Kind, server: &Server, path: &str, key: Option<&str>) -> Files {
    let mut files = Files::new(kind, &format!("http://{}{path}\n", server.address));
    files.route.secret_file =
        key.map(|key| secret(files.folder.path(), "service.key", format!("{key}\n").as_bytes()));
    files
}

fn sent(server: &Server) -> Value {
    serde_json::from_slice(&server.requests().last().unwrap().body).unwrap()
}

#[test]
fn public_report_d5_slack_takes_every_turn_of_an_alert_and_is_told_severity_and_runbook() {
    let server = receivers::slack();
    let files = service(Kind::Slack, &server, "/services/T/B/X", None);
    for turn in turns() {
        assert_eq!(files.attempt(&turn), Outcome::Delivered, "{:.100}", turn.body);
    }
    files.attempt(&notice("raised", 2, json!({})));
    let message = sent(&server);
    assert_eq!(message["text"], "[high] content_mismatch raised: an event was changed &lt;!everyone&gt;");
    let shown = message["blocks"].to_string();
    for part in [
        "*severity*\\nhigh",
        "*priority*\\n2",
        "*runbook_url*\\nhttps://wiki.example/audit#content_mismatch",
        "acme &amp; &lt;!channel&gt; é",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    files.attempt(&turns()[3]);
    assert_eq!(
        sent(&server)["text"],
        "[warning] content_mismatch acknowledged by zoe: an event was changed &lt;!everyone&gt;"
    );
    assert!(sent(&server)["blocks"].to_string().contains("> on it &lt;!here&gt;"));
    let request = &server.requests()[0];
    assert!(
        !request.headers.iter().any(|(name, _)| name == "authorization" || name.ends_with("signature")),
        "{request:?}"
    );
}

#[test]
fn public_report_d5_pagerduty_gets_an_event_of_the_incident_that_the_fingerprint_names() {
    let server = receivers::pagerduty(ROUTING_KEY);
    // With and without the path of its documentation.
    for path in ["", "/", "/v2/enqueue"] {
        let files = service(Kind::PagerDuty, &server, path, Some(ROUTING_KEY));
        for turn in turns() {
            assert_eq!(files.attempt(&turn), Outcome::Delivered, "{:.100}", turn.body);
        }
    }
    let files = service(Kind::PagerDuty, &server, "", Some(ROUTING_KEY));
    for (what, action) in [
        ("raised", "trigger"),
        ("escalated", "trigger"),
        ("acknowledged", "acknowledge"),
        ("resolved", "resolve"),
    ] {
        for (priority, severity, word) in [
            (1, "critical", "critical"),
            (2, "error", "high"),
            (3, "warning", "warning"),
            (4, "info", "info"),
        ] {
            files.attempt(&notice(what, priority, json!({})));
            let event = sent(&server);
            assert_eq!(
                (&event["event_action"], &event["dedup_key"], &event["payload"]["severity"]),
                (&json!(action), &json!("content_mismatch:acme/1:0:2"), &json!(severity))
            );
            let details = &event["payload"]["custom_details"];
            assert_eq!((&details["severity"], &details["priority"]), (&json!(word), &json!(priority)));
            assert_eq!(details["runbook_url"], "https://wiki.example/audit#content_mismatch");
            assert_eq!(event["links"][0]["href"], "https://wiki.example/audit#content_mismatch");
        }
    }
    // Two fingerprints that are too long for it stay two.
    let long = |end: &str| {
        files.attempt(&notice("raised", 1, json!({ "fingerprint": format!("{}{end}", "x".repeat(300)) })));
        sent(&server)["dedup_key"].as_str().unwrap().to_owned()
    };
    assert_ne!(long("1"), long("2"));
    assert_eq!(long("1"), long("1"));
}

#[test]
fn public_report_d5_opsgenie_creates_acknowledges_and_closes_an_alert_by_its_alias() {
    let server = receivers::opsgenie(GENIE_KEY);
    for path in ["", "/", "/v2/alerts"] {
        let files = service(Kind::Opsgenie, &server, path, Some(GENIE_KEY));
        for turn in turns() {
            assert_eq!(files.attempt(&turn), Outcome::Delivered, "{:.100}", turn.body);
        }
    }
    let files = service(Kind::Opsgenie, &server, "", Some(GENIE_KEY));
    for (priority, sent_as, word) in
        [(1, "P1", "critical"), (2, "P2", "high"), (3, "P3", "warning"), (4, "P4", "info")]
    {
        files.attempt(&notice("raised", priority, json!({})));
        let alert = sent(&server);
        assert_eq!(
            (&alert["alias"], &alert["priority"]),
            (&json!("content_mismatch:acme/1:0:2"), &json!(sent_as))
        );
        assert_eq!(alert["details"]["severity"], word);
        assert_eq!(alert["details"]["priority"], priority.to_string());
        assert_eq!(alert["details"]["runbook_url"], "https://wiki.example/audit#content_mismatch");
    }
    for (turn, verb) in [(3, "acknowledge"), (4, "close")] {
        files.attempt(&turns()[turn]);
        let request = server.requests().pop().unwrap();
        let line = format!(
            "POST /v2/alerts/content_mismatch%3Aacme%2F1%3A0%3A2/{verb}?identifierType=alias HTTP/1.1"
        );
        assert_eq!(request.line, line);
        let note = sent(&server)["note"].as_str().unwrap().to_owned();
        assert!(
            note.starts_with("severity: ")
                && note.contains("priority: ")
                && note.contains("runbook_url: https://wiki"),
            "{note}"
        );
    }
    assert_eq!(sent(&server)["user"], "worker");
}

#[test]
fn a_refusal_says_what_the_service_said_and_nothing_of_the_url_or_the_key() {
    let refused = |files: &Files, shipment: &Shipment| match files.attempt(shipment) {
        Outcome::Refused { error } => error,
        other => panic!("{other:?}"),
    };
    let raised = notice("raised", 1, json!({}));
    // The generic format at Slack's address, as somebody tried it.
    let slack = receivers::slack();
    let generic = Files::new(Kind::Webhook, &format!("http://{}/services/T/B/X\n", slack.address));
    assert_eq!(refused(&generic, &raised), "the server answered 400: no_text");
    let elsewhere = service(Kind::Slack, &slack, "/services/T/B/WRONGT0KEN", None);
    assert_eq!(refused(&elsewhere, &raised), "the server answered 404: no_service");
    let pagerduty = receivers::pagerduty(ROUTING_KEY);
    let wrong = service(Kind::PagerDuty, &pagerduty, "", Some("ffffeeeeddddccccbbbbaaaa99998888"));
    let error = refused(&wrong, &raised);
    assert!(error.starts_with("the server answered 400: {\"errors\":[\"Invalid routing key"), "{error}");
    assert!(!error.contains("ffff"), "{error}");
    let generic = Files::new(Kind::Webhook, &format!("http://{}/v2/enqueue\n", pagerduty.address));
    assert!(refused(&generic, &raised).contains("is unknown"), "{}", refused(&generic, &raised));
    let opsgenie = receivers::opsgenie(GENIE_KEY);
    let wrong = service(Kind::Opsgenie, &opsgenie, "", Some("another-key-of-somebody"));
    assert!(
        refused(&wrong, &raised)
            .starts_with("the server answered 401: {\"message\":\"Could not authenticate\"")
    );
    // Of another answer nothing is kept, and a body without an end holds nobody up.
    let busy = Server::answering(|_| ("503 Busy".into(), "come again".into()));
    assert_eq!(Files::webhook(&format!("http://{}", busy.address)).retried(), "the server answered 503");
    let endless = Server::new(|stream| {
        let _ = write!(stream, "HTTP/1.1 400 No\r\nContent-Length: 99999999\r\n\r\n");
        while stream.write_all(b"no such thing, ").is_ok() {}
    });
    let error = refused(&Files::webhook(&format!("http://{}", endless.address)), &raised);
    assert!(error.starts_with("the server answered 400: no such thing, no") && error.len() < 140, "{error}");
    // One that sends back what it was sent.
    let echo =
        Server::answering(|request| ("422 No".into(), format!("{} {:?}", request.line, request.headers)));
    let error = refused(&Files::webhook(&format!("http://{}", echo.address)), &raised);
    assert!(error.starts_with("the server answered 422: POST /"), "{error}");
}

#[test]
fn a_route_of_a_service_that_could_not_work_is_refused_when_its_files_are_read() {
    let server = Server::status("202 Accepted");
    let open = |files: &Files| Target::open(&files.route).map(drop).unwrap_err();
    let slack = service(Kind::Slack, &server, "/services/T/B/X", Some(ROUTING_KEY));
    assert_eq!(open(&slack), "this kind has no secret file: its URL is the secret");
    for kind in [Kind::PagerDuty, Kind::Opsgenie] {
        assert_eq!(
            open(&service(kind, &server, "", None)),
            "this kind needs a secret file, with the receiver's key"
        );
        for key in ["two words of a key", "a key\nand another one", "schlüsselschlüssel"] {
            let error = open(&service(kind, &server, "", Some(key)));
            assert_eq!(
                error,
                "the secret is no key of the receiver's: it has other characters than those of keys"
            );
        }
    }
    let mut opsgenie = Files::new(Kind::Opsgenie, &format!("http://ann:pa55@{}/\n", server.address));
    opsgenie.route.secret_file = Some(secret(opsgenie.folder.path(), "k", GENIE_KEY.as_bytes()));
    assert_eq!(open(&opsgenie), "the URL has a user or password, where the key of the secret file goes");
    for path in ["/api/v1/alerts", "/api/v2", "/prefix/api/v2/"] {
        let error = open(&service(Kind::Alertmanager, &server, path, None));
        assert_eq!(error, "the URL of an Alertmanager is that of its web page, without /api/..");
    }
    assert_eq!(server.connections(), 0);
}
