//! What is around the drill stays as it is: the trail, the catalogs, the session, other transactions; whatever ends it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use postgres::Client;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::drill::{WELL, counts, failed};
use crate::support::audit::export;
use crate::support::{DEADLINE, Database, SetOnDrop, Sql, assert_whole};

/// Everything a drill could have left behind in its database and in its session.
#[track_caller]
fn around(client: &mut Client) -> Vec<String> {
    client.lines(
        "SELECT 'namespaces', string_agg(nspname, ',' ORDER BY nspname) FROM pg_namespace
         UNION ALL SELECT 'classes', md5(string_agg(oid::text || relname || coalesce(relacl::text, '') || relfilenode, ',' ORDER BY oid)) FROM pg_class
         UNION ALL SELECT 'functions', md5(string_agg(oid::text || proname || prosrc, ',' ORDER BY oid)) FROM pg_proc
         UNION ALL SELECT 'triggers', md5(string_agg(oid::text || tgname || tgenabled::text, ',' ORDER BY oid)) FROM pg_trigger
         UNION ALL SELECT 'constraints', count(*)::text FROM pg_constraint
         UNION ALL SELECT 'dependencies', count(*)::text FROM pg_depend
         UNION ALL SELECT 'settings', md5(string_agg(name || coalesce(setting, ''), ',' ORDER BY name)) FROM pg_settings WHERE name <> 'transaction_isolation'
         UNION ALL SELECT 'events', md5(coalesce(string_agg(e, ','), '')) FROM audit_export() e",
    )
}

/// Locks of this session that outlive a statement.
#[track_caller]
fn locks(client: &mut Client) -> Vec<String> {
    client.lines(
        "SELECT locktype, mode, relation::regclass FROM pg_locks
         WHERE pid = pg_backend_pid() AND locktype NOT IN ('virtualxid', 'transactionid') AND relation IS DISTINCT FROM 'pg_locks'::regclass ORDER BY 1, 2, 3",
    )
}

#[test]
fn it_changes_nothing_outside_its_scratch_schema_and_keeps_no_lock() {
    let database = Database::audited("drill_nothing");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 50); SET work_mem = '5MB'");
    // The language has settings of its own, which are there once it is loaded.
    client.run("DO 'BEGIN END'");
    let before = around(&mut client);
    assert_eq!(counts(&mut client), WELL);
    assert_eq!(around(&mut client), before);

    client.run("BEGIN; SELECT 1");
    assert_eq!(counts(&mut client), WELL);
    let kept = locks(&mut client);
    // The planner keeps weak locks on the catalogs it read for the calling statement; nothing of the trail's.
    assert!(kept.iter().all(|lock| lock.contains("AccessShareLock|pg_") || lock.contains("AccessShareLock|audit_events")), "{kept:#?}");
    client.run("COMMIT");
    assert_eq!(around(&mut client), before);
    assert_eq!(
        client.line("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"),
        "0"
    );
}

#[test]
fn inside_a_transaction_with_events_of_its_own_both_go_on() {
    let database = Database::audited("drill_outer");
    let mut client = database.client();
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        for chains in [0, 1, 2] {
            client.run(&format!(
                "SET zeroauth_audit.max_chains = {chains}; BEGIN ISOLATION LEVEL {level};
                 INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'before'), ('globex', 'before')"
            ));
            assert_eq!(counts(&mut client), WELL, "{level}");
            client.run("SAVEPOINT s; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'undone')");
            assert_eq!(failed(&mut client), [] as [&str; 0]);
            client.run("ROLLBACK TO s; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'after'), ('globex', 'after'); COMMIT");
        }
    }
    assert_eq!(client.line("SELECT count(*), max(chain) FROM audit_events"), "36|0");
    assert_whole(&mut client);
    client.run("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    assert_eq!(counts(&mut client), WELL);
    client.run("PREPARE TRANSACTION 'drilled'");
    client.run("COMMIT PREPARED 'drilled'");
    assert_whole(&mut client);
}

#[test]
fn a_read_only_transaction_is_told_where_to_run_it() {
    let database = Database::audited("drill_read_only");
    let mut client = database.client();
    let refusal = client.refused("25006", "BEGIN READ ONLY; SELECT * FROM audit_drill()");
    assert!(refusal.message.starts_with("audit_drill() ") && !refusal.hint.is_empty(), "{refusal:?}");
    client.run("ROLLBACK");
}

#[test]
fn cancel_timeout_and_the_end_of_its_session_leave_nothing() {
    let database = Database::audited("drill_cancel");
    let mut admin = database.client();
    admin.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    let before = around(&mut admin);
    // Wherever it happens to be by then.
    let mut client = database.client();
    let mut stopped = 0;
    for milliseconds in [1, 3, 10, 20, 40, 80] {
        client.run(&format!("SET statement_timeout = {milliseconds}"));
        if let Err(error) = client.batch_execute("SELECT * FROM audit_drill()") {
            assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{error}");
            stopped += 1;
        }
    }
    assert!(stopped >= 2, "{stopped} were stopped");
    client.run("RESET statement_timeout");
    // In the middle: its schema is made, and its table waits for a lock that another session holds.
    for end in ["pg_cancel_backend", "pg_terminate_backend"] {
        let mut holder = database.client();
        holder.run("BEGIN; LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE");
        let mut client = database.client();
        let pid = client.line("SELECT pg_backend_pid()");
        thread::scope(|scope| {
            let drill = scope.spawn(|| client.batch_execute("SELECT * FROM audit_drill()").unwrap_err());
            wait_until(DEADLINE, "the drill to wait for the table", || {
                admin.line(&format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted")) == "1"
            });
            admin.run(&format!("SELECT {end}({pid})"));
            let error = drill.join().unwrap();
            match error.code().map(|code| code.code()) {
                Some(code) => {
                    assert_eq!(code, if end == "pg_cancel_backend" { "57014" } else { "57P01" });
                }
                // The connection may be gone before its last message is read.
                None => assert!(end == "pg_terminate_backend" && error.is_closed(), "{end}: {error}"),
            }
        });
        holder.run("COMMIT");
    }
    assert_eq!(around(&mut admin), before);
    assert_eq!(counts(&mut client), WELL);
}

#[test]
fn writers_neither_wait_for_a_drill_nor_take_another_chain_because_of_it() {
    let database = Database::audited("drill_writers");
    let mut admin = database.client();
    let (done, written) = (AtomicBool::new(false), AtomicU64::new(0));
    // Two tenants under the names that the drill uses, each with one writer.
    thread::scope(|scope| {
        for tenant in ["acme", "globex"] {
            let (mut client, done, written) = (database.client(), &done, &written);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    client.run(&format!(
                        "INSERT INTO audit_events (tenant_id, action) VALUES ('{tenant}', 'x')"
                    ));
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut watcher = database.client();
        let mut driller = database.client();
        let pid = driller.line("SELECT pg_backend_pid()");
        let drilled = AtomicBool::new(false);
        let _stop = SetOnDrop(&done);
        let (driller, drilled) = (&mut driller, &drilled);
        thread::scope(|inner| {
            let drills = inner.spawn(move || {
                let _stop = SetOnDrop(drilled);
                for _ in 0..8 {
                    assert_eq!(counts(driller), WELL);
                }
            });
            let mut looked = 0;
            while !drilled.load(Ordering::Relaxed) {
                assert_eq!(
                    watcher.lines(&format!(
                        "SELECT query FROM pg_stat_activity WHERE {pid} = ANY (pg_blocking_pids(pid))"
                    )),
                    [] as [&str; 0],
                    "nobody waits for the drill"
                );
                assert_eq!(
                    watcher.lines(&format!("SELECT locktype, mode FROM pg_locks WHERE pid = {pid} AND (locktype = 'advisory' OR relation = 'audit_events'::regclass AND mode <> 'AccessShareLock')")),
                    [] as [&str; 0],
                    "no lock of a chain, and none on the trail but the weakest"
                );
                looked += 1;
            }
            drills.join().unwrap();
            assert!(looked > 10, "looked {looked} times");
        });
    });
    assert!(written.load(Ordering::Relaxed) > 20);
    assert_eq!(admin.line("SELECT max(chain) FROM audit_events"), "0", "one writer a tenant has one chain");
    assert_whole(&mut admin);
}

#[test]
fn what_others_added_to_the_trail_is_neither_needed_nor_run() {
    let database = Database::audited("drill_additions");
    let mut client = database.client();
    // Each addition would raise if it were taken along.
    client.run(
        "CREATE FUNCTION raising() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a trigger was run'; END $$;
         CREATE FUNCTION raising(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'an expression was run'; END $$;
         CREATE TRIGGER later AFTER INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION raising();
         CREATE INDEX by_time ON audit_events (occurred_at);
         ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY;
         ALTER TABLE audit_events FORCE ROW LEVEL SECURITY;
         CREATE POLICY nothing ON audit_events USING (false) WITH CHECK (false);
         CREATE PUBLICATION all_events FOR TABLE audit_events WITH (publish = 'insert');
         SET zeroauth_audit.maintenance = on;
         CREATE INDEX raising_index ON audit_events (raising(action));
         ALTER TABLE audit_events ADD COLUMN own text NOT NULL CHECK (raising(own) IS NULL), ADD COLUMN dropped int, ADD COLUMN n serial UNIQUE, ADD COLUMN g text GENERATED ALWAYS AS (raising(action)) STORED;
         ALTER TABLE audit_events DROP COLUMN dropped, ALTER severity SET DEFAULT raising('x'), ADD CONSTRAINT raising_check CHECK (raising(action) IS NULL);
         ALTER TABLE audit_events REPLICA IDENTITY FULL;
         RESET zeroauth_audit.maintenance",
    );
    assert_eq!(failed(&mut client), [] as [&str; 0]);
    assert_eq!(counts(&mut client), WELL);
}

#[test]
fn it_runs_in_any_schema_and_database_under_any_session_settings() {
    let database = Database::empty("Drill's \"own\" \\ %s {table}");
    let mut client = database.client();
    client.run("CREATE SCHEMA \"Audit Trail %s {table}\"; CREATE EXTENSION zeroauth_audit SCHEMA \"Audit Trail %s {table}\"");
    client.run("SET search_path = \"Audit Trail %s {table}\"");
    assert_eq!(counts(&mut client), WELL);
    client.run(
        "CREATE TABLE public.pg_class (x int); CREATE FUNCTION public.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS $$ SELECT 'DROP TABLE audit_events' $$;
         CREATE TABLE pg_temp.audit_events (LIKE audit_events)",
    );
    for settings in [
        "SET standard_conforming_strings = off; SET backslash_quote = on; SET escape_string_warning = off",
        "SET search_path = public, pg_catalog, \"Audit Trail %s {table}\"",
        "SET datestyle = 'SQL, DMY'; SET intervalstyle = 'sql_standard'; SET timezone = 'Asia/Kolkata'; SET bytea_output = 'escape'",
        "SET plpgsql.extra_errors = 'all'; SET plpgsql.variable_conflict = 'use_variable'; SET plpgsql.check_asserts = off; SET check_function_bodies = off",
        "SET session_replication_role = replica",
        "SET transform_null_equals = on; SET array_nulls = off; SET quote_all_identifiers = on; SET row_security = off",
        "SET client_min_messages = debug1; SET default_with_oids = off; SET default_transaction_deferrable = on",
        "SET jit_above_cost = 0; SET enable_seqscan = off; SET enable_hashagg = off; SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0",
        "SET track_counts = off; SET temp_buffers = 100; SET work_mem = '64kB'; SET lock_timeout = '5s'",
    ] {
        client.run("RESET ALL; SET search_path = \"Audit Trail %s {table}\"");
        client.run(settings);
        assert_eq!(failed(&mut client), [] as [&str; 0], "{settings}");
        assert_eq!(counts(&mut client), WELL, "{settings}");
    }
}

#[test]
fn two_drills_at_once_do_not_meet() {
    let database = Database::audited("drill_two");
    thread::scope(|scope| {
        for chains in [0, 0, 1, 1] {
            let mut client = database.client();
            scope.spawn(move || {
                client.run(&format!("SET zeroauth_audit.max_chains = {chains}"));
                for _ in 0..3 {
                    assert_eq!(counts(&mut client), WELL);
                }
            });
        }
    });
}

#[test]
fn a_table_that_nobody_else_sees_is_chained_without_locks_and_whole_once_it_is_seen() {
    let database = Database::empty("drill_unseen");
    let mut client = database.client();
    client.run(
        "BEGIN; CREATE EXTENSION zeroauth_audit;
         INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 7, 'x' FROM generate_series(1, 100) i;
         SAVEPOINT s; INSERT INTO audit_events (tenant_id, action) VALUES ('tenant 1', 'undone'); ROLLBACK TO s;
         INSERT INTO audit_events (tenant_id, action) VALUES ('tenant 1', 'kept')",
    );
    assert_eq!(
        client.line("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"),
        "0"
    );
    client.run("COMMIT; BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('tenant 1', 'locked from now on')");
    assert_eq!(
        client.line("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"),
        "1"
    );
    let mut other = database.client();
    assert_eq!(
        other.line(
            "INSERT INTO audit_events (tenant_id, action) VALUES ('tenant 1', 'other') RETURNING chain, seq"
        ),
        "1|1"
    );
    client.run("COMMIT");
    assert_eq!(export(&mut client).len(), 103);
    assert_whole(&mut client);
}

#[test]
fn without_preload_the_ddl_guard_of_this_session_alone_does_not_pass() {
    let cluster = Cluster::builder("drill_unloaded").preload(false).conf("fsync", "off").start().unwrap();
    cluster.client().run("CREATE EXTENSION zeroauth_audit");
    let mut client = cluster.client();
    let rows = failed(&mut client);
    assert_eq!(rows.len(), 9, "{rows:#?}");
    assert!(rows.iter().all(|row| row.ends_with("|ZA004|ZA004 in this session only")), "{rows:#?}");
    assert_eq!(counts(&mut client), "43|9|9");
}
