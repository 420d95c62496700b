//! What a DBA does every day beside applications that write: none of it is an alarm, and no event is lost.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use postgres::Client;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::guards_ddl::allowed_in_place;
use crate::publish::{Publishing, publishing};
use crate::support::{DEADLINE, SetOnDrop, Sql, assert_whole, standby_of, succeed};

/// Beside what is allowed on the trail itself, as a superuser types it; some open a transaction and end it.
const STATEMENTS: &[&str] = &[
    "CREATE INDEX by_action ON audit_events (action)",
    "CREATE INDEX CONCURRENTLY by_recorded ON audit_events (tenant_id, recorded_at DESC)",
    "CREATE INDEX by_details ON audit_events USING gin (details jsonb_path_ops)",
    "CREATE INDEX by_block ON audit_events USING brin (recorded_at)",
    "ALTER INDEX by_action RENAME TO by_what",
    "ALTER INDEX by_what SET (fillfactor = 70)",
    "REINDEX INDEX by_what",
    "REINDEX INDEX CONCURRENTLY audit_events_pkey",
    "REINDEX DATABASE CONCURRENTLY audit",
    "DROP INDEX by_what",
    "DROP INDEX CONCURRENTLY by_recorded",
    "VACUUM (FREEZE, ANALYZE) audit_events",
    "VACUUM",
    "CREATE STATISTICS of_events (dependencies) ON tenant_id, action FROM audit_events",
    "ALTER TABLE audit_events ALTER COLUMN details SET STORAGE EXTENDED",
    "ALTER TABLE audit_events SET (fillfactor = 95, autovacuum_vacuum_insert_scale_factor = 0.05)",
    "ALTER TABLE audit_events RESET (fillfactor)",
    "ALTER TABLE audit_events CLUSTER ON audit_events_pkey",
    "ALTER TABLE audit_events SET WITHOUT CLUSTER",
    "CREATE ROLE reader_of_a_day; GRANT SELECT (tenant_id, action) ON audit_events TO reader_of_a_day",
    "REVOKE SELECT (tenant_id, action) ON audit_events FROM reader_of_a_day; DROP ROLE reader_of_a_day",
    "CREATE ROLE app_of_a_day LOGIN; SELECT audit_grant('app_of_a_day', 'writer')",
    "ALTER ROLE app_of_a_day RENAME TO app_of_two_days",
    "SELECT audit_revoke('app_of_two_days', 'writer'); DROP ROLE app_of_two_days",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO pg_read_all_data",
    "ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM pg_read_all_data",
    "CREATE VIEW of_a_day AS SELECT tenant_id, count(*) FROM audit_events GROUP BY 1; DROP VIEW of_a_day",
    "CREATE MATERIALIZED VIEW kept AS SELECT tenant_id, count(*) AS n FROM audit_events GROUP BY 1; REFRESH MATERIALIZED VIEW kept; DROP MATERIALIZED VIEW kept",
    "CREATE TABLE orders (id int PRIMARY KEY, tenant text, chain smallint, seq bigint, FOREIGN KEY (tenant, chain, seq) REFERENCES audit_events (tenant_id, chain, seq)); DROP TABLE orders",
    "CREATE TABLE other (id int); INSERT INTO other SELECT generate_series(1, 1000); DELETE FROM other; VACUUM FULL other",
    "TRUNCATE other; DROP TABLE other",
    "VACUUM FULL zeroauth_audit_internal.job_runs",
    "CLUSTER zeroauth_audit_internal.tiles USING tiles_pkey",
    "ALTER TABLE zeroauth_audit_internal.tiles SET WITHOUT CLUSTER",
    "CREATE PUBLICATION everything FOR ALL TABLES; DROP PUBLICATION everything",
    "ALTER TABLE audit_events REPLICA IDENTITY FULL",
    "ALTER TABLE audit_events REPLICA IDENTITY DEFAULT",
    "SELECT pg_stat_reset()",
    "SELECT pg_stat_reset_single_table_counters('audit_events'::regclass)",
    "SET track_counts = off; INSERT INTO audit_events (tenant_id, action) VALUES ('uncounted', 'x'); RESET track_counts",
    "BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('two', 'phases'); PREPARE TRANSACTION 'of a day'",
    "COMMIT PREPARED 'of a day'",
    "BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('two', 'phases'); PREPARE TRANSACTION 'of another day'",
    "ROLLBACK PREPARED 'of another day'",
    "BEGIN; SAVEPOINT a; INSERT INTO audit_events (tenant_id, action) VALUES ('save', 'x'); ROLLBACK TO a; INSERT INTO audit_events (tenant_id, action) VALUES ('save', 'y'); COMMIT",
    "INSERT INTO audit_events (tenant_id, event_id, action) SELECT tenant_id, event_id, 'again' FROM audit_events WHERE tenant_id <> 'zeroauth_audit' ON CONFLICT DO NOTHING",
    "COPY (SELECT tenant_id, action FROM audit_events) TO '/dev/null'",
    "DO $$ BEGIN INSERT INTO audit_events (tenant_id, action) VALUES ('caught', 'x'); RAISE EXCEPTION 'x'; EXCEPTION WHEN OTHERS THEN NULL; END $$",
    "DROP INDEX by_details, by_block",
    "DROP STATISTICS of_events",
    "SELECT pg_switch_wal(); CHECKPOINT",
    "SELECT pg_reload_conf()",
];

/// Settings that somebody gives the database, each for the sessions and workers from then on.
const SETTINGS: &[(&str, &str)] = &[
    ("TimeZone", "Asia/Kolkata"),
    ("DateStyle", "German"),
    ("IntervalStyle", "sql_standard"),
    ("bytea_output", "escape"),
    ("standard_conforming_strings", "off"),
    ("transform_null_equals", "on"),
    ("client_encoding", "LATIN1"),
    ("search_path", "pg_temp"),
    ("enable_indexscan", "off"),
    ("enable_seqscan", "off"),
    ("enable_hashagg", "off"),
    ("row_security", "off"),
    ("array_nulls", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("work_mem", "64kB"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("statement_timeout", "100"),
    ("lock_timeout", "10"),
    ("idle_in_transaction_session_timeout", "1s"),
    ("extra_float_digits", "-15"),
    ("lc_messages", "C"),
    ("lc_numeric", "C"),
    ("jit", "on"),
    ("session_replication_role", "origin"),
    ("synchronous_commit", "off"),
    ("commit_delay", "100"),
    ("default_tablespace", ""),
    ("check_function_bodies", "off"),
    ("xmlbinary", "hex"),
    ("max_parallel_workers_per_gather", "4"),
    ("parallel_setup_cost", "0"),
    ("cursor_tuple_fraction", "0.1"),
    ("constraint_exclusion", "on"),
    ("from_collapse_limit", "1"),
    ("quote_all_identifiers", "on"),
    ("log_statement", "all"),
    ("track_counts", "off"),
];

/// Alerts of which somebody would have to think.
fn alarms(client: &mut Client) -> Vec<String> {
    client.lines("SELECT severity, fingerprint, message FROM zeroauth_audit_internal.alerts WHERE kind <> 'clock_step' ORDER BY id")
}

/// Every job of the worker that looks for damage.
fn looked(client: &mut Client) {
    looked_at(client, &["tripwire", "checkpoint", "drift"]);
}

fn looked_at(client: &mut Client, jobs: &[&str]) {
    for job in jobs {
        wait_until(DEADLINE, "the job to run", || {
            let sql = format!("SELECT zeroauth_audit_internal.run_job('{job}') ->> 'status'");
            match client.query_one(&sql, &[]) {
                Ok(row) => {
                    assert_eq!(row.get::<_, String>(0), "succeeded", "{job}");
                    true
                }
                // The worker runs it.
                Err(error) => {
                    assert_eq!(error.code().map(|code| code.code()), Some("ZA023"), "{error:?}");
                    false
                }
            }
        });
    }
}

/// Adds events until told to stop; how many were committed.
fn write(cluster: &Cluster, tenant: &str, over: &AtomicBool, committed: &AtomicU32) {
    let mut client = None::<Client>;
    while !over.load(Ordering::Relaxed) {
        let Some(session) = client.as_mut() else {
            client = cluster.try_client().ok();
            continue;
        };
        match session.execute(
            "INSERT INTO audit_events (tenant_id, action, details) VALUES ($1, 'work', '{\"a\": 1}')",
            &[&tenant],
        ) {
            Ok(_) => {
                committed.fetch_add(1, Ordering::Relaxed);
            }
            // A restart, or a setting of the database that is meant to end statements: a new session.
            Err(_) => client = None,
        }
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn red_team_f_daily_work_settings_restarts_and_copies_raise_no_alarm_while_applications_write() {
    let Publishing { cluster, directory, .. } =
        &publishing("daily_work", &[("max_prepared_transactions", "10"), ("max_connections", "60")]);
    let dump = directory.with_file_name("daily.dump");
    let mut client = cluster.client();
    let (over, committed) = (AtomicBool::new(false), AtomicU32::new(0));
    looked(&mut client);
    assert_eq!(alarms(&mut client), [] as [&str; 0]);
    client.run("CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'");
    thread::scope(|scope| {
        for tenant in ["acme", "globex"] {
            let (cluster, over, committed) = (&*cluster, &over, &committed);
            scope.spawn(move || write(cluster, tenant, over, committed));
        }
        let _over = SetOnDrop(&over);
        for (n, sql) in allowed_in_place().chain(STATEMENTS.iter().copied()).enumerate() {
            for part in parts(sql) {
                client.run(part);
            }
            if n % 6 == 5 {
                looked(&mut client);
                assert_eq!(alarms(&mut client), [] as [&str; 0], "after {sql}, or one of the five before");
            }
        }
        for (name, value) in SETTINGS {
            client.run(&format!("ALTER DATABASE audit SET {name} = '{value}'"));
        }
        // The worker begins anew with all of them.
        client.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'zeroauth_audit worker'");
        wait_until(DEADLINE, "the worker to look again", || {
            client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'tripwire' AND started_at > (SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'zeroauth_audit worker')") != "0"
        });
        looked(&mut client);
        assert_eq!(alarms(&mut client), [] as [&str; 0], "settings");
        client.run("ALTER DATABASE audit RESET ALL");
        succeed(cluster.command("pg_dump").args(["-Fc", "-d", "audit", "-f"]).arg(&dump));
        // A standby out of a base backup, and gone again.
        let standby = standby_of(cluster, "daily_standby");
        assert_eq!(standby.client().line("SELECT bool_and(ok) FROM audit_verify()"), "t");
    });
    drop(client);
    copies(cluster, &dump);
    for crash in [false, true] {
        if crash {
            cluster.crash().unwrap();
            cluster.start_again().unwrap();
        } else {
            cluster.restart().unwrap();
        }
        let mut client = cluster.client();
        client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'after')");
        looked(&mut client);
        assert_eq!(alarms(&mut client), [] as [&str; 0], "crash: {crash}");
    }
    let mut client = cluster.client();
    let kept: u32 = client.line("SELECT count(*) FROM audit_events WHERE action = 'work'").parse().unwrap();
    assert!(kept >= committed.load(Ordering::Relaxed), "{kept} of {committed:?}");
    assert!(kept > 100, "{kept} events beside it");
    assert_eq!(client.line("SELECT count(*) FROM audit_integrity() WHERE state <> 'ok'"), "0");
    assert_whole(&mut client);
}

/// A copy of the database, and a dump that is restored: neither raises an alarm here or there.
fn copies(cluster: &Cluster, dump: &Path) {
    let mut admin = cluster.connect("postgres", "postgres").unwrap();
    wait_until(DEADLINE, "nobody to be connected", || {
        admin.batch_execute("CREATE DATABASE copied TEMPLATE audit").is_ok()
    });
    admin.run("CREATE DATABASE restored");
    succeed(cluster.command("pg_restore").args(["--exit-on-error", "-d", "restored"]).arg(dump));
    for database in ["copied", "restored", "audit"] {
        let mut client = cluster.connect("postgres", database).unwrap();
        looked_at(&mut client, &["tripwire"]);
        assert_eq!(alarms(&mut client), [] as [&str; 0], "{database}");
        assert_whole(&mut client);
    }
    admin.run("DROP DATABASE copied WITH (FORCE)");
    admin.run("DROP DATABASE restored WITH (FORCE)");
}

/// VACUUM, REINDEX CONCURRENTLY and their like want a message of their own; a transaction or a block of code is one.
fn parts(sql: &str) -> Vec<&str> {
    if sql.starts_with("BEGIN") || sql.starts_with("DO ") { vec![sql] } else { sql.split("; ").collect() }
}
