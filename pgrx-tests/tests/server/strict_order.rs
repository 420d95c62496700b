//! `zeroauth_audit.max_chains`: 1 asks for one strict order a tenant, so that inserts wait, and can be stopped waiting.

use std::thread;

use postgres::Client;
use zeroauth_audit_tests::wait_until;

use crate::support::{DEADLINE, Database, Sql, assert_whole, verdict};

const ONE: &str =
    "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING chain || '/' || seq";

fn strict(database: &Database) -> Client {
    let mut client = database.client();
    client.run("SET zeroauth_audit.max_chains = 1");
    client
}

fn wait_for_a_waiter(client: &mut Client) {
    wait_until(DEADLINE, "a session that waits for the tenant's lock", || {
        client.line("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == "1"
    });
}

#[test]
fn one_chain_a_tenant_in_strict_order_under_load() {
    let database = Database::audited("strict_load");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = strict(&database);
                for round in 0..60 {
                    client.run(
                        [
                            "BEGIN",
                            "BEGIN ISOLATION LEVEL SERIALIZABLE",
                            "BEGIN ISOLATION LEVEL REPEATABLE READ",
                        ][round % 3],
                    );
                    client.run(
                        "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'), ('acme', 'y')",
                    );
                    client.run(if round % 4 == 0 { "ROLLBACK" } else { "COMMIT" });
                }
            });
        }
    });
    let mut client = database.client();
    assert_eq!(verdict(&mut client, "acme"), "t|720|1|0|{}");
    assert_whole(&mut client);
}

#[test]
fn an_insert_waits_for_the_tenant_and_for_no_other_tenant() {
    let database = Database::audited("strict_waits");
    let (mut first, mut second, mut look) = (strict(&database), strict(&database), database.client());
    first.run("BEGIN");
    assert_eq!(first.line(ONE), "0/1");
    second.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i, 'x' FROM generate_series(1, 600) i");
    assert_eq!(second.line("SELECT max(chain) FROM audit_events"), "0");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| second.line(ONE));
        wait_for_a_waiter(&mut look);
        assert_eq!(
            look.line("SELECT objsubid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"),
            "23106"
        );
        first.run("COMMIT");
        assert_eq!(waiting.join().unwrap(), "0/2");
    });
    assert_whole(&mut look);
}

#[test]
fn lock_timeout_ends_the_wait() {
    let database = Database::audited("strict_timeout");
    let (mut first, mut second) = (strict(&database), strict(&database));
    first.run("BEGIN");
    assert_eq!(first.line(ONE), "0/1");
    second.run("SET lock_timeout = '30ms'");
    second.refused("55P03", ONE);
    second.run("RESET lock_timeout; SET statement_timeout = '30ms'");
    second.refused("57014", ONE);
    second.run("RESET statement_timeout");
    first.run("ROLLBACK");
    assert_eq!(second.line(ONE), "0/1");
    assert_whole(&mut second);
}

#[test]
fn cancel_ends_the_wait() {
    let database = Database::audited("strict_cancel");
    let (mut first, mut second, mut look) = (strict(&database), strict(&database), database.client());
    first.run("BEGIN");
    assert_eq!(first.line(ONE), "0/1");
    let pid = second.line("SELECT pg_backend_pid()");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| second.refusal(ONE).code);
        wait_for_a_waiter(&mut look);
        look.run(&format!("SELECT pg_cancel_backend({pid})"));
        assert_eq!(waiting.join().unwrap(), "57014");
    });
    first.run("COMMIT");
    assert_eq!(second.line(ONE), "0/2");
    assert_whole(&mut look);
}

#[test]
fn two_sessions_that_wait_for_each_other_s_tenants_are_told_apart_by_the_deadlock_detector() {
    let database = Database::audited("strict_deadlock");
    let (mut first, mut second, mut look) = (strict(&database), strict(&database), database.client());
    let insert =
        |tenant: &str| format!("INSERT INTO audit_events (tenant_id, action) VALUES ('{tenant}', 'x')");
    for client in [&mut first, &mut second] {
        client.run("SET deadlock_timeout = '20ms'; BEGIN");
    }
    first.run(&insert("acme"));
    second.run(&insert("globex"));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| first.batch_execute(&insert("globex")).is_ok());
        wait_for_a_waiter(&mut look);
        let second_went_on = second.batch_execute(&insert("acme")).is_ok();
        second.run("ROLLBACK");
        assert!(waiting.join().unwrap() != second_went_on, "exactly one of them is given up");
    });
    first.run("ROLLBACK");
    assert_whole(&mut look);
}

#[test]
fn sessions_with_different_settings_never_fork_a_chain() {
    let database = Database::audited("strict_mixed");
    thread::scope(|scope| {
        for thread in 0..10 {
            let database = &database;
            scope.spawn(move || {
                let mut client = database.client();
                client.run("SET lock_timeout = '20s'");
                for round in 0..40 {
                    client.run(&format!(
                        "SET zeroauth_audit.max_chains = {}",
                        [0, 1, 2, 1, 3][(thread + round) % 5]
                    ));
                    client.run("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
                    client.run(if round % 3 == 0 {
                        "ROLLBACK"
                    } else {
                        "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'y'); COMMIT"
                    });
                }
            });
        }
    });
    let mut client = database.client();
    assert_eq!(client.line("SELECT count(*) FROM audit_events"), (10 * 26 * 2).to_string());
    assert_whole(&mut client);
}

#[test]
fn a_limit_of_two_chains_is_kept_and_the_third_session_waits() {
    let database = Database::audited("strict_two");
    let mut sessions: Vec<Client> = (0..3).map(|_| database.client()).collect();
    for client in &mut sessions {
        client.run("SET zeroauth_audit.max_chains = 2; SET lock_timeout = '50ms'; BEGIN");
    }
    assert_eq!(sessions[0].line(ONE), "0/1");
    assert_eq!(sessions[1].line(ONE), "1/1");
    sessions[2].refused("55P03", ONE);
    sessions[2].run("ROLLBACK");
    sessions[0].run("COMMIT");
    sessions[1].run("COMMIT");
    let next = sessions[2].line(ONE);
    assert!(next == "0/2" || next == "1/2", "{next}");
    assert_whole(&mut sessions[2]);
}

#[test]
fn the_settings_are_a_superuser_s() {
    let database = Database::audited("strict_settings");
    let role = database.role("app");
    let mut app = database.client_as(&role);
    for setting in ["max_chains = 1", "max_details_bytes = 10", "maintenance = on"] {
        app.refused("42501", &format!("SET zeroauth_audit.{setting}"));
        app.refused(
            "42501",
            &format!(
                "SELECT set_config('zeroauth_audit.{}', '{}', false)",
                setting.split(' ').next().unwrap(),
                setting.split(' ').next_back().unwrap()
            ),
        );
    }
    assert_eq!(
        database.client().lines("SELECT name, setting, context FROM pg_settings WHERE name LIKE 'zeroauth_audit.%' AND name ~ '(maintenance|max_chains|max_details_bytes)$' ORDER BY 1"),
        ["zeroauth_audit.maintenance|off|superuser", "zeroauth_audit.max_chains|0|superuser", "zeroauth_audit.max_details_bytes|1048576|superuser"]
    );
    // The prefix is the extension's: a mistyped setting is refused, not taken silently.
    assert_eq!(database.client().refusal("SET zeroauth_audit.max_chain = 1").code, "42602");
}
