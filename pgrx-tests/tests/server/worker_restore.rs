//! Restores under a worker: what jobs write must not clash with what a dump brings.

use std::time::Duration;

use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::worker::{ONLY_PRUNE, STARTS, watcher, worker_after};
use crate::support::{DEADLINE, Sql, assert_whole, succeed};

/// The job is due, now.
const DUE: &str = "UPDATE zeroauth_audit_internal.jobs SET next_run = '2020-01-01 00:00:00+00'";
/// Whether the job's turn has come and gone.
const PLANNED: &str = "SELECT next_run > now() FROM zeroauth_audit_internal.jobs WHERE name = 'prune'";
const RUNS: &str = "SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'prune'";

#[test]
fn no_job_runs_before_the_first_event_or_while_a_dump_is_restored() {
    let cluster = Cluster::builder("worker_restore").conf("fsync", "off").start().unwrap();
    let mut client = cluster.client();
    client.run(&format!("CREATE EXTENSION zeroauth_audit; {ONLY_PRUNE}; INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'n' FROM generate_series(1, 100)"));
    client.run("SELECT zeroauth_audit_internal.raise_alert('gap', 1::smallint, 'acme', 'gap:acme', 'm', '{}'); SELECT zeroauth_audit_internal.run_job('prune')");
    let dump = cluster.data_dir().with_file_name("audit.dump");
    succeed(cluster.command("pg_dump").args(["-Fc", "-f"]).arg(&dump).arg("audit"));

    let mut watcher = watcher(&cluster);
    watcher.run("CREATE DATABASE copy");
    succeed(
        cluster
            .command("pg_restore")
            .args(["--section=pre-data", "--exit-on-error", "-d", "copy"])
            .arg(&dump),
    );
    worker_after(&mut watcher, "copy", None);
    let mut copy = cluster.connect("postgres", "copy").unwrap();
    assert_eq!(copy.line("SELECT zeroauth_audit_internal.jobs_held()"), "no_events");
    copy.run(DUE);
    wait_until(STARTS, "the job's turn to pass", || copy.line(PLANNED) == "t");
    assert_eq!(copy.line(RUNS), "0");
    assert_eq!(copy.line("SELECT audit_health() ->> 'state'"), "ok", "there is nothing to look after yet");

    // The events first, in a session that stays; then the rest, with its numbers of runs and alerts.
    let mut restoring = cluster.connect("postgres", "copy").unwrap();
    let events =
        succeed(cluster.command("pg_dump").args(["-a", "--inserts", "-t", "audit_events"]).arg("audit"));
    restoring.run(&events.lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n"));
    assert_eq!(copy.line("SELECT zeroauth_audit_internal.jobs_held()"), "restore_running");
    copy.run(DUE);
    wait_until(STARTS, "the job's turn to pass", || copy.line(PLANNED) == "t");
    assert_eq!(copy.line(RUNS), "0");
    assert_eq!(
        // The jobs that this test took away are told of, too.
        copy.line("SELECT audit_health() ->> 'state', audit_health() -> 'reasons' ? 'restore_running'"),
        "degraded|t"
    );
    let listed = succeed(cluster.command("pg_restore").arg("-l").arg(&dump));
    let rest: String = listed
        .lines()
        .filter(|line| {
            (line.contains("TABLE DATA") || line.contains("SEQUENCE SET")) && !line.contains("audit_events ")
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(
        rest.contains(" zeroauth_audit_internal job_runs ")
            && rest.contains(" zeroauth_audit_internal alerts "),
        "{listed}"
    );
    let list = cluster.data_dir().with_file_name("audit.list");
    std::fs::write(&list, rest).unwrap();
    succeed(
        cluster.command("pg_restore").args(["--exit-on-error", "-d", "copy", "-L"]).arg(&list).arg(&dump),
    );
    assert_eq!(copy.line(RUNS), "1", "the one that the dump brought");
    assert_eq!(
        copy.line("SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE kind <> 'settings_written'"),
        "1"
    );
    assert_whole(&mut copy);

    // Over, a minute after its session has ended: jobs run again.
    drop(restoring);
    wait_until(Duration::from_secs(90), "the restore to count as over", || {
        copy.line("SELECT zeroauth_audit_internal.jobs_held() IS NULL") == "t"
    });
    copy.run(DUE);
    wait_until(DEADLINE, "the job to run", || copy.line(RUNS) == "2");
    assert_whole(&mut copy);
}

#[test]
fn a_whole_restore_goes_through_beside_a_worker_that_is_always_due() {
    let cluster = Cluster::builder("worker_restore_whole").conf("fsync", "off").start().unwrap();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || n % 7, 'n' FROM generate_series(1, 20000) n");
    client.run("SELECT zeroauth_audit_internal.raise_alert('gap', 1::smallint, 'acme', 'gap:acme', 'm', '{}'); SELECT zeroauth_audit_internal.run_job('prune'); UPDATE zeroauth_audit_internal.jobs SET schedule = '* * * * *'");
    let dump = cluster.data_dir().with_file_name("audit.dir");
    succeed(cluster.command("pg_dump").args(["-Fd", "-f"]).arg(&dump).arg("audit"));
    let mut watcher = watcher(&cluster);
    for jobs in ["1", "2", "4"] {
        let name = format!("copy_{jobs}");
        watcher.run(&format!("CREATE DATABASE {name}"));
        succeed(cluster.command("pg_restore").args(["--exit-on-error", "-j", jobs, "-d", &name]).arg(&dump));
        let mut copy = cluster.connect("postgres", &name).unwrap();
        assert_eq!(
            copy.line("SELECT zeroauth_audit_internal.jobs_held()"),
            "restore_running",
            "in every process of it"
        );
        copy.run(DUE);
        wait_until(STARTS + STARTS, "the job's turn to pass", || copy.line(PLANNED) == "t");
        assert_eq!(copy.line(RUNS), "1", "the one that the dump brought");
        assert_whole(&mut copy);
    }
}

#[test]
fn a_worker_that_starts_waits_for_no_one_who_waits_for_it_in_whatever_order_jobs_are_changed() {
    let cluster = Cluster::builder("restore_deadlock").conf("fsync", "off").start().unwrap();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'first')");
    let mut watcher = watcher(&cluster);
    worker_after(&mut watcher, "audit", None);
    let names = client.lines("SELECT name FROM zeroauth_audit_internal.jobs ORDER BY name");
    // A restore inserts rows that are there already, a superuser updates them; the worker's order must be nobody's business.
    const WORKERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'zeroauth_audit worker' AND datname = 'audit'";
    let restored =
        "INSERT INTO zeroauth_audit_internal.jobs SELECT * FROM zeroauth_audit_internal.jobs WHERE name = ";
    let changed = "UPDATE zeroauth_audit_internal.jobs SET timeout = timeout WHERE name = ";
    for change in [restored, changed] {
        for first in [names.first().unwrap(), names.last().unwrap()] {
            // After this every row is one that a worker that starts has to change.
            client.run(
                "UPDATE zeroauth_audit_internal.jobs SET overdue_at = '2020-01-01', next_run = '2200-01-01'",
            );
            let mut session = client.transaction().unwrap();
            session.batch_execute("SET LOCAL deadlock_timeout = '50ms'").unwrap();
            session.batch_execute(&format!("{change} '{first}'")).unwrap();
            watcher.run(&WORKERS.replace("count(*)", "pg_terminate_backend(pid)"));
            wait_until(DEADLINE, "another worker to wait", || {
                watcher.line(&format!("{WORKERS} AND wait_event_type = 'Lock'")) == "1"
            });
            for name in names.iter().filter(|name| *name != first) {
                session.batch_execute(&format!("{change} '{name}'")).unwrap();
            }
            session.commit().unwrap();
            wait_until(DEADLINE, "every row to be corrected", || {
                client.line(
                    "SELECT count(*) FROM zeroauth_audit_internal.jobs WHERE overdue_at < now() OR next_run > '2199-01-01'",
                ) == "0"
            });
        }
    }
    assert!(!cluster.log().contains("deadlock"), "{}", cluster.log());
}
