//! Forty connections append in every way at once while the server is crashed twice: no acknowledged event is lost, no
//! chain has a gap or a fork, nothing fails but the connection, and no insert waits for another.
//!
//! `ZEROAUTH_STORM_SECONDS` changes its length.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Error};
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::storm_writer::Writer;
use crate::support::{SetOnDrop, Sql, assert_whole};

const CONNECTIONS: u32 = 40;

/// What one connection knows for certain.
#[derive(Default)]
struct Known {
    stored: Vec<String>,
    absent: Vec<String>,
    unexpected: Vec<String>,
    connections_lost: u32,
}

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
    // A later trigger that drops rows: a superuser may have made one.
    cluster.client().run(
        "CREATE EXTENSION zeroauth_audit;
         CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         SET zeroauth_audit.maintenance = on;
         CREATE TRIGGER zzzz_later BEFORE INSERT ON audit_events FOR EACH ROW WHEN (NEW.action = 'dropped') EXECUTE FUNCTION drop_row()",
    );

    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let over = AtomicBool::new(false);
    let waits = Mutex::new(Vec::new());
    let known: Vec<Known> = thread::scope(|scope| {
        let writers: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                scope.spawn({
                    let cluster = &cluster;
                    move || write(cluster, number, until)
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
    for gid in client.lines("SELECT gid FROM pg_prepared_xacts") {
        client.run(&format!("ROLLBACK PREPARED '{gid}'"));
    }
    judge(&cluster, &mut client, &known);
    assert_eq!(*waits.lock().unwrap(), [] as [&str; 0], "sessions seen waiting for a lock");
}

fn judge(cluster: &Cluster, client: &mut Client, known: &[Known]) {
    let unexpected: Vec<&String> = known.iter().flat_map(|k| &k.unexpected).collect();
    assert!(
        unexpected.is_empty(),
        "{} errors, such as {:?}",
        unexpected.len(),
        &unexpected[..unexpected.len().min(5)]
    );
    assert!(known.iter().all(|k| k.connections_lost >= 1), "the crashes reach every connection");
    client.run("CREATE TEMP TABLE known (event_id uuid, stored boolean)");
    let mut copy = client.copy_in("COPY known FROM STDIN").unwrap();
    for k in known {
        for (ids, stored) in [(&k.stored, 't'), (&k.absent, 'f')] {
            for id in ids {
                writeln!(copy, "{id}\t{stored}").unwrap();
            }
        }
    }
    copy.finish().unwrap();
    client.run("ANALYZE known; ANALYZE audit_events");
    let acknowledged: u32 = client.line("SELECT count(*) FROM known WHERE stored").parse().unwrap();
    assert!(acknowledged > 2_000, "only {acknowledged} events were acknowledged");
    assert_eq!(client.line("SELECT count(*) FROM known k WHERE stored AND NOT EXISTS (SELECT FROM audit_events e WHERE e.event_id = k.event_id)"), "0", "acknowledged events lost");
    assert_eq!(client.line("SELECT count(*) FROM known k WHERE NOT stored AND EXISTS (SELECT FROM audit_events e WHERE e.event_id = k.event_id)"), "0", "events stored that were rolled back");
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
    assert!(
        !log.contains("PANIC") && !log.contains("was terminated by signal"),
        "only the two crashes asked for"
    );
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

/// One connection's life: appends until the time is over, and connects again when the server is back.
fn write(cluster: &Cluster, number: u32, until: Instant) -> Known {
    let mut known = Known::default();
    let mut writer = Writer::new(number);
    while Instant::now() < until {
        let mut client = None;
        wait_until(Duration::from_secs(60), "the server to be back", || {
            client = cluster.try_client().ok();
            client.is_some()
        });
        let mut client = client.unwrap();
        while Instant::now() < until {
            let (mut stored, mut absent) = (Vec::new(), Vec::new());
            match writer.step(&mut client, &mut stored, &mut absent) {
                Ok(()) => {
                    known.stored.append(&mut stored);
                    known.absent.append(&mut absent);
                }
                // Whether the statement in flight was committed is unknown: it counts for neither.
                Err(error) if connection_lost(&error) => {
                    known.connections_lost += 1;
                    break;
                }
                Err(error) => {
                    known.unexpected.push(
                        error
                            .as_db_error()
                            .map_or(error.to_string(), |e| format!("{} {}", e.code().code(), e.message())),
                    );
                    break;
                }
            }
        }
    }
    known
}

fn connection_lost(error: &Error) -> bool {
    match error.as_db_error() {
        Some(error) => ["57P01", "57P02", "57P03"].contains(&error.code().code()),
        None => true,
    }
}
