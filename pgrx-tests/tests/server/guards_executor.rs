//! The guards that do not depend on triggers: the executor itself refuses changes of events, inserts that would not be chained, and
//! writes to what only the extension's functions write; and a write to a system catalog is told.

use postgres::Client;
use zeroauth_audit_tests::Cluster;

use crate::guards::{assert_logged, log_lines};
use crate::support::{Database, Sql, assert_whole, quoted, shared, succeed};
use crate::tripwire::{alerts, look};

/// Every trigger of the table off, and on again, without touching one: what the red team calls QUIET.
fn quietly(sql: &str) -> String {
    format!(
        "SET track_counts = off; SET allow_system_table_mods = on; BEGIN;
         UPDATE pg_class SET relhastriggers = false WHERE oid = 'audit_events'::regclass;
         {sql};
         UPDATE pg_class SET relhastriggers = true WHERE oid = 'audit_events'::regclass; COMMIT"
    )
}

fn with_events(name: &str) -> (Database, Client) {
    let database = Database::audited(name);
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 10)");
    look(&mut client);
    (database, client)
}

#[test]
fn red_team_a1_a_superuser_who_makes_the_table_forget_its_triggers_changes_no_event() {
    let (database, mut client) = with_events("executor_a1");
    for (operation, sql) in [
        ("UPDATE", "UPDATE audit_events SET action = 'forged' WHERE seq = 5"),
        ("DELETE", "DELETE FROM audit_events WHERE seq > 8"),
        ("UPDATE", "DO $$ BEGIN UPDATE audit_events SET action = 'forged'; END $$"),
        (
            "UPDATE",
            "WITH u AS (UPDATE audit_events SET action = 'forged' RETURNING 1) SELECT count(*) FROM u",
        ),
        ("DELETE", "MERGE INTO audit_events e USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE"),
        ("DELETE", "PREPARE forged AS DELETE FROM audit_events; EXECUTE forged"),
        ("UPDATE", "EXPLAIN (ANALYZE) UPDATE audit_events SET action = 'forged'"),
        ("UPDATE", "CREATE VIEW v AS SELECT * FROM audit_events; UPDATE v SET action = 'forged'"),
        ("UPDATE", "SET LOCAL session_replication_role = replica; UPDATE audit_events SET action = 'forged'"),
        ("TRUNCATE", "TRUNCATE audit_events"),
        ("TRUNCATE", "CREATE TABLE t (LIKE audit_events); TRUNCATE t, audit_events CASCADE"),
    ] {
        let refusal = client.refused("ZA003", &quietly(sql));
        assert_eq!(refusal.message, format!("{operation} of audit_events is refused"), "{sql}");
        client.run("ROLLBACK; DEALLOCATE ALL");
        assert_logged(&database, "change_refused", operation, "audit_events", "postgres");
    }
    // Nobody wants to keep them from explaining it.
    client.run(&quietly("EXPLAIN UPDATE audit_events SET action = 'forged'"));
    assert_whole(&mut client);
    assert_eq!(client.line("SELECT count(*), max(action) FROM audit_events"), "10|x");
}

#[test]
fn red_team_a1_under_maintenance_it_is_told_and_logged_although_no_trigger_fires() {
    let (database, mut client) = with_events("executor_a1_maintenance");
    let before = log_lines(&database).len();
    client.run(&quietly(
        "SET LOCAL zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'forged' WHERE seq = 5",
    ));
    look(&mut client);
    let told = alerts(&mut client);
    assert_eq!(
        told,
        [
            "catalog_written|1|open|postgres wrote to the system catalogs: pg_class",
            "maintenance_used|2|open|postgres used zeroauth_audit.maintenance: UPDATE, DELETE or TRUNCATE let through, switched on"
        ]
    );
    assert_eq!(
        log_lines(&database)[before..].iter().filter(|line| line["event"] == "change_allowed").count(),
        1
    );
}

#[test]
fn red_team_a6_review_1_14_the_next_event_follows_what_is_there_after_events_were_deleted_past_the_triggers()
{
    let (_database, mut client) = with_events("executor_a6");
    client.run(&quietly("SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE seq > 8"));
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'after')");
    assert_eq!(client.line("SELECT max(seq) FROM audit_events"), "9");
    assert_whole(&mut client);
}

#[test]
fn pitfall_32_no_event_is_stored_while_the_chaining_trigger_would_not_fire() {
    let (database, mut client) = with_events("executor_insert");
    let insert = "INSERT INTO audit_events SELECT * FROM jsonb_populate_record(NULL::audit_events, (SELECT to_jsonb(e) FROM audit_events e WHERE seq = 10) || '{\"seq\": 11, \"event_id\": \"01a1fd70-f2bb-7b3a-9c51-5d0e6f7a8b9c\"}')";
    let merge = "MERGE INTO audit_events e USING (SELECT 1) s ON false WHEN NOT MATCHED THEN INSERT (tenant_id, action) VALUES ('acme', 'x')";
    for off in [
        "UPDATE pg_class SET relhastriggers = false WHERE oid = 'audit_events'::regclass",
        "UPDATE pg_trigger SET tgenabled = 'D' WHERE tgname = 'zzz_zeroauth_audit_chain'; UPDATE pg_class SET relname = relname WHERE oid = 'audit_events'::regclass",
        "UPDATE pg_trigger SET tgenabled = 'O' WHERE tgname = 'zzz_zeroauth_audit_chain'; UPDATE pg_class SET relname = relname WHERE oid = 'audit_events'::regclass",
        "UPDATE pg_trigger SET tgfoid = 'upper(text)'::regprocedure WHERE tgname = 'zzz_zeroauth_audit_chain'; UPDATE pg_class SET relname = relname WHERE oid = 'audit_events'::regclass",
        "UPDATE pg_trigger SET tgfoid = 'zeroauth_audit_internal.jobs_changed'::regproc WHERE tgname = 'zzz_zeroauth_audit_chain'; UPDATE pg_class SET relname = relname WHERE oid = 'audit_events'::regclass",
        "DELETE FROM pg_trigger WHERE tgname = 'zzz_zeroauth_audit_chain'; UPDATE pg_class SET relname = relname WHERE oid = 'audit_events'::regclass",
    ] {
        for sql in [insert, merge] {
            client.run(&format!("BEGIN; {off}"));
            let refusal = client.refused("ZA010", sql);
            assert_eq!(
                refusal.message, "the trigger zzz_zeroauth_audit_chain of audit_events does not fire",
                "{off}"
            );
            client.run("ROLLBACK");
        }
    }
    assert_logged(&database, "change_refused", "INSERT", "audit_events", "postgres");
    let script = format!(
        "BEGIN; {};\nCOPY audit_events (tenant_id, action) FROM stdin;\nacme\tx\n\\.\n",
        "UPDATE pg_class SET relhastriggers = false WHERE oid = 'audit_events'::regclass"
    );
    let output = shared().psql(&database.name, &script).unwrap();
    assert!(output.stderr.contains("ZA010"), "{}", output.stderr);
    // pg_restore --disable-triggers is a superuser's under maintenance; it is told.
    client.run("SET zeroauth_audit.maintenance = on; BEGIN; ALTER TABLE audit_events DISABLE TRIGGER ALL");
    client.run(insert);
    client.run("ROLLBACK; RESET zeroauth_audit.maintenance");
    look(&mut client);
    assert!(
        alerts(&mut client).iter().any(|line| line.starts_with("maintenance_used|2|")),
        "{:?}",
        alerts(&mut client)
    );
    assert_whole(&mut client);
}

#[test]
fn pitfall_32_whatever_writes_to_a_system_catalog_is_told_by_role_and_catalog() {
    let (database, mut client) = with_events("executor_catalogs");
    let role = database.role("mallory");
    client.run(&format!("ALTER ROLE {} SUPERUSER", quoted(&role)));
    let mut mallory = database.client_as(&role);
    for sql in [
        "UPDATE pg_trigger SET tgenabled = tgenabled WHERE tgname = 'nothing'",
        "DO $$ BEGIN DELETE FROM pg_depend WHERE refobjid = 1; END $$",
        "BEGIN; UPDATE pg_proc SET prosrc = prosrc WHERE proname = 'nothing'; ROLLBACK",
        "WITH u AS (UPDATE pg_index SET indisunique = false WHERE indexrelid = 1 RETURNING 1) TABLE u",
        "CREATE TEMP VIEW v AS SELECT * FROM pg_extension; DELETE FROM v WHERE extname = 'nothing'",
        "INSERT INTO pg_description SELECT * FROM pg_description LIMIT 0",
    ] {
        mallory.run(sql);
    }
    mallory.run(
        "SELECT count(*) FROM pg_class; CREATE TABLE t (x int); COMMENT ON TABLE t IS 'x'; DROP TABLE t",
    );
    look(&mut client);
    assert_eq!(
        alerts(&mut client),
        [format!(
            "catalog_written|1|open|{role} wrote to the system catalogs: pg_depend, pg_description, pg_extension, pg_index, pg_proc, pg_trigger"
        )]
    );
    assert_eq!(
        client.line("SELECT evidence ->> 'role', jsonb_array_length(evidence -> 'uses') FROM zeroauth_audit_internal.alerts"),
        format!("{role}|6")
    );
    drop(mallory);
    client.run(&format!("DROP OWNED BY {0}; DROP ROLE {0}", quoted(&role)));
}

#[test]
fn public_report_a4_an_upsert_is_told_to_do_nothing_and_nothing_of_maintenance() {
    let (database, mut client) = with_events("executor_upsert");
    let writer = database.on_duty("writer");
    let id = "01a1fd70-f2bb-7b3a-9c51-5d0e6f7a8b9c";
    let upsert = format!(
        "INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('acme', '{id}', 'x') ON CONFLICT (tenant_id, event_id) DO UPDATE SET action = excluded.action"
    );
    let merge = format!(
        "MERGE INTO audit_events e USING (SELECT '{id}'::uuid AS id) s ON e.event_id = s.id WHEN MATCHED THEN UPDATE SET action = 'x' WHEN NOT MATCHED THEN INSERT (tenant_id, event_id, action) VALUES ('acme', s.id, 'x')"
    );
    let in_cte = format!("WITH u AS ({upsert} RETURNING 1) SELECT count(*) FROM u");
    let mut as_writer = database.client_as(&writer);
    for sql in [&upsert, &merge, &in_cte] {
        for client in [&mut client, &mut as_writer] {
            let refusal = client.refused("ZA003", sql);
            assert_eq!(refusal.message, "UPDATE of audit_events is refused");
            assert_eq!(refusal.hint, "Use ON CONFLICT DO NOTHING.", "{sql}");
        }
    }
    // Who may not update is told so by PostgreSQL; and so is who updates.
    as_writer.refused("42501", "UPDATE audit_events SET action = 'x'");
    as_writer.refused("42501", "TRUNCATE audit_events");
    as_writer.run(&format!("INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('acme', '{id}', 'x') ON CONFLICT DO NOTHING"));
    // Upserts of others are theirs.
    client.run("CREATE TABLE mine (x int PRIMARY KEY, y int); INSERT INTO mine VALUES (1, 1) ON CONFLICT (x) DO UPDATE SET y = excluded.y; CREATE SCHEMA app; CREATE TABLE app.audit_events (x int PRIMARY KEY); INSERT INTO app.audit_events VALUES (1) ON CONFLICT (x) DO UPDATE SET x = 2; UPDATE app.audit_events SET x = 3; TRUNCATE app.audit_events");
    assert_whole(&mut client);
}

/// Written by nothing but the extension's functions.
const STATE: [&str; 23] = [
    "logs",
    "log_intervals",
    "tiles",
    "keys",
    "registry_names",
    "registry_entries",
    "registry_tiles",
    "registry_runs",
    "registry_cosignatures",
    "registry_found",
    "anchor_batches",
    "tenant_status",
    "anchor_findings",
    "anchor_check_state",
    "tripwire_state",
    "alerts",
    "alert_deliveries",
    "job_runs",
    "duty_ends",
    "tenants",
    "watermarks",
    "drift_findings",
    "drift_state",
];

#[test]
fn review_1_7_what_the_extension_remembers_is_written_by_its_own_functions_alone() {
    let (database, mut client) = with_events("executor_state");
    let trick = "CREATE FUNCTION trick() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM zeroauth_audit_internal.alerts; RETURN NULL; END $$;
         CREATE TRIGGER trick AFTER INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION trick()";
    for table in STATE {
        let column = client.line(&format!("SELECT attname FROM pg_attribute WHERE attrelid = 'zeroauth_audit_internal.{table}'::regclass AND attnum > 0 AND attidentity = '' AND attgenerated = '' ORDER BY attnum DESC LIMIT 1"));
        for sql in [
            format!("DELETE FROM zeroauth_audit_internal.{table}"),
            format!("UPDATE zeroauth_audit_internal.{table} SET {column} = {column}"),
            format!("INSERT INTO zeroauth_audit_internal.{table} DEFAULT VALUES"),
            format!("TRUNCATE zeroauth_audit_internal.{table} CASCADE"),
            format!("DO $$ BEGIN DELETE FROM zeroauth_audit_internal.{table}; END $$"),
        ] {
            let refusal = client.refused("ZA003", &sql);
            assert!(refusal.message.ends_with(&format!(" of {table} is refused")), "{refusal:?}");
        }
    }
    assert_logged(&database, "change_refused", "DELETE", "watermarks", "postgres");
    // Nor by a trigger that fires while one of them runs.
    client.run(trick);
    client.run("SELECT zeroauth_audit_internal.raise_alert('job_failed', 2::smallint, NULL, 'job_failed:x', 'x', '{}')");
    assert_eq!(
        client.line("SELECT count(*), max(trail_error) FROM zeroauth_audit_internal.alerts"),
        "1|ZA003 DELETE of alerts is refused"
    );
    client.run("DROP TRIGGER trick ON audit_events");
    // A superuser's repair is told.
    client.run("SET zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alerts SET message = 'y'; TRUNCATE zeroauth_audit_internal.watermarks; RESET zeroauth_audit.maintenance");
    assert_logged(&database, "change_allowed", "TRUNCATE", "watermarks", "postgres");
    look(&mut client);
    assert!(
        alerts(&mut client).contains(&"state_written|1|open|postgres wrote to tables that only the extension's functions write: alerts, watermarks".to_owned()),
        "{:?}",
        alerts(&mut client)
    );
}

#[test]
fn pitfall_37_what_people_set_is_written_by_calls_and_by_hand_only_with_a_trace() {
    let (_database, mut client) = with_events("executor_settings");
    for sql in [
        "UPDATE zeroauth_audit_internal.jobs SET timeout = timeout WHERE name = 'drift'",
        "INSERT INTO zeroauth_audit_internal.alert_routes (name, kind, url_file) VALUES ('mine', 'slack', '/dev/null')",
        "COPY zeroauth_audit_internal.sinks (name, kind, directory) FROM PROGRAM 'echo mine,directory,/nowhere' (FORMAT csv)",
        "TRUNCATE zeroauth_audit_internal.anchor_targets CASCADE",
    ] {
        client.run(sql);
        let noted = "SELECT string_agg(use, ',') FROM zeroauth_audit_internal.privileged_uses() WHERE kind = 'settings_written'";
        let table = sql.split_once("internal.").unwrap().1.split(' ').next().unwrap();
        assert!(client.line(noted).split(',').any(|use_| use_ == table), "{sql}: {}", client.line(noted));
    }
    look(&mut client);
    let told = |client: &mut Client| {
        alerts(client).into_iter().filter(|line| line.starts_with("settings_written")).collect::<Vec<_>>()
    };
    assert_eq!(
        told(&mut client),
        [
            "settings_written|2|open|postgres wrote by hand to tables that calls set: alert_routes, anchor_targets, jobs, sinks"
        ]
    );
    // A call leaves its own trace, and is none of this.
    client.run("SELECT audit_alert_acknowledge(id, 'mine') FROM audit_alerts WHERE kind = 'settings_written'; SELECT audit_alert_resolve(id, 'mine') FROM audit_alerts WHERE kind = 'settings_written'");
    client.run("SELECT audit_job_set('drift', timeout => '5 hours')");
    look(&mut client);
    assert_eq!(told(&mut client), [] as [&str; 0]);
}

#[test]
fn a_dump_is_restored_into_tables_without_a_row_and_into_no_others() {
    let (from, mut client) = with_events("executor_dump");
    client.run("SELECT zeroauth_audit_internal.raise_alert('job_failed', 2::smallint, NULL, 'job_failed:x', 'x', '{}')");
    let to = Database::empty("executor_dump_to");
    let dump = succeed(shared().command("pg_dump").arg(&from.name));
    let output = shared().psql(&to.name, &dump).unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    let mut copy = to.client();
    assert_eq!(copy.line("SELECT count(*) FROM zeroauth_audit_internal.alerts"), "1");
    look(&mut copy);
    assert_eq!(alerts(&mut copy), ["job_failed|2|open|x"]);
    let script = "COPY zeroauth_audit_internal.anchor_findings (kind) FROM stdin;\n\\.\nCOPY zeroauth_audit_internal.watermarks (tenant_id) FROM stdin;\n\\.\nCOPY zeroauth_audit_internal.alerts (kind) FROM stdin;\n\\.\n";
    let output = shared().psql(&to.name, script).unwrap();
    assert!(output.stderr.contains("INSERT of alerts is refused"), "{}", output.stderr);
    assert!(
        !output.stderr.contains("watermarks") && !output.stderr.contains("anchor_findings"),
        "{}",
        output.stderr
    );
}

#[test]
fn red_team_a2_notes_of_privileged_use_are_taken_off_by_who_told_of_them_alone() {
    let (_database, mut client) = with_events("executor_a2");
    client.run("SET track_counts = off; SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'x' WHERE seq = 1; RESET zeroauth_audit.maintenance");
    client.refused("ZA003", "SELECT count(*) FROM zeroauth_audit_internal.privileged_uses() u, zeroauth_audit_internal.privileged_uses_told(board, at)");
    // Told in a transaction that nobody sees.
    client.run("BEGIN; SELECT zeroauth_audit_internal.tripwire_privileged_uses(); ROLLBACK");
    client.run("BEGIN; SELECT zeroauth_audit_internal.tripwire_privileged_uses()");
    client.refused("ZA003", "DELETE FROM zeroauth_audit_internal.alerts");
    client.run("ROLLBACK");
    look(&mut client);
    assert_eq!(
        alerts(&mut client),
        [
            "maintenance_used|2|open|postgres used zeroauth_audit.maintenance: UPDATE, DELETE or TRUNCATE let through, switched on",
            "rows_modified|1|open|rows of audit_events were updated or deleted by postgres under maintenance, or it was rolled back"
        ]
    );
    assert_eq!(client.line("SELECT count(*) FROM zeroauth_audit_internal.privileged_uses()"), "0");
    look(&mut client);
    assert_eq!(client.line("SELECT max(occurrences) FROM zeroauth_audit_internal.alerts"), "1", "told once");
}

#[test]
fn red_team_a2_a_full_board_keeps_the_notes_of_other_databases_and_counts_what_it_gave_up() {
    let cluster = Cluster::builder("board_full")
        .conf("fsync", "off")
        .conf("zeroauth_audit.worker", "off")
        .start()
        .unwrap();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit");
    client.run("CREATE DATABASE other");
    let mut other = cluster.connect("postgres", "other").unwrap();
    other.run("CREATE EXTENSION zeroauth_audit; SET zeroauth_audit.maintenance = on; RESET zeroauth_audit.maintenance");
    client.run(
        "DO $$ BEGIN FOR i IN 1..1200 LOOP EXECUTE format('CREATE ROLE r%s SUPERUSER', i); END LOOP; END $$",
    );
    for i in 1..=1200 {
        client.run(&format!("SET SESSION AUTHORIZATION r{i}; SET zeroauth_audit.maintenance = on; RESET zeroauth_audit.maintenance; RESET SESSION AUTHORIZATION"));
    }
    let noted = client.line("SELECT count(*), sum(times) FROM zeroauth_audit_internal.privileged_uses()");
    assert_eq!(noted, "1023|1200", "one of 1024 is the other database's, one says how many more there were");
    look(&mut client);
    assert_eq!(
        client.lines("SELECT severity, message FROM zeroauth_audit_internal.alerts WHERE severity = 1"),
        ["1|178 more notes of privileged use were not kept: there were too many at once"]
    );
    assert_eq!(client.line("SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE severity = 2"), "1022");
    look(&mut other);
    assert_eq!(
        alerts(&mut other),
        ["maintenance_used|2|open|postgres used zeroauth_audit.maintenance: switched on"]
    );
    assert_eq!(client.line("SELECT count(*) FROM zeroauth_audit_internal.privileged_uses()"), "0");
}
