//! Workers under load and across servers: many rounds of CREATE and DROP, promotion, reload, pg_upgrade's mode.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::worker::{
    ENDS, OFF_IS_KNOWN, ONLY_PRUNE, STARTS, no_worker, timed, watcher, worker, worker_after,
};
use crate::support::{DEADLINE, SetOnDrop, Sql, promote, standby_of};

#[test]
fn twenty_rounds_of_create_and_drop_under_load_leak_no_worker_and_block_no_drop() {
    let cluster = Cluster::builder("worker_rounds")
        .conf("fsync", "off")
        .conf("max_worker_processes", "16")
        .start()
        .unwrap();
    cluster.client().run("CREATE EXTENSION zeroauth_audit");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = SetOnDrop(&over);
        let (cluster, over) = (&cluster, &over);
        for writer in 0..3 {
            scope.spawn(move || {
                let mut client = cluster.client();
                while !over.load(Ordering::Relaxed) {
                    client.run(&format!("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant {writer}', 'x' FROM generate_series(1, 100); UPDATE zeroauth_audit_internal.jobs SET timeout = timeout WHERE name = 'prune'"));
                }
            });
        }
        let mut watcher = watcher(cluster);
        for round in 0..20 {
            if round % 5 == 0 {
                watcher.run("CREATE DATABASE round");
            }
            let mut client = cluster.connect("postgres", "round").unwrap();
            client.run("CREATE EXTENSION zeroauth_audit");
            if round % 2 == 0 {
                worker_after(&mut watcher, "round", None);
            }
            if round % 5 == 4 {
                drop(client);
                // The session's end is the server's affair: it may take a moment.
                let took = timed(|| watcher.run("DROP DATABASE round"));
                assert!(took < ENDS, "round {round}: {took:?}");
            } else {
                let took = timed(|| client.run("DROP EXTENSION zeroauth_audit"));
                assert!(took < ENDS, "round {round}: {took:?}");
                no_worker(&mut watcher, "round");
            }
        }
        drop(end);
    });
    let mut watcher = watcher(&cluster);
    worker_after(&mut watcher, "audit", None);
    assert_eq!(
        watcher.lines("SELECT backend_type, datname FROM pg_stat_activity WHERE backend_type LIKE 'zeroauth_audit%' ORDER BY 1"),
        ["zeroauth_audit launcher|~", "zeroauth_audit worker|audit"]
    );
    let log = cluster.log();
    assert!(
        !log.contains("PANIC")
            && !log.contains("terminated by signal")
            && !log.contains("zeroauth_audit: error"),
        "{log}"
    );
}

const OURS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'zeroauth_audit%'";

#[test]
fn a_promoted_standby_gets_its_worker_and_has_none_before() {
    let primary = Cluster::builder("worker_promoted").conf("fsync", "off").start().unwrap();
    // Without a key for what the job checkpoint would seal, health would not be well.
    primary.client().run(&format!(
        "CREATE EXTENSION zeroauth_audit; SELECT audit_job_set('checkpoint', '0 0 1 1 *'); {OFF_IS_KNOWN}; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')",
    ));
    worker_after(&mut watcher(&primary), "audit", None);
    let standby = standby_of(&primary, "worker_standby");
    let mut client = standby.client();
    wait_until(DEADLINE, "the events to arrive", || {
        client.line("SELECT count(*) FROM audit_events WHERE tenant_id = 'acme'") == "1"
    });
    assert_eq!(client.line(OURS), "0");
    assert_eq!(client.line("SELECT h ->> 'state', h -> 'reasons' FROM audit_health() h"), "ok|[]");
    primary.crash().unwrap();
    promote(&mut client);
    worker_after(&mut client, "audit", None);
    assert_eq!(client.line("SELECT h ->> 'state', h -> 'reasons' FROM audit_health() h"), "ok|[]");
}

#[test]
fn a_standby_that_is_told_to_verifies_and_becomes_a_full_worker_when_promoted() {
    let primary = Cluster::builder("worker_standby")
        .conf("fsync", "off")
        .conf("zeroauth_audit.verify_on_standby", "on")
        .start()
        .unwrap();
    let mut client = primary.client();
    client.run(&format!("CREATE EXTENSION zeroauth_audit; {ONLY_PRUNE}; INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 10)"));
    client.run("SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'y' WHERE seq = 7");
    worker_after(&mut watcher(&primary), "audit", None);
    let standby = standby_of(&primary, "worker_standby");
    wait_until(STARTS, "the standby to verify", || {
        standby
            .log()
            .contains(r#"{"event":"standby_verified","tenants":1,"events":10,"not_ok":1,"first_finding":"content_mismatch at chain 0, seq 7: "#)
    });
    let mut client = standby.client();
    let pid = worker(&mut client, "audit").expect("it stays");
    assert_eq!(
        client.line(&format!("SELECT query FROM pg_stat_activity WHERE pid = {pid}")),
        "waiting to verify again"
    );
    primary.crash().unwrap();
    promote(&mut client);
    let pid = worker_after(&mut client, "audit", Some(pid));
    wait_until(STARTS, "a full worker", || {
        client
            .line(&format!("SELECT query FROM pg_stat_activity WHERE pid = {pid}"))
            .starts_with("waiting for job ")
    });
    wait_until(STARTS, "one launcher", || client.line(OURS) == "2");
}

#[test]
fn a_reload_reaches_the_worker_and_leaves_it_running() {
    let cluster = Cluster::builder("worker_reload").conf("fsync", "off").start().unwrap();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'first')");
    client.run("SET LOCAL zeroauth_audit.maintenance = on; CREATE FUNCTION zeroauth_audit_internal.job_writes() RETURNS jsonb LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO public.audit_events (tenant_id, action, details) VALUES ('acme', 'x', to_jsonb(repeat('x', 100))); RETURN NULL; END $f$; INSERT INTO zeroauth_audit_internal.jobs (name, schedule) VALUES ('writes', '@yearly')");
    let mut watcher = watcher(&cluster);
    let pid = worker_after(&mut watcher, "audit", None);
    let mut run = |expected: &str| {
        client.run("SET LOCAL zeroauth_audit.maintenance = on; TRUNCATE zeroauth_audit_internal.job_runs; UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'writes'");
        wait_until(DEADLINE, expected, || {
            client.lines(
                "SELECT status, coalesce(error_code, '-') FROM zeroauth_audit_internal.job_runs WHERE finished_at IS NOT NULL",
            ) == [expected]
        });
    };
    run("succeeded|-");
    watcher.run("ALTER SYSTEM SET zeroauth_audit.max_details_bytes = 10");
    watcher.run("SELECT pg_reload_conf()");
    run("failed|ZA007");
    assert_eq!(worker(&mut watcher, "audit"), Some(pid));
}

#[test]
fn nothing_runs_in_the_mode_that_pg_upgrade_starts_a_server_in() {
    let cluster = Cluster::builder("worker_upgrade").conf("fsync", "off").start().unwrap();
    cluster.client().run("CREATE EXTENSION zeroauth_audit");
    worker_after(&mut watcher(&cluster), "audit", None);
    cluster.shut_down().unwrap();
    let data = cluster.data_dir();
    let pg_ctl = |arguments: &[&str]| {
        let done = cluster
            .command("pg_ctl")
            .args(["-s", "-w", "-D"])
            .arg(&data)
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(done.success(), "pg_ctl {arguments:?}");
    };
    pg_ctl(&["-l", "upgrade.log", "-o", "-b", "start"]);
    let ours = watcher(&cluster).line(OURS);
    let since = std::time::Instant::now();
    let mut later = String::from("0");
    while since.elapsed() < std::time::Duration::from_secs(2) && later == "0" {
        later = watcher(&cluster).line(OURS);
    }
    pg_ctl(&["-m", "fast", "stop"]);
    assert_eq!((ours.as_str(), later.as_str()), ("0", "0"));
    cluster.start_again().unwrap();
    worker_after(&mut watcher(&cluster), "audit", None);
}
