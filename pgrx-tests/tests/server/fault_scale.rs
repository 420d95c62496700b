//! Many of everything: two hundred connections over a thousand tenants, and one transaction over a hundred thousand.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use zeroauth_audit_tests::Cluster;

use crate::support::{Sql, assert_clean_log, assert_nothing_is_held, assert_whole, held_by, pages};

const CONNECTIONS: usize = 200;

#[test]
fn two_hundred_connections_over_a_thousand_tenants_never_fail_and_never_wait() {
    let cluster = Cluster::builder("fault_scale")
        .conf("max_connections", "220")
        .conf("log_lock_waits", "on")
        .conf("deadlock_timeout", "1s")
        // What would wait for ever fails.
        .conf("lock_timeout", "20s")
        .conf("synchronous_commit", "off")
        .start()
        .unwrap();
    cluster.client().run("CREATE EXTENSION zeroauth_audit");
    let all_connected = Barrier::new(CONNECTIONS);
    let appended: u64 = thread::scope(|scope| {
        let writers: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let (cluster, all_connected) = (&cluster, &all_connected);
                scope.spawn(move || {
                    let mut rng = Rng::with_seed(number as u64);
                    let mut client = cluster.client();
                    all_connected.wait();
                    let until = Instant::now() + Duration::from_secs(6);
                    let mut appended = 0;
                    while Instant::now() < until {
                        let (first, second) = (rng.u32(0..1000), rng.u32(0..1000));
                        // In any order of tenants: with locks that wait this would deadlock.
                        client.run(&format!(
                            "BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('tenant {first}', 'x'), ('tenant {second}', 'x'); INSERT INTO audit_events (tenant_id, action) VALUES ('tenant {first}', 'y'); COMMIT"
                        ));
                        appended += 3;
                    }
                    appended
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    let mut client = cluster.client();
    assert!(appended > 3 * CONNECTIONS as u64, "{appended} events of {CONNECTIONS} connections");
    assert_eq!(
        client.line("SELECT count(*), bool_and(tenant_id LIKE 'tenant %') FROM audit_events"),
        format!("{appended}|t")
    );
    assert_whole(&mut client);
    assert_nothing_is_held(&mut client);
    let log = cluster.log();
    // Two sessions may wait for a moment to extend the table's file, or for the buffer of the same page; that is no wait
    // for an insert.
    let waited: Vec<&str> =
        log.lines().filter(|line| line.contains("still waiting for") && line.contains("advisory")).collect();
    assert_eq!(waited, [] as [&str; 0]);
    assert!(!log.contains(" ERROR: "), "an error in the server log");
    assert_clean_log(&cluster);
}

#[test]
fn one_transaction_over_a_hundred_thousand_tenants_holds_at_most_256_locks_and_its_work_grows_with_them_alone()
 {
    // The default size of the lock table, and everything else as it comes.
    let cluster = Cluster::builder("fault_tenants").conf("max_connections", "100").start().unwrap();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit; SET synchronous_commit = off");
    assert_eq!(client.line("SHOW max_locks_per_transaction"), "64");
    // Returns the pages looked at for each tenant.
    let mut insert = |prefix: &str, tenants: u32| {
        client.run("BEGIN");
        let pages = pages(
            &mut client,
            &format!(
                "INSERT INTO audit_events (tenant_id, action) SELECT '{prefix} ' || i, 'x' FROM generate_series(1, {tenants}) i"
            ),
        );
        let held = held_by(&mut client);
        assert!((200..=256).contains(&held), "{held} locks");
        client.run("COMMIT");
        pages as f64 / f64::from(tenants)
    };
    let (few, many) = (insert("few", 10_000), insert("many", 100_000));
    println!("{few:.1} pages a tenant of 10,000, {many:.1} of 100,000");
    // The trees of the indexes get a level higher.
    assert!(many < few * 2.0, "{few:.1} pages a tenant of 10,000, {many:.1} of 100,000");
    assert_eq!(client.line("SELECT count(*), max(chain), max(seq) FROM audit_events"), "110000|0|1");
    assert_eq!(
        client.line("SELECT count(*), bool_and(ok), sum(events) FROM audit_verify()"),
        "110000|t|110000"
    );
    assert_nothing_is_held(&mut client);
    assert_clean_log(&cluster);
}
