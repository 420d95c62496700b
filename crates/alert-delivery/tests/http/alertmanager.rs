//! The real Alertmanager: what it shows, and what it sends to a receiver of its own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use zeroauth_audit_alert_delivery::{Kind, Outcome, Shipment};
use zeroauth_audit_test_servers::Server;

use super::route::{DEADLINE, Files};

/// How long Alertmanager may take for what it normally does in a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends with the test.
struct Alertmanager {
    child: Child,
    base: String,
    _home: TempDir,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Alertmanager {
    /// An Alertmanager that notifies `receiver` of everything at once.
    fn start(receiver: &Server) -> Self {
        let home = tempfile::tempdir().unwrap();
        let config = format!(
            "route: {{receiver: test, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: test, webhook_configs: [{{url: 'http://{}/', send_resolved: true}}]}}]\n",
            receiver.address
        );
        std::fs::write(home.path().join("config.yml"), config).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", home.path().join("config.yml").display()))
            .arg(format!("--storage.path={}", home.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus-alertmanager is installed: cargo xtask setup");
        let server = Self { child, base: format!("http://127.0.0.1:{port}"), _home: home };
        wait("Alertmanager is ready", || ureq::get(format!("{}/-/ready", server.base)).call().is_ok());
        server
    }

    /// Alerts that are firing, by their label `escalation`.
    fn firing(&self) -> Vec<Value> {
        let text = ureq::get(format!("{}/api/v2/alerts", self.base))
            .call()
            .unwrap()
            .body_mut()
            .read_to_string()
            .unwrap();
        let mut alerts: Vec<Value> = serde_json::from_str(&text).unwrap();
        alerts.sort_by_key(|alert| alert["labels"]["escalation"].to_string());
        alerts
    }
}

#[track_caller]
fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        sleep(Duration::from_millis(50));
    }
}

fn notice(what: &str, level: u8, escalated_to: u8, resolved_at: Option<&str>) -> Shipment {
    let body = json!({
        "version": 1, "delivery_id": "0d1e", "what": what, "level": level, "cluster": "main", "database": "audit",
        "alert": {
            "id": 7, "kind": "content_mismatch", "severity": "critical", "priority": 1, "tenant": "acme \"é\"", "fingerprint": "content_mismatch:acme:0:2",
            "message": "an event was changed", "evidence": {"seq": 2}, "raised_at": "2026-01-02T03:04:05.000000Z",
            "acknowledged_by": (what == "acknowledged").then_some("zoe"), "acknowledged_note": null,
            "resolved_at": resolved_at, "escalation_level": escalated_to
        }
    });
    Shipment { id: 1, key: "0d1e".into(), body: body.to_string() }
}

/// `firing 2` for each alert of each notification, the number being its escalation.
fn notified(receiver: &Server) -> Vec<String> {
    let mut notified = Vec::new();
    for request in receiver.requests() {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        for alert in body["alerts"].as_array().unwrap() {
            let level = alert["labels"]["escalation"].as_str().unwrap_or("1");
            notified.push(format!("{} {level}", alert["status"].as_str().unwrap()));
        }
    }
    notified
}

#[test]
fn alertmanager_takes_an_alert_tells_of_each_escalation_and_of_the_end() {
    let receiver = Server::status("200 OK");
    let alertmanager = Alertmanager::start(&receiver);
    let files = Files::new(Kind::Alertmanager, &format!("{}/", alertmanager.base));
    assert_eq!(files.attempt(&notice("raised", 1, 1, None)), Outcome::Delivered);
    wait("the alert is shown", || alertmanager.firing().len() == 1);
    let alert = alertmanager.firing().remove(0);
    assert_eq!(
        alert["labels"],
        json!({"alertname": "zeroauth_audit", "severity": "critical", "priority": "1", "kind": "content_mismatch", "tenant": "acme \"é\"",
               "fingerprint": "content_mismatch:acme:0:2", "cluster": "main", "database": "audit"})
    );
    assert_eq!(alert["annotations"]["summary"], "an event was changed");
    assert_eq!(alert["annotations"]["evidence"], "{\"seq\":2}");
    assert_eq!(alert["annotations"]["runbook_url"], "docs/runbook.md#content_mismatch");
    assert_eq!(alert["startsAt"], "2026-01-02T03:04:05.000Z");
    assert!(alert["endsAt"].as_str().unwrap().starts_with("2999"), "it does not time out: {alert}");
    wait("people are notified", || notified(&receiver) == ["firing 1"]);
    // Sent again, as after a restart: nobody is notified again.
    assert_eq!(files.attempt(&notice("raised", 1, 1, None)), Outcome::Delivered);
    assert_eq!(files.attempt(&notice("escalated", 2, 2, None)), Outcome::Delivered);
    wait("people are notified of the escalation", || notified(&receiver) == ["firing 1", "firing 2"]);
    assert_eq!(files.attempt(&notice("acknowledged", 1, 2, None)), Outcome::Delivered);
    wait("only the first one is left", || {
        let firing = alertmanager.firing();
        firing.len() == 1 && firing[0]["annotations"]["acknowledged_by"] == "zoe"
    });
    wait("the escalation is over", || notified(&receiver).last().map(String::as_str) == Some("resolved 2"));
    assert_eq!(
        files.attempt(&notice("resolved", 1, 2, Some("2026-01-02T04:00:00.000000Z"))),
        Outcome::Delivered
    );
    wait("none is left", || alertmanager.firing().is_empty());
    wait("people are notified that it is over", || {
        notified(&receiver) == ["firing 1", "firing 2", "resolved 2", "resolved 1"]
    });
}

#[test]
fn what_alertmanager_does_not_take_is_a_refusal() {
    let receiver = Server::status("200 OK");
    let alertmanager = Alertmanager::start(&receiver);
    let wrong = Files::new(Kind::Alertmanager, &format!("{}/no/such/prefix", alertmanager.base));
    assert_eq!(
        wrong.attempt(&notice("raised", 1, 1, None)),
        Outcome::Refused { error: "the server answered 404: 404 page not found".into() }
    );
    // The whole URL of its API, as some manual has it, works as that of its page does.
    let whole = Files::new(Kind::Alertmanager, &format!("{}/api/v2/alerts", alertmanager.base));
    assert_eq!(
        whole.attempt(&notice("resolved", 1, 1, Some("2026-01-02T04:00:00.000000Z"))),
        Outcome::Delivered
    );
    let files = Files::new(Kind::Alertmanager, &alertmanager.base);
    let broken = Shipment { body: "{}".into(), ..notice("raised", 1, 1, None) };
    assert!(matches!(files.attempt(&broken), Outcome::Refused { .. }));
    assert!(alertmanager.firing().is_empty());
    assert!(DEADLINE < PATIENCE);
}
