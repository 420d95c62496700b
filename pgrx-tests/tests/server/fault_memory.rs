//! A server process that gets no more memory: the statement fails with PostgreSQL's own error, nothing is unchained, and
//! the session goes on. Rust's allocator would end the process instead, and with it every session of the server.
//!
//! The limit is moved through a whole range, so that memory runs out in every place that takes some.

use postgres::Client;
use zeroauth_audit_tests::Cluster;

use crate::support::{Backend, Sql, assert_clean_log, assert_nothing_is_held, assert_whole, audit::verdict};

const MB: u64 = 1 << 20;

/// How often a statement went through and how often it failed for want of memory; nothing else is allowed.
#[derive(Debug, Default)]
struct Outcomes {
    fine: u32,
    refused: u32,
}

impl Outcomes {
    #[track_caller]
    fn add(&mut self, client: &mut Client, sql: &str, limit: u64) {
        match client.batch_execute(sql) {
            Ok(()) => self.fine += 1,
            Err(error) => {
                let code = error.code().map_or("no answer", |code| code.code());
                assert_eq!(code, "53200", "{error} with {limit} more bytes: {sql}");
                self.refused += 1;
            }
        }
    }

    #[track_caller]
    fn assert_both(&self, sql: &str) {
        assert!(self.fine > 0 && self.refused > 0, "the limit has to matter: {self:?} for {sql}");
    }
}

/// Runs `sql` under every limit of the range, each in a session of its own after `before` ran there without a limit.
#[track_caller]
fn sweep(cluster: &Cluster, before: &str, sql: &str, limits: impl Iterator<Item = u64>) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for limit in limits {
        let mut client = cluster.client();
        client.run(before);
        let backend = Backend::of(&mut client);
        backend.limit_memory(Some(limit));
        outcomes.add(&mut client, sql, limit);
        // Once more, with all that the session has learned.
        outcomes.add(&mut client, sql, limit);
        backend.limit_memory(None);
        assert_eq!(
            client.line("SELECT count(*) FROM audit_progress() WHERE what = 'verification'"),
            "0",
            "progress is over"
        );
        assert_nothing_is_held(&mut client);
    }
    outcomes
}

#[test]
fn an_insert_without_memory_is_refused_chains_nothing_and_the_session_goes_on() {
    let cluster = Cluster::audited("fault_memory_insert").unwrap();
    let mut client = cluster.client();
    let set = "SET zeroauth_audit.max_details_bytes = '100MB'";
    let large = "INSERT INTO audit_events (tenant_id, action, details) SELECT 'acme', 'x', jsonb_build_object('t', repeat('x', 4000000))";
    let outcomes = sweep(&cluster, set, large, (0..14).map(|n| n * 3 * MB));
    outcomes.assert_both(large);
    assert_eq!(verdict(&mut client, "acme"), format!("t|{}|1|0|{{}}", outcomes.fine), "no gap");

    // In small steps, where even a few bytes may be too many.
    let many = "INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i, 'x' FROM generate_series(1, 2000) i";
    let one = "INSERT INTO audit_events (tenant_id, action) VALUES ('initech', 'x')";
    let (many_done, one_done) = (
        sweep(&cluster, "SELECT 1", many, (0..16).map(|n| n * MB / 2)),
        sweep(&cluster, "SELECT 1", one, (0..16).map(|n| n * MB / 2)),
    );
    many_done.assert_both(many);
    one_done.assert_both(one);
    assert_eq!(
        client.line("SELECT count(*) FROM audit_events WHERE tenant_id LIKE 'tenant %'"),
        (many_done.fine * 2000).to_string()
    );
    assert_eq!(verdict(&mut client, "initech"), format!("t|{}|1|0|{{}}", one_done.fine), "no gap");

    // What went before in the same transaction stays, and what comes after follows it.
    let backend = Backend::of(&mut client);
    client
        .run("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('globex', 'before'); SAVEPOINT a");
    backend.limit_memory(Some(2 * MB));
    client.refused("53200", &large.replace("acme", "globex"));
    client.run(
        "ROLLBACK TO a; INSERT INTO audit_events (tenant_id, action) VALUES ('globex', 'after'); COMMIT",
    );
    backend.limit_memory(None);
    assert_eq!(verdict(&mut client, "globex"), "t|2|1|0|{}");
    assert_eq!(client.line("SELECT bool_and(ok) FROM audit_verify()"), "t");
    assert_clean_log(&cluster);
}

#[test]
fn a_verification_without_memory_says_so_and_the_session_goes_on() {
    let cluster = Cluster::audited("fault_memory_verify").unwrap();
    let mut client = cluster.client();
    // Without the JIT compiler, which ends the session (FATAL, 53200) when it gets no memory.
    client.run(
        "INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i, 'x' FROM generate_series(1, 6000) i;
         INSERT INTO audit_events (tenant_id, action, details) SELECT 'acme', 'x', jsonb_build_object('t', repeat(i::text, 100000)) FROM generate_series(1, 20) i;
         INSERT INTO audit_events (tenant_id, action) SELECT 'many', 'x' FROM generate_series(1, 6000) i;
         ANALYZE audit_events; ALTER DATABASE audit SET jit = off; SET jit = off",
    );
    // A wrong event of each of many tenants, so that findings take memory too.
    client.run(
        "SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'y' WHERE tenant_id LIKE 'tenant 10%'; RESET zeroauth_audit.maintenance",
    );
    let before =
        client.lines("SELECT ok, count(*), sum(findings) FROM audit_verify() GROUP BY ok ORDER BY ok");
    for (sql, step) in [
        ("SELECT count(*) FROM audit_verify()", MB * 3),
        ("SELECT count(*) FROM audit_findings()", MB * 3),
        ("SELECT count(*) FROM audit_findings(NULL, 1)", MB * 3 / 2),
        ("SELECT * FROM audit_verify('acme')", MB * 3 / 2),
        ("SELECT * FROM audit_verify('many', 5000)", MB * 3 / 2),
        ("SELECT count(length(e)) FROM audit_export() e", MB * 3 / 2),
    ] {
        let set = "SET max_parallel_workers_per_gather = 0";
        sweep(&cluster, set, sql, (0..9).map(|n| n * step)).assert_both(sql);
    }
    assert_eq!(
        client.lines("SELECT ok, count(*), sum(findings) FROM audit_verify() GROUP BY ok ORDER BY ok"),
        before,
        "the verdict is the one from before"
    );
    assert_clean_log(&cluster);
}

#[test]
fn a_tenant_s_name_of_hundreds_of_megabytes_is_no_crash_and_is_not_repeated_in_the_error() {
    let cluster = Cluster::audited("fault_memory_name").unwrap();
    let mut client = cluster.client();
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    let backend = Backend::of(&mut client);
    for call in ["audit_verify", "audit_findings"] {
        // A control character is shown as five.
        let sql = format!("SELECT * FROM {call}(repeat(E'\\x01', 250000000))");
        let refusal = client.refused("ZA005", &sql);
        assert!(refusal.message.len() < 1000, "{} bytes", refusal.message.len());
    }
    let sql = "SELECT * FROM audit_verify(repeat('x', 20000000))";
    let mut outcomes = Outcomes::default();
    for limit in (0..25).map(|n| n * 16 * MB) {
        backend.limit_memory(Some(limit));
        let code = client.refusal(sql).code;
        backend.limit_memory(None);
        match code.as_str() {
            "ZA005" => outcomes.fine += 1,
            "53200" => outcomes.refused += 1,
            other => panic!("{other} with {limit} more bytes"),
        }
    }
    outcomes.assert_both(sql);
    assert_whole(&mut client);
    assert_clean_log(&cluster);
}
