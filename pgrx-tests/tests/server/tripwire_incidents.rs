//! What happens to the trail's rows and guards between two looks of the tripwires: told once for each person who has to know, and
//! again when it happens again.

use std::thread;
use std::time::Duration;

use postgres::Client;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::worker::{watcher, worker_after};
use crate::support::{DEADLINE, Database, Sql};
use crate::tripwire::{alerts, differences, look};

fn audited(name: &str) -> Database {
    let database = Database::audited(name);
    database
        .client()
        .run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 20)");
    database
}

/// Looks until there is an unresolved alert of that kind and severity: what sessions count reaches the statistics within a second.
#[track_caller]
fn found(client: &mut Client, alert: &str) {
    wait_until(DEADLINE, alert, || {
        look(client);
        alerts(client).iter().any(|line| line.starts_with(alert))
    });
}

/// Kinds of the unresolved alerts.
fn kinds(client: &mut Client) -> String {
    client.line("SELECT coalesce(string_agg(DISTINCT kind, ' ' ORDER BY kind), '') FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved'")
}

#[test]
fn pitfall_18_a_guard_that_was_switched_off_and_on_again_between_two_looks_is_told() {
    let database = audited("incident_off_and_on");
    let mut client = database.client();
    look(&mut client);
    client.run("SET zeroauth_audit.maintenance = on; ALTER TABLE audit_events DISABLE TRIGGER ALL; UPDATE audit_events SET action = 'y' WHERE seq = 3;
        ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zzz_zeroauth_audit_chain; ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_row; ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_statement");
    assert_eq!(differences(&mut client), [] as [&str; 0]);
    found(&mut client, "guard_disabled|1|open|a guard of audit_events was switched off and on again");
    found(&mut client, "rows_modified|1|open|");
    assert_eq!(kinds(&mut client), "guard_disabled maintenance_used rows_modified");
}

#[test]
fn a_guard_that_is_off_is_told_once_and_resolved_after_its_return_and_an_acknowledgement() {
    let database = audited("incident_off");
    let mut client = database.client();
    client.run("UPDATE pg_trigger SET tgenabled = 'D' WHERE tgname = 'zeroauth_audit_refuse_row'");
    for times in 1..4 {
        look(&mut client);
        assert_eq!(
            client.line("SELECT kind, severity, state, occurrences FROM zeroauth_audit_internal.alerts WHERE kind = 'guard_disabled'"),
            format!("guard_disabled|1|open|{times}")
        );
    }
    assert_eq!(
        client.line("SELECT h ->> 'state', h -> 'reasons' FROM zeroauth_audit_internal.health_tripwires() h"),
        r#"failing|["not_as_installed"]"#
    );
    client.run("UPDATE pg_trigger SET tgenabled = 'A' WHERE tgname = 'zeroauth_audit_refuse_row'");
    look(&mut client);
    assert_eq!(
        client.line("SELECT state, condition_gone_at IS NOT NULL FROM zeroauth_audit_internal.alerts WHERE kind = 'guard_disabled'"),
        "open|t"
    );
    assert_eq!(
        client.line("SELECT audit_alert_acknowledge(id, 'who was it?') FROM zeroauth_audit_internal.alerts WHERE kind = 'guard_disabled'"),
        "resolved"
    );
    look(&mut client);
    assert_eq!(
        client.line("SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE kind = 'guard_disabled'"),
        "1",
        "told already, its return is no second alert"
    );
    assert_eq!(client.line("SELECT h ->> 'state' FROM zeroauth_audit_internal.health_tripwires() h"), "ok");
    // It is another alert when it is off again.
    client.run("UPDATE pg_trigger SET tgenabled = 'D' WHERE tgname = 'zeroauth_audit_refuse_row'");
    look(&mut client);
    assert_eq!(client.line("SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE kind = 'guard_disabled' AND state = 'open'"), "1");
}

#[test]
fn pitfall_21_changed_rows_and_a_rewritten_table_are_told() {
    for (name, sql, expected) in [
        ("update", "UPDATE audit_events SET action = 'y' WHERE seq = 3", "rows_modified|1|open|"),
        ("delete", "DELETE FROM audit_events WHERE seq = 20", "rows_modified|1|open|"),
        ("truncate", "TRUNCATE audit_events", "table_rewritten|1|open|"),
        ("rolled_back", "BEGIN; UPDATE audit_events SET action = 'y'; ROLLBACK", "rows_modified|1|open|"),
        (
            "alter",
            "ALTER TABLE audit_events SET UNLOGGED; ALTER TABLE audit_events SET LOGGED",
            "table_rewritten|1|open|",
        ),
    ] {
        let database = audited(&format!("incident_{name}"));
        let mut client = database.client();
        look(&mut client);
        client.run(&format!("SET zeroauth_audit.maintenance = on; {sql}; RESET zeroauth_audit.maintenance"));
        found(&mut client, expected);
        found(&mut client, "maintenance_used|2|open|postgres used zeroauth_audit.maintenance: ");
    }
}

#[test]
fn review_1_15_who_packs_the_table_anew_is_named_and_nobody_is_called_at_night() {
    let database = audited("incident_vacuum");
    let mut client = database.client();
    for sql in [
        "VACUUM FULL audit_events",
        "CLUSTER audit_events USING audit_events_pkey",
        "VACUUM (FULL, ANALYZE)",
        "CLUSTER",
    ] {
        client.run(sql);
        look(&mut client);
        assert_eq!(
            alerts(&mut client),
            [
                "table_rewritten|3|open|audit_events has another file: postgres ran VACUUM FULL, CLUSTER or ALTER TABLE ALL IN TABLESPACE"
            ],
            "{sql}"
        );
        client.run("SELECT audit_alert_resolve(id, 'planned') FROM audit_alerts WHERE state = 'open'");
    }
    // What gives other tables another file explains nothing, nor does one that failed.
    client.run("CREATE TABLE other (x int)");
    client.run("VACUUM FULL other");
    client.refused("25001", "BEGIN; VACUUM FULL audit_events");
    client.run("ROLLBACK; SET zeroauth_audit.maintenance = on; TRUNCATE audit_events; RESET zeroauth_audit.maintenance");
    look(&mut client);
    found(&mut client, "table_rewritten|1|open|");
}

#[test]
fn changes_behind_the_guards_move_the_counters() {
    for (name, sql) in [
        ("update", "UPDATE audit_events SET action = 'y' WHERE seq = 3"),
        ("delete", "DELETE FROM audit_events"),
    ] {
        let database = audited(&format!("incident_behind_{name}"));
        let mut client = database.client();
        // The counters of the load have arrived.
        wait_until(DEADLINE, "the counters", || {
            client.line("SELECT pg_stat_get_tuples_inserted('audit_events'::regclass)") == "20"
        });
        look(&mut client);
        // No trigger fires, and all is put back before they look.
        client.run(&format!(
            "BEGIN; CREATE TEMP TABLE kept AS SELECT oid, tgenabled FROM pg_trigger WHERE tgrelid = 'audit_events'::regclass;
             UPDATE pg_class SET relhastriggers = false WHERE relname = 'audit_events'; SET LOCAL zeroauth_audit.maintenance = on; {sql}; UPDATE pg_class SET relhastriggers = true WHERE relname = 'audit_events'; COMMIT"
        ));
        assert_eq!(differences(&mut client), [] as [&str; 0]);
        found(&mut client, "rows_modified|1|open|");
        assert_eq!(kinds(&mut client), "catalog_written maintenance_used rows_modified");
    }
}

#[test]
fn what_happens_again_after_an_acknowledgement_is_told_again() {
    let database = audited("incident_again");
    let mut client = database.client();
    let rewrite = "VACUUM FULL audit_events";
    for _ in 0..2 {
        client.run(rewrite);
        look(&mut client);
    }
    assert_eq!(
        client.line("SELECT kind, occurrences FROM zeroauth_audit_internal.alerts"),
        "table_rewritten|2"
    );
    client.run("SELECT audit_alert_acknowledge(id, 'planned') FROM zeroauth_audit_internal.alerts");
    look(&mut client);
    assert_eq!(
        client.line("SELECT state FROM zeroauth_audit_internal.alerts"),
        "acknowledged",
        "nothing can prove it undone"
    );
    client.run(rewrite);
    look(&mut client);
    assert_eq!(
        client.lines("SELECT state, occurrences FROM zeroauth_audit_internal.alerts ORDER BY id"),
        ["acknowledged|2", "open|1"]
    );
    client.run(
        "SELECT zeroauth_audit_internal.resolve_alert(fingerprint, 'verified') FROM zeroauth_audit_internal.alerts WHERE state = 'acknowledged'",
    );
    assert_eq!(
        client.lines("SELECT state FROM zeroauth_audit_internal.alerts ORDER BY id"),
        ["resolved", "open"]
    );
}

#[test]
fn pitfall_19_writing_in_replica_role_is_told_and_the_drill_is_not() {
    let database = audited("incident_replica");
    let mut client = database.client();
    client.run("SELECT count(*) FROM audit_drill()");
    look(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
    client.run("SET session_replication_role = replica; SELECT count(*) FROM audit_events; RESET session_replication_role");
    look(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0], "reading is nothing");
    client.run("SET session_replication_role = replica; INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 1000)");
    client.refused("ZA003", "UPDATE audit_events SET action = 'y'");
    client.run("RESET session_replication_role");
    look(&mut client);
    assert_eq!(
        alerts(&mut client),
        [
            "replica_role_used|2|open|postgres wrote to audit_events with session_replication_role = replica: INSERT, UPDATE, DELETE or TRUNCATE tried"
        ]
    );
    assert_eq!(
        client.line("SELECT evidence ->> 'role', jsonb_array_length(evidence -> 'uses'), evidence #>> '{uses,0,times}' FROM zeroauth_audit_internal.alerts"),
        "postgres|2|1"
    );
    look(&mut client);
    assert_eq!(client.line("SELECT occurrences FROM zeroauth_audit_internal.alerts"), "1", "told once");
}

#[test]
fn whoever_switches_maintenance_on_is_told_by_name_however_it_was_done() {
    let database = audited("incident_maintenance");
    let role = database.role("helper");
    let mut client = database.client();
    client.run(&format!("ALTER ROLE \"{role}\" SUPERUSER"));
    for (n, sql) in [
        "SET zeroauth_audit.maintenance = on",
        "SELECT set_config('zeroauth_audit.maintenance', 'on', false)",
        "BEGIN; SET LOCAL zeroauth_audit.maintenance = on; ROLLBACK",
    ]
    .into_iter()
    .enumerate()
    {
        database.client_as(&role).run(sql);
        look(&mut client);
        assert_eq!(
            client.line("SELECT kind, severity, message, occurrences FROM zeroauth_audit_internal.alerts"),
            format!("maintenance_used|2|{role} used zeroauth_audit.maintenance: switched on|{}", n + 1)
        );
    }
    // A run that is rolled back has told nobody: the next one does.
    client.run("SELECT zeroauth_audit_internal.resolve_alert(fingerprint, 'known') FROM zeroauth_audit_internal.alerts");
    database.client_as(&role).run("SET zeroauth_audit.maintenance = on");
    client.run("BEGIN");
    look(&mut client);
    client.run("ROLLBACK");
    look(&mut client);
    assert_eq!(client.line("SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE state = 'open'"), "1");
    // Neither a parallel query of such a session, nor a database of others.
    client.run("SELECT zeroauth_audit_internal.resolve_alert(fingerprint, 'known') FROM zeroauth_audit_internal.alerts; SET zeroauth_audit.maintenance = on");
    look(&mut client);
    client.run("SELECT zeroauth_audit_internal.resolve_alert(fingerprint, 'known') FROM zeroauth_audit_internal.alerts; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET debug_parallel_query = on".replace("SET debug_parallel_query", if crate::support::shared().installation().major() < 16 { "SET force_parallel_mode" } else { "SET debug_parallel_query" }).as_str());
    client.run("SELECT count(*) FROM audit_events; RESET ALL");
    let other = audited("incident_maintenance_other");
    look(&mut client);
    look(&mut other.client());
    assert_eq!((alerts(&mut client), alerts(&mut other.client())), (vec![], vec![]));
    client.run(&format!("ALTER ROLE \"{role}\" NOSUPERUSER"));
}

#[test]
fn inserts_of_one_event_that_collide_are_no_deletion() {
    let database = audited("incident_conflict");
    let mut client = database.client();
    // Holds an insert into chain 0 between its look for the event and the storing of it.
    client.run("CREATE FUNCTION held(chain smallint) RETURNS smallint LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN IF chain = 0 THEN PERFORM pg_advisory_xact_lock_shared(17); END IF; RETURN chain; END $f$;
        SET zeroauth_audit.maintenance = on; CREATE UNIQUE INDEX holds ON audit_events (tenant_id, held(chain), seq); RESET zeroauth_audit.maintenance");
    look(&mut client);
    let insert = "INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('acme', '01a1fd70-f2bb-7b3a-9c51-5d0e6f7a8b9c', 'x') ON CONFLICT DO NOTHING";
    client.run("SELECT pg_advisory_lock(17)");
    thread::scope(|scope| {
        let first = scope.spawn(|| database.client().run(insert));
        wait_until(DEADLINE, "the first to wait", || {
            client.line(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 17 AND NOT granted",
            ) == "1"
        });
        database.client().run(insert);
        client.run("SELECT pg_advisory_unlock(17)");
        first.join().unwrap();
    });
    assert_eq!(
        client.line(
            "SELECT count(*) FROM audit_events WHERE event_id = '01a1fd70-f2bb-7b3a-9c51-5d0e6f7a8b9c'"
        ),
        "1"
    );
    wait_until(DEADLINE, "the counters", || {
        client.line("SELECT pg_stat_get_tuples_inserted('audit_events'::regclass), pg_stat_get_tuples_deleted('audit_events'::regclass)") == "22|1"
    });
    look(&mut client);
    assert_eq!(kinds(&mut client), "guard_disabled maintenance_used", "the index alone");
}

#[test]
fn pitfall_24_the_worker_looks_by_itself_and_says_so_even_without_the_functions_that_raise_alerts() {
    let cluster = Cluster::builder("tripwire_worker").conf("fsync", "off").start().unwrap();
    let mut client = cluster.client();
    client.run(
        "CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')",
    );
    let looked = "SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'tripwire' AND status = 'succeeded'";
    wait_until(Duration::from_secs(15), "a look as soon as the worker starts", || client.line(looked) != "0");
    client.run("UPDATE pg_trigger SET tgenabled = 'D' WHERE tgname = 'zeroauth_audit_refuse_statement'");
    wait_until(Duration::from_secs(75), "the alert within a minute", || !alerts(&mut client).is_empty());
    assert_eq!(
        alerts(&mut client),
        [
            "guard_disabled|1|open|trigger zeroauth_audit_refuse_statement on audit_events is not as installed: definition",
            "catalog_written|1|open|postgres wrote to the system catalogs: pg_trigger"
        ]
    );
    client.run("UPDATE pg_trigger SET tgenabled = 'A' WHERE tgname = 'zeroauth_audit_refuse_statement'; SELECT audit_alert_acknowledge(id, 'x') FROM zeroauth_audit_internal.alerts;
        UPDATE pg_proc SET prosrc = 'BEGIN RETURN NULL; END' WHERE proname = 'job_tripwire'");
    let line = r#"zeroauth_audit: {"event":"definitions_differ","differences":1,"objects":["function job_tripwire()"]}"#;
    wait_until(Duration::from_secs(75), "the line", || cluster.log().contains(line));
}

#[test]
fn restarts_and_crashes_raise_nothing() {
    let cluster = Cluster::builder("tripwire_storm").conf("fsync", "off").start().unwrap();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 100)");
    drop(client);
    let mut pid = None;
    for round in 0..6 {
        let mut watcher = watcher(&cluster);
        pid = Some(worker_after(&mut watcher, "audit", pid));
        let mut client = cluster.client();
        client.run(
            "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 100)",
        );
        wait_until(DEADLINE, "a look since the start", || {
            client.line(
                "SELECT max(looked_at) > (SELECT since FROM zeroauth_audit_internal.worker_status()) FROM zeroauth_audit_internal.tripwire_state",
            ) == "t"
        });
        assert_eq!(alerts(&mut client), [] as [&str; 0], "round {round}");
        drop((client, watcher));
        if round % 2 == 0 {
            cluster.crash().unwrap()
        } else {
            cluster.shut_down().unwrap()
        }
        cluster.start_again().unwrap();
    }
}
