//! The schedules in pg_cron's hands, with the real pg_cron: never in two at once.

use std::time::Duration;

use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::worker::{OFF_IS_KNOWN, ONLY_PRUNE, watcher, worker_after};
use crate::support::{Database, Sql};

fn cluster(name: &str) -> Cluster {
    let cluster = Cluster::builder(name)
        .conf("fsync", "off")
        .conf("shared_preload_libraries", "pg_cron,zeroauth_audit")
        .conf("cron.database_name", "audit")
        .conf("cron.use_background_workers", "on")
        .conf("max_worker_processes", "16")
        .start()
        .unwrap();
    cluster.client().run(&format!("CREATE EXTENSION zeroauth_audit; {ONLY_PRUNE}; CREATE EXTENSION pg_cron; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'first')"));
    cluster
}

const IN_CRON: &str = "SELECT jobname, schedule, command, database, active FROM cron.job ORDER BY jobname";
const OURS: &str = "SELECT name, scheduler FROM zeroauth_audit_internal.jobs ORDER BY name";

#[test]
fn pg_cron_runs_the_jobs_and_the_worker_none_until_they_are_taken_back() {
    let cluster = cluster("cron_runs");
    let mut client = cluster.client();
    client.run(ONLY_PRUNE);
    client.run(OFF_IS_KNOWN);
    worker_after(&mut watcher(&cluster), "audit", None);
    client.run("SELECT audit_job_set('prune', '* * * * *', 'Asia/Kolkata')");
    assert_eq!(client.line("SELECT audit_job_scheduler('pg_cron')"), "1");
    assert_eq!(
        client.lines(IN_CRON),
        ["zeroauth_audit prune|* * * * *|SELECT zeroauth_audit_internal.run_job('prune', 'pg_cron')|audit|t"]
    );
    // A second call changes nothing, and a schedule is not changed behind pg_cron's back.
    assert_eq!(client.line("SELECT audit_job_scheduler('pg_cron')"), "1");
    assert_eq!(client.lines(IN_CRON).len(), 1);
    let refusal = client.refused("ZA024", "SELECT audit_job_set('prune', '@daily')");
    assert!(refusal.hint.contains("SELECT audit_job_scheduler('worker')"), "{refusal:?}");
    client.run("SET LOCAL zeroauth_audit.maintenance = on; TRUNCATE zeroauth_audit_internal.job_runs; UPDATE zeroauth_audit_internal.jobs SET next_run = now() - interval '1 hour'");
    wait_until(Duration::from_secs(130), "pg_cron to run it", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE status = 'succeeded'") != "0"
    });
    assert_eq!(
        client.lines("SELECT DISTINCT job, run_by, status FROM zeroauth_audit_internal.job_runs"),
        ["prune|pg_cron|succeeded"]
    );
    assert_eq!(
        client.line(
            "SELECT next_run > now(), last_success IS NOT NULL, audit_health() #>> '{jobs,state}' FROM zeroauth_audit_internal.jobs"
        ),
        "t|t|ok"
    );
    // Back.
    assert_eq!(client.line("SELECT audit_job_scheduler('worker')"), "1");
    assert_eq!(client.lines(IN_CRON), [] as [&str; 0]);
    assert_eq!(client.lines(OURS), ["prune|worker"]);
    client.refused("ZA024", "SELECT zeroauth_audit_internal.run_job('prune', 'pg_cron')");
    client.run("SET LOCAL zeroauth_audit.maintenance = on; TRUNCATE zeroauth_audit_internal.job_runs; UPDATE zeroauth_audit_internal.jobs SET next_run = now() - interval '1 hour'");
    wait_until(Duration::from_secs(20), "the worker to run it", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE status = 'succeeded'") != "0"
    });
    assert_eq!(client.lines("SELECT DISTINCT run_by FROM zeroauth_audit_internal.job_runs"), ["worker"]);
}

#[test]
fn what_pg_cron_cannot_say_in_gmt_is_refused_and_nothing_changes_hands() {
    let cluster = cluster("cron_refused");
    let mut client = cluster.client();
    client.run(ONLY_PRUNE);
    for (schedule, zone) in
        [("30 2 * * *", "Europe/Berlin"), ("0 3 1 * *", "Asia/Kolkata"), ("0 0 L * *", "UTC")]
    {
        client.run(&format!(
            "UPDATE zeroauth_audit_internal.jobs SET schedule = '{schedule}', time_zone = '{zone}'"
        ));
        let refusal = client.refused("ZA024", "SELECT audit_job_scheduler('pg_cron')");
        assert!(
            refusal.message.starts_with("job \"prune\" cannot be scheduled by pg_cron: ")
                && !refusal.hint.is_empty(),
            "{refusal:?}"
        );
        assert_eq!(client.lines(OURS), ["prune|worker"]);
        assert_eq!(client.lines(IN_CRON), [] as [&str; 0]);
    }
    client.run("UPDATE zeroauth_audit_internal.jobs SET schedule = '0 3 * * MON', time_zone = 'Asia/Kolkata'; SELECT audit_job_scheduler('pg_cron')");
    assert_eq!(client.line("SELECT schedule FROM cron.job"), "30 21 * * 0");
    // A rolled back handover is none; a job that is off is not scheduled.
    client.run("BEGIN; SELECT audit_job_scheduler('worker'); ROLLBACK");
    assert_eq!(client.lines(IN_CRON).len(), 1);
    client
        .run("SELECT audit_job_scheduler('worker'); UPDATE zeroauth_audit_internal.jobs SET enabled = false");
    assert_eq!(client.line("SELECT audit_job_scheduler('pg_cron')"), "0");
    assert_eq!(client.lines(IN_CRON), [] as [&str; 0]);
    // pg_cron goes away: said by the health, and the jobs can be taken back.
    client.run("SELECT audit_job_scheduler('worker'); UPDATE zeroauth_audit_internal.jobs SET enabled = true; SELECT audit_job_scheduler('pg_cron'); DROP EXTENSION pg_cron");
    assert_eq!(client.line("SELECT audit_health() -> 'reasons' ? 'pg_cron_missing'"), "t");
    assert_eq!(client.line("SELECT audit_job_scheduler('worker')"), "1");
    assert_eq!(client.line("SELECT audit_health() -> 'reasons' ? 'pg_cron_missing'"), "f");
    // Another database of the same server.
    client.run("CREATE DATABASE other");
    let mut other = cluster.connect("postgres", "other").unwrap();
    other.run("CREATE EXTENSION zeroauth_audit");
    let refusal = other.refused("ZA024", "SELECT audit_job_scheduler('pg_cron')");
    assert!(refusal.hint.contains("In every other one the worker"), "{refusal:?}");
}

#[test]
fn without_pg_cron_it_is_said_what_is_missing() {
    let database = Database::audited("cron_missing");
    let refusal = database.client().refused("ZA024", "SELECT audit_job_scheduler('pg_cron')");
    assert!(refusal.hint.contains("CREATE EXTENSION pg_cron"), "{refusal:?}");
}
