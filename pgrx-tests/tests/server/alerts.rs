//! Alerts in SQL: one for each condition, told once, acknowledged by a person, resolved by a check; and each turn of it an
//! event of the extension's own tenant, a line in the log and a notification.

use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;
use serde_json::Value;
use zeroauth_audit_tests::wait_until;

use super::guards::{log_lines, owned};
use crate::support::{DEADLINE, Database, Sql, assert_whole, shared};

/// Raises an alert and returns its id.
#[track_caller]
pub fn raise(client: &mut Client, severity: i32, fingerprint: &str) -> String {
    client.line(&format!(
        "SELECT zeroauth_audit_internal.raise_alert('gap', {severity}::smallint, 'acme', '{fingerprint}', 'events are missing', '{{\"seq\": 7}}')"
    ))
}

/// What the trail says about alerts, in order.
fn trail_events(client: &mut Client) -> Vec<String> {
    client.lines("SELECT action, severity, resource FROM audit_events WHERE tenant_id = 'zeroauth_audit' AND category = 'alert' ORDER BY chain, seq")
}

fn alert_lines(database: &Database) -> Vec<Value> {
    let is_alert = |line: &Value| line["event"].as_str().is_some_and(|event| event.starts_with("alert_"));
    log_lines(database).into_iter().filter(is_alert).collect()
}

#[test]
fn a_condition_is_told_once_and_counted_while_it_goes_on() {
    let database = Database::audited("alerts_once");
    let mut client = database.client();
    let mut listener = database.client_as(&database.role("listener"));
    listener.run("LISTEN zeroauth_audit_alert");
    let id = raise(&mut client, 2, "gap:acme:0:7");
    for _ in 0..3 {
        assert_eq!(raise(&mut client, 2, "gap:acme:0:7"), id);
    }
    assert_eq!(
        client.lines("SELECT id, severity, kind, tenant, fingerprint, message, evidence, state, occurrences, last_seen > raised_at, escalation_level, trail_error FROM zeroauth_audit_internal.alerts"),
        [format!("{id}|2|gap|acme|gap:acme:0:7|events are missing|{{\"seq\": 7}}|open|4|t|1|~")]
    );
    assert_eq!(trail_events(&mut client), ["alert.raised|high|gap:acme:0:7"]);
    assert_eq!(
        client.line("SELECT details->>'message', details->'evidence'->>'seq', details->>'id', db_role FROM audit_events WHERE tenant_id = 'zeroauth_audit'"),
        format!("events are missing|7|{id}|postgres")
    );
    wait_until(DEADLINE, "the line in the log", || !alert_lines(&database).is_empty());
    let lines = alert_lines(&database);
    assert_eq!(lines.len(), 1, "{lines:?}");
    for (name, value) in [
        ("event", "alert_raised"),
        ("severity", "high"),
        ("runbook_url", "docs/runbook.md#gap"),
        ("kind", "gap"),
        ("tenant", "acme"),
        ("fingerprint", "gap:acme:0:7"),
        ("role", "postgres"),
    ] {
        assert_eq!(lines[0][name], value, "{lines:?}");
    }
    assert_eq!(lines[0]["priority"], 2);
    // Anybody may listen: nothing but numbers and the kind.
    let notified: Vec<_> =
        listener.notifications().timeout_iter(std::time::Duration::from_secs(5)).take(1).collect().unwrap();
    let payload: Value = serde_json::from_str(notified[0].payload()).unwrap();
    assert_eq!(
        payload,
        serde_json::json!({"event": "alert_raised", "id": id.parse::<i64>().unwrap(), "severity": "high", "priority": 2, "kind": "gap", "level": 1, "runbook_url": "docs/runbook.md#gap"})
    );
    listener.run("SELECT 1");
    assert!(listener.notifications().iter().next().unwrap().is_none(), "one notification");
    // Another fingerprint, and the same one after it was resolved, are new alerts.
    let other = raise(&mut client, 3, "gap:acme:0:8");
    assert_ne!(other, id);
    assert_eq!(
        client.line("SELECT zeroauth_audit_internal.resolve_alert('gap:acme:0:7', 'the rows are back')"),
        "t"
    );
    assert_eq!(
        client.line("SELECT zeroauth_audit_internal.resolve_alert('gap:acme:0:7', 'the rows are back')"),
        "f"
    );
    assert_ne!(raise(&mut client, 2, "gap:acme:0:7"), id);
    assert_eq!(
        trail_events(&mut client),
        [
            "alert.raised|high|gap:acme:0:7",
            "alert.raised|medium|gap:acme:0:8",
            "alert.resolved|high|gap:acme:0:7",
            "alert.raised|high|gap:acme:0:7"
        ]
    );
    assert_whole(&mut client);
}

#[test]
fn two_sessions_that_see_one_condition_at_once_raise_one_alert() {
    let database = Database::audited("alerts_race");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = database.client();
                for n in 0..25 {
                    raise(&mut client, 2, &format!("gap:acme:0:{n}"));
                }
            });
        }
    });
    let mut client = database.client();
    assert_eq!(
        client.line("SELECT count(*), sum(occurrences) FROM zeroauth_audit_internal.alerts"),
        "25|100"
    );
    assert_eq!(client.line("SELECT count(*) FROM audit_events WHERE tenant_id = 'zeroauth_audit'"), "25");
    assert_whole(&mut client);
}

#[test]
fn severity_1_waits_for_a_person_even_when_the_condition_is_gone() {
    let database = Database::audited("alerts_person");
    let mut client = database.client();
    let state = "SELECT state, condition_gone_at IS NOT NULL, acknowledged_by, acknowledged_note, resolved_by, resolved_note FROM zeroauth_audit_internal.alerts ORDER BY id";
    let gone_first = raise(&mut client, 1, "gap:acme:0:1");
    assert_eq!(client.line("SELECT zeroauth_audit_internal.resolve_alert('gap:acme:0:1', 'gone')"), "f");
    assert_eq!(client.lines(state), ["open|t|~|~|~|~"]);
    // It comes back: what was remembered is not true any more.
    raise(&mut client, 1, "gap:acme:0:1");
    assert_eq!(client.lines(state), ["open|f|~|~|~|~"]);
    assert_eq!(client.line("SELECT zeroauth_audit_internal.resolve_alert('gap:acme:0:1', 'gone')"), "f");
    assert_eq!(
        client.line(&format!("SELECT audit_alert_acknowledge({gone_first}, 'looked at it')")),
        "resolved"
    );
    let seen_first = raise(&mut client, 1, "gap:acme:0:2");
    assert_eq!(
        client.line(&format!("SELECT audit_alert_acknowledge({seen_first}, 'looking')")),
        "acknowledged"
    );
    raise(&mut client, 1, "gap:acme:0:2");
    assert_eq!(client.line("SELECT zeroauth_audit_internal.resolve_alert('gap:acme:0:2', 'gone now')"), "t");
    assert_eq!(
        client.lines(state),
        [
            "resolved|t|postgres|looked at it|postgres|the condition was gone before the acknowledgement",
            "resolved|f|postgres|looking|postgres|gone now"
        ]
    );
    assert_eq!(
        client.lines("SELECT action FROM audit_events WHERE tenant_id = 'zeroauth_audit' ORDER BY seq"),
        [
            "alert.raised",
            "alert.acknowledged",
            "alert.resolved",
            "alert.raised",
            "alert.acknowledged",
            "alert.resolved"
        ]
    );
    for (sql, message) in [
        (
            format!("SELECT audit_alert_acknowledge({seen_first}, 'again')"),
            format!("alert {seen_first} is resolved already"),
        ),
        ("SELECT audit_alert_acknowledge(NULL, 'x')".into(), "the number of the alert is NULL".into()),
        (
            format!("SELECT audit_alert_acknowledge({seen_first}, E' \\n\\t')"),
            "an acknowledgement needs a note".into(),
        ),
        (
            format!("SELECT audit_alert_acknowledge({seen_first}, NULL)"),
            "an acknowledgement needs a note".into(),
        ),
    ] {
        let refusal = client.refused("ZA009", &sql);
        assert_eq!(refusal.message, message);
        assert!(!refusal.hint.is_empty());
    }
    assert_eq!(
        client.refused("ZA005", "SELECT audit_alert_acknowledge(999, 'x')").message,
        "there is no alert 999"
    );
}

#[test]
fn people_on_call_read_and_acknowledge_and_do_nothing_else() {
    let database = Database::audited("alerts_on_call");
    let role = database.on_duty("operator");
    let mut client = database.client();
    let id = raise(&mut client, 1, "gap:acme:0:1");
    let mut person = database.client_as(&role);
    assert_eq!(
        person.line("SELECT id, message FROM audit_alerts WHERE state = 'open'"),
        format!("{id}|events are missing")
    );
    for sql in [
        "UPDATE zeroauth_audit_internal.alerts SET state = 'resolved', resolved_at = now()",
        "DELETE FROM zeroauth_audit_internal.alerts",
        "INSERT INTO zeroauth_audit_internal.alerts (severity, kind, fingerprint, message) VALUES (1, 'x', 'x', 'x')",
        "SELECT zeroauth_audit_internal.raise_alert('gap', 1::smallint, NULL, 'x', 'x', NULL)",
        "SELECT zeroauth_audit_internal.resolve_alert('gap:acme:0:1', 'x')",
        "SELECT zeroauth_audit_internal.announce_alert(1, 'raised', 1::smallint)",
        "SELECT zeroauth_audit_internal.append_own('x', 'low', 'x', '{}')",
        "SELECT zeroauth_audit_internal.log_line('{}')",
        "SELECT zeroauth_audit_internal.escalate()",
        "SELECT * FROM zeroauth_audit_internal.take_deliveries('{}', 1, 1)",
        "SELECT zeroauth_audit_internal.settle_delivery(1, 'delivered', NULL, NULL)",
        "INSERT INTO zeroauth_audit_internal.alert_routes (name, kind, url_file) VALUES ('x', 'alertmanager', '/x')",
        "DELETE FROM audit_alerts",
        "SELECT * FROM audit_events",
        "INSERT INTO audit_events (tenant_id, action) VALUES ('zeroauth_audit', 'alert.resolved')",
    ] {
        person.refused("42501", sql);
    }
    // Nothing of this session reaches the function that runs as its owner.
    person.run(
        "CREATE TEMP TABLE alerts (id bigint, state text); CREATE TEMP TABLE audit_events (a int);
         CREATE FUNCTION pg_temp.pg_notify(text, text) RETURNS void LANGUAGE sql AS $$ SELECT 1/0 $$;
         SET search_path = pg_temp, public",
    );
    assert_eq!(person.line(&format!("SELECT public.audit_alert_acknowledge({id}, 'on it')")), "acknowledged");
    assert_eq!(
        client.line("SELECT acknowledged_by, acknowledged_note FROM zeroauth_audit_internal.alerts"),
        format!("{role}|on it")
    );
    assert_eq!(
        client.line("SELECT db_role, details->>'acknowledged_note' FROM audit_events WHERE action = 'alert.acknowledged'"),
        format!("{role}|on it")
    );
    let mut nobody = database.client_as(&database.role("nobody"));
    for sql in [
        "SELECT audit_alert_acknowledge(1, 'x')",
        "SELECT * FROM zeroauth_audit_internal.alerts",
        "SELECT * FROM zeroauth_audit_internal.alert_routes",
        "SELECT * FROM zeroauth_audit_internal.alert_deliveries",
    ] {
        nobody.refused("42501", sql);
    }
    assert_whole(&mut client);
}

#[test]
fn whoever_owns_the_trail_can_neither_silence_an_alert_nor_borrow_the_rights_of_who_raises_it() {
    let (database, owner) = owned("alerts_silenced");
    let mut client = database.client();
    database.client_as(&owner).run(
        "CREATE TABLE seen (who text, superuser boolean);
         CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.seen VALUES (current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user));
             IF NEW.resource = 'gap:acme:0:2' THEN RAISE EXCEPTION 'not to be told' USING ERRCODE = 'XX999'; END IF; RETURN NULL; END $$;
         CREATE TRIGGER watch AFTER INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION watch()",
    );
    raise(&mut client, 1, "gap:acme:0:1");
    assert_eq!(client.lines("SELECT * FROM seen"), [format!("{owner}|f")]);
    raise(&mut client, 1, "gap:acme:0:2");
    assert_eq!(
        client
            .lines("SELECT fingerprint, state, trail_error FROM zeroauth_audit_internal.alerts ORDER BY id"),
        ["gap:acme:0:1|open|~", "gap:acme:0:2|open|XX999 not to be told"]
    );
    wait_until(DEADLINE, "the log says what happened to the event", || {
        alert_lines(&database).iter().any(|line| line["trail_error"] == "XX999 not to be told")
    });
    // A trigger whose work is put off to the end of the transaction would run as somebody else then.
    // It is refused; here it was there before.
    client.run(
        "SET LOCAL zeroauth_audit.maintenance = on; DROP TRIGGER watch ON audit_events;
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON audit_events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch()",
    );
    raise(&mut client, 1, "gap:acme:0:3");
    assert!(
        client
            .line("SELECT trail_error FROM zeroauth_audit_internal.alerts WHERE fingerprint = 'gap:acme:0:3'")
            .contains("deferred")
    );
    assert_eq!(client.line("SELECT count(*) FROM seen"), "1", "nothing of the owner's ran as anybody else");
    database.client_as(&owner).run(
        "DROP TRIGGER late ON audit_events; ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY; ALTER TABLE audit_events FORCE ROW LEVEL SECURITY",
    );
    raise(&mut client, 1, "gap:acme:0:4");
    assert!(
        client
            .line("SELECT trail_error FROM zeroauth_audit_internal.alerts WHERE fingerprint = 'gap:acme:0:4'")
            .starts_with("42501 ")
    );
    assert_eq!(client.line("SELECT current_user, session_user"), "postgres|postgres");
}

#[test]
fn escalation_goes_by_age_and_ends_with_the_acknowledgement() {
    let database = Database::audited("alerts_escalation");
    let mut client = database.client();
    client.run("INSERT INTO zeroauth_audit_internal.alert_routes (name, kind, url_file, from_level) VALUES ('pager', 'alertmanager', '/x', 1), ('boss', 'alertmanager', '/x', 3)");
    let id = raise(&mut client, 1, "gap:acme:0:1");
    raise(&mut client, 2, "gap:acme:0:2");
    assert_eq!(client.line("SELECT zeroauth_audit_internal.escalate()"), "0");
    let due = client.line(
        "SELECT zeroauth_audit_internal.next_delivery(ARRAY['pager', 'boss']) - raised_at FROM zeroauth_audit_internal.alerts WHERE severity = 1",
    );
    assert_eq!(due, "00:05:00");
    let age = |client: &mut Client, age: &str| {
        client.run(&format!(
            "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alerts SET raised_at = clock_timestamp() - interval '{age}'"
        ));
        client.line("SELECT zeroauth_audit_internal.escalate()")
    };
    assert_eq!(age(&mut client, "4 min 59 s"), "0");
    assert_eq!(age(&mut client, "5 min"), "1");
    assert_eq!(client.line("SELECT zeroauth_audit_internal.escalate()"), "0", "each level once");
    assert_eq!(age(&mut client, "15 min"), "1");
    // The server was down meanwhile: the level that is due, not every one in between.
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alerts SET escalation_level = 1");
    assert_eq!(age(&mut client, "3 hours"), "1");
    assert_eq!(
        client.line(&format!("SELECT escalation_level FROM zeroauth_audit_internal.alerts WHERE id = {id}")),
        "4"
    );
    assert_eq!(client.line("SELECT zeroauth_audit_internal.next_delivery(ARRAY['pager', 'boss'])"), "~");
    assert_eq!(
        client.lines(&format!(
            "SELECT what, level, route FROM zeroauth_audit_internal.alert_deliveries WHERE alert_id = {id} ORDER BY id"
        )),
        [
            "raised|1|pager",
            "escalated|2|pager",
            "escalated|3|boss",
            "escalated|3|pager",
            "escalated|4|boss",
            "escalated|4|pager"
        ]
    );
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alerts SET escalation_level = 2");
    client.run(&format!("SELECT audit_alert_acknowledge({id}, 'awake')"));
    assert_eq!(client.line("SELECT zeroauth_audit_internal.escalate()"), "0");
    assert_eq!(
        client.lines("SELECT route FROM zeroauth_audit_internal.alert_deliveries WHERE what = 'acknowledged' ORDER BY id"),
        ["boss", "pager"],
        "who was told that it began is told that it ended"
    );
    assert_eq!(
        client.line(
            "SELECT count(*) FROM audit_events WHERE action = 'alert.escalated' AND severity = 'critical'"
        ),
        "3"
    );
    let rate = |seconds: &str| {
        format!(
            "SELECT zeroauth_audit_internal.level_due('2026-01-01 00:00:00+00', timestamptz '2026-01-01 00:00:00+00' + interval '{seconds} s')"
        )
    };
    for (seconds, level) in
        [("299", "1"), ("300", "2"), ("899", "2"), ("900", "3"), ("3599", "3"), ("3600", "4")]
    {
        assert_eq!(client.line(&rate(seconds)), level);
    }
}

#[test]
fn alerts_are_guarded_against_ddl_like_the_trail() {
    let (database, _) = owned("alerts_ddl");
    let mut client = database.client();
    for sql in [
        "ALTER TABLE zeroauth_audit_internal.alerts ADD COLUMN x int",
        "ALTER TABLE zeroauth_audit_internal.alert_deliveries RENAME TO x",
        "DROP TABLE zeroauth_audit_internal.alerts CASCADE",
        "DROP INDEX zeroauth_audit_internal.alerts_unresolved",
        "CREATE RULE r AS ON INSERT TO zeroauth_audit_internal.alerts DO INSTEAD NOTHING",
        "CREATE TRIGGER t BEFORE INSERT ON zeroauth_audit_internal.alerts FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "DROP FUNCTION zeroauth_audit_internal.raise_alert",
        "CREATE OR REPLACE FUNCTION zeroauth_audit_internal.escalate() RETURNS integer LANGUAGE sql AS 'SELECT 0'",
    ] {
        client.refused("ZA004", sql);
    }
    client.run("CREATE INDEX mine ON zeroauth_audit_internal.alerts (tenant); DROP INDEX zeroauth_audit_internal.mine");
}

#[test]
fn an_alert_is_bounded_whatever_it_is_raised_with() {
    let database = Database::audited("alerts_bounds");
    let mut client = database.client();
    let id = client.line("SELECT zeroauth_audit_internal.raise_alert('gap', 2::smallint, repeat('é', 5000), repeat('f', 1024), repeat('é', 5000), jsonb_build_object('x', repeat('é', 100000)))");
    assert_eq!(
        client.line(&format!("SELECT length(message), evidence->>'cut', evidence->>'bytes', length(evidence->>'start'), trail_error FROM zeroauth_audit_internal.alerts WHERE id = {id}")),
        "2000|true|200009|4000|~"
    );
    client.refused(
        "23514",
        "SELECT zeroauth_audit_internal.raise_alert('gap', 5::smallint, NULL, 'x', 'x', NULL)",
    );
    client.refused(
        "23514",
        "SELECT zeroauth_audit_internal.raise_alert('Not a kind', 1::smallint, NULL, 'x', 'x', NULL)",
    );
    client.refused(
        "23514",
        "SELECT zeroauth_audit_internal.raise_alert('gap', 1::smallint, NULL, '', 'x', NULL)",
    );
    client.refused(
        "23502",
        "SELECT zeroauth_audit_internal.raise_alert('gap', 1::smallint, NULL, 'x', NULL, NULL)",
    );
    // No evidence and no tenant are fine.
    client.run("SELECT zeroauth_audit_internal.raise_alert('worker_down', 1::smallint, NULL, 'worker_down::', 'x', NULL)");
    assert_eq!(
        client.line("SELECT evidence, tenant FROM zeroauth_audit_internal.alerts WHERE kind = 'worker_down'"),
        "{}|~"
    );
}

#[test]
fn an_alert_in_another_schema_and_under_a_tiny_details_limit_is_told_all_the_same() {
    let database = Database::empty("alerts_schema");
    let mut client = database.client();
    client.run("CREATE SCHEMA \"Odd schema\"; CREATE EXTENSION zeroauth_audit SCHEMA \"Odd schema\"");
    let sql = |n: u8| {
        format!("SELECT zeroauth_audit_internal.raise_alert('gap', 1::smallint, NULL, 'gap::{n}', 'x', NULL)")
    };
    client.run(&sql(1));
    assert_eq!(
        client.line("SELECT count(*) FROM \"Odd schema\".audit_events WHERE action = 'alert.raised'"),
        "1"
    );
    client.run("SET zeroauth_audit.max_details_bytes = 10");
    client.run(&sql(2));
    assert_eq!(
        client.lines(
            "SELECT fingerprint, left(trail_error, 5) FROM zeroauth_audit_internal.alerts ORDER BY id"
        ),
        ["gap::1|~", "gap::2|ZA007"]
    );
    assert_eq!(shared().log().lines().filter(|line| line.contains("PANIC")).count(), 0);
}
