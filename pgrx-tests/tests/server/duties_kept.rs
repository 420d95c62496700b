//! Duties as time goes by: they end, come back from a dump, grow with the extension, and nothing else gives rights.

use std::thread;
use std::time::{Duration, Instant};

use zeroauth_audit_tests::{Cluster, wait_until};

use crate::duties::said;
use crate::support::worker::{watcher, worker_after};
use crate::support::{DEADLINE, Database, Sql, quoted, shared, succeed};

#[test]
fn the_worker_takes_a_duty_back_when_it_ends_whatever_the_role_is_called_by_then() {
    let cluster = Cluster::builder("duties_end").conf("fsync", "off").start().unwrap();
    let mut client = cluster.client();
    client
        .run("CREATE EXTENSION zeroauth_audit; CREATE ROLE kpmg LOGIN; CREATE ROLE later; CREATE ROLE gone");
    worker_after(&mut watcher(&cluster), "audit", None);
    client.run(
        "SELECT audit_grant('gone', 'monitor', now() + interval '3 seconds'), audit_grant('later', 'auditor', now() + interval '1 day');
         SELECT audit_grant('kpmg', 'auditor', now() + interval '3 seconds'), audit_grant('kpmg', 'reader');
         ALTER ROLE kpmg RENAME TO assessor; DROP OWNED BY gone; DROP ROLE gone",
    );
    assert_eq!(
        client.lines(
            "SELECT role, duty, until IS NOT NULL FROM audit_duties WHERE duty <> 'owner' ORDER BY 1, 2"
        ),
        ["assessor|auditor|t", "assessor|reader|f", "later|auditor|t"]
    );
    // The schedule is hourly: the end is what it waits for.
    assert_eq!(client.line("SELECT schedule, next_run < now() + interval '3 seconds' FROM zeroauth_audit_internal.jobs WHERE name = 'duties'"), "29 * * * *|t");
    wait_until(DEADLINE, "the end of the duty", || {
        client.line("SELECT has_function_privilege('assessor', 'audit_verify(text, integer)', 'EXECUTE')")
            == "f"
    });
    assert_eq!(
        client.lines("SELECT role, duty FROM audit_duties WHERE duty <> 'owner' ORDER BY 1, 2"),
        ["assessor|reader", "later|auditor"]
    );
    assert_eq!(
        client.lines("SELECT severity, resource, details ->> 'role', details ->> 'duty', (details ->> 'until')::timestamptz <= recorded_at FROM audit_events WHERE action = 'duty.ended'"),
        ["info|role/assessor|assessor|auditor|t"]
    );
    // And then for the next one.
    assert_eq!(client.line("SELECT count(*), min(role) FROM zeroauth_audit_internal.duty_ends"), "1|later");
    wait_until(DEADLINE, "the run to be recorded", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'duties' AND status = 'succeeded' AND summary = '{\"duties_ended\": 1}'") == "1"
    });
    assert_eq!(client.line("SELECT next_run > now() AND next_run < now() + interval '61 minutes' FROM zeroauth_audit_internal.jobs WHERE name = 'duties'"), "t");
}

#[test]
fn one_duty_that_cannot_be_taken_back_is_an_alert_and_keeps_no_other_from_ending() {
    let database = Database::audited("duties_stuck");
    let [stuck, other] = ["stuck", "other"].map(|what| database.role(what));
    let mut client = database.client();
    client.run(&format!(
        "SET LOCAL zeroauth_audit.maintenance = on; SELECT audit_grant('{stuck}', 'monitor', now() + interval '1 hour'), audit_grant('{other}', 'writer', now() + interval '1 hour');
         UPDATE zeroauth_audit_internal.duty_ends SET until = now();
         CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
         CREATE TRIGGER no AFTER DELETE ON zeroauth_audit_internal.duty_ends FOR EACH ROW WHEN (OLD.role = '{stuck}') EXECUTE FUNCTION no()"
    ));
    client.run("SELECT zeroauth_audit_internal.job_duties()");
    assert_eq!(
        client.lines(&format!("SELECT role FROM audit_duties WHERE role LIKE '{}%'", database.name)),
        [stuck.as_str()]
    );
    assert_eq!(
        client.line("SELECT kind, severity, state, evidence FROM zeroauth_audit_internal.alerts"),
        format!("job_failed|2|open|{{\"monitor of {stuck}\": \"P0001 not this one\"}}")
    );
    client.run(
        "SET LOCAL zeroauth_audit.maintenance = on; DROP TRIGGER no ON zeroauth_audit_internal.duty_ends; SELECT zeroauth_audit_internal.job_duties()",
    );
    assert_eq!(client.line("SELECT state FROM zeroauth_audit_internal.alerts"), "resolved");
    assert_eq!(
        client.line(&format!("SELECT count(*) FROM audit_duties WHERE role LIKE '{}%'", database.name)),
        "0"
    );
}

#[test]
fn a_dump_brings_duties_and_their_ends_back() {
    let (from, to) = (Database::audited("duties_dump"), Database::empty("duties_dump_to"));
    let roles: Vec<String> =
        ["writer", "writer_returning", "reader", "private_reader", "auditor", "monitor", "operator"]
            .iter()
            .map(|duty| from.on_duty(duty))
            .collect();
    let mut client = from.client();
    client.run(&format!("SELECT audit_grant('{}', 'auditor', '2999-01-01 00:00:00+00')", roles[4]));
    let duties = format!("SELECT * FROM audit_duties WHERE role LIKE '{}%' ORDER BY role", from.name);
    let before = client.lines(&duties);
    assert_eq!(before.len(), 7, "{before:?}");
    assert!(before.iter().all(|row| row.contains("|granted|")), "{before:?}");
    let dump = succeed(shared().command("pg_dump").arg(&from.name));
    let output = shared().psql(&to.name, &dump).unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    let mut copy = to.client();
    assert_eq!(copy.lines(&duties), before);
    // A role that is not in this cluster yet: its end waits for it.
    let late = format!("{}_late", to.name);
    copy.run(&format!("SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.duty_ends (role, duty, until, role_oid) VALUES ('{late}', 'writer', now() + interval '1 hour', 10)"));
    assert_eq!(
        copy.line("SELECT role_oid FROM zeroauth_audit_internal.duty_ends WHERE duty = 'writer'"),
        "~"
    );
    copy.run(&format!("SET LOCAL zeroauth_audit.maintenance = on; CREATE ROLE {0}; GRANT INSERT ON audit_events TO {0}; UPDATE zeroauth_audit_internal.duty_ends SET until = now() WHERE duty = 'writer'; SELECT zeroauth_audit_internal.job_duties()", quoted(&late)));
    assert_eq!(copy.line(&format!("SELECT has_table_privilege('{late}', 'audit_events', 'INSERT')")), "f");
    assert_eq!(copy.lines("SELECT duty, until = '2999-01-01 00:00:00+00', role_oid = role::regrole FROM zeroauth_audit_internal.duty_ends"), ["auditor|t|t"]);
}

#[test]
fn pitfall_39_public_report_c11_default_privileges_give_no_right_on_what_create_extension_makes() {
    let database = Database::empty("duties_default");
    let role = database.role("web");
    let quoted = quoted(&role);
    let mut client = database.client();
    for what in ["ALL ON TABLES", "ALL ON FUNCTIONS", "ALL ON SEQUENCES", "ALL ON SCHEMAS"] {
        client.run(&format!("ALTER DEFAULT PRIVILEGES GRANT {what} TO {quoted}; ALTER DEFAULT PRIVILEGES GRANT {what} TO PUBLIC"));
    }
    let said = said(&database, "CREATE EXTENSION zeroauth_audit");
    let message: Vec<_> = said.iter().filter(|line| line.starts_with("default privileges gave ")).collect();
    assert_eq!(message.len(), 1, "{said:?}");
    assert!(message[0].starts_with(&format!("default privileges gave {role} rights on ")), "{said:?}");
    assert_eq!(
        client.lines("SELECT grantee, object FROM zeroauth_audit_internal.granted_rights"),
        [] as [&str; 0]
    );
    assert_eq!(
        client.lines(&format!("SELECT role FROM audit_duties WHERE role IN ('{role}', 'PUBLIC')")),
        [] as [&str; 0]
    );
    let mut web = database.client_as(&role);
    for sql in [
        "SELECT * FROM audit_events",
        "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')",
        "SELECT audit_health()",
        "SELECT * FROM zeroauth_audit_internal.alerts",
        "SELECT zeroauth_audit_internal.uuid_v7()",
    ] {
        web.refused("42501", sql);
    }
    // What the role was given afterwards is a grant like any other.
    client.run(&format!("GRANT SELECT (details) ON audit_events TO {quoted}"));
    assert_eq!(
        client.line(&format!("SELECT beyond FROM audit_duties WHERE role = '{role}'")),
        "SELECT (details) on audit_events, granted by postgres"
    );
}

#[test]
fn an_upgrade_extends_whole_duties_and_no_others() {
    let database = Database::audited("duties_upgrade");
    let [whole, part, hand] = ["whole", "part", "hand"].map(|what| database.role(what));
    let mut client = database.client();
    // As if audit_guards() were new: no role has it, and default privileges would open it.
    client.run(&format!(
        "SELECT audit_grant('{whole}', 'monitor'), audit_grant('{whole}', 'writer'), audit_grant('{part}', 'operator');
         REVOKE EXECUTE ON FUNCTION audit_alert_acknowledge(bigint, text) FROM {1}; REVOKE EXECUTE ON FUNCTION audit_guards() FROM {0}, {1};
         GRANT EXECUTE ON FUNCTION audit_guards() TO {2}, PUBLIC; GRANT EXECUTE ON FUNCTION audit_health() TO {2}",
        quoted(&whole), quoted(&part), quoted(&hand)
    ));
    assert_eq!(client.line("SELECT zeroauth_audit_internal.duties_complete('{audit_guards()}')"), "1");
    assert_eq!(
        client.lines(&format!("SELECT replace(role, '{0}_', ''), duty, how, missing FROM audit_duties WHERE role LIKE '{0}%' OR role = 'PUBLIC'", database.name)),
        [
            "hand|~|~|~",
            "part|operator|part|audit_alert_acknowledge(bigint, text), audit_guards()",
            "whole|monitor|granted|~",
            "whole|writer|granted|~",
        ]
    );
    assert_eq!(
        client.line(&format!("SELECT has_function_privilege('{hand}', 'audit_guards()', 'EXECUTE')")),
        "f"
    );
}

#[test]
fn duties_are_given_by_several_sessions_at_once() {
    let database = Database::audited("duties_parallel");
    let roles: Vec<String> = (0..4).map(|n| database.role(&format!("n{n}"))).collect();
    thread::scope(|scope| {
        for role in &roles {
            let mut client = database.client();
            scope.spawn(move || {
                for duty in ["auditor", "reader", "writer"] {
                    assert_eq!(client.line(&format!("SELECT audit_grant('{role}', '{duty}')")), "granted");
                }
                assert_eq!(client.line(&format!("SELECT audit_revoke('{role}', 'reader')")), "revoked");
            });
        }
    });
    assert_eq!(
        database.client().lines(&format!("SELECT string_agg(duty || ' ' || how, ', ' ORDER BY duty) FROM audit_duties WHERE role LIKE '{}%' GROUP BY role", database.name)),
        ["auditor granted, writer granted"; 4]
    );
}

#[test]
fn a_role_outside_public_gets_usage_on_the_schema_of_the_extension() {
    let database = Database::empty("duties_schema");
    let role = database.role("app");
    let mut client = database.client();
    client.run(&format!("CREATE SCHEMA \"Odd schema\"; CREATE EXTENSION zeroauth_audit SCHEMA \"Odd schema\"; SELECT \"Odd schema\".audit_grant('{role}', 'writer')"));
    database
        .client_as(&role)
        .run("INSERT INTO \"Odd schema\".audit_events (tenant_id, action) VALUES ('acme', 'x')");
    let row =
        format!("SELECT duty, how, beyond, missing FROM \"Odd schema\".audit_duties WHERE role = '{role}'");
    assert_eq!(client.line(&row), "writer|granted|~|~");
    client.run(&format!("REVOKE USAGE ON SCHEMA \"Odd schema\" FROM {}", quoted(&role)));
    assert_eq!(client.line(&row), "writer|part|~|USAGE on schema \"Odd schema\"");
    assert_eq!(client.line(&format!("SELECT \"Odd schema\".audit_grant('{role}', 'writer')")), "granted");
    assert_eq!(client.line(&row), "writer|granted|~|~");
}

#[test]
fn audit_duties_answers_soon_with_a_thousand_roles() {
    let database = Database::audited("duties_many");
    let mut client = database.client();
    client.run(
        "BEGIN; DO $$ DECLARE s record; BEGIN FOR i IN 1..1000 LOOP
             EXECUTE format('CREATE ROLE duties_many_%s', i);
             IF i % 3 = 0 THEN EXECUTE format('GRANT duties_many_%s TO duties_many_%s', i - 1, i); END IF;
         END LOOP; END $$;
         DO $$ DECLARE everybody text := (SELECT string_agg(rolname, ', ') FROM pg_roles WHERE rolname LIKE 'duties\\_many\\_%' AND substr(rolname, 13) ~ '^[0-9]+$'); s record; BEGIN
             FOR s IN SELECT DISTINCT statement FROM (VALUES ('writer'), ('reader'), ('auditor')) d (duty), zeroauth_audit_internal.grant_statements('GRANT', (SELECT oid FROM pg_roles WHERE rolname = 'duties_many_1'), d.duty) LOOP
                 EXECUTE replace(s.statement, 'TO duties_many_1', 'TO ' || everybody);
             END LOOP; END $$",
    );
    let since = Instant::now();
    assert_eq!(client.line("SELECT count(*) FILTER (WHERE how = 'granted'), count(*) FILTER (WHERE how LIKE 'member of duties%'), count(beyond) FROM audit_duties WHERE role LIKE 'duties\\_many\\_%'"), "3000|999|0");
    // What is quadratic in roles takes minutes.
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    client.run("ROLLBACK");
}
