//! What a verification looks at, what it says when it cannot, and that it looks from one snapshot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::audit::{export, place, reference_places};
use crate::support::{Database, SetOnDrop, Sql, assert_whole, findings};

/// One tenant with one chain of 20 events, maintenance on.
fn twenty(name: &str) -> (Database, postgres::Client) {
    let database = Database::audited(name);
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'step ' || i FROM generate_series(1, 20) i; SET zeroauth_audit.maintenance = on");
    (database, client)
}

#[test]
fn the_last_n_events_are_what_is_looked_at() {
    let (_database, mut client) = twenty("verify_n");
    for (n, checked) in [("1", 1), ("20", 20), ("21", 20), ("2147483647", 20), ("NULL", 20)] {
        assert_eq!(
            client.line(&format!("SELECT ok, events, findings FROM audit_verify('acme', {n})")),
            format!("t|{checked}|0"),
            "n = {n}"
        );
    }
    client.run("UPDATE audit_events SET action = 'forged' WHERE seq = 15");
    assert_eq!(
        client.line("SELECT ok, events, findings FROM audit_verify('acme', 5)"),
        "t|5|0",
        "events 16 to 20 are whole"
    );
    assert_eq!(findings(&mut client, "'acme', 5"), []);
    assert_eq!(client.line("SELECT ok, events, findings FROM audit_verify('acme', 6)"), "f|6|1");
    assert_eq!(findings(&mut client, "'acme', 6"), [place("content_mismatch", "acme", 0, 15)]);
    assert_eq!(findings(&mut client, "'acme'"), [place("content_mismatch", "acme", 0, 15)]);
    assert_eq!(
        findings(&mut client, "tenant => 'acme', n => 20"),
        [place("content_mismatch", "acme", 0, 15)]
    );
    client.run("DELETE FROM audit_events WHERE seq = 18");
    assert_eq!(findings(&mut client, "'acme', 4"), [place("gap", "acme", 0, 18)]);
    assert_eq!(client.line("SELECT ok FROM audit_verify('acme', 1)"), "t");
    client.run("UPDATE audit_events SET event_hash = sha256(event_hash) WHERE seq = 19");
    assert_eq!(
        findings(&mut client, "'acme', 2"),
        [
            place("content_mismatch", "acme", 0, 19),
            // The link of the first of them is part of it.
            place("gap", "acme", 0, 18),
            place("link_broken", "acme", 0, 20),
        ]
    );
}

#[test]
fn the_last_n_events_of_a_tenant_with_several_chains_are_counted_over_all_of_them() {
    let database = Database::audited("verify_chains");
    let mut holder = database.client();
    let mut client = database.client();
    holder.run(
        "BEGIN; INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 10)",
    );
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'y' FROM generate_series(1, 10)");
    holder.run("COMMIT");
    // Events y were recorded later than all x; the head of each chain is looked at whatever n is.
    for (n, checked) in [(1, 2), (2, 3), (5, 6), (10, 11), (11, 11), (19, 19), (20, 20), (30, 20)] {
        assert_eq!(
            client.line(&format!("SELECT ok, events FROM audit_verify('acme', {n})")),
            format!("t|{checked}"),
            "n = {n}"
        );
    }
}

#[test]
fn an_unknown_tenant_and_a_senseless_n_are_errors_of_their_own() {
    let (_database, mut client) = twenty("verify_errors");
    for call in [
        "audit_verify('nobody')",
        "audit_verify('')",
        "audit_verify('acme ')",
        "audit_verify('nobody', 5)",
        "audit_findings('nobody')",
    ] {
        let refusal = client.refused("ZA005", &format!("SELECT * FROM {call}"));
        assert!(!refusal.hint.is_empty(), "{refusal:?}");
    }
    for call in [
        "audit_verify('acme', 0)",
        "audit_verify('acme', -1)",
        "audit_verify('acme', -2147483648)",
        "audit_findings('acme', 0)",
        "audit_findings(NULL, 0)",
    ] {
        let refusal = client.refused("ZA009", &format!("SELECT * FROM {call}"));
        assert!(!refusal.hint.is_empty(), "{refusal:?}");
    }
    // NULL is every tenant.
    assert_eq!(
        client.lines("SELECT * FROM audit_verify(NULL)"),
        client.lines("SELECT * FROM audit_verify()")
    );
}

#[test]
fn pitfall_22_concurrent_appends_never_look_like_damage() {
    let database = Database::audited("verify_snapshot");
    database.client().run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 4, 'x' FROM generate_series(1, 4000) i");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = database.client();
                while !over.load(Ordering::Relaxed) {
                    client.run("BEGIN; INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 5, 'x' FROM generate_series(1, 10) i; COMMIT");
                }
            });
        }
        // Set also when an assertion ends this scope early, or the writers would go on for ever.
        let _end = SetOnDrop(&over);
        let mut client = database.client();
        client.run("SET max_parallel_workers_per_gather = 2; SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0");
        let until = Instant::now() + Duration::from_secs(5);
        let mut rounds = 0;
        while Instant::now() < until || rounds < 5 {
            assert_eq!(client.lines("SELECT * FROM audit_verify() WHERE NOT ok"), [] as [&str; 0]);
            assert_eq!(client.lines("SELECT * FROM audit_verify('tenant 1') WHERE NOT ok"), [] as [&str; 0]);
            assert_eq!(
                client.lines(
                    "SELECT * FROM audit_verify('tenant 1', 50) WHERE NOT ok OR events NOT BETWEEN 50 AND 60"
                ),
                [] as [&str; 0]
            );
            assert_eq!(findings(&mut client, ""), []);
            rounds += 1;
        }
        assert_eq!(
            reference_places(&export(&mut client)),
            Default::default(),
            "any snapshot holds a prefix of each chain"
        );
    });
    assert_whole(&mut database.client());
}

#[test]
fn a_verification_in_a_transaction_sees_that_transaction_s_snapshot() {
    let (database, mut client) = twenty("verify_transaction");
    client.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    database.client().run(
        "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'later' FROM generate_series(1, 5)",
    );
    assert_eq!(client.line("SELECT ok, events FROM audit_verify('acme')"), "t|20");
    assert_eq!(client.line("SELECT ok, events FROM audit_verify()"), "t|20");
    assert_eq!(client.line("SELECT count(*) FROM audit_export()"), "20");
    client.run("COMMIT");
    assert_eq!(client.line("SELECT ok, events FROM audit_verify('acme')"), "t|25");
}

#[test]
fn a_read_only_transaction_can_verify_and_no_transaction_id_is_spent() {
    let (_database, mut client) = twenty("verify_read_only");
    client.run("RESET zeroauth_audit.maintenance; BEGIN READ ONLY");
    assert_whole(&mut client);
    assert_eq!(client.line("SELECT ok FROM audit_verify('acme', 3)"), "t");
    assert_eq!(client.line("SELECT pg_current_xact_id_if_assigned()"), "~");
    client.run("COMMIT; SET default_transaction_read_only = on");
    assert_whole(&mut client);
}

#[test]
fn a_transaction_s_own_events_after_an_old_snapshot_are_no_gap() {
    // Its event continues the newest head, its snapshot lacks what others committed before that: neither is damage.
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let database = Database::audited("verify_own_events");
        let mut client = database.client();
        let five =
            "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 5)";
        client.run(five);
        client.run(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1"));
        database.client().run(five);
        assert_eq!(
            client.line("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'own') RETURNING seq"),
            "11"
        );
        for call in [
            "SELECT NOT ok FROM audit_verify('acme')",
            "SELECT NOT ok FROM audit_verify('acme', 3)",
            "SELECT NOT ok FROM audit_verify()",
            "SELECT count(*) > 0 FROM audit_findings()",
            "SELECT count(*) NOT IN (5, 11) FROM audit_export()",
        ] {
            client.run("SAVEPOINT s");
            match client.simple_query(call) {
                Err(error) => {
                    assert_eq!(error.code().map(|c| c.code()), Some("ZA006"), "{level}, {call}: {error}")
                }
                Ok(_) => assert_eq!(client.line(call), "f", "{level}, {call}"),
            }
            client.run("ROLLBACK TO s");
        }
        client.run("COMMIT");
        assert_whole(&mut client);
    }
}

#[test]
fn the_verdict_does_not_depend_on_the_number_of_workers() {
    let database = Database::audited("verify_workers");
    let mut client = database.client();
    client.run(
        "INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 37, 'x' FROM generate_series(1, 30000) i;
         SET zeroauth_audit.maintenance = on;
         UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'tenant 3' AND seq % 100 = 7;
         DELETE FROM audit_events WHERE tenant_id = 'tenant 5' AND seq BETWEEN 100 AND 110;
         UPDATE audit_events SET event_hash = sha256(event_hash) WHERE tenant_id = 'tenant 7' AND seq = 400;
         ANALYZE audit_events;
         SET min_parallel_table_scan_size = 0; SET min_parallel_index_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0",
    );
    let mut answers = Vec::new();
    for workers in [0, 1, 2, 4] {
        client.run(&format!("SET max_parallel_workers_per_gather = {workers}"));
        answers.push((client.lines("SELECT tenant_id, ok, events, chains, findings, classes, first_finding FROM audit_verify() ORDER BY tenant_id"), findings(&mut client, "")));
    }
    for answer in &answers[1..] {
        assert_eq!(answer, &answers[0]);
    }
    assert_eq!(answers[0].0.iter().filter(|line| line.contains("|f|")).count(), 3);
    let jit = client.lines("SET jit = on; SET jit_above_cost = 0; SELECT tenant_id, ok, events, chains, findings, classes, first_finding FROM audit_verify() ORDER BY tenant_id");
    assert_eq!(jit, answers[0].0);
}

#[test]
fn a_table_that_is_not_as_the_extension_made_it_takes_no_events() {
    let (database, mut client) = twenty("verify_shape");
    client.run("BEGIN; ALTER TABLE audit_events RENAME COLUMN details TO other");
    let refusal =
        client.refused("ZA010", "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    assert!(!refusal.hint.is_empty(), "{refusal:?}");
    client.run("ROLLBACK");
    // PostgreSQL itself keeps columns that audit_export reads.
    for alter in ["DROP COLUMN user_agent", "ALTER COLUMN action TYPE varchar(100)"] {
        let refusal = client.refusal(&format!("ALTER TABLE audit_events {alter}"));
        assert!(["2BP01", "0A000"].contains(&refusal.code.as_str()), "{refusal:?}");
    }
    // A column more is not hashed, and does not keep events from being chained and verified.
    client.run("ALTER TABLE audit_events ADD COLUMN extra text DEFAULT 'x'");
    for session in [&mut client, &mut database.client()] {
        session.run("INSERT INTO audit_events (tenant_id, action, extra) VALUES ('acme', 'x', 'mine'), ('acme', 'x', NULL)");
        assert_eq!(findings(session, ""), []);
    }
    client.run("UPDATE audit_events SET extra = 'changed'; ALTER TABLE audit_events DROP COLUMN extra");
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    assert_whole(&mut client);
    client.run("BEGIN; ALTER TABLE audit_events DROP CONSTRAINT audit_events_pkey");
    client.refused("ZA010", "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    client.run("ROLLBACK");
    assert_whole(&mut client);
}

#[test]
fn pitfall_23_an_index_that_disagrees_with_the_table_is_never_ok() {
    let (_database, mut client) = twenty("verify_index");
    let index = |ready: bool| {
        format!(
            "UPDATE pg_index SET indisready = {ready}, indisvalid = {ready} WHERE indrelid = 'audit_events'::regclass"
        )
    };
    // A second event 5 that the indexes do not know of.
    client.run(&format!(
        "BEGIN; ALTER TABLE audit_events DISABLE TRIGGER ALL; {}; COMMIT; INSERT INTO audit_events SELECT * FROM audit_events WHERE seq = 5; {}",
        index(false), index(true)
    ));
    assert_eq!(client.line("SELECT count(*) FROM audit_events WHERE action = 'step 5'"), "2");
    for call in ["SELECT * FROM audit_verify()", "SELECT * FROM audit_findings()"] {
        let refusal = client.refused("ZA006", call);
        assert!(!refusal.hint.is_empty(), "{refusal:?}");
    }
}

#[test]
fn one_event_of_a_megabyte_and_one_of_nothing_verify() {
    let database = Database::audited("verify_sizes");
    let mut client = database.client();
    client.run(
        "INSERT INTO audit_events (tenant_id, action, details) VALUES ('acme', 'x', to_jsonb(repeat('x', 1048574))), ('acme', 'x', NULL);
         INSERT INTO audit_events (tenant_id, action, user_agent) SELECT 'acme', 'x', string_agg(md5(i::text), '') FROM generate_series(1, 200000) i;
         -- Values that arrive as pointers into the table's own TOAST.
         INSERT INTO audit_events (tenant_id, action, user_agent, details) SELECT 'globex', action, user_agent, details FROM audit_events",
    );
    assert_whole(&mut client);
}
