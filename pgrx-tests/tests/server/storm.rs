//! Forty connections append in every way at once while the server is crashed twice: no acknowledged event is lost, no
//! chain has a gap or a fork, nothing fails but the connection, and no insert waits for another.
//!
//! `ZEROAUTH_STORM_SECONDS` changes its length.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use postgres::{Client, Error};
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::{Sql, assert_whole};

const CONNECTIONS: u32 = 40;

/// What one connection knows for certain.
#[derive(Default)]
struct Known {
    stored: Vec<String>,
    absent: Vec<String>,
    unexpected: Vec<String>,
    connections_lost: u32,
}

struct Writer {
    rng: Rng,
    number: u32,
    events: u32,
    /// Ids of this connection's acknowledged events of tenant `hot`, for retries.
    acknowledged: Vec<String>,
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
        for part in [1.0, 2.0] {
            thread::park_timeout(until.saturating_duration_since(Instant::now()).mul_f64(if part == 1.0 {
                1.0 / 3.0
            } else {
                0.5
            }));
            cluster.crash().unwrap();
            cluster.start_again().unwrap();
        }
        let known = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        known
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
    let mut writer =
        Writer { rng: Rng::with_seed(u64::from(number)), number, events: 0, acknowledged: Vec::new() };
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

/// Takes one expected error for success.
fn expect(result: Result<(), Error>, code: &str) -> Result<(), Error> {
    match result {
        Err(error) if error.as_db_error().is_some_and(|e| e.code().code() == code) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => panic!("went through, {code} was expected"),
    }
}

impl Writer {
    fn id(&mut self) -> String {
        self.events += 1;
        format!("{:08x}-0000-7000-8000-{:012x}", self.number, self.events)
    }

    fn tenant(&mut self) -> String {
        if self.rng.u8(0..10) < 6 { "hot".into() } else { format!("tenant {}", self.rng.u8(0..20)) }
    }

    /// An INSERT of `count` events, with their ids.
    fn insert(&mut self, count: usize) -> (String, Vec<String>) {
        let ids: Vec<String> = (0..count).map(|_| self.id()).collect();
        let rows: Vec<String> = ids
            .iter()
            .map(|id| format!("('{}', '{id}', 'storm', '{{\"n\": {}}}')", self.tenant(), self.events))
            .collect();
        (
            format!(
                "INSERT INTO audit_events (tenant_id, event_id, action, details) VALUES {}",
                rows.join(", ")
            ),
            ids,
        )
    }

    /// One transaction of some kind; what it leaves behind is in `stored` and `absent` if it returns Ok.
    fn step(
        &mut self,
        client: &mut Client,
        stored: &mut Vec<String>,
        absent: &mut Vec<String>,
    ) -> Result<(), Error> {
        match self.rng.u8(0..14) {
            0..=3 => self.plain(client, stored),
            4 => self.conflict(client, stored, absent),
            5 => self.savepoints(client, stored, absent),
            6 => self.exception_block(client, stored, absent),
            7 => self.copy(client, stored),
            8 => self.insert_select(client),
            9 => self.prepared(client, stored, absent),
            10 => self.snapshot(client, stored, absent),
            11 => self.refused(client, absent),
            12 => self.dropped(client, stored, absent),
            _ => self.long(client, stored),
        }
    }

    fn plain(&mut self, client: &mut Client, stored: &mut Vec<String>) -> Result<(), Error> {
        let (count, id) = (self.rng.usize(1..4), self.id());
        let (sql, mut ids) = self.insert(count);
        client.batch_execute(&sql)?;
        stored.append(&mut ids);
        client.batch_execute(&format!(
            "INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('hot', '{id}', 'to retry')"
        ))?;
        self.acknowledged.push(id.clone());
        stored.push(id);
        Ok(())
    }

    fn conflict(
        &mut self,
        client: &mut Client,
        stored: &mut Vec<String>,
        absent: &mut Vec<String>,
    ) -> Result<(), Error> {
        let Some(known) = self.rng.choice(&self.acknowledged).cloned() else { return Ok(()) };
        let (before, after) = (self.id(), self.id());
        let row = |id: &str, action: &str| format!("('hot', '{id}', '{action}')");
        let rows = [
            row(&before, "new"),
            row(&known, "dropped by the key"),
            row(&after, "new"),
            row(&before, "twin"),
        ]
        .join(", ");
        let keep = self.rng.bool();
        client.batch_execute(&format!(
            "BEGIN; INSERT INTO audit_events (tenant_id, event_id, action) VALUES {rows} ON CONFLICT DO NOTHING; {}",
            if keep { "COMMIT" } else { "ROLLBACK" }
        ))?;
        if keep { stored } else { absent }.extend([before, after]);
        Ok(())
    }

    fn savepoints(
        &mut self,
        client: &mut Client,
        stored: &mut Vec<String>,
        absent: &mut Vec<String>,
    ) -> Result<(), Error> {
        client.batch_execute("BEGIN")?;
        for _ in 0..self.rng.u8(1..5) {
            let (kept, ids) = self.insert(1);
            client.batch_execute(&kept)?;
            stored.extend(ids);
            let (sql, ids) = self.insert(2);
            let back = self.rng.bool();
            client.batch_execute(&format!(
                "SAVEPOINT a; {sql}; {}",
                if back { "ROLLBACK TO a" } else { "RELEASE a" }
            ))?;
            if back { &mut *absent } else { &mut *stored }.extend(ids);
        }
        client.batch_execute("COMMIT")
    }

    fn exception_block(
        &mut self,
        client: &mut Client,
        stored: &mut Vec<String>,
        absent: &mut Vec<String>,
    ) -> Result<(), Error> {
        let (kept, kept_ids) = self.insert(2);
        let (lost, lost_ids) = self.insert(3);
        let (after, after_ids) = self.insert(1);
        client.batch_execute(&format!("DO $do$ BEGIN {kept}; BEGIN {lost}; PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END; {after}; END $do$"))?;
        stored.extend(kept_ids.into_iter().chain(after_ids));
        absent.extend(lost_ids);
        Ok(())
    }

    fn copy(&mut self, client: &mut Client, stored: &mut Vec<String>) -> Result<(), Error> {
        let ids: Vec<String> = (0..self.rng.u8(1..30)).map(|_| self.id()).collect();
        let lines: String = ids.iter().map(|id| format!("{}\t{id}\tcopied\n", self.tenant())).collect();
        let mut copy = client.copy_in("COPY audit_events (tenant_id, event_id, action) FROM STDIN")?;
        if copy.write_all(lines.as_bytes()).is_ok() {
            copy.finish()?;
            stored.extend(ids);
        }
        Ok(())
    }

    fn insert_select(&mut self, client: &mut Client) -> Result<(), Error> {
        client.batch_execute("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 20, 'selected' FROM generate_series(1, 40) i")
    }

    fn prepared(
        &mut self,
        client: &mut Client,
        stored: &mut Vec<String>,
        absent: &mut Vec<String>,
    ) -> Result<(), Error> {
        let (sql, ids) = self.insert(2);
        let gid = format!("storm {} {}", self.number, self.events);
        client.batch_execute(&format!("BEGIN; {sql}; PREPARE TRANSACTION '{gid}'"))?;
        let (between, more) = self.insert(1);
        client.batch_execute(&between)?;
        stored.extend(more);
        let keep = self.rng.bool();
        client.batch_execute(&format!("{} PREPARED '{gid}'", if keep { "COMMIT" } else { "ROLLBACK" }))?;
        if keep { stored } else { absent }.extend(ids);
        Ok(())
    }

    fn snapshot(
        &mut self,
        client: &mut Client,
        stored: &mut Vec<String>,
        absent: &mut Vec<String>,
    ) -> Result<(), Error> {
        let level = ["REPEATABLE READ", "SERIALIZABLE"][self.rng.usize(0..2)];
        client.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1"))?;
        let (sql, ids) = self.insert(2);
        client.batch_execute(&sql)?;
        let keep = self.rng.u8(0..4) > 0;
        client.batch_execute(if keep { "COMMIT" } else { "ROLLBACK" })?;
        if keep { stored } else { absent }.extend(ids);
        Ok(())
    }

    fn refused(&mut self, client: &mut Client, absent: &mut Vec<String>) -> Result<(), Error> {
        let (sql, ids) = self.insert(2);
        expect(client.batch_execute(&format!("{sql}, ('hot', gen_random_uuid(), '', NULL)")), "23514")?;
        expect(
            client.batch_execute("INSERT INTO audit_events (tenant_id, action, seq) VALUES ('hot', 'x', 1)"),
            "ZA001",
        )?;
        expect(client.batch_execute("DELETE FROM audit_events WHERE tenant_id = 'nobody'"), "ZA003")?;
        absent.extend(ids);
        Ok(())
    }

    fn dropped(
        &mut self,
        client: &mut Client,
        stored: &mut Vec<String>,
        absent: &mut Vec<String>,
    ) -> Result<(), Error> {
        let (first, gone, last) = (self.id(), self.id(), self.id());
        client.batch_execute(&format!("INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('hot', '{first}', 'x'), ('hot', '{gone}', 'dropped'), ('hot', '{last}', 'x')"))?;
        stored.extend([first, last]);
        absent.push(gone);
        Ok(())
    }

    /// A transaction that holds its chains while the application is busy elsewhere.
    fn long(&mut self, client: &mut Client, stored: &mut Vec<String>) -> Result<(), Error> {
        let (sql, ids) = self.insert(3);
        client.batch_execute(&format!("BEGIN; {sql}; SELECT pg_sleep(0.03)"))?;
        let (sql, more) = self.insert(1);
        client.batch_execute(&format!("{sql}; COMMIT"))?;
        stored.extend(ids.into_iter().chain(more));
        Ok(())
    }
}
