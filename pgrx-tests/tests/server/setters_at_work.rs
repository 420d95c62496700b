//! What the calls set in motion, seen through the worker: an alert arrives, a checkpoint is published, a root is anchored, a job runs
//! when it was said to.

use zeroauth_audit_test_servers::{Server, receivers};
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::anchors::Anchoring;
use crate::support::receiver::{Receiver, server_file};
use crate::support::sealed::{ORIGIN, folder, key_file, key_path, name_key, states};
use crate::support::worker::{watcher, worker_after};
use crate::support::{DEADLINE, Sql};

fn cluster(name: &str) -> Cluster {
    let cluster = Cluster::builder(name).conf("fsync", "off").start().unwrap();
    cluster.client().run("CREATE EXTENSION zeroauth_audit");
    worker_after(&mut watcher(&cluster), "audit", None);
    cluster
}

#[test]
fn a_test_alert_arrives_through_the_route_that_was_just_made_and_what_waited_goes_out_when_it_is_on() {
    let cluster = cluster("set_route_works");
    let mut client = cluster.client();
    let receiver = Receiver::start();
    let url = server_file(&cluster, "hook.url", &format!("http://{}/\n", receiver.address));
    let key = server_file(&cluster, "hook.key", "a key of twenty bytes\n");
    let config = format!(
        r#"{{"url_file": "{}", "secret_file": "{}", "min_severity": 1}}"#,
        url.display(),
        key.display()
    );
    let got = |kind: &str| {
        let tests = receiver.got();
        tests
            .iter()
            .filter(|notice| notice["alert"]["kind"] == kind)
            .map(|notice| notice["what"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        client.line(&format!("SELECT audit_alert_route_set('hook', 'webhook', '{config}')")),
        "created"
    );
    let id = client.line("SELECT audit_alert_test('hook')");
    wait_until(DEADLINE, "the test to arrive", || got("test") == ["raised"]);
    wait_until(DEADLINE, "and be recorded", || {
        client.line(&format!("SELECT state, attempts FROM audit_alert_deliveries WHERE alert_id = {id}"))
            == "delivered|1"
    });
    assert_eq!(client.line("SELECT state, last_success_at IS NOT NULL FROM audit_alert_routes"), "ok|t");
    wait_until(DEADLINE, "what came of it to be an event", || {
        client.lines("SELECT severity, resource, details ->> 'result', (details ->> 'seconds')::numeric BETWEEN 0 AND 60, details ->> 'alert' FROM audit_events WHERE action = 'alert.test_ended'")
            == [format!("info|route/hook|delivered|t|{id}")]
    });
    client.run(&format!("SELECT audit_alert_resolve({id}, 'it arrived')"));
    wait_until(DEADLINE, "the end to arrive", || got("test") == ["raised", "resolved"]);
    // Switched off, what is queued waits; switched on, it goes out at once.
    client.run("SELECT zeroauth_audit_internal.raise_alert('gap', 1::smallint, NULL, 'gap:1', 'm', '{}')");
    wait_until(DEADLINE, "the alert to arrive", || got("gap") == ["raised"]);
    client.run("SELECT audit_alert_route_set('hook', enabled => false)");
    client.run("SELECT audit_alert_acknowledge(id, 'on it') FROM audit_alerts WHERE kind = 'gap'");
    wait_until(DEADLINE, "the worker to have had its turn", || {
        client.line(
            "SELECT count(*) FROM audit_alert_deliveries WHERE what = 'acknowledged' AND state = 'pending'",
        ) == "1"
            && client.line("SELECT state FROM pg_stat_activity WHERE backend_type = 'zeroauth_audit worker'")
                == "idle"
    });
    assert_eq!(got("gap"), ["raised"]);
    client.run("SELECT audit_alert_route_set('hook', enabled => true)");
    wait_until(DEADLINE, "what waited to arrive", || got("gap") == ["raised", "acknowledged"]);
}

#[test]
fn a_service_gets_each_turn_in_its_own_words_and_what_it_says_of_a_wrong_key_is_told_without_the_key() {
    const KEY: &str = "a1b2c3d4e5f60718a9b0c1d2e3f40516";
    let cluster = cluster("set_route_services");
    let mut client = cluster.client();
    client.run("ALTER SYSTEM SET zeroauth_audit.runbook_url = 'https://wiki.example/%s'");
    client.run("SELECT pg_reload_conf()");
    let (pagerduty, slack) = (receivers::pagerduty(KEY), receivers::slack());
    let file = |name: &str, content: String| server_file(&cluster, name, &content).display().to_string();
    let pager = file("pager.url", format!("http://{}/\n", pagerduty.address));
    let key = file("pager.key", format!("{KEY}\n"));
    let chat = file("chat.url", format!("http://{}/services/T/B/X\n", slack.address));
    client.run(&format!(
        r#"SELECT audit_alert_route_set('pager', 'pagerduty', '{{"url_file": "{pager}", "secret_file": "{key}", "min_severity": 2}}');
           SELECT audit_alert_route_set('chat', 'slack', '{{"url_file": "{chat}"}}')"#
    ));
    let of = |server: &Server| -> Vec<serde_json::Value> {
        server.requests().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
    };
    wait_until(DEADLINE, "the setting to count", || {
        client.line("SELECT zeroauth_audit_internal.runbook_url('gap')") == "https://wiki.example/gap"
    });
    client.run("SELECT zeroauth_audit_internal.raise_alert('gap', 2::smallint, 'acme', 'gap:acme:0', 'events are missing', '{}')");
    wait_until(DEADLINE, "the event", || {
        of(&pagerduty).iter().any(|event| event["event_action"] == "trigger")
    });
    let event = of(&pagerduty).into_iter().find(|event| event["dedup_key"] == "gap:acme:0").unwrap();
    assert_eq!(event["payload"]["severity"], "error");
    assert_eq!(event["payload"]["custom_details"]["severity"], "high");
    assert_eq!(event["links"][0]["href"], "https://wiki.example/gap");
    client.run("SELECT audit_alert_acknowledge(id, 'on it') FROM audit_alerts WHERE kind = 'gap'");
    client.run("SELECT zeroauth_audit_internal.resolve_alert('gap:acme:0', 'found')");
    let turns = |server: &Server| -> Vec<String> {
        let events = of(server).into_iter().filter(|event| event["dedup_key"] == "gap:acme:0");
        events.map(|event| event["event_action"].as_str().unwrap().to_owned()).collect()
    };
    wait_until(DEADLINE, "all turns, in order", || {
        turns(&pagerduty) == ["trigger", "acknowledge", "resolve"]
    });
    wait_until(DEADLINE, "the messages", || {
        let texts: Vec<String> = of(&slack).iter().map(|message| message["text"].to_string()).collect();
        texts.iter().any(|text| text.contains("[high] gap raised: events are missing"))
            && texts.iter().any(|text| text.contains("gap resolved"))
    });
    // A key that is another one's.
    let wrong = file("wrong.key", "ffffeeeeddddccccbbbbaaaa99998888\n".to_owned());
    client.run(&format!(
        r#"SELECT audit_alert_route_set('pager', config => '{{"url_file": "{pager}", "secret_file": "{wrong}"}}'); SELECT audit_alert_test('pager')"#
    ));
    let mut error = String::new();
    wait_until(DEADLINE, "the refusal", || {
        error = client.line("SELECT coalesce(max(last_error), '') FROM audit_alert_deliveries WHERE route = 'pager' AND refused");
        !error.is_empty()
    });
    assert!(error.starts_with("the server answered 400: {\"errors\":[\"Invalid routing key"), "{error}");
    assert!(!error.contains("ffff") && !error.contains("9999"), "{error}");
}

#[test]
fn a_sink_gets_files_and_pointed_elsewhere_that_place_gets_all_of_them() {
    let cluster = cluster("set_sink_works");
    let mut client = cluster.client();
    let key = key_file(&key_path(&cluster), ORIGIN, 7);
    client.run(&format!(
        "ALTER SYSTEM SET zeroauth_audit.checkpoint_key_file = '{}'",
        key_path(&cluster).display()
    ));
    client.run("SELECT pg_reload_conf()");
    let (first, second) = (folder(&cluster, "first"), folder(&cluster, "second"));
    client.run(&format!(
        r#"SELECT audit_sink_set('worm', 'directory', '{{"directory": "{}"}}')"#,
        first.display()
    ));
    client
        .run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'n' FROM generate_series(1, 3) i");
    client.run("SELECT * FROM audit_job_run('checkpoint')");
    let names = name_key(&mut client).unwrap();
    let sizes = |directory: &std::path::Path| states(directory, &key, &names, "acme");
    wait_until(DEADLINE, "the first checkpoint", || sizes(&first).ends_with(&[(0, 3)]));
    // Whether the report of that file has been recorded yet or not: it is the other place's neither way.
    assert_eq!(client.line("SELECT count(*) > 0 FROM audit_checkpoints"), "t");
    assert_eq!(client.line("SELECT vkey FROM audit_keys"), key.verifier_key().to_string());
    client.run(&format!(
        r#"SELECT audit_sink_set('worm', config => '{{"directory": "{}"}}')"#,
        second.display()
    ));
    wait_until(DEADLINE, "the same in the other place", || sizes(&second) == sizes(&first));
    wait_until(DEADLINE, "the sink to be fine", || client.line("SELECT state FROM audit_sinks") == "ok");
    client.run("SELECT audit_sink_drop('worm', 'enough')");
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'n')");
    assert_eq!(client.line("SELECT status FROM audit_job_run('checkpoint')"), "succeeded");
    wait_until(DEADLINE, "it to be sealed", || {
        client.line("SELECT tree_size FROM audit_tenants WHERE tenant_id = 'acme'") == "4"
    });
    assert!(!sizes(&second).contains(&(0, 4)), "a sink that was dropped gets nothing");
}

#[test]
fn a_target_that_was_just_made_is_anchored_at() {
    let mut server = Anchoring::start("set_target_works");
    let path = folder(&server.cluster, "anchored").join("anchors");
    server.client.run(&format!(
        r#"SELECT audit_anchor_target_set('worm', 'file', '{{"path": "{}"}}')"#,
        path.display()
    ));
    server.client.run("SELECT audit_anchor_target_set('file', enabled => false)");
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    wait_until(DEADLINE, "the anchor", || {
        server.client.line("SELECT state, batch, batch_state, last_success_at IS NOT NULL FROM audit_anchor_targets WHERE name = 'worm'") == "ok|1|finalized|t"
    });
    assert!(path.exists());
    assert_eq!(
        server.client.lines("SELECT tenant_id, target, state FROM audit_anchors WHERE anchored_at > now() - interval '36 hours' ORDER BY 1"),
        ["acme|worm|finalized", "globex|worm|finalized", "zeroauth_audit|worm|finalized"]
    );
    wait_until(DEADLINE, "the tenants' state", || {
        server.client.lines("SELECT anchor_state, anchored_at IS NOT NULL FROM audit_tenants WHERE tenant_id IN ('acme', 'globex')") == ["ok|t", "ok|t"]
    });
    assert_eq!(
        server.client.refused("ZA061", "SELECT audit_anchor_target_drop('worm', 'x')").message,
        "anchor target \"worm\" has anchors"
    );
}

#[test]
fn a_job_runs_at_its_new_schedule_and_no_more_when_it_is_disabled() {
    let cluster = cluster("set_job_works");
    let mut client = cluster.client();
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'first')");
    client.run("SELECT audit_job_set('prune', '* * * * *', 'Asia/Kolkata')");
    wait_until(std::time::Duration::from_secs(90), "the worker to run it by the minute", || {
        client.line("SELECT count(*) FROM audit_job_runs WHERE job = 'prune' AND status = 'succeeded' AND run_by = 'worker' AND scheduled_for IS NOT NULL") != "0"
    });
    assert_eq!(
        client.line("SELECT last_success_at IS NOT NULL, overdue FROM audit_jobs WHERE name = 'prune'"),
        "t|f"
    );
    client.run("SELECT audit_job_set('prune', enabled => false, note => 'enough')");
    assert_eq!(client.line("SELECT enabled, next_run_at FROM audit_jobs WHERE name = 'prune'"), "f|~");
    assert_eq!(
        client.line("SELECT status FROM audit_job_run('prune')"),
        "succeeded",
        "by hand it runs still"
    );
}
