//! What a person says of alerts: routes are created, changed, tested and dropped, and an alert is ended.

use std::path::Path;

use postgres::Client;

use super::setters::{FILE_HINT, NO_WORKER, called, events, mode, refused};
use crate::support::receiver::server_file;
use crate::support::{Database, Sql, shared};

#[test]
fn a_route_is_created_changed_and_dropped_and_no_secret_is_kept() {
    let database = Database::audited("set_route");
    let mut client = database.client();
    let url = server_file(shared(), "set_route.url", "https://u53r:pa55@hooks.example/s3cret\n");
    let key = server_file(shared(), "set_route.key", "a key of twenty bytes\n");
    let config = format!(r#""url_file": "{}", "secret_file": "{}""#, url.display(), key.display());
    let create = format!("SELECT audit_alert_route_set('oncall', 'webhook', '{{{config}}}')");
    let (result, notices) = called(&database, &create);
    assert_eq!(result, "created");
    assert_eq!(
        notices,
        format!(
            "alerts go through route \"oncall\" from now on; SELECT audit_alert_test('oncall') tries it / {NO_WORKER}"
        )
    );
    assert_eq!(called(&database, &create), ("unchanged".into(), String::new()));
    let change = format!(
        "SELECT audit_alert_route_set('oncall', config => '{{{config}, \"min_severity\": 2, \"from_level\": 3}}')"
    );
    assert_eq!(called(&database, &change).0, "changed");
    // config replaces the whole of it; what is left out has its default again.
    assert_eq!(
        client.line("SELECT config ->> 'min_severity', config ->> 'from_level' FROM audit_alert_routes"),
        "2|3"
    );
    assert_eq!(called(&database, &create).0, "changed");
    assert_eq!(
        client.line("SELECT config ->> 'min_severity', config ->> 'from_level' FROM audit_alert_routes"),
        "4|1"
    );
    let (result, notices) = called(&database, "SELECT audit_alert_route_set('oncall', enabled => false)");
    assert_eq!(result, "changed");
    assert!(
        notices.starts_with("nothing goes through alert route \"oncall\" any more, and what is queued waits"),
        "{notices}"
    );
    client.run("SELECT audit_alert_route_set('oncall', enabled => true)");
    let alert = client.line("SELECT audit_alert_test('oncall')");
    assert_eq!(
        refused(&mut client, "ZA061", "SELECT audit_alert_route_drop('oncall', 'new phone')"),
        "alert route \"oncall\" has 1 alert that nobody has got yet / Wait until they are delivered: SELECT * FROM audit_alert_deliveries WHERE route = 'oncall'. When that place is gone for good, point the route elsewhere with audit_alert_route_set()."
    );
    client
        .run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alert_deliveries SET state = 'delivered', delivered_at = now()");
    assert_eq!(called(&database, "SELECT audit_alert_route_drop('oncall', 'new phone')").0, "dropped");
    // How it went on is not queued for a route that is gone.
    client.run(&format!("SELECT audit_alert_resolve({alert}, 'it was a test')"));
    assert_eq!(client.line("SELECT count(*) FROM audit_alert_deliveries WHERE state <> 'delivered'"), "0");
    assert_eq!(
        events(&mut client).iter().map(|line| line.split('|').next().unwrap()).collect::<Vec<_>>(),
        [
            "alert.route_created",
            "alert.route_changed",
            "alert.route_changed",
            "alert.route_changed",
            "alert.route_changed",
            "alert.route_dropped"
        ]
    );
    let stored: String = ["audit_events", "zeroauth_audit_internal.alert_routes", "audit_alert_deliveries"]
        .iter()
        .flat_map(|table| client.lines(&format!("SELECT t FROM {table} t")))
        .collect();
    for secret in ["u53r", "pa55", "s3cret", "hooks.example", "a key of twenty"] {
        assert!(!stored.contains(secret), "{secret}");
    }
    assert!(stored.contains(&url.display().to_string()), "the names of files are there");
}

#[test]
fn a_route_that_could_not_be_used_is_refused_at_the_call() {
    let database = Database::audited("set_route_refused");
    let mut client = database.client();
    let url = server_file(shared(), "set_refused.url", "https://s3cret.example/\n");
    let plain = server_file(shared(), "set_refused_plain.url", "http://s3cret.example/\n");
    let v1 = server_file(shared(), "set_refused_v1.url", "https://s3cret.example/api/v1/alerts\n");
    let password = server_file(shared(), "set_refused_password.url", "https://audit:s3c/ret@am.example/\n");
    let loose = server_file(shared(), "set_refused_loose.url", "https://s3cret.example/\n");
    mode(&loose, 0o640);
    let key = server_file(shared(), "set_refused.key", "a key of twenty bytes\n");
    let short = server_file(shared(), "set_refused_short.key", "short\n");
    let ca = server_file(shared(), "set_refused.ca", "no certificate\n");
    let url_of = |url: &Path| format!(r#""url_file": "{}""#, url.display());
    let ok = format!(r#"{}, "secret_file": "{}""#, url_of(&url), key.display());
    let files = |problem: &str| format!("{problem} / {FILE_HINT}");
    for (kind, config, message) in [
        ("webhook", url_of(&url), "field \"secret_file\": it is missing / Every alert route of kind webhook has one.".into()),
        ("webhook", format!(r#"{}, "secret_file": "{}""#, url_of(&loose), key.display()), files("field \"url_file\": the URL file has mode 0640, not 0600 or 0400")),
        ("webhook", format!(r#"{}, "secret_file": "{}""#, url_of(&plain), key.display()), files("field \"url_file\": the URL is not https:// (http:// is for loopback addresses only)")),
        ("webhook", format!(r#"{}, "secret_file": "/no/such/key""#, url_of(&url)), files("field \"secret_file\": cannot open the secret file: No such file or directory (os error 2)")),
        ("webhook", format!(r#"{}, "secret_file": "{}""#, url_of(&url), short.display()), files("field \"secret_file\": the secret is shorter than 16 bytes")),
        ("webhook", format!(r#"{ok}, "ca_file": "{}""#, ca.display()), files("field \"ca_file\": the CA file holds no certificate")),
        ("webhook", format!(r#"{ok}, "ca_file": "ca.pem""#), "field \"ca_file\": the path is not absolute / A relative path would depend on where the server was started.".into()),
        ("webhook", format!(r#"{ok}, "min_severity": 5"#), "field \"min_severity\": it is no whole number from 1 to 4 / Leave it out for its default.".into()),
        ("webhook", format!(r#"{ok}, "from_level": "1""#), "field \"from_level\": it is no whole number from 1 to 4 / Leave it out for its default.".into()),
        ("webhook", format!(r#"{ok}, "url": "https://s3cret.example""#), "field \"url\": webhook has none of this name / The fields of webhook: url_file, secret_file, ca_file, min_severity, from_level.".into()),
        ("alertmanager", String::new(), "field \"url_file\": it is missing / Every alert route of kind alertmanager has one.".into()),
        ("alertmanager", url_of(&v1), "field \"url_file\": the URL of an Alertmanager is that of its web page, without /api/.. / docs/alerts.md says which URL each kind has.".into()),
        ("alertmanager", url_of(&password), files("field \"url_file\": the URL file does not hold one URL: encode /, ?, # in user and password as %2F, %3F, %23 (and @ in a path or query as %40)")),
        ("pagerduty", url_of(&url), "field \"secret_file\": it is missing / Every alert route of kind pagerduty has one.".into()),
        ("opsgenie", url_of(&url), "field \"secret_file\": it is missing / Every alert route of kind opsgenie has one.".into()),
        ("opsgenie", format!(r#"{}, "secret_file": "{}""#, url_of(&url), short.display()), files("field \"secret_file\": the secret is shorter than 16 bytes")),
        ("pagerduty", ok.clone(), files("field \"secret_file\": the secret is no key of the receiver's: it has other characters than those of keys")),
        ("slack", ok.clone(), "field \"secret_file\": slack has none of this name / The fields of slack: url_file, ca_file, min_severity, from_level.".into()),
        ("slack", url_of(&plain), files("field \"url_file\": the URL is not https:// (http:// is for loopback addresses only)")),
        ("mail", String::new(), "there is no kind \"mail\" / The kinds: alertmanager, opsgenie, pagerduty, slack, webhook.".into()),
    ] {
        let sql = format!("SELECT audit_alert_route_set('oncall', '{kind}', '{{{config}}}')");
        assert_eq!(refused(&mut client, "ZA060", &sql), format!("alert route \"oncall\": {message}"), "{config}");
    }
    for (code, sql, message) in [
        (
            "ZA005",
            "SELECT audit_alert_route_set('oncall', 'webhook')",
            r#"there is no alert route "oncall" / A new one needs kind and config: SELECT audit_alert_route_set('oncall', 'webhook', '{"url_file": "/etc/zeroauth/oncall.url", "secret_file": "/etc/zeroauth/oncall.key"}');"#,
        ),
        (
            "ZA005",
            "SELECT audit_alert_route_drop('oncall', 'x')",
            "there is no alert route \"oncall\" / SELECT name FROM audit_alert_routes shows those that there are.",
        ),
        (
            "ZA009",
            "SELECT audit_alert_route_drop('oncall', NULL)",
            "dropping an alert route needs a note / Say why nothing is sent there any more.",
        ),
        (
            "ZA009",
            "SELECT audit_alert_route_set('-', 'webhook', '{}')",
            "\"-\" cannot be the name of an alert route / A name has 1 to 63 letters, digits, dots, dashes and underscores, and begins with a letter or a digit.",
        ),
        (
            "ZA009",
            "SELECT audit_alert_test()",
            "there is no alert route that is enabled / SELECT audit_alert_route_set(..) makes one; SELECT * FROM audit_alert_routes shows those that there are.",
        ),
        (
            "ZA005",
            "SELECT audit_alert_test('oncall')",
            "there is no alert route \"oncall\" / SELECT name FROM audit_alert_routes shows those that there are.",
        ),
    ] {
        assert_eq!(refused(&mut client, code, sql), message);
    }
    client.run(&format!("SELECT audit_alert_route_set('oncall', 'webhook', '{{{ok}}}', false)"));
    assert_eq!(
        refused(&mut client, "ZA009", "SELECT audit_alert_test('oncall')"),
        "alert route \"oncall\" is not enabled / SELECT audit_alert_route_set('oncall', enabled => true);"
    );
}

#[test]
fn a_test_goes_through_a_route_whatever_that_is_for() {
    let database = Database::audited("set_test");
    let mut client = database.client();
    client.run("INSERT INTO zeroauth_audit_internal.alert_routes (name, kind, url_file, min_severity, from_level, enabled)
        VALUES ('all', 'alertmanager', '/x', 4, 1, true), ('urgent', 'alertmanager', '/x', 1, 4, true), ('off', 'alertmanager', '/x', 4, 1, false)");
    let one = client.line("SELECT audit_alert_test('urgent')");
    let (all, notices) = called(&database, "SELECT audit_alert_test()");
    assert!(notices.starts_with(&format!("test alert {all} is queued for all, urgent; SELECT route, state, last_error FROM audit_alert_deliveries WHERE alert_id = {all} shows whether it arrives")), "{notices}");
    assert_eq!(
        client.lines("SELECT alert_id, route, what, state FROM audit_alert_deliveries ORDER BY id"),
        [
            format!("{one}|urgent|raised|pending"),
            format!("{all}|all|raised|pending"),
            format!("{all}|urgent|raised|pending")
        ]
    );
    assert_eq!(
        client.lines("SELECT severity, state, kind, tenant_id, message FROM audit_alerts ORDER BY id"),
        [
            "4|open|test|~|a test of alert route \"urgent\", asked for by postgres",
            "4|open|test|~|a test of every alert route, asked for by postgres"
        ]
    );
    assert_eq!(client.line("SELECT audit_health() #>> '{alerts,state}'"), "ok");
    // It ends by itself, an hour later.
    client.run("SELECT audit_job_run('prune')");
    assert_eq!(client.line("SELECT count(*) FROM audit_alerts WHERE state = 'open'"), "2");
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alerts SET raised_at = now() - interval '61 minutes'; SELECT audit_job_run('prune')");
    assert_eq!(
        client.lines("SELECT DISTINCT state, resolved_note FROM audit_alerts"),
        ["resolved|it was a test"]
    );
}

#[test]
fn an_alert_is_ended_by_a_person_only_with_a_note_and_the_highest_only_when_acknowledged() {
    let database = Database::audited("set_resolve");
    let mut client = database.client();
    client.run("SELECT zeroauth_audit_internal.raise_alert('gap', s::smallint, NULL, 'gap:' || s, 'm', '{}') FROM generate_series(1, 2) s");
    let id = |client: &mut Client, severity: u8| {
        client.line(&format!("SELECT id FROM audit_alerts WHERE severity = {severity}"))
    };
    let (one, two) = (id(&mut client, 1), id(&mut client, 2));
    for (code, sql, message) in [
        ("ZA009", format!("SELECT audit_alert_resolve({one}, 'over')"), format!("alert {one} has severity 1 and is not acknowledged / SELECT audit_alert_acknowledge({one}, 'what is being done');")),
        ("ZA009", format!("SELECT audit_alert_resolve({two}, E'\\n')"), "a resolution needs a note / Say why the alert is over.".into()),
        ("ZA009", format!("SELECT audit_alert_resolve({two}, NULL)"), "a resolution needs a note / Say why the alert is over.".into()),
        ("ZA005", "SELECT audit_alert_resolve(999, 'over')".into(), "there is no alert 999 / SELECT id, message FROM audit_alerts WHERE state <> 'resolved' shows those that there are.".into()),
        ("ZA009", "SELECT audit_alert_resolve(NULL, 'over')".into(), "the number of the alert is NULL / SELECT id, message FROM audit_alerts WHERE state <> 'resolved' shows the numbers.".into()),
    ] {
        assert_eq!(refused(&mut client, code, &sql), message);
    }
    let (result, notices) =
        called(&database, &format!("SELECT audit_alert_resolve({two}, 'the disk was replaced')"));
    assert_eq!(result, "resolved");
    assert_eq!(
        notices,
        format!("alert {two} is resolved; a check that still finds its condition raises a new one")
    );
    assert_eq!(
        refused(&mut client, "ZA009", &format!("SELECT audit_alert_resolve({two}, 'again')")),
        format!(
            "alert {two} is resolved already / SELECT id, message FROM audit_alerts WHERE state <> 'resolved' shows those that are not."
        )
    );
    assert_eq!(client.line(&format!("SELECT audit_alert_acknowledge({one}, 'looking')")), "acknowledged");
    assert_eq!(
        client.line(&format!("SELECT audit_alert_resolve({one}, 'it was the move to the new machine')")),
        "resolved"
    );
    assert_eq!(
        client.lines("SELECT state, resolved_by, resolved_note FROM audit_alerts ORDER BY id"),
        ["resolved|postgres|it was the move to the new machine", "resolved|postgres|the disk was replaced"]
    );
    assert_eq!(
        client.lines("SELECT action FROM audit_events WHERE tenant_id = 'zeroauth_audit' ORDER BY seq"),
        ["alert.raised", "alert.raised", "alert.resolved", "alert.acknowledged", "alert.resolved"]
    );
}
