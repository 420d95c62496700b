//! The job drift in the hands of the worker: it finds by itself, goes on where it was interrupted, and keeps to its load.

use std::time::{Duration, Instant};

use postgres::Client;
use zeroauth_audit_tests::{Cluster, wait_until};

use super::drift::{alerts, recompute};
use crate::support::worker::{watcher, worker_after};
use crate::support::{DEADLINE, Sql, assert_replays};

fn cluster(name: &str, conf: &[(&str, &str)]) -> (Cluster, Client, i32) {
    let builder = Cluster::builder(name).conf("fsync", "off");
    let cluster =
        conf.iter().fold(builder, |builder, (key, value)| builder.conf(key, value)).start().unwrap();
    let mut client = cluster.client();
    // In one transaction: a run of the tripwires would tell of maintenance, and of jobs that are off.
    client.run("CREATE EXTENSION zeroauth_audit; UPDATE zeroauth_audit_internal.jobs SET enabled = false WHERE name = 'tripwire'; SET zeroauth_audit.maintenance = on");
    let pid = worker_after(&mut watcher(&cluster), "audit", None);
    (cluster, client, pid)
}

/// Makes the job due and waits for the run to end well.
fn run(client: &mut Client) {
    let ended =
        "SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'drift' AND status = 'succeeded'";
    let before: u32 = client.line(ended).parse().unwrap();
    client.run("UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'drift'");
    wait_until(DEADLINE, "the run to end", || client.line(ended) == (before + 1).to_string());
}

#[test]
fn the_worker_finds_every_class_by_itself_and_says_within_what_time() {
    let (_cluster, mut client, _) = cluster(
        "drift_itself",
        &[("zeroauth_audit.full_replay_period", "1min"), ("zeroauth_audit.drift_rows", "100")],
    );
    // Tripwires would tell of the same in their own way at the next minute, and a sealed log of what was recomputed.
    client
        .run("UPDATE zeroauth_audit_internal.jobs SET enabled = false WHERE name NOT IN ('drift', 'prune')");
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 50, 'x' FROM generate_series(1, 50000) i");
    recompute(&mut client);
    run(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
    for (tampering, expected) in [
        (
            "UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'tenant 1' AND seq = 950",
            "content_mismatch:tenant 1:0",
        ),
        (
            "UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'tenant 2' AND seq = 50",
            "content_mismatch:tenant 2:0",
        ),
        (
            "UPDATE audit_events SET prev_hash = sha256(prev_hash) WHERE tenant_id = 'tenant 3' AND seq = 960",
            "link_broken:tenant 3:0",
        ),
        ("DELETE FROM audit_events WHERE tenant_id = 'tenant 4' AND seq = 970", "gap:tenant 4:0"),
        ("DELETE FROM audit_events WHERE tenant_id = 'tenant 5' AND seq > 990", "tail_truncated:tenant 5:0"),
        ("DELETE FROM audit_events WHERE tenant_id = 'tenant 6'", "tenant_missing:tenant 6:"),
        (
            "UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'tenant 7' AND seq = 980; SELECT recompute('tenant 7', 0::smallint, 980)",
            "content_mismatch:tenant 7:0",
        ),
    ] {
        client.run(tampering);
        let since = Instant::now();
        client.run("UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'drift'");
        wait_until(DEADLINE, expected, || alerts(&mut client).contains(&expected.to_owned()));
        println!("{expected}: {:?} from the begin of the run to the alert", since.elapsed());
        let running = "SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE status = 'running'";
        wait_until(DEADLINE, "the run to end", || client.line(running) == "0");
    }
    assert_eq!(
        client.lines("SELECT DISTINCT status FROM zeroauth_audit_internal.job_runs WHERE job = 'drift'"),
        ["succeeded"]
    );
    let known: Vec<String> = alerts(&mut client);
    assert_eq!(known.len(), 8, "{known:?}, with the content of the event whose link was broken");
}

#[test]
fn a_run_interrupted_by_a_crash_goes_on_where_it_was() {
    let (cluster, mut client, _) = cluster("drift_resumes", &[("zeroauth_audit.replay_load", "3")]);
    // Whose alerts would be another tenant's events.
    client.run("DELETE FROM zeroauth_audit_internal.jobs WHERE name <> 'drift'");
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || lpad((i % 3000)::text, 4, '0'), 'x' FROM generate_series(1, 15000) i");
    client.run("UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'drift'");
    let progress = "SELECT phase, tenants_done FROM zeroauth_audit_internal.drift_state";
    wait_until(DEADLINE, "the run to be in the middle", || {
        let line = client.line(progress);
        line.starts_with("recent|") && line != "recent|0"
    });
    cluster.crash().unwrap();
    cluster.start_again().unwrap();
    let mut client = cluster.client();
    let left = client.line("SELECT recent_tenant FROM zeroauth_audit_internal.drift_state");
    assert!(left.as_str() > "tenant 0000" && left.as_str() < "tenant 2999", "{left}");
    wait_until(DEADLINE, "the interrupted run to be settled", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'drift' AND error_code = '57P01'") == "1"
    });
    client.run("ALTER SYSTEM SET zeroauth_audit.replay_load = 100");
    client.run("SELECT pg_reload_conf(); SET zeroauth_audit.maintenance = on");
    // Forged before the place where it goes on: it comes round to it.
    client.run("UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'tenant 0001' AND seq = 3");
    run(&mut client);
    // Our own tenant comes with the first alert, about the jobs that are gone.
    assert_eq!(
        client.line("SELECT resumed, tenants_done IN (3000, 3001), recent_stop FROM zeroauth_audit_internal.drift_state"),
        format!("t|t|{left}")
    );
    assert_eq!(alerts(&mut client), ["content_mismatch:tenant 0001:0"]);
    run(&mut client);
    assert_eq!(client.line("SELECT resumed, recent_stop FROM zeroauth_audit_internal.drift_state"), "f|");
}

/// Processor time of a process, in seconds.
fn cpu(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

#[test]
fn a_run_pauses_as_long_as_its_load_demands_and_other_jobs_get_their_turn() {
    let (_cluster, mut client, pid) = cluster(
        "drift_paced",
        &[("zeroauth_audit.replay_load", "20"), ("zeroauth_audit.full_replay_period", "1min")],
    );
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 100, 'x' FROM generate_series(1, 200000) i");
    // The processor time of others is not theirs.
    client
        .run("UPDATE zeroauth_audit_internal.jobs SET enabled = false WHERE name NOT IN ('drift', 'prune')");
    let idle = "SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE status = 'running'";
    wait_until(DEADLINE, "others to end", || client.line(idle) == "0");
    let before = cpu(pid);
    let since = Instant::now();
    client.run("UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name IN ('drift', 'prune')");
    wait_until(DEADLINE, "another job to end while drift runs", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'prune' AND status = 'succeeded'") == "1"
    });
    wait_until(DEADLINE, "the run to end", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'drift' AND status = 'succeeded'") == "1"
    });
    let (took, used) = (since.elapsed(), cpu(pid) - before);
    let load = used / took.as_secs_f64();
    println!("{used:.2} s of processor time in {took:?}: {:.0} %", load * 100.0);
    assert!(used > 0.1, "{used}");
    assert!(load < 0.26, "{load}: a fifth, and what beginning and ending a run takes");
    assert!(took > Duration::from_secs_f64(used / 0.26));
    assert_replays(&mut client);
}
