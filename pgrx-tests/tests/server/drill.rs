//! The drill: one row for every pitfall, and each of them honest: what is broken makes it fail.

use std::collections::BTreeSet;

use postgres::Client;
use zeroauth_audit_tests::wait_until;

use crate::guards::log_lines;
use crate::support::{DEADLINE, Database, Sql, assert_whole, quoted};

/// Every row that was played, as `pitfall|attack|expected|found`, where it did not pass.
#[track_caller]
pub fn failed(client: &mut Client) -> Vec<String> {
    client.lines("SELECT pitfall, attack, expected, found FROM audit_drill() WHERE NOT passed")
}

/// How many rows passed, failed and were not played.
#[track_caller]
pub fn counts(client: &mut Client) -> String {
    client.line("SELECT count(*) FILTER (WHERE passed), count(*) FILTER (WHERE NOT passed), count(*) FILTER (WHERE passed IS NULL) FROM audit_drill()")
}

/// What a superuser's drill comes to when all is well.
pub const WELL: &str = "52|0|9";

#[test]
fn every_pitfall_has_a_row_and_what_is_played_passes_within_seconds() {
    let database = Database::audited("drill_rows");
    let mut client = database.client();
    let rows = client
        .rows("SELECT pitfall, attack, expected, found, ms >= 0 AND ms < 10000, passed FROM audit_drill()");
    let cell = |row: &[Option<String>], n: usize| row[n].clone().unwrap_or_else(|| "~".into());
    let pitfalls: BTreeSet<String> = rows.iter().map(|row| cell(row, 0)).collect();
    assert_eq!(
        pitfalls,
        (1..=30).chain([32, 34, 35]).map(|n| n.to_string()).collect(),
        "every row of the list"
    );
    let attacks: BTreeSet<(String, String)> = rows.iter().map(|row| (cell(row, 0), cell(row, 1))).collect();
    assert_eq!(attacks.len(), rows.len(), "no attack twice");
    let mut not_played = BTreeSet::new();
    for row in &rows {
        let (expected, found, quick, passed) = (cell(row, 2), cell(row, 3), cell(row, 4), cell(row, 5));
        if passed == "~" {
            assert_eq!(quick, "~", "{row:?}");
            not_played.insert(format!("{}: {found}", cell(row, 0)));
        } else {
            assert_eq!((found, quick.as_str(), passed.as_str()), (expected, "t", "t"), "{row:?}");
        }
    }
    let two = [2, 3, 4, 6, 22].map(|n| format!("{n}: not played: needs two sessions"));
    let elsewhere = [24, 32, 34]
        .map(|n| format!("{n}: not played: needs the trail itself"))
        .into_iter()
        .chain(["28: not played: needs what left the database".to_owned()]);
    assert_eq!(not_played, two.into_iter().chain(elsewhere).collect());
}

#[test]
fn each_column_that_is_hashed_is_changed_by_an_attack_of_its_own() {
    let database = Database::audited("drill_columns");
    let mut client = database.client();
    let untouched = client.line(
        "SELECT coalesce(string_agg(attname, ',' ORDER BY attnum), '') FROM pg_attribute
         WHERE attrelid = 'audit_events'::regclass AND attnum > 0
           AND NOT EXISTS (SELECT FROM zeroauth_audit_internal.drill_attacks() a, unnest(a.played) p
                           WHERE p LIKE '%UPDATE {table} SET ' || attname || ' = %' OR p LIKE '%UPDATE {table} SET ' || quote_ident(attname) || ' = %')",
    );
    assert_eq!(untouched, "");
}

#[test]
fn pitfall_23_a_verification_that_finds_nothing_or_only_says_broken_fails_the_drill() {
    let database = Database::audited("drill_blind");
    let mut client = database.client();
    for (says, when, failing) in [("broken", "false", 25), ("broken", "true", 35)] {
        client.run(&format!(
            "SET zeroauth_audit.maintenance = on;
             CREATE OR REPLACE FUNCTION zeroauth_audit_internal.drill_findings(scratch regclass) RETURNS TABLE (
                 tenant_id text, class text, chain smallint, seq bigint, event_id uuid, detail text, expected bytea, actual bytea)
             LANGUAGE sql AS $$ SELECT '', '{says}', 0::smallint, 0::bigint, NULL::uuid, '', NULL::bytea, NULL::bytea WHERE {when} $$;
             RESET zeroauth_audit.maintenance"
        ));
        let failed = failed(&mut client);
        let found = if when == "true" { "|broken" } else { "|none" };
        assert!(failed.iter().all(|row| row.ends_with(found)), "{failed:#?}");
        assert_eq!(failed.len(), failing, "{failed:#?}");
    }
}

#[test]
fn an_attack_that_leaves_no_trace_fails_the_drill() {
    let database = Database::audited("drill_left_out");
    let mut client = database.client();
    // The list as it is, but one column's change and the swap change nothing.
    client.run(
        "SET zeroauth_audit.maintenance = on;
         CREATE TABLE list AS SELECT * FROM zeroauth_audit_internal.drill_attacks();
         UPDATE list SET played[7] = 'SELECT 1' WHERE attack LIKE 'each column%';
         UPDATE list SET played = ARRAY['SELECT 1'] WHERE attack = 'two events swap their places';
         UPDATE list SET then_true = 'SELECT false' WHERE pitfall = 8;
         CREATE OR REPLACE FUNCTION zeroauth_audit_internal.drill_attacks() RETURNS TABLE (
             pitfall integer, attack text, expected text, guarded boolean, played text[], then_true text, not_played text)
         LANGUAGE sql AS $$ SELECT * FROM public.list ORDER BY pitfall $$;
         RESET zeroauth_audit.maintenance",
    );
    assert_eq!(
        failed(&mut client),
        [
            "8|1000 events in one statement|none|none, but not stored as given",
            "26|each column is changed by itself, the hashes left as they are|content_mismatch|content_mismatch; none",
            "27|two events swap their places|content_mismatch, link_broken|none",
        ]
    );
}

#[test]
fn pitfall_32_without_the_guard_triggers_the_executor_refuses_in_the_drill_as_on_the_trail() {
    let (row, statement) = ("zeroauth_audit_refuse_row", "zeroauth_audit_refuse_statement");
    let disable = |trigger: &str| format!("ALTER TABLE audit_events DISABLE TRIGGER {trigger}");
    let cases = [
        disable(statement),
        disable(row),
        format!("{}; {}", disable(row), disable(statement)),
        format!("DROP TRIGGER {statement} ON audit_events"),
        format!("ALTER TABLE audit_events ENABLE TRIGGER {row}; ALTER TABLE audit_events ENABLE TRIGGER {statement}"),
        format!("DROP TRIGGER {row} ON audit_events; DROP TRIGGER {statement} ON audit_events; CREATE TRIGGER {row} BEFORE UPDATE OF action OR DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.refuse_row()"),
        "CREATE OR REPLACE FUNCTION zeroauth_audit_internal.refuse_statement() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'".into(),
    ];
    let database = Database::audited("drill_guards");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    for weakening in cases {
        client.run(&format!("BEGIN; SET LOCAL zeroauth_audit.maintenance = on; {weakening}; SET LOCAL zeroauth_audit.maintenance = off"));
        assert_eq!(failed(&mut client), [] as [&str; 0], "{weakening}");
        client.refused("ZA003", "DELETE FROM audit_events");
        client.run("ROLLBACK");
    }
    assert_eq!(counts(&mut client), WELL);
}

#[test]
fn pitfall_24_a_trail_that_left_the_extension_has_no_ddl_guard_in_the_drill_either() {
    let database = Database::audited("drill_member");
    let mut client = database.client();
    client.run(
        "BEGIN; SET LOCAL zeroauth_audit.maintenance = on;
         ALTER EXTENSION zeroauth_audit DROP TABLE audit_events; SET LOCAL zeroauth_audit.maintenance = off",
    );
    let failed = failed(&mut client);
    assert_eq!(failed.len(), 9, "{failed:#?}");
    assert!(failed.iter().all(|row| row.contains("|ZA004|")), "{failed:#?}");
    // And so it is: what the drill says of the copy holds for the trail.
    client.run("ALTER TABLE audit_events DISABLE TRIGGER ALL; ROLLBACK");
    assert_eq!(counts(&mut client), WELL);
}

#[test]
fn pitfall_24_without_chaining_or_primary_key_nothing_passes() {
    let database = Database::audited("drill_unchained");
    let mut client = database.client();
    for (weakening, code) in [
        ("ALTER TABLE audit_events DISABLE TRIGGER zzz_zeroauth_audit_chain", "ZA010"),
        ("ALTER TABLE audit_events ENABLE TRIGGER zzz_zeroauth_audit_chain", "ZA010"),
        ("DROP TRIGGER zzz_zeroauth_audit_chain ON audit_events", "ZA010"),
        ("ALTER TABLE audit_events DROP CONSTRAINT audit_events_pkey", "ZA010"),
    ] {
        client.run(&format!("BEGIN; SET LOCAL zeroauth_audit.maintenance = on; {weakening}; SET LOCAL zeroauth_audit.maintenance = off"));
        let failed = failed(&mut client);
        assert_eq!(failed.len(), 52, "{weakening}: {failed:#?}");
        assert!(
            failed.iter().all(|row| row.ends_with(&format!("|no events to play on: {code}"))),
            "{weakening}: {failed:#?}"
        );
        client.run("ROLLBACK");
    }
}

#[test]
fn pitfall_24_without_a_log_what_only_a_checkpoint_finds_is_not_found_and_says_why() {
    let database = Database::audited("drill_unsealed");
    let mut client = database.client();
    for (weakening, code) in [
        ("ALTER TABLE zeroauth_audit_internal.tiles DROP CONSTRAINT tiles_pkey", "42P10"),
        ("ALTER TABLE zeroauth_audit_internal.keys RENAME TO no_keys", "42P01"),
        ("ALTER TABLE zeroauth_audit_internal.log_intervals DROP COLUMN first_leaf CASCADE", "42703"),
    ] {
        client.run(&format!("BEGIN; SET LOCAL zeroauth_audit.maintenance = on; {weakening}; SET LOCAL zeroauth_audit.maintenance = off"));
        let failed = failed(&mut client);
        assert_eq!(failed.len(), 11, "{weakening}: {failed:#?}");
        for (row, pitfall) in failed.iter().zip([15, 16, 17, 17, 18, 25, 27, 27, 28, 29, 30]) {
            assert!(
                row.starts_with(&format!("{pitfall}|"))
                    && row.ends_with(&format!("; not sealed before: {code}")),
                "{weakening}: {row}"
            );
        }
        client.run("ROLLBACK");
    }
    assert_eq!(counts(&mut client), WELL);
}

#[test]
fn pitfall_25_silence_that_is_not_sealed_fails_the_drill() {
    let database = Database::audited("drill_silence");
    let mut client = database.client();
    // The second sealing, after the hour, does nothing.
    client.run(
        "SET zeroauth_audit.maintenance = on;
         CREATE TABLE list AS SELECT * FROM zeroauth_audit_internal.drill_attacks();
         UPDATE list SET played[1] = replace(played[1], '{ours}.drill_seal(', 'to_regclass(') WHERE pitfall = 25;
         CREATE OR REPLACE FUNCTION zeroauth_audit_internal.drill_attacks() RETURNS TABLE (
             pitfall integer, attack text, expected text, guarded boolean, played text[], then_true text, not_played text)
         LANGUAGE sql AS $$ SELECT * FROM public.list ORDER BY pitfall $$;
         RESET zeroauth_audit.maintenance",
    );
    assert_eq!(
        failed(&mut client),
        [
            "25|ten minutes pass without events, then what was before them is deleted|tail_truncated|tail_truncated, but not stored as given"
        ]
    );
}

#[test]
fn an_open_maintenance_lets_attacks_through_and_fails_the_drill() {
    let database = Database::audited("drill_maintenance");
    let mut client = database.client();
    client.run("SET zeroauth_audit.maintenance = on");
    let failed = failed(&mut client);
    assert!(failed.len() >= 10, "{failed:#?}");
    assert!(
        failed.iter().all(|row| ["18|", "19|", "21|", "35|"].iter().any(|n| row.starts_with(n))),
        "{failed:#?}"
    );
    client.run("SET zeroauth_audit.maintenance = off");
    assert_eq!(counts(&mut client), WELL);
}

#[test]
fn auditors_and_operators_drill_and_need_no_right_but_that() {
    let database = Database::audited("drill roles");
    let mut admin = database.client();
    admin.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    for duty in ["auditor", "operator"] {
        let mut driller = database.client_as(&database.on_duty(duty));
        assert_eq!(counts(&mut driller), WELL, "{duty}");
        for refused in [
            "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')",
            "UPDATE audit_events SET action = 'y'",
            "SELECT * FROM audit_events",
            "CREATE SCHEMA mine",
            "SET session_replication_role = replica",
        ] {
            driller.refused("42501", refused);
        }
    }
    for duty in ["writer", "reader", "monitor"] {
        database.client_as(&database.on_duty(duty)).refused("42501", "SELECT * FROM audit_drill()");
    }
    assert_whole(&mut admin);
}

#[test]
fn an_owner_without_superuser_s_rights_drills_what_it_can() {
    let database = Database::empty("drill owner");
    let owner = database.role("owner");
    let mut admin = database.client();
    admin.run(&format!("ALTER ROLE {} SUPERUSER", quoted(&owner)));
    database.client_as(&owner).run("CREATE EXTENSION zeroauth_audit");
    admin.run(&format!(
        "ALTER ROLE {0} NOSUPERUSER; GRANT CREATE ON DATABASE {1} TO {0}",
        quoted(&owner),
        quoted(&database.name)
    ));
    let mut client = database.client_as(&owner);
    // Replica role is out of its reach, and so are events that bring their hashes.
    assert_eq!(counts(&mut client), "50|0|11");
    assert_eq!(
        client.lines("SELECT attack, expected, found FROM audit_drill() WHERE pitfall IN (19, 20)"),
        [
            "events are added in replica role|none|not played: needs SET on session_replication_role",
            "events are changed in replica role|ZA003|not played: needs SET on session_replication_role",
            "an event comes with a hash that is not its own|ZA001|ZA001",
            "the events are copied out and restored|ZA001|ZA001",
            "the same, with one event changed in between|ZA001|ZA001",
        ]
    );
}

#[test]
fn log_lines_of_the_drill_name_its_scratch_schema() {
    let database = Database::audited("drill_log");
    let mut client = database.client();
    let pid = client.line("SELECT pg_backend_pid()");
    assert_eq!(counts(&mut client), WELL);
    client.refused("ZA003", "TRUNCATE audit_events");
    wait_until(DEADLINE, "the line after the drill", || {
        log_lines(&database)
            .iter()
            .any(|line| line["object"] == "audit_events" && line["operation"] == "TRUNCATE")
    });
    let lines = log_lines(&database);
    let of_the_drill = lines.iter().filter(|line| {
        line["object"].as_str().unwrap().starts_with(&format!("zeroauth_audit_drill_{pid}_"))
            && line["object"].as_str().unwrap().ends_with(".audit_events")
            && line["event"].as_str().unwrap().ends_with("_refused")
    });
    assert!(of_the_drill.count() > 15, "{lines:#?}");
    let others: Vec<_> = lines
        .iter()
        .filter(|line| !line["object"].as_str().unwrap().starts_with("zeroauth_audit_drill_"))
        .collect();
    assert_eq!(others.len(), 1, "only the attempt on the trail itself: {others:#?}");
}

#[test]
fn only_a_table_that_this_transaction_created_is_a_scratch_table() {
    let database = Database::audited("drill_scratch");
    let mut client = database.client();
    client.run("CREATE SCHEMA zeroauth_audit_drill_1; CREATE TABLE zeroauth_audit_drill_1.audit_events (LIKE audit_events)");
    for table in ["'audit_events'", "'zeroauth_audit_drill_1.audit_events'", "0"] {
        let refusal = client.refused(
            "ZA009",
            &format!("SELECT * FROM zeroauth_audit_internal.drill_findings({table}::regclass)"),
        );
        assert!(!refusal.hint.is_empty(), "{refusal:?}");
    }
    client.refused(
        "ZA010",
        "CREATE TABLE other (tenant_id text); SELECT * FROM zeroauth_audit_internal.drill_findings('other')",
    );
    client.refused(
        "42809",
        "CREATE INDEX by_time ON audit_events (occurred_at); SELECT * FROM zeroauth_audit_internal.drill_findings('by_time')",
    );
    assert_eq!(client.line("SELECT count(*) FROM zeroauth_audit_internal.drill_findings(NULL)"), "0");
    // Sealing writes to logs: those of the trail are never taken for a scratch table's.
    for table in ["'audit_events'", "'zeroauth_audit_drill_1.audit_events'", "0"] {
        client.refused("ZA009", &format!("SELECT zeroauth_audit_internal.drill_seal({table}::regclass)"));
    }
    client.refused(
        "ZA009",
        "CREATE TABLE mine (LIKE audit_events); SELECT zeroauth_audit_internal.drill_seal('mine')",
    );
    // What somebody left under such a name is a table like any other.
    client.run("ALTER TABLE zeroauth_audit_drill_1.audit_events ADD COLUMN x int; DROP TABLE zeroauth_audit_drill_1.audit_events");
}
