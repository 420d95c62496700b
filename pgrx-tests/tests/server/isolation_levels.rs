//! Concurrency told by plain connections: no wait, no fork, no serialization failure of ours, at any isolation level.

use std::sync::Barrier;
use std::thread;

use crate::support::{Database, Sql, assert_whole, verdict};

const ONE: &str =
    "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING chain || '/' || seq";

#[test]
fn pitfall_01_concurrent_inserts_fork_no_chain() {
    let database = Database::audited("levels_fork");
    let (threads, rounds) = (12, 150);
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        for thread in 0..threads {
            let (database, start) = (&database, &start);
            scope.spawn(move || {
                let mut client = database.client();
                client.run("SET lock_timeout = '2s'");
                start.wait();
                for round in 0..rounds {
                    let level = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"][(thread + round) % 3];
                    client.run(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1"));
                    client.run(
                        "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'), ('acme', 'y')",
                    );
                    client.run(if (thread * 7 + round) % 5 == 0 { "ROLLBACK" } else { "COMMIT" });
                }
            });
        }
    });
    let mut client = database.client();
    assert_eq!(client.line("SELECT count(*) FROM audit_events"), (threads * rounds * 4 / 5 * 2).to_string());
    assert!(
        client.line("SELECT max(chain) FROM audit_events").parse::<usize>().unwrap() < threads,
        "never more chains than transactions"
    );
    assert_whole(&mut client);
}

#[test]
fn pitfall_02_a_request_that_audits_on_two_connections_does_not_hang() {
    let database = Database::audited("levels_two");
    let (mut outer, mut inner) = (database.client(), database.client());
    inner.run("SET lock_timeout = '1s'");
    outer.run("BEGIN");
    assert_eq!(outer.line(ONE), "0/1");
    assert_eq!(inner.line(ONE), "1/1");
    assert_eq!(inner.line(ONE), "1/2");
    assert_eq!(outer.line(ONE), "0/2");
    outer.run("COMMIT");
    assert_eq!(database.client().line(ONE), "0/3", "the first free chain is taken again");
    assert_whole(&mut inner);
}

#[test]
fn pitfall_03_application_lock_order_never_deadlocks_with_an_audit_insert() {
    let database = Database::audited("levels_order");
    let (mut first, mut second) = (database.client(), database.client());
    first.run("CREATE TABLE account (id int PRIMARY KEY, balance int); INSERT INTO account VALUES (1, 100)");
    for client in [&mut first, &mut second] {
        client.run("SET deadlock_timeout = '10ms'; SET lock_timeout = '20s'");
    }
    first.run("BEGIN; UPDATE account SET balance = 0 WHERE id = 1");
    second.run("BEGIN");
    assert_eq!(second.line(ONE), "0/1");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| second.run("UPDATE account SET balance = 1 WHERE id = 1; COMMIT"));
        assert_eq!(first.line(ONE), "1/1");
        first.run("COMMIT");
        waiting.join().unwrap();
    });
    assert_whole(&mut first);
}

#[test]
fn pitfall_04_no_tenant_waits_for_another_even_in_one_lock_bucket() {
    let database = Database::audited("levels_tenants");
    let (mut first, mut second) = (database.client(), database.client());
    second.run("SET lock_timeout = '1s'");
    first.run("BEGIN");
    // More tenants than there are buckets: every bucket's first chain is taken.
    first.run(
        "INSERT INTO audit_events (tenant_id, action) SELECT 'a' || i, 'x' FROM generate_series(1, 5000) i",
    );
    second.run(
        "INSERT INTO audit_events (tenant_id, action) SELECT 'b' || i, 'x' FROM generate_series(1, 500) i",
    );
    // Of one tenant alone, the first chain is 0 even when its neighbours are busy somewhere else.
    assert_eq!(second.line("SELECT count(*), max(chain) FROM audit_events"), "500|1");
    first.run("COMMIT");
    assert_whole(&mut first);
}

#[test]
fn pitfall_05_seq_does_not_come_from_time_or_from_a_sequence() {
    let database = Database::audited("levels_time");
    let (mut early, mut late) = (database.client(), database.client());
    early.run("BEGIN; SELECT now()");
    assert_eq!(late.line(ONE), "0/1");
    assert_eq!(early.line(ONE), "0/2");
    early.run("COMMIT");
    late.run("INSERT INTO audit_events (tenant_id, action, occurred_at) VALUES ('acme', 'x', '-infinity'), ('acme', 'x', 'infinity'), ('acme', 'x', '1970-01-01')");
    assert_eq!(verdict(&mut late, "acme"), "t|5|1|0|{}");
    assert_eq!(
        late.line(
            "SELECT count(*) FROM pg_depend d JOIN pg_class s ON s.oid = d.objid WHERE s.relkind = 'S' AND d.refobjid = 'audit_events'::regclass"
        ),
        "0"
    );
    assert_whole(&mut late);
}

#[test]
fn pitfall_06_an_old_snapshot_continues_the_newest_head() {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let database = Database::audited("levels_snapshot");
        let (mut old, mut new) = (database.client(), database.client());
        new.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
        old.run(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1"));
        assert_eq!(new.line(ONE), "0/2");
        assert_eq!(new.line(ONE), "0/3");
        assert_eq!(old.line(ONE), "0/4", "{level}");
        assert_eq!(new.line(ONE), "1/1");
        assert_eq!(old.line(ONE), "0/5", "{level}");
        old.run("COMMIT");
        assert_whole(&mut new);
    }
}

#[test]
fn serializable_appends_never_fail_each_other() {
    let database = Database::audited("levels_serializable");
    thread::scope(|scope| {
        for thread in 0..6 {
            let database = &database;
            scope.spawn(move || {
                let mut client = database.client();
                client.run("SET default_transaction_isolation = 'serializable'");
                for _ in 0..100 {
                    client.run(&format!("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'); INSERT INTO audit_events (tenant_id, action) VALUES ('tenant {thread}', 'x'); COMMIT"));
                }
            });
        }
    });
    let mut client = database.client();
    assert_eq!(client.line("SELECT count(*) FROM audit_events WHERE tenant_id = 'acme'"), "600");
    assert_whole(&mut client);
}

#[test]
fn the_lock_s_tag_is_never_that_of_an_application_s_advisory_lock() {
    let database = Database::audited("levels_advisory");
    let (mut first, mut second) = (database.client(), database.client());
    first.run("BEGIN");
    assert_eq!(first.line(ONE), "0/1");
    let lock = first.line(
        "SELECT objsubid, mode, granted FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    );
    assert_eq!(lock, "23105|ExclusiveLock|t");
    // The same numbers as an application's locks: free for it to take.
    let (class, object) = (
        first.line("SELECT classid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"),
        first.line("SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"),
    );
    assert_eq!(second.line(&format!("SELECT pg_try_advisory_lock({class}, {object}), pg_try_advisory_lock(({class}::bigint << 32) | {object})")), "t|t");
    first.run("SELECT pg_advisory_unlock_all()");
    assert_eq!(second.line(ONE), "1/1", "the chain is still held");
    first.run("COMMIT");
    assert_eq!(database.client().line(ONE), "0/2");
}
