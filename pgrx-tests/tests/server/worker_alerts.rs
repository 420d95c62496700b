//! From an alert to a person: the worker sends, whatever becomes of the server or of the other end.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postgres::Client;
use zeroauth_audit_tests::{Cluster, wait_until};

use super::alerts::raise;
use crate::support::receiver::{Receiver, SILENT, server_file, webhook};
use crate::support::worker::{ENDS, timed, watcher, worker_after};
use crate::support::{DEADLINE, Sql, assert_whole};

fn cluster(name: &str, conf: &[(&str, &str)]) -> Cluster {
    let builder = conf.iter().fold(Cluster::builder(name), |builder, (key, value)| builder.conf(key, value));
    let cluster = builder.conf("fsync", "off").start().unwrap();
    cluster.client().run("CREATE EXTENSION zeroauth_audit");
    worker_after(&mut watcher(&cluster), "audit", None);
    cluster
}

fn undelivered(client: &mut Client) -> String {
    client.line("SELECT count(*) FROM zeroauth_audit_internal.alert_deliveries WHERE state <> 'delivered'")
}

#[test]
fn an_alert_its_acknowledgement_and_its_end_reach_a_webhook_within_seconds() {
    let cluster = cluster("deliver_webhook", &[]);
    let receiver = Receiver::start();
    let mut client = cluster.client();
    client.run(&webhook(&cluster, "hook", receiver.address));
    client.run("UPDATE zeroauth_audit_internal.jobs SET enabled = false");
    wait_until(DEADLINE, "nothing else to wake the worker for minutes", || {
        client.line("SELECT query FROM pg_stat_activity WHERE backend_type = 'zeroauth_audit worker'")
            == "waiting, no job is scheduled"
    });
    // Woken by the commit, not by the clock.
    raise(&mut client, 1, "gap::1");
    wait_until(DEADLINE, "the alert arrives", || receiver.notices() == ["raised 1 gap::1"]);
    // Rolled back is not told; counted up is not told either.
    client.run("BEGIN; SELECT zeroauth_audit_internal.raise_alert('gap', 2::smallint, NULL, 'gap::9', 'x', NULL); ROLLBACK");
    raise(&mut client, 1, "gap::1");
    let mut person = cluster.client();
    person.run("SELECT audit_alert_acknowledge(id, 'on it') FROM zeroauth_audit_internal.alerts");
    client.run("SELECT zeroauth_audit_internal.resolve_alert('gap::1', 'gone')");
    wait_until(DEADLINE, "all of it arrives, in order", || {
        receiver.notices() == ["raised 1 gap::1", "acknowledged 1 gap::1", "resolved 1 gap::1"]
    });
    wait_until(DEADLINE, "and is recorded", || undelivered(&mut client) == "0");
    assert_eq!(
        client.lines(
            "SELECT what, attempts, last_error FROM zeroauth_audit_internal.alert_deliveries ORDER BY id"
        ),
        ["raised|1|~", "acknowledged|1|~", "resolved|1|~"]
    );
    assert_eq!(receiver.got()[1]["alert"]["acknowledged_note"], "on it");
    assert_whole(&mut client);
}

#[test]
fn an_endpoint_that_was_away_gets_everything_once_and_in_order_after_a_restart_of_the_server() {
    let cluster = cluster("deliver_away", &[]);
    // An address where nobody is.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut client = cluster.client();
    client.run(&webhook(&cluster, "hook", address));
    raise(&mut client, 2, "gap::1");
    client.run("SELECT audit_alert_acknowledge(id, 'on it') FROM zeroauth_audit_internal.alerts");
    client.run("SELECT zeroauth_audit_internal.resolve_alert('gap::1', 'gone')");
    raise(&mut client, 2, "gap::1");
    raise(&mut client, 2, "gap::2");
    wait_until(DEADLINE, "it was tried twice", || {
        client.line("SELECT max(attempts) >= 2 FROM zeroauth_audit_internal.alert_deliveries") == "t"
    });
    assert_eq!(
        client.line(
            "SELECT string_agg(DISTINCT last_error, ';') FROM zeroauth_audit_internal.alert_deliveries"
        ),
        "the connection was refused"
    );
    cluster.restart().unwrap();
    let receiver = Receiver::on(&address.to_string());
    let mut client = cluster.client();
    wait_until(Duration::from_secs(60), "everything arrives", || undelivered(&mut client) == "0");
    let mut said = receiver.notices();
    let first: Vec<String> = said.iter().filter(|line| line.ends_with("gap::1")).cloned().collect();
    assert_eq!(first, ["raised 1 gap::1", "acknowledged 1 gap::1", "resolved 1 gap::1", "raised 1 gap::1"]);
    said.sort();
    assert_eq!(
        said,
        [
            "acknowledged 1 gap::1",
            "raised 1 gap::1",
            "raised 1 gap::1",
            "raised 1 gap::2",
            "resolved 1 gap::1"
        ]
    );
    assert!(
        !cluster.log().contains("t0ken") && !cluster.log().contains("twenty bytes"),
        "no secret in the log"
    );
    assert_whole(&mut client);
}

#[test]
fn an_endpoint_that_hangs_delays_neither_another_route_nor_a_job_nor_the_shutdown() {
    let cluster = cluster("deliver_hangs", &[]);
    let (hangs, fine) = (Receiver::start(), Receiver::start());
    hangs.answer(SILENT);
    let mut client = cluster.client();
    client.run(&webhook(&cluster, "hangs", hangs.address));
    client.run(&webhook(&cluster, "fine", fine.address));
    raise(&mut client, 2, "gap::1");
    wait_until(DEADLINE, "one has it, the other is being tried", || {
        fine.notices().len() == 1 && hangs.notices().len() == 1
    });
    raise(&mut client, 2, "gap::2");
    wait_until(DEADLINE, "the other route goes on", || fine.notices().len() == 2);
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'zeroauth_audit worker' AND state = 'idle' AND xact_start IS NULL";
    wait_until(DEADLINE, "no transaction is open while it hangs", || client.line(idle) == "1");
    assert_eq!(
        client.line("SELECT state FROM zeroauth_audit_internal.alert_deliveries WHERE route = 'hangs' ORDER BY id LIMIT 1"),
        "sending"
    );
    drop(client);
    let took = timed(|| cluster.shut_down().unwrap());
    assert!(took < ENDS, "{took:?}");
    cluster.start_again().unwrap();
    let mut client = cluster.client();
    hangs.answer(200);
    wait_until(Duration::from_secs(60), "what was being sent is sent again", || {
        undelivered(&mut client) == "0"
    });
    // Each at least once; only those of one fingerprint have an order.
    let mut said = hangs.notices();
    said.sort();
    said.dedup();
    assert_eq!(said, ["raised 1 gap::1", "raised 1 gap::2"]);
    let keys: std::collections::BTreeSet<String> =
        hangs.got().iter().map(|notice| notice["delivery_id"].to_string()).collect();
    assert_eq!(keys.len(), 2, "what is repeated can be told by its key");
}

#[test]
fn a_hanging_endpoint_keeps_no_database_from_being_dropped() {
    let cluster = cluster("deliver_drop", &[]);
    let hangs = Receiver::start();
    hangs.answer(SILENT);
    let mut client = cluster.client();
    client.run(&webhook(&cluster, "hangs", hangs.address));
    raise(&mut client, 2, "gap::1");
    wait_until(DEADLINE, "it is being tried", || hangs.notices().len() == 1);
    drop(client);
    let mut watcher = watcher(&cluster);
    let took = timed(|| watcher.run("DROP DATABASE audit"));
    assert!(took < ENDS, "{took:?}");
}

#[test]
fn a_server_that_answers_500_is_tried_again_and_one_that_refuses_is_an_alert_for_the_others() {
    let cluster = cluster("deliver_refused", &[]);
    let (broken, fine) = (Receiver::start(), Receiver::start());
    broken.answer(500);
    let mut client = cluster.client();
    client.run(&webhook(&cluster, "broken", broken.address));
    raise(&mut client, 2, "gap::1");
    wait_until(DEADLINE, "a second attempt", || broken.notices().len() >= 2);
    broken.answer(200);
    wait_until(DEADLINE, "it gets through", || undelivered(&mut client) == "0");
    client.run(&webhook(&cluster, "fine", fine.address));
    broken.answer(403);
    raise(&mut client, 2, "gap::2");
    wait_until(DEADLINE, "the other route is told of the refusal", || {
        fine.notices().contains(&"raised 1 delivery_failing::broken".to_owned())
    });
    assert_eq!(
        client.line("SELECT refused, last_error FROM zeroauth_audit_internal.alert_deliveries WHERE route = 'broken' AND fingerprint = 'gap::2'"),
        "t|the server answered 403"
    );
}

#[test]
fn escalation_goes_by_the_clock_until_somebody_acknowledges() {
    let settings = [
        ("zeroauth_audit.escalate_2_after", "1s"),
        ("zeroauth_audit.escalate_3_after", "2s"),
        ("zeroauth_audit.escalate_4_after", "1h"),
    ];
    let cluster = cluster("deliver_escalates", &settings);
    let receiver = Receiver::start();
    let mut client = cluster.client();
    client.run(&webhook(&cluster, "hook", receiver.address));
    let id = raise(&mut client, 1, "gap::1");
    wait_until(DEADLINE, "levels 2 and 3", || {
        receiver.notices() == ["raised 1 gap::1", "escalated 2 gap::1", "escalated 3 gap::1"]
    });
    client.run(&format!("SELECT audit_alert_acknowledge({id}, 'awake')"));
    wait_until(DEADLINE, "the acknowledgement", || receiver.notices().len() == 4);
    assert_eq!(client.line("SELECT zeroauth_audit_internal.next_delivery('{}')"), "~", "nothing more is due");
}

#[test]
fn a_burst_of_alerts_arrives_whole_with_few_transactions() {
    let cluster = cluster("deliver_burst", &[]);
    let receiver = Receiver::start();
    let mut client = cluster.client();
    client.run(&webhook(&cluster, "hook", receiver.address));
    client.run("SELECT zeroauth_audit_internal.raise_alert('gap', 2::smallint, 't' || i, 'gap:t' || i, 'x', NULL) FROM generate_series(1, 500) i");
    wait_until(Duration::from_secs(60), "all of them", || undelivered(&mut client) == "0");
    let said: std::collections::BTreeSet<String> = receiver.notices().into_iter().collect();
    assert_eq!((said.len(), receiver.notices().len()), (500, 500));
}

/// The real Alertmanager, ended with the test.
struct Alertmanager {
    child: Child,
    port: u16,
    _home: tempfile::TempDir,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Alertmanager {
    /// The statement that makes a route to it.
    fn route(&self, cluster: &Cluster) -> String {
        let url = server_file(cluster, "am.url", &format!("http://127.0.0.1:{}\n", self.port));
        let config = format!(r#"{{"url_file": "{}"}}"#, url.display());
        format!("SELECT audit_alert_route_set('ops', 'alertmanager', '{config}')")
    }

    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(
            home.path().join("config.yml"),
            "route: {receiver: none}\nreceivers: [{name: none}]\n",
        )
        .unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", home.path().join("config.yml").display()))
            .arg(format!("--storage.path={}", home.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus-alertmanager is installed: cargo xtask setup");
        let server = Self { child, port, _home: home };
        wait_until(DEADLINE, "Alertmanager listens", || server.page("/-/ready").is_some());
        server
    }

    /// The answer to a GET.
    fn page(&self, path: &str) -> Option<String> {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| body.to_owned())
    }

    fn firing(&self) -> Vec<serde_json::Value> {
        serde_json::from_str(&self.page("/api/v2/alerts").unwrap()).unwrap()
    }
}

#[test]
fn an_alert_shows_in_the_real_alertmanager_until_it_is_resolved() {
    let cluster = cluster("deliver_alertmanager", &[("cluster_name", "main")]);
    let alertmanager = Alertmanager::start();
    let mut client = cluster.client();
    client.run(&alertmanager.route(&cluster));
    let begun = Instant::now();
    raise(&mut client, 2, "gap:acme:0:7");
    wait_until(DEADLINE, "it is shown", || alertmanager.firing().len() == 1);
    println!("raised to shown: {:?}", begun.elapsed());
    assert_eq!(
        alertmanager.firing()[0]["labels"],
        serde_json::json!({"alertname": "zeroauth_audit", "severity": "high", "priority": "2", "kind": "gap", "tenant": "acme", "fingerprint": "gap:acme:0:7",
                           "cluster": "main", "database": "audit"})
    );
    client.run("SELECT zeroauth_audit_internal.resolve_alert('gap:acme:0:7', 'gone')");
    wait_until(DEADLINE, "it is gone", || alertmanager.firing().is_empty());
}

#[test]
fn tampering_reaches_the_table_the_log_alertmanager_and_a_webhook_within_one_run_of_drift() {
    let cluster = cluster("deliver_drift", &[]);
    let (alertmanager, receiver) = (Alertmanager::start(), Receiver::start());
    let mut client = cluster.client();
    client.run(&alertmanager.route(&cluster));
    client.run(&webhook(&cluster, "people", receiver.address));
    client
        .run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 500)");
    client.run("SET zeroauth_audit.maintenance = on; UPDATE audit_events SET outcome = 'failure' WHERE seq = 77; RESET zeroauth_audit.maintenance");
    let begun = Instant::now();
    client.run("UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'drift'");
    let fingerprint = "content_mismatch:acme:0";
    wait_until(DEADLINE, "the webhook", || receiver.notices().contains(&format!("raised 1 {fingerprint}")));
    println!("begin of the run to the webhook: {:?}", begun.elapsed());
    wait_until(DEADLINE, "Alertmanager", || {
        alertmanager
            .firing()
            .iter()
            .any(|alert| alert["labels"]["fingerprint"] == fingerprint && alert["labels"]["priority"] == "1")
    });
    println!("begin of the run to Alertmanager: {:?}", begun.elapsed());
    assert_eq!(
        client.line(&format!(
            "SELECT state, severity, tenant FROM zeroauth_audit_internal.alerts WHERE fingerprint = '{fingerprint}'"
        )),
        "open|1|acme"
    );
    let line = cluster.log().lines().any(|line| {
        line.contains(r#"zeroauth_audit: {"id": "#)
            && line.contains(r#""event": "alert_raised""#)
            && line.contains(fingerprint)
    });
    assert!(line, "{}", cluster.log());
    assert_eq!(
        client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'drift'"),
        "1",
        "the first run found it"
    );
}
