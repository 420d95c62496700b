//! Crashes under load, again and again: the server is stopped at once, or one of its processes is killed and the
//! postmaster restarts all others.
//!
//! `ZEROAUTH_CRASH_ROUNDS` is the number of crashes of each test, `ZEROAUTH_CRASH_SEED` chooses whom they hit.

use std::fmt::Debug;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use zeroauth_audit_tests::{Builder, Cluster, wait_until};

use crate::fault_load::{assert_only_tails_lost, load};
use crate::storm_known::{Known, PREPARE, assert_kept, roll_back_prepared, write};
use crate::storm_writer::Writer;
use crate::support::{DEADLINE, SetOnDrop, Sql, assert_replays, assert_whole};

const CONNECTIONS: u32 = 8;

/// A number from the environment.
fn number<T: FromStr<Err: Debug>>(name: &str, otherwise: T) -> T {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect(name))
}

fn cluster(name: &str) -> Builder {
    Cluster::builder(name)
        .conf("max_prepared_transactions", "100")
        .conf("lock_timeout", "5s")
        // The kernel outlives every crash here, and with it what was written: waiting for the disk shows nothing more.
        .conf("fsync", "off")
}

/// Lets the writers write for that long, counted from when all of them are connected.
fn writing_for(cluster: &Cluster, time: Duration) {
    let mut client = cluster.client();
    let connected =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%audit_events%' AND pid <> pg_backend_pid()";
    wait_until(DEADLINE, "every connection to append", || client.line(connected) == CONNECTIONS.to_string());
    let until = Instant::now() + time;
    while Instant::now() < until {
        // May return early: the driver uses the same wake-ups.
        thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// Crashes the server in one of two ways, and waits until it is back.
fn crash(cluster: &Cluster, rng: &mut Rng) {
    if rng.bool() {
        cluster.crash().unwrap();
        cluster.start_again().unwrap();
        return;
    }
    let restarts = || cluster.log().matches("all server processes terminated; reinitializing").count();
    let before = restarts();
    let pids: Vec<i32> = cluster
        .client()
        .lines("SELECT pid FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walwriter', 'checkpointer') AND pid <> pg_backend_pid()")
        .iter()
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert!(cluster.kill(*rng.choice(&pids).unwrap()).unwrap(), "a process of this server");
    wait_until(DEADLINE, "the postmaster to restart every process", || restarts() > before);
    wait_until(DEADLINE, "the server to be back", || cluster.try_client().is_ok());
}

#[test]
fn after_each_of_many_crashes_every_acknowledged_event_is_there_and_every_chain_goes_on() {
    let rounds = number("ZEROAUTH_CRASH_ROUNDS", 20);
    let mut rng = Rng::with_seed(number("ZEROAUTH_CRASH_SEED", 1));
    let cluster = cluster("crash").start().unwrap();
    cluster.client().run(PREPARE);
    let mut writers: Vec<Writer> = (0..CONNECTIONS).map(Writer::new).collect();
    let mut known: Vec<Known> = Vec::new();
    for round in 0..rounds {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let writing: Vec<_> = writers
                .iter_mut()
                .map(|writer| scope.spawn(|| write(&cluster, writer, || over.load(Ordering::Relaxed))))
                .collect();
            let _over = SetOnDrop(&over);
            writing_for(&cluster, Duration::from_millis(rng.u64(20..120)));
            crash(&cluster, &mut rng);
            over.store(true, Ordering::Relaxed);
            known.extend(writing.into_iter().map(|writer| writer.join().unwrap()));
        });
        let hit = known.iter().rev().take(CONNECTIONS as usize).filter(|k| k.connections_lost > 0).count();
        assert!(hit > 0, "round {round} hits no connection");
        let mut client = cluster.client();
        roll_back_prepared(&mut client);
        let acknowledged = assert_kept(&mut client, &known);
        assert!(acknowledged > round, "round {round}: {acknowledged} events acknowledged so far");
        assert_replays(&mut client);
        client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('hot', 'goes on')");
    }
    assert_whole(&mut cluster.client());
}

#[test]
fn without_synchronous_commit_a_crash_takes_tails_of_chains_and_nothing_before_them() {
    let rounds = number("ZEROAUTH_CRASH_ROUNDS", 20);
    let mut rng = Rng::with_seed(number("ZEROAUTH_CRASH_SEED", 1));
    let cluster = cluster("crash_async")
        .conf("synchronous_commit", "off")
        // The later the WAL is written, the longer the tails.
        .conf("wal_writer_delay", "2s")
        .start()
        .unwrap();
    // The first crash may come before the WAL is written, and would take the extension too.
    let mut client = cluster.client();
    client.run("SET synchronous_commit = on");
    client.run("CREATE EXTENSION zeroauth_audit");
    drop(client);
    let (mut acknowledged, mut lost) = (0, 0);
    for round in 0..rounds {
        let over = AtomicBool::new(false);
        let known: Vec<_> = thread::scope(|scope| {
            let writing: Vec<_> = (0..CONNECTIONS)
                .map(|connection| {
                    let mut client = cluster.client();
                    let (over, seed) = (&over, u64::from(round * CONNECTIONS + connection));
                    scope.spawn(move || load(&mut client, seed, over))
                })
                .collect();
            let _over = SetOnDrop(&over);
            writing_for(&cluster, Duration::from_millis(rng.u64(20..120)));
            crash(&cluster, &mut rng);
            writing.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let mut client = cluster.client();
        let (all, gone) = assert_only_tails_lost(&mut client, &known);
        acknowledged += all;
        lost += gone;
        assert_replays(&mut client);
        client.run("SET synchronous_commit = on; INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i, 'goes on' FROM generate_series(0, 3) i");
    }
    assert_whole(&mut cluster.client());
    assert!(0 < lost && lost < acknowledged, "{lost} of {acknowledged} lost: nothing was put to the test");
}
