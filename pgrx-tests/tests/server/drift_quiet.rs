//! What must not raise an alarm, and does not: writers of every kind, crashes, old snapshots, restores, replicas, a new owner.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use zeroauth_audit_tests::{Cluster, wait_until};

use super::drift::{alerts, drift};
use crate::storm_known::{Known, PREPARE, assert_kept, roll_back_prepared, write};
use crate::storm_writer::Writer;
use crate::support::{
    DEADLINE, Database, SetOnDrop, Sql, assert_whole, promote, shared, standby_of, succeed,
};

const WRITERS: u32 = 12;

/// Runs the job again and again until it is over. Returns how many runs ended well; any other end is a failure, but for
/// the connection's.
fn run_on(cluster: &Cluster, over: &AtomicBool) -> u32 {
    let (mut client, mut runs) = (None::<Client>, 0);
    while !over.load(Ordering::Relaxed) {
        let Some(session) = client.as_mut() else {
            client = cluster.try_client().ok();
            continue;
        };
        let sql = "SELECT r ->> 'status' || coalesce(r ->> 'error', '') FROM zeroauth_audit_internal.run_job('drift') r";
        match session.query_one(sql, &[]) {
            Ok(row) => {
                assert_eq!(row.get::<_, String>(0), "succeeded");
                runs += 1;
            }
            // The worker runs it.
            Err(error) if error.code().is_some_and(|code| code.code() == "ZA023") => {}
            Err(error) => {
                assert!(crate::storm_known::connection_lost(&error), "{error:?}");
                client = None;
            }
        }
    }
    runs
}

#[test]
fn pitfall_22_a_storm_of_writers_with_crashes_raises_nothing_while_drift_runs_all_the_time() {
    let seconds = std::env::var("ZEROAUTH_STORM_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(20.0);
    let cluster = Cluster::builder("drift_storm")
        .conf("lock_timeout", "5s")
        .conf("max_prepared_transactions", "100")
        .conf("zeroauth_audit.replay_load", "100")
        .conf("zeroauth_audit.full_replay_period", "1min")
        .start()
        .unwrap();
    // The writers make changes under maintenance, which others of the worker's jobs would tell of: it must not find them before they are gone.
    cluster.client().run(&format!("{PREPARE}; UPDATE zeroauth_audit_internal.jobs SET schedule = '* * * * *' WHERE name = 'drift'; DELETE FROM zeroauth_audit_internal.jobs WHERE name <> 'drift'"));
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let over = AtomicBool::new(false);
    let (known, runs): (Vec<Known>, u32) = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let cluster = &cluster;
                scope.spawn(move || {
                    write(cluster, &mut Writer::new(1000 + number), || Instant::now() >= until)
                })
            })
            .collect();
        let runner = scope.spawn(|| run_on(&cluster, &over));
        let _over = SetOnDrop(&over);
        for part in [1.0 / 3.0, 0.5] {
            thread::park_timeout(until.saturating_duration_since(Instant::now()).mul_f64(part));
            cluster.crash().unwrap();
            cluster.start_again().unwrap();
        }
        let known = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        (known, runner.join().unwrap())
    });
    let mut client = cluster.client();
    roll_back_prepared(&mut client);
    drift(&mut client);
    assert!(runs >= 5, "{runs} runs");
    assert_eq!(
        client.lines(
            "SELECT fingerprint, message FROM zeroauth_audit_internal.alerts WHERE kind NOT IN ('job_overdue', 'job_off', 'settings_written')"
        ),
        [] as [&str; 0]
    );
    assert_eq!(client.line("SELECT count(*) FROM zeroauth_audit_internal.drift_findings"), "0");
    assert_eq!(client.line("SELECT count(*) FROM audit_integrity() WHERE state <> 'ok'"), "0");
    let events: i64 = client.line("SELECT count(*) FROM audit_events").parse().unwrap();
    println!("{events} events, {runs} runs of drift beside the worker's");
    assert_kept(&mut client, &known);
    assert_whole(&mut client);
}

#[test]
fn pitfall_22_a_snapshot_older_than_the_watermark_and_events_not_yet_committed_say_nothing() {
    let database = Database::audited("quiet_snapshot");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 5)");
    let mut old = database.client();
    old.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM audit_events");
    let mut open = database.client();
    open.run(
        "BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'open'), ('globex', 'open')",
    );
    let mut prepared = database.client();
    prepared.run("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'prepared'); PREPARE TRANSACTION 'quiet'");
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    drift(&mut client);
    old.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'by an old snapshot'); COMMIT");
    open.run("ROLLBACK");
    drift(&mut client);
    client.run("COMMIT PREPARED 'quiet'");
    client.run("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'mine'); SAVEPOINT a; INSERT INTO audit_events (tenant_id, action) VALUES ('initech', 'gone')");
    drift(&mut client);
    client.run("ROLLBACK TO a");
    drift(&mut client);
    client.run("ROLLBACK");
    client.run("SET zeroauth_audit.max_chains = 1; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'one order'); INSERT INTO audit_events (tenant_id, event_id, action) SELECT tenant_id, event_id, 'again' FROM audit_events ON CONFLICT DO NOTHING");
    drift(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
    assert_eq!(
        client.line(
            "SELECT count(*) FROM zeroauth_audit_internal.watermarks WHERE tenant_id IN ('globex', 'initech')"
        ),
        "0"
    );
    assert_whole(&mut client);
}

#[test]
fn an_extension_dropped_and_created_again_begins_anew() {
    let database = Database::audited("quiet_dropped");
    let mut client = database.client();
    for _ in 0..3 {
        client.run(
            "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 5)",
        );
        drift(&mut client);
        client.run("SET zeroauth_audit.maintenance = on; DROP EXTENSION zeroauth_audit; CREATE EXTENSION zeroauth_audit");
        drift(&mut client);
        assert_eq!(alerts(&mut client), [] as [&str; 0]);
    }
}

fn dump(database: &Database, name: &str) -> PathBuf {
    let path = shared().data_dir().parent().unwrap().join(name);
    succeed(shared().command("pg_dump").args(["-Fc", "-f"]).arg(&path).arg(&database.name));
    path
}

fn restore(dump: &PathBuf, to: &Database, options: &[&str]) {
    succeed(shared().command("pg_restore").args(["-d", &to.name]).args(options).arg(dump));
}

fn source(name: &str) -> (Database, Client) {
    let database = Database::audited(name);
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 5, 'x' FROM generate_series(1, 100) i");
    drift(&mut client);
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.tenants SET drift_rows = 7 WHERE tenant_id = 'tenant 1'");
    (database, client)
}

#[test]
fn a_restored_dump_raises_nothing_in_whatever_order_it_comes() {
    let (from, mut client) = source("quiet_restore");
    let older = dump(&from, "quiet_older");
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 6, 'x' FROM generate_series(1, 100) i");
    drift(&mut client);
    let newer = dump(&from, "quiet_newer");
    for (path, tenants) in [(&older, 5), (&newer, 6)] {
        for options in [&[][..], &["-j", "4"]] {
            let to = Database::empty("quiet_restored");
            restore(path, &to, options);
            let mut client = to.client();
            for _ in 0..2 {
                drift(&mut client);
                assert_eq!(alerts(&mut client), [] as [&str; 0]);
                assert_eq!(
                    client
                        .line("SELECT count(*), count(*) FILTER (WHERE state = 'ok') FROM audit_integrity()"),
                    format!("{tenants}|{tenants}")
                );
            }
            assert_eq!(
                client.line(
                    "SELECT drift_rows FROM zeroauth_audit_internal.tenants WHERE tenant_id = 'tenant 1'"
                ),
                "7"
            );
            assert_eq!(client.line("SELECT count(*) FROM zeroauth_audit_internal.watermarks, zeroauth_audit_internal.drift_state s WHERE watermarks.trail <> s.trail"), "0", "confirmed");
        }
    }
}

#[test]
fn a_run_in_the_middle_of_a_restore_neither_alarms_nor_stops_it() {
    let (from, _client) = source("quiet_middle");
    let path = dump(&from, "quiet_middle_dump");
    let to = Database::empty("quiet_middle_to");
    restore(&path, &to, &["--section=pre-data"]);
    let mut client = to.client();
    // The watermarks are there, the events are not.
    restore(&path, &to, &["--data-only", "-t", "watermarks", "-t", "tenants"]);
    drift(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
    assert_eq!(
        client.line("SELECT count(*), count(*) FILTER (WHERE state = 'incomplete') FROM audit_integrity()"),
        "5|5"
    );
    restore(&path, &to, &["--data-only", "-t", "audit_events"]);
    drift(&mut client);
    assert_eq!(
        client.line("SELECT count(*), count(*) FILTER (WHERE state = 'ok') FROM audit_integrity()"),
        "5|5"
    );
    // The other way round: the run has seen the events and made its own notes before the dump's come.
    let to = Database::empty("quiet_middle_back");
    restore(&path, &to, &["--section=pre-data"]);
    let mut client = to.client();
    restore(&path, &to, &["--data-only", "-t", "audit_events"]);
    drift(&mut client);
    restore(&path, &to, &["--data-only", "-t", "watermarks", "-t", "tenants"]);
    drift(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
    assert_eq!(
        client.line("SELECT count(*), count(*) FILTER (WHERE state = 'ok') FROM audit_integrity()"),
        "5|5"
    );
    assert_eq!(
        client.line("SELECT drift_rows FROM zeroauth_audit_internal.tenants WHERE tenant_id = 'tenant 1'"),
        "7"
    );
}

#[test]
fn a_dump_whose_tail_was_cut_is_incomplete_and_no_alarm_in_the_copy() {
    let (from, mut client) = source("quiet_cut");
    // Somebody cuts the dump: the same as a dump of a trail that is cut after the last run.
    client.run("SET zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE tenant_id = 'tenant 1' AND seq > 15");
    let path = dump(&from, "quiet_cut_dump");
    let to = Database::empty("quiet_cut_to");
    restore(&path, &to, &[]);
    let mut copy = to.client();
    drift(&mut copy);
    assert_eq!(alerts(&mut copy), [] as [&str; 0]);
    assert_eq!(
        copy.lines("SELECT tenant_id, reasons FROM audit_integrity() WHERE state = 'incomplete'"),
        ["tenant 1|{restored_incomplete}"]
    );
    // What is there is watched from now on.
    copy.run("SET zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE tenant_id = 'tenant 1' AND seq > 12");
    drift(&mut copy);
    assert_eq!(alerts(&mut copy), ["tail_truncated:tenant 1:0"]);
    drift(&mut client);
    assert_eq!(alerts(&mut client), ["tail_truncated:tenant 1:0"]);
}

#[test]
fn a_promoted_standby_goes_on_from_its_own_watermarks() {
    let primary = Cluster::builder("quiet_primary")
        .conf("fsync", "off")
        .conf("synchronous_commit", "off")
        .start()
        .unwrap();
    let mut client = primary.client();
    client.run("CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 5, 'x' FROM generate_series(1, 100) i");
    drift(&mut client);
    let standby = standby_of(&primary, "quiet_standby");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let runner = scope.spawn(|| run_on(&primary, &over));
        let _over = SetOnDrop(&over);
        for _ in 0..50 {
            client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 5, 'x' FROM generate_series(1, 100) i");
        }
        // Cut off in the middle of it.
        let mut promoted = standby.client();
        promote(&mut promoted);
        drift(&mut promoted);
        assert_eq!(alerts(&mut promoted), [] as [&str; 0]);
        promoted.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 5, 'x' FROM generate_series(1, 100) i");
        drift(&mut promoted);
        assert_eq!(promoted.line("SELECT count(*) FROM audit_integrity() WHERE state <> 'ok'"), "0");
        assert_whole(&mut promoted);
        over.store(true, Ordering::Relaxed);
        assert!(runner.join().unwrap() > 0);
    });
}

#[test]
fn a_hub_that_receives_events_while_drift_runs_raises_nothing() {
    let cluster = |name: &str| {
        let cluster = Cluster::builder(name)
            .conf("wal_level", "logical")
            .conf("fsync", "off")
            .conf("wal_retrieve_retry_interval", "200ms")
            .start()
            .unwrap();
        cluster.client().run("CREATE EXTENSION zeroauth_audit");
        cluster
    };
    let (publisher, hub) = (cluster("quiet_publisher"), cluster("quiet_hub"));
    let (mut from, mut to) = (publisher.client(), hub.client());
    let insert = "INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 5, 'x' FROM generate_series(1, 200) i";
    from.run(insert);
    from.run("CREATE PUBLICATION trail FOR TABLE audit_events WITH (publish = 'insert')");
    to.run(&format!(
        "CREATE SUBSCRIPTION hub CONNECTION 'host={} port={} user=postgres dbname=audit' PUBLICATION trail",
        publisher.socket_dir().display(),
        publisher.port()
    ));
    let over = AtomicBool::new(false);
    let runs = thread::scope(|scope| {
        let runner = scope.spawn(|| run_on(&hub, &over));
        let _over = SetOnDrop(&over);
        for _ in 0..30 {
            from.run(insert);
        }
        wait_until(DEADLINE, "the hub to have all", || {
            to.line("SELECT count(*) FROM audit_events WHERE tenant_id <> 'zeroauth_audit'") == "6200"
        });
        over.store(true, Ordering::Relaxed);
        runner.join().unwrap()
    });
    assert!(runs > 0);
    drift(&mut to);
    assert_eq!(alerts(&mut to), [] as [&str; 0]);
    assert_eq!(to.line("SELECT count(*) FROM audit_integrity() WHERE state <> 'ok'"), "0");
    to.run("ALTER SUBSCRIPTION hub DISABLE; ALTER SUBSCRIPTION hub SET (slot_name = NONE); DROP SUBSCRIPTION hub");
}

#[test]
fn a_run_that_meets_new_tenants_and_the_tripwire_do_not_wait_for_each_other_for_ever() {
    let database = Database::audited("drift_quiet_deadlock");
    let (mut job, mut watch) = (database.client(), database.client());
    // What the job drift holds from its first statement on, and then does for a tenant that it meets first.
    let mut run = job.transaction().unwrap();
    run.batch_execute("SELECT FROM zeroauth_audit_internal.drift_state FOR UPDATE").unwrap();
    thread::scope(|scope| {
        // What the tripwire does the first time that it sees an event.
        let waiting = scope.spawn(|| {
            watch.run("SET deadlock_timeout = '50ms'; SELECT zeroauth_audit_internal.trail_is_here()")
        });
        let mut other = database.client();
        wait_until(DEADLINE, "the tripwire to wait", || {
            other.line("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == "1"
        });
        run.batch_execute("SET LOCAL deadlock_timeout = '50ms'; SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.tenants (tenant_id) VALUES ('acme')").unwrap();
        run.commit().unwrap();
        waiting.join().unwrap();
    });
}
