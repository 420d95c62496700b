//! A statement that is ended in the middle, by a timeout, a cancel or the end of its session: the exact SQLSTATE, every lock
//! given back, nothing unchained, nothing leaked, and the chain goes on without a gap.

use std::thread;

use postgres::Client;
use zeroauth_audit_tests::Cluster;

use crate::support::{
    Backend, Sql, assert_clean_log, assert_nothing_is_held, assert_whole, wait_until_nothing_is_held,
};

const ONE: &str =
    "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING chain || '/' || seq";

/// Longer than any machine's patience: it only ends by being ended. The series is made row by row; in FROM it would be
/// made whole first.
const ENDLESS_INSERT: &str = "INSERT INTO audit_events (tenant_id, action, details) SELECT CASE WHEN i % 3 = 0 THEN 'acme' ELSE 'tenant ' || i % 700 END, 'x', jsonb_build_object('i', i) FROM (SELECT generate_series(1, 1000000000) i) s";

const ENDLESS_READS: [&str; 5] = [
    "SELECT count(*) FROM generate_series(1, 1000000) g, LATERAL audit_verify('big' || left(g::text, 0)) v",
    "SELECT count(*) FROM generate_series(1, 1000000) g, LATERAL audit_verify('big' || left(g::text, 0), 5000) v",
    "SELECT count(v) FROM (SELECT audit_verify() v FROM generate_series(1, 1000000) OFFSET 0) rounds",
    "SELECT count(*) FROM generate_series(1, 1000000) g, LATERAL audit_findings('big' || left(g::text, 0)) v",
    "SELECT count(length(e)) FROM generate_series(1, 1000000) g, LATERAL audit_export('big' || left(g::text, 0)) e",
];

/// Runs `sql` in `client` until `end` ends it; returns the SQLSTATE.
#[track_caller]
fn ended(cluster: &Cluster, client: &mut Client, sql: &str, end: impl FnOnce(&Backend)) -> String {
    let backend = Backend::of(client);
    // When `end` fails, the statement ends all the same.
    client.run("SET statement_timeout = '90s'");
    let ended = thread::scope(|scope| {
        let running = scope.spawn(|| client.batch_execute(sql).expect_err("it is endless"));
        end(&backend);
        let error = running.join().unwrap();
        match error.code() {
            Some(code) => code.code().to_owned(),
            // The driver may see the end of the connection before the last message in it. The server's log has both.
            None => last_code(&cluster.log(), &backend).unwrap_or_else(|| panic!("{error} of {sql}")),
        }
    });
    let _ = client.batch_execute("RESET statement_timeout");
    ended
}

/// The SQLSTATE that the session of `backend` ended with.
fn last_code(log: &str, backend: &Backend) -> Option<String> {
    let of_it = format!("[{}] ", backend.pid());
    let fatal = log.lines().find(|line| line.contains(&of_it) && line.contains(" FATAL: "))?;
    fatal.split(&of_it).nth(1)?.split(' ').next().map(str::to_owned)
}

#[test]
fn an_insert_that_is_ended_in_the_middle_gives_everything_back_and_leaves_no_gap() {
    let cluster = Cluster::audited("fault_cancel_insert").unwrap();
    let (mut client, mut look) = (cluster.client(), cluster.client());
    assert_eq!(client.line(ONE), "0/1");
    let mut seq = 1;
    let mut goes_on = |client: &mut Client, look: &mut Client, how: &str| {
        wait_until_nothing_is_held(look);
        seq += 1;
        assert_eq!(client.line(ONE), format!("0/{seq}"), "after {how}");
    };

    client.run("SET statement_timeout = '300ms'");
    assert_eq!(client.refusal(ENDLESS_INSERT).code, "57014");
    assert_nothing_is_held(&mut client);
    client.run("RESET statement_timeout");
    goes_on(&mut client, &mut look, "statement_timeout");

    let code = ended(&cluster, &mut client, ENDLESS_INSERT, |backend| {
        backend.wait_until_it_appends(&mut look);
        look.run(&format!("SELECT pg_cancel_backend({})", backend.pid()));
    });
    assert_eq!(code, "57014");
    assert_nothing_is_held(&mut client);
    goes_on(&mut client, &mut look, "cancel");

    let code = ended(&cluster, &mut client, ENDLESS_INSERT, |backend| {
        backend.wait_until_it_appends(&mut look);
        look.run(&format!("SELECT pg_terminate_backend({})", backend.pid()));
    });
    assert_eq!(code, "57P01");
    client = cluster.client();
    goes_on(&mut client, &mut look, "terminate");

    // Caught: the transaction goes on, and so does its chain.
    client.run("SET statement_timeout = '300ms'");
    client.run(&format!(
        "DO $do$ BEGIN
             INSERT INTO audit_events (tenant_id, action) VALUES ('caught', 'before');
             BEGIN {ENDLESS_INSERT}; EXCEPTION WHEN query_canceled THEN NULL; END;
             INSERT INTO audit_events (tenant_id, action) VALUES ('caught', 'after');
             -- Tenants of the statement that was ended: its heads must be forgotten.
             INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i, 'after' FROM generate_series(1, 700) i;
         END $do$"
    ));
    client.run("RESET statement_timeout");
    assert_eq!(
        client.lines("SELECT action, chain, seq FROM audit_events WHERE tenant_id = 'caught' ORDER BY seq"),
        ["before|0|1", "after|0|2"]
    );
    goes_on(&mut client, &mut look, "an exception block");

    // In the middle of waiting, in strict order.
    look.run("SET zeroauth_audit.max_chains = 1; BEGIN");
    look.run(ONE);
    seq += 1;
    client.run("SET zeroauth_audit.max_chains = 1; SET lock_timeout = '50ms'");
    client.refused("55P03", ENDLESS_INSERT);
    client.run("BEGIN; SAVEPOINT a");
    client.refused("55P03", ENDLESS_INSERT);
    client.run("ROLLBACK TO a; INSERT INTO audit_events (tenant_id, action) VALUES ('other', 'x'); COMMIT");
    look.run("COMMIT");
    assert_nothing_is_held(&mut client);
    assert_eq!(client.line(ONE), format!("0/{}", seq + 1), "after lock_timeout");

    assert_whole(&mut client);
    assert_clean_log(&cluster);
}

#[test]
fn a_verification_or_an_export_that_is_ended_in_the_middle_gives_everything_back() {
    let cluster = Cluster::audited("fault_cancel_verify").unwrap();
    let (mut client, mut look) = (cluster.client(), cluster.client());
    client.run(
        "INSERT INTO audit_events (tenant_id, action) SELECT 'big', 'x' FROM generate_series(1, 40000) i; ANALYZE audit_events",
    );
    for sql in ENDLESS_READS {
        client.run("SET statement_timeout = '200ms'");
        client.refused("57014", sql);
        client.run("RESET statement_timeout");

        for (end, code) in [("pg_cancel_backend", "57014"), ("pg_terminate_backend", "57P01")] {
            let found = ended(&cluster, &mut client, sql, |backend| {
                backend.wait_until_it_runs(&mut look);
                look.run(&format!("SELECT {end}({})", backend.pid()));
            });
            assert_eq!(found, code, "{end}: {sql}");
            if code == "57P01" {
                client = cluster.client();
            }
            wait_until_nothing_is_held(&mut look);
        }

        look.run("BEGIN; LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE");
        client.run("SET lock_timeout = '50ms'");
        client.refused("55P03", sql);
        client.run("RESET lock_timeout");
        look.run("COMMIT");
        // A subtransaction that ends a verification takes its own things away, and only those.
        client.run(&format!(
            "SET statement_timeout = '200ms';
             DO $do$ BEGIN
                 INSERT INTO audit_events (tenant_id, action) VALUES ('caught', 'before');
                 BEGIN PERFORM * FROM ({sql}) endless; EXCEPTION WHEN query_canceled THEN NULL; END;
                 INSERT INTO audit_events (tenant_id, action) VALUES ('caught', 'after');
             END $do$;
             RESET statement_timeout"
        ));
        assert_eq!(
            client.line("SELECT count(*) FROM audit_progress() WHERE what = 'verification'"),
            "0",
            "no progress is left behind: {sql}"
        );
    }
    assert_eq!(client.line("SELECT ok, events, chains FROM audit_verify('caught')"), "t|10|1");
    assert_nothing_is_held(&mut client);
    assert_whole(&mut client);
    assert_clean_log(&cluster);
}
