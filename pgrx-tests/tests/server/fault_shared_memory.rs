//! A full lock table: an insert that finds no room for its chain's lock fails with PostgreSQL's own error and hint, nothing
//! is unchained, and everything goes on once there is room.

use postgres::Client;
use zeroauth_audit_tests::Cluster;

use crate::support::{Sql, assert_clean_log, assert_nothing_is_held, assert_whole, audit::verdict, held_by};

const ONE: &str = "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING chain, seq";

/// Takes locks until there is room for no more; an error does not give session locks back.
#[track_caller]
fn fill(client: &mut Client) {
    let refusal = client.refusal("SELECT count(pg_advisory_lock(i)) FROM generate_series(1, 1000000) i");
    assert_eq!(refusal.code, "53200", "{refusal:?}");
}

#[track_caller]
fn refused(client: &mut Client, sql: &str) {
    let refusal = client.refused("53200", sql);
    assert_eq!(refusal.message, "out of shared memory");
    assert!(refusal.hint.contains("max_locks_per_transaction"), "PostgreSQL's hint stays: {refusal:?}");
}

#[test]
fn an_insert_without_room_for_its_lock_is_refused_with_postgresql_s_hint_and_leaves_no_gap() {
    let cluster = Cluster::builder("fault_locks")
        .conf("max_locks_per_transaction", "20")
        .conf("max_connections", "10")
        // A job that ends between the filling and the insert makes room.
        .conf("zeroauth_audit.worker", "off")
        .start()
        .unwrap();
    let (mut filler, mut client) = (cluster.client(), cluster.client());
    client.run("CREATE EXTENSION zeroauth_audit");
    assert_eq!(client.line(ONE), "0|1");

    for max_chains in [0, 1] {
        client.run(&format!("SET zeroauth_audit.max_chains = {max_chains}"));
        fill(&mut filler);
        refused(&mut client, ONE);
        client.run("BEGIN; SAVEPOINT a");
        refused(&mut client, ONE);
        client.run("ROLLBACK TO a; COMMIT");
        assert_nothing_is_held(&mut client);
        filler.run("SELECT pg_advisory_unlock_all()");
        assert_eq!(client.line(ONE), format!("0|{}", 2 + max_chains));
    }
    client.run("RESET zeroauth_audit.max_chains");

    // In the middle of a statement: some of its locks fit.
    fill(&mut filler);
    filler.run("SELECT count(pg_advisory_unlock(i)) FROM generate_series(1, 60) i");
    let many = "INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i, 'x' FROM generate_series(1, 2000) i";
    client
        .run("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('globex', 'before'); SAVEPOINT a");
    refused(&mut client, many);
    client.run("ROLLBACK TO a");
    assert_eq!(held_by(&mut client), 1, "the lock of the row before");
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('globex', 'after'); COMMIT");
    refused(&mut client, many);
    assert_nothing_is_held(&mut client);
    assert_eq!(verdict(&mut client, "globex"), "t|2|1|0|{}");

    filler.run("SELECT pg_advisory_unlock_all()");
    client.run(many);
    assert_eq!(
        client
            .line("SELECT count(*), max(chain), max(seq) FROM audit_events WHERE tenant_id LIKE 'tenant %'"),
        "2000|0|1"
    );
    assert_whole(&mut client);
    assert_clean_log(&cluster);
}
