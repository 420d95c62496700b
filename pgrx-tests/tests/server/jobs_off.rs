//! What is switched off, put off or starved by a write to a table: in the health, and an alert.

use postgres::Client;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::sealed::{ORIGIN, key_file};
use crate::support::worker::{watcher, worker_after};
use crate::support::{Database, Sql, quoted, shared};
use crate::tripwire::look;

/// A trail whose jobs have all just ended well.
fn well(name: &str) -> (Database, Client) {
    let database = Database::audited(name);
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    // The database is a copy of one that may be older than a job may be late.
    client.run("UPDATE zeroauth_audit_internal.jobs SET last_success = now(), counts_from = now(), overdue_at = now() + interval '1 hour'");
    (database, client)
}

#[track_caller]
fn jobs(client: &mut Client) -> String {
    client.line("SELECT h ->> 'state', h -> 'reasons' FROM zeroauth_audit_internal.health_jobs() h")
}

#[track_caller]
fn told(client: &mut Client) -> Vec<String> {
    client.lines("SELECT kind, severity, message FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved' AND kind NOT IN ('clock_step', 'settings_written') ORDER BY id")
}

#[test]
fn pitfall_37_red_team_c2_a_job_that_is_off_missing_stretched_or_put_off_is_in_the_health_and_an_alert() {
    for (name, sql, why) in [
        (
            "off",
            "UPDATE zeroauth_audit_internal.jobs SET enabled = false WHERE name = 'drift'",
            "it is not enabled",
        ),
        ("gone", "DELETE FROM zeroauth_audit_internal.jobs WHERE name = 'drift'", "it is not among the jobs"),
        (
            "rare",
            "UPDATE zeroauth_audit_internal.jobs SET schedule = '0 0 1 1 *' WHERE name = 'drift'",
            "its schedule 0 0 1 1 * leaves more than 03:00:00 between two runs",
        ),
        (
            "daily",
            "UPDATE zeroauth_audit_internal.jobs SET schedule = '7 3 * * *' WHERE name = 'drift'",
            "its schedule 7 3 * * * leaves more than 03:00:00 between two runs",
        ),
        (
            "later",
            "UPDATE zeroauth_audit_internal.jobs SET next_run = '2099-01-01 00:00:00+00', overdue_at = '2099-01-01' WHERE name = 'drift'",
            "its next run is put off until 2099-01-01 00:00:00+00",
        ),
    ] {
        let (_database, mut client) = well(&format!("off_{name}"));
        assert_eq!(jobs(&mut client), "ok|[]", "{name}");
        client.run("SET TimeZone = 'UTC'");
        client.run(sql);
        assert_eq!(jobs(&mut client), r#"degraded|["job_off:drift"]"#, "{name}");
        look(&mut client);
        assert_eq!(
            told(&mut client),
            [format!("job_off|2|job drift does not run as it has to: {why}")],
            "{name}"
        );
        assert_eq!(client.line("SELECT count(*) FROM audit_events WHERE action = 'alert.raised' AND resource = 'job_off:drift'"), "1");
        // A person takes note: it is told, and no reason any more.
        client.run("SELECT audit_alert_acknowledge(id, 'a migration') FROM zeroauth_audit_internal.alerts WHERE kind = 'job_off'");
        assert_eq!(jobs(&mut client), "ok|[]", "{name}");
        client.run("INSERT INTO zeroauth_audit_internal.jobs (name, schedule, timeout) VALUES ('drift', '7 * * * *', '6 hours');
            UPDATE zeroauth_audit_internal.jobs SET next_run = zeroauth_audit_internal.schedule_next(schedule, time_zone, now()) WHERE name = 'drift'");
        look(&mut client);
        assert_eq!(told(&mut client), [] as [&str; 0], "{name}");
    }
}

#[test]
fn pitfall_37_health_goes_by_the_age_of_the_last_success_not_by_what_the_row_says() {
    let (_database, mut client) = well("off_age");
    // The server of the tests may have started a minute ago, and no job counts from before that.
    client.run("SET zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.drift_state SET began_at = '2026-01-01'; RESET zeroauth_audit.maintenance");
    client.run("UPDATE zeroauth_audit_internal.jobs SET last_success = '2099-01-01', counts_from = '2099-01-01', overdue_at = '2099-01-01' WHERE name IN ('tripwire', 'checkpoint')");
    let overdue = |client: &mut Client| {
        client.line("SELECT string_agg(j, ' ') FROM zeroauth_audit_internal.jobs_late() j WHERE j IN ('tripwire', 'checkpoint')")
    };
    wait_until(std::time::Duration::from_secs(180), "two minutes since the server started", || {
        overdue(&mut client) == "checkpoint tripwire"
    });
    client.run("UPDATE zeroauth_audit_internal.jobs SET last_success = now() WHERE name = 'tripwire'");
    assert_eq!(overdue(&mut client), "checkpoint");
    assert!(jobs(&mut client).starts_with(r#"failing|["job_overdue:checkpoint""#));
}

#[test]
fn review_1_10_who_sets_a_job_off_or_rare_on_purpose_is_named() {
    let (database, mut client) = well("off_purpose");
    let operator = database.on_duty("operator");
    let mut person = database.client_as(&operator);
    person.run("SELECT audit_job_set('drift', enabled => false, note => 'migration')");
    person.run("SELECT audit_job_set('checkpoint', schedule => '0 * * * *')");
    look(&mut client);
    assert_eq!(
        told(&mut client),
        [
            format!("job_disabled|2|job \"drift\" was disabled by {operator}: migration"),
            format!(
                "job_off|2|job checkpoint does not run as it has to, set by {operator}: its schedule 0 * * * * leaves more than 00:03:00 between two runs"
            ),
        ]
    );
    assert_eq!(jobs(&mut client), r#"degraded|["job_off:checkpoint", "job_off:drift"]"#);
}

#[test]
fn pitfall_37_the_worker_tells_of_a_tripwire_that_is_gone_by_its_own_clock() {
    let cluster = Cluster::builder("off_tripwire").conf("fsync", "off").start().unwrap();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit");
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    worker_after(&mut watcher(&cluster), "audit", None);
    client.run("DELETE FROM zeroauth_audit_internal.jobs WHERE name = 'tripwire'");
    wait_until(std::time::Duration::from_secs(150), "the alert", || {
        told(&mut client).contains(
            &"job_off|2|job tripwire does not run as it has to: it is not among the jobs".to_owned(),
        )
    });
}

#[test]
fn red_team_b3_a_sink_that_is_starved_fails_whatever_its_row_says() {
    let database = Database::audited("off_sink");
    let path = shared().data_dir().with_file_name("off_sink.key");
    key_file(&path, ORIGIN, 77);
    let mut client = database.client();
    client.run(&format!(
        "ALTER DATABASE {} SET zeroauth_audit.checkpoint_key_file = '{}'",
        quoted(&database.name),
        path.display()
    ));
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    let mut client = database.client();
    client.run("SELECT zeroauth_audit_internal.run_job('checkpoint')");
    client.run("INSERT INTO zeroauth_audit_internal.sinks (name, kind, directory) VALUES ('worm', 'directory', '/nowhere');
        UPDATE zeroauth_audit_internal.sinks SET published_to = 1, last_success = now()");
    let starved =
        |client: &mut Client| client.lines("SELECT why FROM zeroauth_audit_internal.sinks_starved()");
    assert_eq!(starved(&mut client), [] as [&str; 0]);
    client.run("UPDATE zeroauth_audit_internal.sinks SET published_to = 9000000000000000000");
    assert_eq!(starved(&mut client), ["it is said to have run 9000000000000000000, and the newest is 1"]);
    look(&mut client);
    assert_eq!(
        client
            .line("SELECT severity, message FROM zeroauth_audit_internal.alerts WHERE kind = 'sink_failing'"),
        "2|checkpoints do not reach sink worm: it is said to have run 9000000000000000000, and the newest is 1"
    );
    assert!(
        client
            .line("SELECT h -> 'reasons' FROM zeroauth_audit_internal.health_log() h")
            .contains("sink_failing:worm")
    );
    client.run("SET zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.sinks SET published_to = 0; UPDATE zeroauth_audit_internal.registry_runs SET sealed_at = sealed_at - interval '14 minutes'");
    assert_eq!(starved(&mut client), [] as [&str; 0]);
    client
        .run("UPDATE zeroauth_audit_internal.registry_runs SET sealed_at = sealed_at - interval '2 minutes'");
    assert!(starved(&mut client)[0].starts_with("it lacks a checkpoint that was signed at "));
    // Runs that were taken away: what a directory is said to have is here no more.
    client.run("UPDATE zeroauth_audit_internal.sinks SET published_to = 1; DELETE FROM zeroauth_audit_internal.registry_runs");
    assert_eq!(starved(&mut client), ["it is said to have run 1, and the newest is 0"]);
}

#[test]
fn red_team_b6_a_new_key_of_the_same_origin_is_told() {
    let database = Database::audited("off_key");
    let path = shared().data_dir().with_file_name("off_key.key");
    let mut client = database.client();
    client.run(&format!(
        "ALTER DATABASE {} SET zeroauth_audit.checkpoint_key_file = '{}'",
        quoted(&database.name),
        path.display()
    ));
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    let mut client = database.client();
    for (seed, expected) in [(78, 0), (78, 0), (79, 1), (79, 1)] {
        key_file(&path, ORIGIN, seed);
        client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
        client.run("SELECT zeroauth_audit_internal.run_job('checkpoint')");
        let alerts =
            client.lines("SELECT severity FROM zeroauth_audit_internal.alerts WHERE kind = 'key_changed'");
        assert_eq!(alerts.len(), expected, "{seed}");
        assert!(alerts.iter().all(|severity| severity == "3"));
    }
    client.run("SELECT count(*) FROM audit_drill()");
    let told = "SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE kind = 'key_changed'";
    assert_eq!(client.line(told), "1");
    // Each is told, in whatever moment it comes: a clock that is read twice may have gone on in between.
    client.run("SELECT zeroauth_audit_internal.key_signs(decode(lpad(to_hex(n), 64, '0'), 'hex'), n::text) FROM generate_series(1, 300) n");
    assert_eq!(client.line(told), "301");
}
