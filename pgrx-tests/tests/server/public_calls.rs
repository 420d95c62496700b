//! What people call to look around, as a role that may call it and nothing else: status, help, the state of one event, and what is
//! said when a call makes no sense.

use postgres::Client;

use crate::support::sealed::{ORIGIN, key_file};
use crate::support::{Database, Sql, quoted, shared};

/// A role with what a duty gives.
fn with_duty(database: &Database, duty: &str) -> Client {
    database.client_as(&database.on_duty(duty))
}

/// What psql prints of `sql`: rows, then messages.
fn psql(database: &Database, sql: &str) -> (String, String) {
    let output = shared().command("psql").args(["-XAtq", "-d", &database.name, "-c", sql]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn create_extension_says_one_thing() {
    let database = Database::empty("calls_create");
    let (_, said) = psql(&database, "CREATE EXTENSION zeroauth_audit");
    assert_eq!(
        said,
        "NOTICE:  zeroauth_audit 0.1.0: events are chained and guarded; nothing leaves this server yet\n\
         HINT:  SELECT * FROM audit_status() shows what is missing.\n"
    );
    let mut client = database.client();
    client.run("DROP EXTENSION zeroauth_audit; CREATE SCHEMA zeroauth_audit_internal");
    let refusal = client.refused("ZA013", "CREATE EXTENSION zeroauth_audit");
    assert_eq!(refusal.message, "schema \"zeroauth_audit_internal\" exists already");
    assert_eq!(refusal.hint, "The extension makes it itself: rename or drop that schema.");
}

#[test]
fn the_status_has_a_row_a_part_the_worst_first_and_fits_a_terminal() {
    let database = Database::audited("calls_status");
    let mut monitor = with_duty(&database, "monitor");
    let mut client = database.client();
    // The database is a copy of one that was made when the first test began.
    client.run(
        "UPDATE zeroauth_audit_internal.jobs SET overdue_at = now() + interval '1 day', last_success = now()",
    );
    let rows = "SELECT state, part, hint FROM audit_status() WHERE part NOT IN ('time', 'worker')";
    assert_eq!(
        monitor.lines(rows),
        [
            "degraded|checkpoints|set zeroauth_audit.checkpoint_key_file",
            "degraded|delivery|SELECT audit_alert_route_set('ops', ..)",
            "ok|alerts|~",
            "ok|anchors|~",
            "ok|database|~",
            "ok|drift|~",
            "ok|jobs|~",
            "ok|pins|~",
            "ok|tripwires|~",
        ]
    );
    client.run("SELECT zeroauth_audit_internal.raise_alert('gap', 1::smallint, NULL, 'x', 'x', NULL)");
    client.run("UPDATE zeroauth_audit_internal.jobs SET overdue_at = '2026-01-01' WHERE name = 'drift'");
    assert_eq!(
        monitor.lines(
            "SELECT state, part, regexp_replace(detail, '[0-9]{4}-.*', 'T'), hint FROM audit_status() LIMIT 2"
        ),
        [
            "failing|alerts|1 of severity 1, since T|SELECT * FROM audit_alerts WHERE state = 'open'",
            "failing|jobs|job drift is overdue|SELECT * FROM audit_job_run('drift')",
        ]
    );
    assert_eq!(
        monitor.line("SELECT count(*), count(*) FILTER (WHERE state <> 'ok' AND hint IS NULL), count(*) FILTER (WHERE state = 'ok' AND hint IS NOT NULL) FROM audit_status()"),
        "11|0|0"
    );
    // As psql prints it, whatever the reasons are.
    let output = shared()
        .command("psql")
        .args(["-Xq", "-d", &database.name, "-c", "SELECT * FROM audit_status()"])
        .output()
        .unwrap();
    let widest = String::from_utf8(output.stdout).unwrap().lines().map(|line| line.chars().count()).max();
    assert!(widest.unwrap() <= 120, "{widest:?}");
    let reasons = [
        "not_preloaded",
        "maintenance_open",
        "database_copy",
        "worker_off",
        "worker_starting",
        "worker_not_alive",
        "job_overdue:abcdefghijklmnopqrstuvwxyz",
        "job_off:abcdefghijklmnopqrstuvwxyz",
        "pg_cron_missing",
        "restore_running",
        "history_behind",
        "not_as_installed",
        "tripwire_off",
        "upgrade_pending",
        "pin_mismatch",
        "pins_off",
        "clock_unsynchronised",
        "delivery_failing",
        "no_route",
        "alerts_open:1",
        "alerts_open:2",
        "alerts_acknowledged:1",
        "checkpoints_not_signed",
        "checkpoints_not_published",
        "checkpoints_off",
        "sink_failing:abcdefghijklmnopqrstuvwxyz",
        "logs_held",
        "anchors_not_signed",
        "anchors_off",
        "anchor_target_disabled:abcdefghijklmnopqrstuvwxyz",
        "anchor_failing:abcdefghijklmnopqrstuvwxyz",
        "anchor_late",
        "anchor_degraded",
        "anchor_mismatch",
    ];
    for reason in reasons {
        let line = client.line(&format!("SELECT length(t.detail) <= 41, length(t.hint) <= 50, t.detail <> '{reason}' FROM zeroauth_audit_internal.status_text('x', '{reason}', '{{\"open\": {{\"1\": 1000, \"2\": 1000}}, \"wrong\": 10, \"pinned\": 10, \"queue\": 1000, \"failing_routes\": [\"abcdefghijklmnopqrstuvwxyz\"], \"held\": 100000, \"tenants_late\": 100000, \"tenants_degraded\": 100000, \"differences\": 1000}}') t"));
        assert_eq!(line, "t|t|t", "{reason}");
    }
}

#[test]
fn the_help_is_a_table_of_contents_for_the_one_who_asks() {
    let database = Database::audited("calls_help");
    let mut auditor = with_duty(&database, "auditor");
    assert_eq!(
        auditor.lines("SELECT call, purpose, yours FROM audit_help('VERIFY')"),
        [
            "audit_verify(tenant, n)|Is the trail what was written?|t",
            "audit_verify_installation()|What is not as this version installs it; no rows: all is.|t",
            "audit_verify_pins()|Reads every pinned file now and compares its digest.|t",
        ]
    );
    assert_eq!(
        auditor.line("SELECT call, purpose, yours FROM audit_help() LIMIT 1"),
        "zeroauth_audit 0.1.0|Its version. How it is: SELECT * FROM audit_status().|~"
    );
    assert_eq!(
        auditor.line("SELECT call, yours FROM audit_help('restore')"),
        "audit_restore_acknowledge(note)|f"
    );
    assert_eq!(auditor.line("SELECT call, yours FROM audit_help('audit_events')"), "audit_events|f");
    assert_eq!(
        auditor.line("SELECT call FROM audit_help('RFC 9162')"),
        "audit_prove_consistency(tenant, from_size, to_size)",
        "a word of a description"
    );
    assert_eq!(auditor.lines("SELECT call FROM audit_help('nonsense')"), [] as [&str; 0]);
    // Whoever asks, and not the one who owns it.
    let (mut writer, mut client) = (with_duty(&database, "writer"), database.client());
    client.run(&format!(
        "GRANT EXECUTE ON FUNCTION audit_help TO {}",
        quoted(&format!("{}_writer", database.name))
    ));
    assert_eq!(
        writer.lines("SELECT call FROM audit_help() WHERE yours"),
        ["audit_events", "audit_help(topic)"]
    );
    // Every public name is there, with a first sentence that is one.
    assert_eq!(
        client.line("SELECT count(*) FILTER (WHERE purpose IS NULL OR purpose !~ '([.?!]|[.][.])$'), count(*) > 15, bool_and(yours IS NOT FALSE) FROM audit_help()"),
        "0|t|t"
    );
}

#[test]
fn one_event_has_its_state_step_by_step() {
    let database = Database::audited("calls_state");
    let mut auditor = with_duty(&database, "auditor");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 3)");
    let event = client.line("SELECT event_id FROM audit_events WHERE seq = 2");
    let state = format!(
        "SELECT step, ok, regexp_replace(detail, '[0-9a-f]{{8}}[.][.]|2[0-9]{{3}}-[0-9-]+ [0-9:]+', 'X', 'g') FROM audit_event_state('acme', '{event}')"
    );
    let unsealed = [
        "content|t|chain 0, seq 2: hash X recomputed",
        "private part|t|there, and bound by its salt",
        "link|t|follows seq 1; seq 3 follows it",
        "log|~|the tenant has no log yet: the job checkpoint makes it",
        "checkpoint|~|not in a log yet",
        "witness|~|none configured",
        "anchor file|~|no anchor covers it yet",
    ];
    assert_eq!(auditor.lines(&state), unsealed);
    let path = shared().data_dir().with_file_name("calls_state.key");
    key_file(&path, ORIGIN, 64);
    client.run(&format!("SET zeroauth_audit.checkpoint_key_file = '{}'", path.display()));
    client.run("SELECT zeroauth_audit_internal.run_job('checkpoint')");
    let lines = auditor.lines(&state);
    assert_eq!(lines[3], "log|t|leaf 1 of 3");
    assert!(lines[4].starts_with("checkpoint|t|entry 1 of 3, signed X by log.example/audit"), "{lines:?}");
    let vkey = client.line("SELECT split_part(vkey, '+', 2) FROM zeroauth_audit_internal.keys");
    assert!(lines[4].ends_with(&format!("+{vkey}")), "{lines:?}, {vkey}");
    // Each step fails by itself.
    client.run("INSERT INTO zeroauth_audit_internal.sinks (name, kind, url_file, vkey) VALUES ('w', 'witness', '/nowhere', 'x')");
    client.run("SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.anchor_findings (kind, source, tenant_id, target, batch, detail) VALUES ('anchor_mismatch', 'events', 'acme', 'file', 1, 'the events give another root')");
    for (change, step, expected) in [
        (
            "UPDATE audit_events SET action = 'y' WHERE seq = 2",
            0,
            "content|f|chain 0, seq 2: recorded X, recomputed X",
        ),
        (
            "UPDATE audit_events SET prev_hash = event_hash WHERE seq = 2",
            2,
            "link|f|prev_hash is not the hash of seq 1; seq 3 follows it",
        ),
        (
            "UPDATE audit_events SET event_hash = prev_hash WHERE seq = 2",
            2,
            "link|f|follows seq 1; seq 3 does not follow it",
        ),
        (
            "UPDATE audit_events SET event_hash = prev_hash WHERE seq = 2",
            3,
            "log|f|leaf 1 of 3: another event was sealed there",
        ),
        ("DELETE FROM audit_events WHERE seq = 1", 2, "link|f|seq 1 is not there; seq 3 follows it"),
        ("DELETE FROM audit_events WHERE seq = 3", 2, "link|t|follows seq 1; the newest of its chain"),
        (
            "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.tiles SET hashes = overlay(hashes placing '\\x00'::bytea from 1)",
            4,
            "checkpoint|f|the event is not in the log of entry 1 of 3, signed X by log.example/audit",
        ),
        ("SELECT 1", 5, "witness w|~|has not cosigned a checkpoint that covers it yet"),
        ("SELECT 1", 6, "anchor file|f|the events give another root"),
    ] {
        client.run(&format!("SET zeroauth_audit.maintenance = on; BEGIN; {change}"));
        let line = client.lines(&state)[step].clone();
        client.run("ROLLBACK");
        assert!(line.starts_with(expected), "{change}: {line}");
    }
    for (call, code, message) in [
        (format!("audit_event_state('acne', '{event}')"), "ZA005", "no events of tenant \"acne\"".to_owned()),
        (
            "audit_event_state('acme', '00000000-0000-0000-0000-000000000000')".into(),
            "ZA005",
            "no event 00000000-0000-0000-0000-000000000000 of tenant \"acme\"".into(),
        ),
        (format!("audit_event_state(NULL, '{event}')"), "ZA009", "tenant is NULL".into()),
        ("audit_event_state('acme', NULL)".into(), "ZA009", "event is NULL".into()),
    ] {
        let refusal = auditor.refused(code, &format!("SELECT * FROM {call}"));
        assert_eq!(refusal.message, message);
    }
}

#[test]
fn a_null_that_means_nothing_and_a_name_that_is_not_there_are_errors() {
    let database = Database::audited("calls_errors");
    let mut auditor = with_duty(&database, "auditor");
    let mut client = database.client();
    client.run(
        "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'), ('globex', 'x'), ('globez', 'x')",
    );
    for (call, argument) in [
        ("audit_prove(NULL, gen_random_uuid())", "tenant"),
        ("audit_prove('acme', NULL)", "event"),
        ("audit_prove_consistency('acme', NULL, 1)", "from_size"),
        ("audit_prove_consistency('acme', 0, NULL)", "to_size"),
    ] {
        let refusal = auditor.refused("ZA009", &format!("SELECT {call}"));
        assert_eq!(refusal.message, format!("{argument} is NULL"));
        assert!(!refusal.hint.is_empty(), "{refusal:?}");
    }
    for call in
        ["audit_verify", "audit_findings", "audit_integrity", "audit_export", "audit_export_intervals"]
    {
        let refusal = auditor.refused("ZA005", &format!("SELECT * FROM {call}('acne')"));
        assert_eq!(refusal.message, "no events of tenant \"acne\"", "{call}");
        assert_eq!(refusal.hint, "Names are compared byte for byte.", "{call}");
        let detail = |tenant: &str| psql(&database, &format!("SELECT {call}('{tenant}')")).1;
        assert!(detail("acne").contains("\nDETAIL:  Did you mean \"acme\"?\n"), "{call}");
        // Not when two are near, or none.
        for tenant in ["globey", "initech", "ac", ""] {
            let said = detail(tenant);
            assert!(
                !said.contains("Did you mean") && said.starts_with("ERROR:  no events of tenant"),
                "{call}: {said}"
            );
        }
    }
    // Which tenants there are is shown to those who may see them.
    let refusal = client.refused("ZA005", "SELECT audit_prove('acne', gen_random_uuid())");
    assert_eq!(refusal.message, "no events of tenant \"acne\"");
    let mut hidden = String::new();
    for role in [format!("SET ROLE {}", quoted(&format!("{}_auditor", database.name))), "RESET ROLE".into()] {
        hidden += &psql(&database, &format!("{role}; SELECT audit_prove('acne', gen_random_uuid())")).1;
    }
    assert_eq!(hidden.matches("no events of tenant").count(), 2, "{hidden}");
    assert_eq!(hidden.matches("Did you mean").count(), 1, "{hidden}");
}

#[test]
fn verifying_nothing_is_said_and_so_is_what_to_do_about_a_finding() {
    let database = Database::audited("calls_notices");
    for call in ["audit_verify()", "audit_findings()"] {
        let (rows, said) = psql(&database, &format!("SELECT * FROM {call}"));
        assert_eq!(
            (rows.as_str(), said.as_str()),
            (
                "",
                "NOTICE:  there is no event yet: nothing was checked\nHINT:  Verify again when there are events.\n"
            )
        );
    }
    database.client().run("INSERT INTO audit_events (tenant_id, action) VALUES ('o''hara', 'x'), ('globex', 'x'); SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'y' WHERE tenant_id = 'o''hara'");
    let (rows, said) = psql(&database, "SELECT tenant_id, ok FROM audit_verify()");
    assert_eq!(rows, "o'hara|f\nglobex|t\n");
    assert_eq!(
        said,
        "NOTICE:  1 of 2 tenants is not what was written\nHINT:  Do not repair anything yet. SELECT * FROM audit_findings('o''hara'); then docs/runbook.md.\n"
    );
}

#[test]
fn only_a_superuser_is_told_how_to_pass_the_guard() {
    let database = Database::audited("calls_guard");
    let mut client = database.client();
    let owner = database.role("owner");
    client.run(&format!(
        "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'); GRANT ALL ON audit_events TO {0};
         CREATE FUNCTION purge() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS 'DELETE FROM audit_events'; GRANT EXECUTE ON FUNCTION purge TO {0}",
        quoted(&owner)
    ));
    let refusal = client.refused("ZA003", "UPDATE audit_events SET action = 'y'");
    assert_eq!(refusal.message, "UPDATE of audit_events is refused");
    assert_eq!(refusal.hint, "For repairs: SET zeroauth_audit.maintenance = on. It is an alert.");
    let mut owner = database.client_as(&owner);
    for sql in ["UPDATE audit_events SET action = 'y'", "SELECT purge()"] {
        assert_eq!(owner.refused("ZA003", sql).hint, "Record a correcting event.");
    }
    let refusal = client.refused("ZA004", "ALTER TABLE audit_events DISABLE TRIGGER ALL");
    assert_eq!(refusal.message, "ALTER TABLE of audit_events is refused");
    assert_eq!(refusal.hint, "docs/ddl.md lists what is allowed, such as CREATE INDEX.");
    let refusal =
        owner.refused("ZA001", "INSERT INTO audit_events (tenant_id, action, seq) VALUES ('acme', 'x', 9)");
    assert_eq!(refusal.message, "the server sets seq");
    assert!(refusal.hint.starts_with("Leave out what the server sets"), "{refusal:?}");
}
