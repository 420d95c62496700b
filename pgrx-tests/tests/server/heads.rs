//! The head of a chain in shared memory: used while it is true, and never when it is not.

use std::io::{Read, Write};

use postgres::Client;
use zeroauth_audit_tests::Cluster;

use crate::support::{Database, Sql, assert_whole};

/// One append, and the place it got.
const ONE: &str =
    "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING chain || '/' || seq";

/// How often the primary key has been searched, by all sessions given.
fn searches(clients: &mut [Client]) -> u32 {
    for client in &mut *clients {
        client.run("SELECT pg_stat_force_next_flush()");
        client.run("SELECT 1"); // statistics are sent between statements
    }
    clients[0]
        .line("SELECT idx_scan FROM pg_stat_all_indexes WHERE indexrelname = 'audit_events_pkey'")
        .parse()
        .unwrap()
}

#[test]
fn an_append_to_a_chain_whose_head_is_in_shared_memory_searches_no_index() {
    let cluster = Cluster::audited("heads").unwrap();
    let mut clients = [cluster.client(), cluster.client()];
    clients[0].line(ONE);
    let first = searches(&mut clients);
    for n in 2..60 {
        assert_eq!(clients[n % 2].line(ONE), format!("0/{n}"));
    }
    assert_eq!(searches(&mut clients), first, "searches for the head");
    // Nor does one inside of savepoints, as client libraries make them.
    for n in (60..100).step_by(2) {
        let client = &mut clients[n / 2 % 2];
        client.run("BEGIN; SAVEPOINT one");
        assert_eq!(client.line(ONE), format!("0/{n}"));
        client.run("RELEASE one; SAVEPOINT two");
        assert_eq!(client.line(ONE), format!("0/{}", n + 1));
        client.run("RELEASE two; COMMIT");
    }
    let saved = searches(&mut clients) - first;
    // One of the two in a transaction: the second savepoint has a memory of its own.
    assert!(saved <= 20, "{saved} searches for 20 transactions with two savepoints");
    let first = first + saved;
    // What does not commit leaves no head, and the next append searches, once.
    clients[0].run("BEGIN");
    assert_eq!(clients[0].line(ONE), "0/100");
    clients[0].run("ROLLBACK");
    assert_eq!(clients[1].line(ONE), "0/100");
    assert_eq!(clients[0].line(ONE), "0/101");
    let after = searches(&mut clients);
    assert!((first + 1..=first + 2).contains(&after), "{first} searches, then {after}");
    assert_whole(&mut clients[0]);
}

#[test]
fn the_next_append_is_right_after_every_way_a_transaction_can_end() {
    let database = Database::audited("heads_endings");
    let (mut first, mut second) = (database.client(), database.client());
    first.run(
        "CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         SET zeroauth_audit.maintenance = on;
         CREATE TRIGGER zzzz_later BEFORE INSERT ON audit_events FOR EACH ROW WHEN (NEW.action = 'dropped') EXECUTE FUNCTION drop_row();
         RESET zeroauth_audit.maintenance;
         CREATE TABLE orders (id int);
         CREATE FUNCTION audit_order() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
            INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'order'); RETURN NULL; END$$;
         CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_order();
         INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('acme', '00000000-0000-7000-8000-000000000001', 'known')",
    );
    let row = "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')";
    let twin = "INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('acme', '00000000-0000-7000-8000-000000000001', 'twin') ON CONFLICT DO NOTHING";
    let dropped = "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'dropped')";
    let caught =
        format!("DO $do$ BEGIN {row}; PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END $do$");
    // The statements of a transaction, and how many events it leaves.
    let endings: Vec<(String, usize)> = vec![
        (row.into(), 1),
        (format!("BEGIN; {row}; {row}; COMMIT"), 2),
        (format!("BEGIN; {row}; ROLLBACK"), 0),
        (twin.into(), 0),
        (dropped.into(), 0),
        (format!("BEGIN; {row}; {twin}; COMMIT"), 1),
        (format!("BEGIN; {row}; {dropped}; COMMIT"), 1),
        (format!("BEGIN; {row}; {twin}; {row}; COMMIT"), 2),
        (format!("BEGIN; {row}; SAVEPOINT a; {row}; ROLLBACK TO a; COMMIT"), 1),
        (format!("BEGIN; {row}; SAVEPOINT a; {row}; RELEASE a; COMMIT"), 2),
        (format!("BEGIN; SAVEPOINT a; {row}; ROLLBACK TO a; {row}; COMMIT"), 1),
        (format!("BEGIN; {row}; SAVEPOINT a; {row}; ROLLBACK TO a; {row}; COMMIT"), 2),
        (format!("BEGIN; SAVEPOINT a; {row}; RELEASE a; {row}; COMMIT"), 2),
        (format!("BEGIN; SAVEPOINT a; {row}; RELEASE a; SAVEPOINT b; {row}; RELEASE b; COMMIT"), 2),
        (format!("BEGIN; SAVEPOINT a; {row}; SAVEPOINT b; {row}; RELEASE b; {row}; RELEASE a; {row}; COMMIT"), 4),
        (format!("BEGIN; SAVEPOINT a; {row}; SAVEPOINT b; {row}; RELEASE b; ROLLBACK TO a; {row}; COMMIT"), 1),
        (format!("BEGIN; SAVEPOINT a; {row}; SAVEPOINT b; {row}; RELEASE b; ROLLBACK TO a; COMMIT"), 0),
        (format!("BEGIN; {row}; SAVEPOINT a; {row}; RELEASE a; SAVEPOINT b; {row}; ROLLBACK TO b; COMMIT"), 2),
        (format!("BEGIN; SAVEPOINT a; {row}; {twin}; RELEASE a; COMMIT"), 1),
        (format!("BEGIN; SAVEPOINT a; {dropped}; RELEASE a; {row}; COMMIT"), 1),
        (format!("BEGIN; SAVEPOINT a; {row}; {dropped}; RELEASE a; COMMIT"), 1),
        (format!("BEGIN; SAVEPOINT a; SET LOCAL track_counts = off; {row}; RELEASE a; {row}; COMMIT"), 2),
        (format!("BEGIN; SAVEPOINT a; {row}; RELEASE a; PREPARE TRANSACTION 'heads_p'; COMMIT PREPARED 'heads_p'"), 1),
        (format!("BEGIN; SAVEPOINT a; {row}; RELEASE a; ROLLBACK"), 0),
        (format!("BEGIN; {row}; {caught}; COMMIT"), 1),
        (format!("BEGIN; {caught}; COMMIT"), 0),
        (format!("BEGIN; {row}; PREPARE TRANSACTION 'heads_p'; COMMIT PREPARED 'heads_p'"), 1),
        (format!("BEGIN; {row}; PREPARE TRANSACTION 'heads_p'; ROLLBACK PREPARED 'heads_p'"), 0),
        ("BEGIN; INSERT INTO orders VALUES (1), (2); COMMIT".into(), 2),
        (format!("BEGIN; {row}; INSERT INTO orders VALUES (3); COMMIT"), 2),
        ("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', CASE WHEN i % 3 = 0 THEN 'dropped' ELSE 'x' END FROM generate_series(1, 9) i".into(), 6),
        (format!("BEGIN; SET LOCAL track_counts = off; {row}; COMMIT"), 1),
        (format!("BEGIN; SET LOCAL zeroauth_audit.max_chains = 1; {row}; COMMIT"), 1),
    ];
    let mut seq = 1;
    for (number, (statements, events)) in endings.iter().chain(endings.iter().rev()).enumerate() {
        let (one, other) =
            if number % 2 == 0 { (&mut first, &mut second) } else { (&mut second, &mut first) };
        // Statement by statement: a prepared transaction ends the message's own.
        for statement in statements.split_inclusive(';').filter(|_| !statements.contains("DO $do$")) {
            one.run(statement);
        }
        if statements.contains("DO $do$") {
            one.run(statements);
        }
        seq += events;
        for client in [other, one] {
            seq += 1;
            assert_eq!(client.line(ONE), format!("0/{seq}"), "after: {statements}");
        }
    }
    assert_whole(&mut first);
}

#[test]
fn review_1_14_rows_that_came_without_the_chain_s_lock_make_heads_in_shared_memory_void() {
    let database = Database::audited("heads_outsiders");
    let mut client = database.client();
    for n in 1..=6 {
        assert_eq!(client.line(ONE), format!("0/{n}"));
    }
    // A copy of the trail goes on, and its next event comes back here as replication would bring it.
    drop(client);
    let copy = Database::create("heads_copy", &format!("TEMPLATE {}", database.name));
    assert_eq!(copy.client().line(ONE), "0/7");
    let mut row = Vec::new();
    copy.client()
        .copy_out("COPY (SELECT * FROM audit_events WHERE seq = 7) TO STDOUT")
        .unwrap()
        .read_to_end(&mut row)
        .unwrap();
    let bring = |client: &mut Client| {
        let mut copy = client.copy_in("COPY audit_events FROM STDIN").unwrap();
        copy.write_all(&row).unwrap();
        assert_eq!(copy.finish().unwrap(), 1);
    };
    // Here the head that is in shared memory is number 6.
    let (mut one, mut other) = (database.client(), database.client());
    one.run("BEGIN");
    bring(&mut one);
    one.run("ROLLBACK");
    bring(&mut one);
    assert_eq!(other.line(ONE), "0/8");
    assert_eq!(other.line(ONE), "0/9");
    assert_whole(&mut other);

    // A change under maintenance: the newest two are gone, and the chain goes on from what is there.
    one.run("SET zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE seq > 7");
    assert_eq!(other.line(ONE), "0/8");
    assert_whole(&mut other);
    one.run("TRUNCATE audit_events");
    assert_eq!(other.line(ONE), "0/1");
    assert_eq!(other.line(ONE), "0/2");
    assert_whole(&mut other);

    // The same, committed by somebody else: what a prepared transaction brings is not known to whoever commits it.
    one.run("TRUNCATE audit_events");
    drop((one, other));
    for n in 1..=6 {
        assert_eq!(database.client().line(ONE), format!("0/{n}"));
    }
    let copy = Database::create("heads_prepared", &format!("TEMPLATE {}", database.name));
    assert_eq!(copy.client().line(ONE), "0/7");
    assert_eq!(copy.client().line(ONE), "0/8");
    let mut row = Vec::new();
    copy.client()
        .copy_out("COPY (SELECT * FROM audit_events WHERE seq = 8) TO STDOUT")
        .unwrap()
        .read_to_end(&mut row)
        .unwrap();
    let (mut one, mut other) = (database.client(), database.client());
    one.run("BEGIN");
    let mut load = one.copy_in("COPY audit_events FROM STDIN").unwrap();
    load.write_all(&row).unwrap();
    load.finish().unwrap();
    one.run("PREPARE TRANSACTION 'heads_outsider'");
    // Number 8 is there and not to be seen yet; number 7 comes from here, and is the head in shared memory.
    assert_eq!(one.line(ONE), "0/7");
    other.run("COMMIT PREPARED 'heads_outsider'");
    assert_eq!(one.line(ONE), "0/9");
}
