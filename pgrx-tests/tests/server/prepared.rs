//! Two-phase commit: the chain stays taken until the prepared transaction ends, in whatever session that is.

use crate::support::{Database, Sql, assert_whole, shared};

const ONE: &str =
    "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING chain || '/' || seq";

#[test]
fn a_prepared_transaction_keeps_its_chain_from_others_until_it_commits() {
    let database = Database::audited("prepared_commit");
    let (mut first, mut second) = (database.client(), database.client());
    second.run("SET lock_timeout = '1s'");
    first.run("BEGIN");
    assert_eq!(first.line(ONE), "0/1");
    assert_eq!(first.line(ONE), "0/2");
    first.run("PREPARE TRANSACTION 'prepared_commit'");
    assert_eq!(second.line(ONE), "1/1");
    assert_eq!(first.line(ONE), "1/2", "the preparing session does not take the chain for its own");
    first.run("BEGIN");
    assert_eq!(first.line(ONE), "1/3");
    assert_eq!(second.line(ONE), "2/1");
    first.run("COMMIT");
    drop(first);
    second.run("COMMIT PREPARED 'prepared_commit'");
    assert_eq!(database.client().line(ONE), "0/3");
    assert_whole(&mut second);
}

#[test]
fn a_prepared_transaction_rolled_back_gives_its_seq_back() {
    let database = Database::audited("prepared_rollback");
    let (mut first, mut second) = (database.client(), database.client());
    assert_eq!(first.line(ONE), "0/1");
    first.run("BEGIN; SAVEPOINT a");
    assert_eq!(first.line(ONE), "0/2");
    first.run("RELEASE a");
    assert_eq!(first.line(ONE), "0/3");
    first.run("PREPARE TRANSACTION 'prepared_rollback'");
    assert_eq!(second.line(ONE), "1/1");
    second.run("ROLLBACK PREPARED 'prepared_rollback'");
    assert_eq!(first.line(ONE), "0/2");
    assert_eq!(database.client().line(ONE), "0/3");
    assert_whole(&mut second);
}

#[test]
fn many_tenants_survive_prepare_and_strict_order_waits_for_it() {
    let database = Database::audited("prepared_many");
    let (mut first, mut second) = (database.client(), database.client());
    first.run("BEGIN; INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i, 'x' FROM generate_series(1, 1000) i; PREPARE TRANSACTION 'prepared_many'");
    assert_eq!(
        first.line("SELECT count(*) > 200 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 23105 AND pid IS NULL"),
        "t",
        "the prepared transaction holds the locks, no session does"
    );
    second.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i, 'y' FROM generate_series(1, 1000) i");
    second.run("SET zeroauth_audit.max_chains = 1; SET lock_timeout = '50ms'");
    second.refused("55P03", "INSERT INTO audit_events (tenant_id, action) VALUES ('tenant 1', 'z')");
    first.run("COMMIT PREPARED 'prepared_many'");
    second.run("INSERT INTO audit_events (tenant_id, action) VALUES ('tenant 1', 'z')");
    assert_eq!(
        second
            .lines("SELECT chain, seq, action FROM audit_events WHERE tenant_id = 'tenant 1' ORDER BY 1, 2"),
        ["0|1|x", "0|2|z", "1|1|y"]
    );
    assert_whole(&mut second);
}

#[test]
fn a_prepared_transaction_is_committed_by_a_session_in_another_database() {
    let database = Database::audited("prepared_elsewhere");
    let mut first = database.client();
    first.run("BEGIN");
    assert_eq!(first.line(ONE), "0/1");
    first.run("PREPARE TRANSACTION 'prepared_elsewhere'");
    // The server wants the database it was prepared in; another database's chains are untouched meanwhile.
    let other = Database::audited("prepared_elsewhere_other");
    let mut elsewhere = other.client();
    assert_eq!(elsewhere.line(ONE), "0/1");
    elsewhere.refused("0A000", "COMMIT PREPARED 'prepared_elsewhere'");
    shared().connect("postgres", &database.name).unwrap().run("COMMIT PREPARED 'prepared_elsewhere'");
    assert_eq!(first.line(ONE), "0/2");
    assert_whole(&mut first);
}
