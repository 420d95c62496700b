//! What the health says of tripwires, pins, time, delivery and alerts, to a role that may ask and nothing else.

use postgres::Client;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::sealed::{ORIGIN, key_file};
use crate::support::{DEADLINE, Database, Sql, pages, quoted, shared, standby_of};
use crate::tripwire::look;

/// A session of a monitor.
fn monitor(database: &Database) -> Client {
    database.client_as(&database.on_duty("monitor"))
}

/// State and reasons of a part.
#[track_caller]
fn part(client: &mut Client, part: &str) -> String {
    client.line(&format!("SELECT h #>> '{{{part},state}}', h #> '{{{part},reasons}}' FROM audit_health() h"))
}

#[test]
fn a_monitor_sees_every_part_and_no_more() {
    let database = Database::audited("health_monitor");
    let mut monitor = monitor(&database);
    assert_eq!(
        monitor.line("SELECT string_agg(k, ' ' ORDER BY k) FROM audit_health() h, jsonb_object_keys(h) k WHERE jsonb_typeof(h -> k) = 'object'"),
        "alerts anchors database delivery drift jobs log pins time tripwires worker"
    );
    for name in ["alerts", "anchors", "database", "delivery", "log", "pins", "time", "tripwires"] {
        assert_eq!(part(&mut monitor, name), "ok|[]", "{name}");
    }
    for sql in [
        "SELECT evidence FROM zeroauth_audit_internal.alerts",
        "SELECT payload FROM zeroauth_audit_internal.alert_deliveries",
        "SELECT * FROM zeroauth_audit_internal.tripwire_state",
        "SELECT * FROM zeroauth_audit_internal.alert_routes",
        "SELECT * FROM audit_verify_pins()",
        "SELECT zeroauth_audit_internal.run_job('tripwire')",
        "SELECT evidence FROM audit_alerts",
        "SELECT * FROM audit_events",
        "SELECT zeroauth_audit_internal.raise_incident('gap', 1::smallint, 'x', 'x', NULL)",
        "SELECT * FROM zeroauth_audit_internal.privileged_uses()",
        "SELECT zeroauth_audit_internal.privileged_uses_told(0, 0)",
    ] {
        monitor.refused("42501", sql);
    }
}

#[test]
fn pitfall_24_a_log_that_is_not_sealed_signed_or_published_is_in_the_health() {
    let database = Database::audited("health_log");
    let (mut before, mut client) = (monitor(&database), database.client());
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    assert_eq!(part(&mut before, "log"), "ok|[]", "the worker has not been here yet");
    let seal = "SELECT zeroauth_audit_internal.run_job('checkpoint')";
    client.run(seal);
    assert_eq!(part(&mut before, "log"), r#"degraded|["checkpoints_not_signed"]"#);

    let path = shared().data_dir().with_file_name("health_log.key");
    key_file(&path, ORIGIN, 62);
    client.run(&format!(
        "ALTER DATABASE {} SET zeroauth_audit.checkpoint_key_file = '{}'",
        quoted(&database.name),
        path.display()
    ));
    database.client().run(seal);
    let mut monitor = database.client_as(&format!("{}_monitor", database.name));
    assert_eq!(part(&mut monitor, "log"), r#"degraded|["checkpoints_not_published"]"#);
    client.run("INSERT INTO zeroauth_audit_internal.sinks (name, kind, directory) VALUES ('worm', 'directory', '/nowhere')");
    assert_eq!(part(&mut monitor, "log"), "ok|[]");
    client.run("UPDATE zeroauth_audit_internal.sinks SET failing_since = now() - interval '16 minutes'");
    assert_eq!(part(&mut monitor, "log"), r#"degraded|["sink_failing:worm"]"#);
    client.run("UPDATE zeroauth_audit_internal.sinks SET enabled = false");
    assert_eq!(part(&mut monitor, "log"), r#"degraded|["checkpoints_not_published"]"#);
    client.run("UPDATE zeroauth_audit_internal.jobs SET enabled = false WHERE name = 'checkpoint'");
    assert_eq!(part(&mut monitor, "log"), r#"degraded|["checkpoints_not_published", "checkpoints_off"]"#);
    client.run(
        "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.logs SET state = 'held'",
    );
    assert_eq!(
        part(&mut monitor, "log"),
        r#"failing|["checkpoints_not_published", "checkpoints_off", "logs_held"]"#
    );
}

#[test]
fn alerts_and_deliveries_are_in_the_health_until_somebody_takes_them_over() {
    let database = Database::audited("health_alerts");
    let (mut monitor, mut client) = (monitor(&database), database.client());
    let raise = |client: &mut Client, severity: i32, mark: &str| {
        client.run(&format!(
            "SELECT zeroauth_audit_internal.raise_alert('gap', {severity}::smallint, NULL, '{mark}', 'x', NULL)"
        ));
    };
    raise(&mut client, 3, "three");
    raise(&mut client, 4, "four");
    assert_eq!(part(&mut monitor, "alerts"), "ok|[]");
    raise(&mut client, 2, "two");
    assert_eq!(part(&mut monitor, "alerts"), r#"degraded|["alerts_open:2"]"#);
    raise(&mut client, 1, "one");
    assert_eq!(part(&mut monitor, "alerts"), r#"failing|["alerts_open:1", "alerts_open:2"]"#);
    assert_eq!(
        monitor.line("SELECT audit_health() #> '{alerts,open}'"),
        r#"{"1": 1, "2": 1, "3": 1, "4": 1}"#
    );
    client.run(
        "SELECT audit_alert_acknowledge(id, 'x') FROM zeroauth_audit_internal.alerts WHERE severity < 3",
    );
    assert_eq!(part(&mut monitor, "alerts"), r#"degraded|["alerts_acknowledged:1"]"#);
    client.run("SELECT zeroauth_audit_internal.resolve_alert('one', 'x')");
    assert_eq!(part(&mut monitor, "alerts"), "ok|[]");
    assert_eq!(monitor.line("SELECT audit_health() #> '{alerts,acknowledged}'"), "1");

    assert_eq!(monitor.line("SELECT h #> '{delivery,queue}', h #> '{delivery,oldest}', h #> '{delivery,last_error}' FROM audit_health() h"), "0|null|null");
    client.run(
        "INSERT INTO zeroauth_audit_internal.alert_routes (name, kind, url_file) VALUES ('ops', 'alertmanager', '/nowhere')",
    );
    raise(&mut client, 3, "again");
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alert_deliveries SET attempts = 3, refused = true, last_error = 'no such file'; SELECT zeroauth_audit_internal.check_route('ops')");
    assert_eq!(part(&mut monitor, "delivery"), r#"degraded|["delivery_failing"]"#);
    assert_eq!(
        monitor.line("SELECT h #> '{delivery,queue}', h #>> '{delivery,last_error}', h #> '{delivery,failing_routes}', (h #>> '{delivery,oldest}')::timestamptz <= now() FROM audit_health() h"),
        r#"2|no such file|["ops"]|t"#
    );
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alert_deliveries SET state = 'delivered', delivered_at = now(); SELECT zeroauth_audit_internal.check_route('ops')");
    assert_eq!(part(&mut monitor, "delivery"), "ok|[]");
}

#[test]
fn switched_off_tripwires_are_in_the_health() {
    let database = Database::audited("health_off");
    let (mut monitor, mut client) = (monitor(&database), database.client());
    client.run("UPDATE zeroauth_audit_internal.jobs SET enabled = false WHERE name = 'tripwire'");
    assert_eq!(part(&mut monitor, "tripwires"), r#"degraded|["tripwire_off"]"#);
    client.run("DELETE FROM zeroauth_audit_internal.jobs WHERE name = 'tripwire'");
    assert_eq!(part(&mut monitor, "tripwires"), r#"degraded|["tripwire_off"]"#);
    client.run("INSERT INTO zeroauth_audit_internal.jobs (name, schedule) VALUES ('tripwire', '* * * * *'); UPDATE pg_trigger SET tgenabled = 'D' WHERE tgname = 'zeroauth_audit_refuse_row'");
    look(&mut client);
    assert_eq!(part(&mut monitor, "tripwires"), r#"failing|["not_as_installed"]"#);
}

#[test]
fn a_standby_gives_no_reasons_that_are_its_primary_s() {
    let primary = Cluster::builder("health_primary").conf("fsync", "off").start().unwrap();
    let mut client = primary.client();
    client.run("CREATE EXTENSION zeroauth_audit");
    client.run("SELECT zeroauth_audit_internal.raise_alert('gap', 1::smallint, NULL, 'x', 'x', NULL), zeroauth_audit_internal.raise_alert('delivery_failing', 2::smallint, NULL, 'delivery_failing::ops', 'x', NULL)");
    let standby = standby_of(&primary, "health_standby");
    let mut reader = standby.client();
    wait_until(DEADLINE, "the alerts to arrive", || {
        reader.line("SELECT count(*) FROM zeroauth_audit_internal.alerts") == "2"
    });
    assert_eq!(
        reader.line("SELECT h ->> 'state', h -> 'reasons', h #> '{alerts,open,1}' FROM audit_health() h"),
        "ok|[]|1"
    );
    // What is in the catalogs is the same there.
    assert_eq!(reader.lines("SELECT * FROM audit_verify_installation()"), [] as [&str; 0]);
    assert_eq!(reader.line("SELECT step FROM zeroauth_audit_internal.clock()"), "~");
}

#[test]
fn every_part_is_cheap_enough_to_be_asked_every_second() {
    let database = Database::audited("health_cost");
    let mut client = database.client();
    client.run("SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.alert_routes (name, kind, url_file) VALUES ('ops', 'alertmanager', '/nowhere');
        INSERT INTO zeroauth_audit_internal.alerts (severity, kind, fingerprint, message) SELECT 1 + i % 4, 'gap', 'x' || i, 'x' FROM generate_series(1, 20000) i;
        INSERT INTO zeroauth_audit_internal.alert_deliveries (alert_id, fingerprint, route, what, level, payload, state, delivered_at) SELECT i, 'x' || i, 'ops', 'raised', 1, '{}', CASE WHEN i % 2 = 0 THEN 'pending' ELSE 'delivered' END, CASE WHEN i % 2 = 1 THEN now() END FROM generate_series(1, 40000) i;
        INSERT INTO zeroauth_audit_internal.job_runs (job, run_by, status) SELECT 'tripwire', 'worker', 'succeeded' FROM generate_series(1, 10000)");
    client.run("ANALYZE zeroauth_audit_internal.alerts, zeroauth_audit_internal.alert_deliveries, zeroauth_audit_internal.job_runs");
    let mut report = String::new();
    for name in ["database", "worker", "jobs", "tripwires", "pins", "time", "delivery", "alerts"] {
        // The first call of a session fills its caches of the catalog.
        client.run(&format!("SELECT zeroauth_audit_internal.health_{name}()"));
        let pages = pages(&mut client, &format!("SELECT zeroauth_audit_internal.health_{name}()"));
        report.push_str(&format!("{name} {pages}\n"));
        assert!(pages < 300, "{report}");
    }
    println!("{report}");
}
