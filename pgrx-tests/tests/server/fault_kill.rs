//! A server process that is killed, as the kernel does when the machine is out of memory: the server starts itself again,
//! and every chain is whole and has every acknowledged event.

use std::thread;
use std::time::Duration;

use postgres::Client;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::{Backend, Sql, assert_clean_log_but, assert_whole, audit::verdict};

/// A connection, once the server is back.
#[track_caller]
fn when_back(cluster: &Cluster) -> Client {
    let mut client = None;
    wait_until(Duration::from_secs(60), "the server to be back", || {
        client = cluster.try_client().ok();
        client.as_mut().is_some_and(|client| client.simple_query("SELECT 1").is_ok())
    });
    client.unwrap()
}

#[test]
fn a_process_killed_in_the_middle_of_an_insert_or_of_a_verification_costs_no_event() {
    let cluster = Cluster::audited("fault_kill").unwrap();
    let mut stored = 0;
    for sql in [
        "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'killed' FROM (SELECT generate_series(1, 1000000000) i) s",
        "SELECT count(v) FROM (SELECT audit_verify() v FROM generate_series(1, 1000000) OFFSET 0) rounds",
        "SELECT count(*) FROM generate_series(1, 1000000) g, LATERAL audit_verify('acme' || left(g::text, 0), 1000) v",
    ] {
        let (mut client, mut look) = (when_back(&cluster), when_back(&cluster));
        client.run(
            "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 5000) i",
        );
        stored += 5000;
        // An open transaction of another session dies with it.
        let mut other = when_back(&cluster);
        other.run("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'never committed')");
        // When it is not killed, the statement ends all the same.
        client.run("SET statement_timeout = '90s'");
        let backend = Backend::of(&mut client);
        thread::scope(|scope| {
            let running = scope.spawn(|| client.batch_execute(sql).unwrap_err());
            if sql.starts_with("INSERT") {
                backend.wait_until_it_appends(&mut look);
            } else {
                backend.wait_until_it_runs(&mut look);
            }
            backend.kill();
            assert!(running.join().unwrap().as_db_error().is_none(), "the connection is gone");
        });
        wait_until(Duration::from_secs(30), "the other sessions to be ended", || {
            other.simple_query("SELECT 1").is_err()
        });
        let mut client = when_back(&cluster);
        client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'after')");
        stored += 1;
        assert_eq!(verdict(&mut client, "acme"), format!("t|{stored}|1|0|{{}}"), "after: {sql}");
        assert_eq!(client.line("SELECT count(*) FROM audit_progress() WHERE what = 'verification'"), "0");
    }
    assert_whole(&mut when_back(&cluster));
    assert_clean_log_but(&cluster, &["was terminated by signal 9"]);
}
