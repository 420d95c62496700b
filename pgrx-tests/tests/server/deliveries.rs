//! The outbox: who is told what, in which order, how often; what a dump carries.

use std::process::Command;

use postgres::Client;

use super::alerts::raise;
use crate::support::{Database, Sql, assert_whole, shared};

/// Takes what is due, as the worker does; `route what fingerprint` of each.
fn take(client: &mut Client, not_on: &str) -> Vec<String> {
    client.lines(&format!(
        "SELECT t.route, t.payload::jsonb->>'what', t.payload::jsonb->'alert'->>'fingerprint' FROM zeroauth_audit_internal.take_deliveries('{{{not_on}}}', 16, 50) t"
    ))
}

/// Settles everything that is being sent.
fn settle(client: &mut Client, outcome: &str, error: &str, pause: &str) {
    client.run(&format!(
        "SELECT zeroauth_audit_internal.settle_delivery(id, '{outcome}', {error}, {pause}) FROM zeroauth_audit_internal.alert_deliveries WHERE state = 'sending' ORDER BY id"
    ));
}

fn routed(name: &str, routes: &str) -> (Database, Client) {
    let database = Database::audited(name);
    let mut client = database.client();
    client.run(&format!(
        "INSERT INTO zeroauth_audit_internal.alert_routes (name, kind, url_file, secret_file, min_severity, from_level, enabled) VALUES {routes}"
    ));
    (database, client)
}

#[test]
fn a_route_names_files_by_absolute_paths_and_a_webhook_is_always_signed() {
    let (_database, mut client) = routed("routes", "('ok', 'webhook', '/url', '/secret', 4, 1, true)");
    for values in [
        "('x', 'webhook', '/url', NULL, 4, 1, true)",
        "('x', 'pagerduty', '/url', NULL, 4, 1, true)",
        "('x', 'opsgenie', '/url', NULL, 4, 1, true)",
        "('x', 'mail', '/url', '/secret', 4, 1, true)",
        "('x', 'alertmanager', 'url', NULL, 4, 1, true)",
        "('x', 'webhook', '/url', '../secret', 4, 1, true)",
        "('x', 'alertmanager', 'https://example.org', NULL, 4, 1, true)",
        "('x', 'mail', '/url', NULL, 4, 1, true)",
        "('x y', 'alertmanager', '/url', NULL, 4, 1, true)",
        "('', 'alertmanager', '/url', NULL, 4, 1, true)",
        "('x', 'alertmanager', '/url', NULL, 5, 1, true)",
        "('x', 'alertmanager', '/url', NULL, 4, 0, true)",
    ] {
        client.refused("23514", &format!("INSERT INTO zeroauth_audit_internal.alert_routes (name, kind, url_file, secret_file, min_severity, from_level, enabled) VALUES {values}"));
    }
    client.refused("23514", "UPDATE zeroauth_audit_internal.alert_routes SET ca_file = 'ca.pem'");
    client.refused(
        "23505",
        "INSERT INTO zeroauth_audit_internal.alert_routes (name, kind, url_file) VALUES ('ok', 'alertmanager', '/x')",
    );
}

#[test]
fn routes_are_chosen_by_severity_and_level_and_an_alert_is_never_told_to_nobody() {
    let (_database, mut client) = routed(
        "routing",
        "('all', 'alertmanager', '/x', NULL, 4, 1, true), ('urgent', 'alertmanager', '/x', NULL, 1, 1, true),
         ('late', 'alertmanager', '/x', NULL, 2, 3, true), ('off', 'alertmanager', '/x', NULL, 4, 1, false)",
    );
    let routes = |client: &mut Client, id: &str, what: &str, level: u8| {
        client.line(&format!("SELECT string_agg(name, ' ' ORDER BY name) FROM zeroauth_audit_internal.routes_for({id}, '{what}', {level}::smallint)"))
    };
    let (one, two, four) =
        (raise(&mut client, 1, "gap::1"), raise(&mut client, 2, "gap::2"), raise(&mut client, 4, "gap::4"));
    assert_eq!(routes(&mut client, &one, "raised", 1), "all urgent");
    assert_eq!(routes(&mut client, &one, "escalated", 2), "all urgent");
    assert_eq!(routes(&mut client, &one, "escalated", 3), "all late urgent");
    assert_eq!(routes(&mut client, &two, "raised", 1), "all");
    assert_eq!(routes(&mut client, &four, "raised", 1), "all");
    // Only the route of a later level is left: better early than never.
    client.run("DELETE FROM zeroauth_audit_internal.alert_routes WHERE name IN ('all', 'urgent')");
    assert_eq!(routes(&mut client, &one, "raised", 1), "late");
    assert_eq!(routes(&mut client, &four, "raised", 1), "~");
    // What waited for a route that is gone is not sent, and harms nobody.
    assert_eq!(take(&mut client, ""), [] as [&str; 0]);
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alerts SET escalation_level = 4");
    assert_eq!(client.line("SELECT zeroauth_audit_internal.next_delivery('{}')"), "~");
    // Told that it began: told how it ended, also by a route that would not be chosen any more.
    let five = raise(&mut client, 2, "gap::5");
    client.run("UPDATE zeroauth_audit_internal.alert_routes SET min_severity = 1 WHERE name = 'late'");
    assert_eq!(routes(&mut client, &five, "resolved", 1), "late");
}

#[test]
fn order_is_kept_for_each_fingerprint_and_route_and_nothing_else_waits() {
    let (_database, mut client) = routed(
        "queue",
        "('a', 'alertmanager', '/x', NULL, 4, 1, true), ('b', 'alertmanager', '/x', NULL, 4, 1, true)",
    );
    raise(&mut client, 2, "gap::1");
    client.run("SELECT zeroauth_audit_internal.resolve_alert('gap::1', 'gone')");
    raise(&mut client, 2, "gap::2");
    assert_eq!(
        take(&mut client, ""),
        ["a|raised|gap::1", "a|raised|gap::2", "b|raised|gap::1", "b|raised|gap::2"]
    );
    assert_eq!(
        take(&mut client, ""),
        [] as [&str; 0],
        "what is being sent is not sent twice, and what follows waits"
    );
    assert_eq!(client.line("SELECT zeroauth_audit_internal.next_delivery('{}')"), "~");
    client.run(
        "SELECT zeroauth_audit_internal.settle_delivery(id, CASE fingerprint WHEN 'gap::1' THEN 'retry' ELSE 'delivered' END, CASE fingerprint WHEN 'gap::1' THEN 'no answer in time' END, '1 hour')
         FROM zeroauth_audit_internal.alert_deliveries WHERE state = 'sending' AND route = 'a'",
    );
    settle(&mut client, "delivered", "NULL", "NULL");
    assert_eq!(take(&mut client, ""), ["b|resolved|gap::1"], "route a waits for its own failure only");
    settle(&mut client, "delivered", "NULL", "NULL");
    assert_eq!(
        client.lines("SELECT route, what, fingerprint, state, attempts, last_error FROM zeroauth_audit_internal.alert_deliveries WHERE state <> 'delivered' ORDER BY id"),
        ["a|raised|gap::1|pending|1|no answer in time", "a|resolved|gap::1|pending|0|~"]
    );
    let wait = client.line("SELECT zeroauth_audit_internal.next_delivery('{}') - clock_timestamp() BETWEEN '59 min' AND '60 min', zeroauth_audit_internal.next_delivery('{a}')");
    assert_eq!(wait, "t|~");
    client.run(
        "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alert_deliveries SET next_attempt_at = now() WHERE state = 'pending'",
    );
    assert_eq!(take(&mut client, "a"), [] as [&str; 0]);
    assert_eq!(take(&mut client, ""), ["a|raised|gap::1"]);
    // The worker ends without knowing whether it arrived: it is sent again, and only then what follows.
    assert_eq!(client.line("SELECT zeroauth_audit_internal.requeue_deliveries()"), "1");
    assert_eq!(take(&mut client, ""), ["a|raised|gap::1"]);
    settle(&mut client, "untried", "NULL", "NULL");
    assert_eq!(
        client.line("SELECT attempts FROM zeroauth_audit_internal.alert_deliveries WHERE state = 'pending' ORDER BY id LIMIT 1"),
        "1"
    );
    assert_eq!(take(&mut client, ""), ["a|raised|gap::1"]);
    settle(&mut client, "delivered", "NULL", "NULL");
    assert_eq!(take(&mut client, ""), ["a|resolved|gap::1"]);
    settle(&mut client, "delivered", "NULL", "NULL");
    assert_eq!(
        client
            .line("SELECT count(*), count(delivered_at), count(DISTINCT delivery_key) FROM zeroauth_audit_internal.alert_deliveries"),
        "6|6|6"
    );
    assert_whole(&mut client);
}

#[test]
fn a_burst_is_taken_in_portions_and_a_route_that_is_off_keeps_its_queue() {
    let (_database, mut client) = routed(
        "burst",
        "('a', 'alertmanager', '/x', NULL, 4, 1, true), ('b', 'alertmanager', '/x', NULL, 4, 1, true), ('c', 'alertmanager', '/x', NULL, 4, 1, true)",
    );
    client.run("SELECT zeroauth_audit_internal.raise_alert('gap', 2::smallint, 't' || i, 'gap:t' || i, 'x', NULL) FROM generate_series(1, 120) i");
    client.run("UPDATE zeroauth_audit_internal.alert_routes SET enabled = false WHERE name = 'c'");
    let portion =
        "SELECT route, count(*) FROM zeroauth_audit_internal.take_deliveries('{}', 1, 50) t GROUP BY route";
    assert_eq!(client.lines(portion), ["a|50"]);
    assert_eq!(client.line("SELECT count(*), max(id) < (SELECT min(id) FROM zeroauth_audit_internal.alert_deliveries WHERE state = 'pending' AND route = 'a') FROM zeroauth_audit_internal.alert_deliveries WHERE state = 'sending'"), "50|t");
    assert_eq!(
        client.lines("SELECT route, count(*) FROM zeroauth_audit_internal.take_deliveries('{a}', 16, 1000) t GROUP BY route"),
        ["b|120"]
    );
    assert_eq!(
        client.line("SELECT count(*) FROM zeroauth_audit_internal.alert_deliveries WHERE route = 'c' AND state = 'pending'"),
        "120"
    );
    client.run("UPDATE zeroauth_audit_internal.alert_routes SET enabled = true WHERE name = 'c'");
    assert_eq!(
        client.lines("SELECT route, count(*) FROM zeroauth_audit_internal.take_deliveries('{a,b}', 16, 1000) t GROUP BY route"),
        ["c|120"]
    );
}

#[test]
fn a_route_that_does_not_get_through_is_an_alert_that_ends_when_it_does() {
    let (_database, mut client) = routed(
        "failing",
        "('a', 'alertmanager', '/x', NULL, 4, 1, true), ('b', 'alertmanager', '/x', NULL, 4, 1, true)",
    );
    let failing = "SELECT severity, state, message FROM zeroauth_audit_internal.alerts WHERE kind = 'delivery_failing' ORDER BY id";
    raise(&mut client, 2, "gap::1");
    take(&mut client, "b");
    settle(&mut client, "retry", "'no answer in time'", "'1 s'");
    assert_eq!(
        client.line("SELECT zeroauth_audit_internal.check_route('a')"),
        "t",
        "a failure or two are no alert"
    );
    client.run(
        "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alert_deliveries SET created_at = created_at - interval '16 min'",
    );
    assert_eq!(client.line("SELECT zeroauth_audit_internal.check_route('a')"), "f");
    assert_eq!(
        client.line("SELECT zeroauth_audit_internal.check_route('b')"),
        "t",
        "nobody tried route b yet"
    );
    assert_eq!(client.lines(failing), ["2|open|alerts do not get through on route a: no answer in time"]);
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alert_deliveries SET next_attempt_at = now()");
    take(&mut client, "b");
    settle(&mut client, "delivered", "NULL", "NULL");
    assert_eq!(client.line("SELECT zeroauth_audit_internal.check_route('a')"), "t");
    assert_eq!(client.lines(failing), ["2|resolved|alerts do not get through on route a: no answer in time"]);
    // A refusal is a mistake in the set-up or the receiver: told at once.
    raise(&mut client, 2, "gap::2");
    take(&mut client, "b");
    settle(&mut client, "refused", "'the server answered 404'", "'15 min'");
    assert_eq!(client.line("SELECT zeroauth_audit_internal.check_route('a')"), "f");
    assert_eq!(
        client.lines(failing).last().unwrap(),
        "2|open|alerts do not get through on route a: the server answered 404"
    );
    assert_eq!(
        client
            .line("SELECT refused, state FROM zeroauth_audit_internal.alert_deliveries WHERE fingerprint = 'gap::2' AND route = 'a'"),
        "t|pending"
    );
}

#[test]
fn a_payload_says_what_a_receiver_needs_and_is_the_same_in_every_attempt() {
    let (database, mut client) = routed("payload", "('a', 'webhook', '/url', '/secret', 4, 1, true)");
    let id = raise(&mut client, 1, "gap:acme:0:7");
    let sql = "SELECT delivery_key, payload FROM zeroauth_audit_internal.take_deliveries('{}', 1, 1)";
    let first = client.line(sql);
    client.run("SELECT zeroauth_audit_internal.requeue_deliveries()");
    raise(&mut client, 1, "gap:acme:0:7");
    assert_eq!(client.line(sql), first);
    let (key, payload) = first.split_once('|').unwrap();
    let payload: serde_json::Value = serde_json::from_str(payload).unwrap();
    assert_eq!(payload["delivery_id"], key);
    assert_eq!(
        (&payload["version"], &payload["what"], &payload["level"]),
        (&1.into(), &"raised".into(), &1.into())
    );
    assert_eq!(payload["database"], database.name.as_str());
    assert!(payload["cluster"].as_str().is_some_and(|cluster| cluster.len() > 10), "{payload}");
    let alert = &payload["alert"];
    assert_eq!(alert["id"].to_string(), id);
    for (name, value) in [
        ("kind", "gap"),
        ("tenant", "acme"),
        ("fingerprint", "gap:acme:0:7"),
        ("message", "events are missing"),
        ("state", "open"),
    ] {
        assert_eq!(alert[name], value);
    }
    assert_eq!((&alert["severity"], &alert["priority"]), (&"critical".into(), &1.into()));
    assert_eq!(alert["runbook_url"], "docs/runbook.md#gap");
    assert_eq!(alert["evidence"]["seq"], 7);
    let raised = client.line(
        "SELECT to_char(raised_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM zeroauth_audit_internal.alerts",
    );
    assert_eq!(alert["raised_at"], raised);
    assert!(!payload.to_string().contains("/secret"), "no path of a file");
}

#[test]
fn every_severity_has_one_word_and_every_kind_its_page_by_the_setting() {
    let (_database, mut client) = routed("words", "('a', 'webhook', '/url', '/secret', 4, 1, true)");
    for severity in 1..=4 {
        raise(&mut client, severity, &format!("gap:acme:0:{severity}"));
    }
    assert_eq!(
        client.lines("SELECT payload #>> '{alert,priority}', payload #>> '{alert,severity}' FROM zeroauth_audit_internal.alert_deliveries ORDER BY id"),
        ["1|critical", "2|high", "3|warning", "4|info"]
    );
    for (setting, url) in [
        ("", "docs/runbook.md#gap"),
        ("https://wiki.example/audit", "https://wiki.example/audit/gap"),
        ("https://wiki.example/audit/", "https://wiki.example/audit/gap"),
        ("https://wiki.example/audit#", "https://wiki.example/audit#gap"),
        ("https://wiki.example/?page=", "https://wiki.example/?page=gap"),
        ("https://wiki.example/%s?lang=en", "https://wiki.example/gap?lang=en"),
        ("https://wiki.example/100%25/%s#%s", "https://wiki.example/100%25/gap#gap"),
    ] {
        // The setting is the server's own; what it does is looked at with its value in the place of it.
        let sql = format!(
            "BEGIN; UPDATE pg_proc SET prosrc = replace(prosrc, $f$current_setting('zeroauth_audit.runbook_url')$f$, quote_literal('{setting}')) WHERE proname = 'runbook_url'"
        );
        client.run(&sql);
        assert_eq!(client.line("SELECT zeroauth_audit_internal.runbook_url('gap')"), url, "{setting}");
        client.run("ROLLBACK");
    }
}

#[test]
fn a_dump_carries_alerts_routes_and_what_nobody_accepted_yet() {
    let (from, mut client) = routed("alerts_dump", "('a', 'webhook', '/url', '/secret', 4, 1, true)");
    let one = raise(&mut client, 1, "gap::1");
    client.run(&format!("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alerts SET escalation_level = 4, raised_at = now() - interval '1 day'; SELECT audit_alert_acknowledge({one}, 'on it')"));
    raise(&mut client, 2, "gap::2");
    client.run("SELECT id FROM zeroauth_audit_internal.take_deliveries('{}', 1, 1)");
    settle(&mut client, "delivered", "NULL", "NULL");
    client.run("SELECT id FROM zeroauth_audit_internal.take_deliveries('{}', 1, 1)");
    assert_eq!(
        client
            .line("SELECT string_agg(state, ' ' ORDER BY id) FROM zeroauth_audit_internal.alert_deliveries"),
        "delivered sending pending"
    );
    let file = shared().data_dir().parent().unwrap().join("alerts.dump");
    let succeed = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    succeed(shared().command("pg_dump").arg("-Fc").arg("-f").arg(&file).arg(&from.name));
    let fresh = Database::empty("alerts_dump_to");
    succeed(shared().command("pg_restore").args(["--exit-on-error", "-d", &fresh.name]).arg(&file));
    let existing = Database::audited("alerts_dump_data");
    succeed(
        shared()
            .command("pg_restore")
            .args(["--exit-on-error", "--data-only", "-j", "2", "-d", &existing.name])
            .arg(&file),
    );
    for to in [&fresh, &existing] {
        let mut copy = to.client();
        for table in ["zeroauth_audit_internal.alerts", "zeroauth_audit_internal.alert_routes"] {
            let all = format!("SELECT t FROM {table} t ORDER BY 1");
            assert_eq!(copy.lines(&all), client.lines(&all));
        }
        assert_eq!(
            copy.lines(
                "SELECT what, fingerprint, state FROM zeroauth_audit_internal.alert_deliveries ORDER BY id"
            ),
            ["acknowledged|gap::1|sending", "raised|gap::2|pending"]
        );
        // Nothing is told twice because of the restore; what was being sent goes out again, and numbers go on.
        assert_eq!(
            copy.line(
                "SELECT zeroauth_audit_internal.escalate(), zeroauth_audit_internal.requeue_deliveries()"
            ),
            "0|1"
        );
        assert_eq!(take(&mut copy, ""), ["a|acknowledged|gap::1", "a|raised|gap::2"]);
        let next = raise(&mut copy, 2, "gap::3");
        assert_eq!(next, "3");
        assert_whole(&mut copy);
    }
}
