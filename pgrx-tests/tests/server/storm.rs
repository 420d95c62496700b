//! Forty connections append in every way at once while the server is crashed twice: no acknowledged event is lost, no
//! chain has a gap or a fork, nothing fails but the connection, and no insert waits for another.
//!
//! `ZEROAUTH_STORM_SECONDS` changes its length.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use zeroauth_audit_tests::Cluster;

use crate::storm_known::{Known, PREPARE, assert_kept, roll_back_prepared, write};
use crate::storm_writer::Writer;
use crate::support::{SetOnDrop, Sql, assert_whole};

const CONNECTIONS: u32 = 40;

#[test]
fn pitfall_01_a_storm_with_two_crashes_loses_nothing_forks_nothing_and_waits_for_nothing() {
    let seconds = std::env::var("ZEROAUTH_STORM_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(20.0);
    let cluster = Cluster::builder("storm")
        .conf("log_lock_waits", "on")
        .conf("deadlock_timeout", "20ms")
        // An insert that waits for a prepared transaction of its own session would wait for ever.
        .conf("lock_timeout", "5s")
        .conf("max_prepared_transactions", "100")
        .start()
        .unwrap();
    cluster.client().run(PREPARE);

    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let over = AtomicBool::new(false);
    let waits = Mutex::new(Vec::new());
    let known: Vec<Known> = thread::scope(|scope| {
        let writers: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                scope.spawn({
                    let cluster = &cluster;
                    move || write(cluster, &mut Writer::new(number), || Instant::now() >= until)
                })
            })
            .collect();
        scope.spawn(|| sample_waits(&cluster, &over, &waits));
        let _over = SetOnDrop(&over);
        for part in [1.0, 2.0] {
            thread::park_timeout(until.saturating_duration_since(Instant::now()).mul_f64(if part == 1.0 {
                1.0 / 3.0
            } else {
                0.5
            }));
            cluster.crash().unwrap();
            cluster.start_again().unwrap();
        }
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });

    let mut client = cluster.client();
    roll_back_prepared(&mut client);
    judge(&cluster, &mut client, &known);
    assert_eq!(*waits.lock().unwrap(), [] as [&str; 0], "sessions seen waiting for a lock");
}

fn judge(cluster: &Cluster, client: &mut Client, known: &[Known]) {
    let acknowledged = assert_kept(client, known);
    assert!(known.iter().all(|k| k.connections_lost >= 1), "the crashes reach every connection");
    assert!(acknowledged > 2_000, "only {acknowledged} events were acknowledged");
    let chains: u32 = client.line("SELECT max(chain) + 1 FROM audit_events").parse().unwrap();
    assert!((2..=CONNECTIONS + 100).contains(&chains), "{chains} chains");
    assert_whole(client);

    // Two sessions may wait for a moment to extend the table's file; that is no wait for an insert.
    let log = cluster.log();
    let waited: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("still waiting for") && !line.contains("extension of relation"))
        .collect();
    assert_eq!(waited, [] as [&str; 0]);
}

/// Looks for inserts that wait for a lock, until the storm is over.
fn sample_waits(cluster: &Cluster, over: &AtomicBool, waits: &Mutex<Vec<String>>) {
    let mut client = None;
    let mut samples = 0;
    while !over.load(Ordering::Relaxed) {
        let Some(session) = client.as_mut() else {
            client = cluster.try_client().ok();
            continue;
        };
        match Client::simple_query(
            session,
            "SELECT wait_event, query FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event <> 'extend'",
        ) {
            Err(_) => client = None,
            Ok(messages) => {
                samples += 1;
                for message in messages {
                    if let postgres::SimpleQueryMessage::Row(row) = message {
                        waits.lock().unwrap().push(format!("{:?}: {:?}", row.get(0), row.get(1)));
                    }
                }
            }
        }
        thread::park_timeout(Duration::from_millis(5));
    }
    assert!(samples > 50, "{samples} samples");
}
