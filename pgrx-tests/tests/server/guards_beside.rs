//! DDL that names cannot hide, scripts of other extensions, and what stands beside the extension's objects: refused, and a named
//! difference where it is there all the same.

use std::fs;
use std::thread;

use zeroauth_audit_tests::{Cluster, wait_until};

use crate::guards::{assert_logged, log_lines};
use crate::support::{DEADLINE, Database, Sql, assert_whole, quoted, shared};
use crate::tripwire::differences;
use crate::upgrade::stage_of_its_own;

const NOTHING: &str =
    "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'";

#[test]
fn pitfall_33_review_1_5_a_table_that_takes_another_s_place_while_the_statement_waits_is_refused_too() {
    for (n, sql) in [
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "ALTER TABLE audit_events ADD COLUMN x int",
        "ALTER TABLE audit_events ALTER COLUMN action DROP NOT NULL",
        "ALTER TABLE audit_events ALTER COLUMN outcome SET DEFAULT 'x'",
        "ALTER TABLE audit_events DROP CONSTRAINT audit_events_event_id_key",
        "ALTER TABLE audit_events ADD CONSTRAINT x CHECK (false) NOT VALID",
        "ALTER TABLE audit_events RENAME TO other",
        "ALTER TABLE audit_events RENAME COLUMN action TO other",
        "ALTER TABLE audit_events OWNER TO pg_monitor",
        "ALTER TABLE audit_events SET SCHEMA elsewhere",
        "ALTER TRIGGER zzz_zeroauth_audit_chain ON audit_events RENAME TO aaa",
        "DROP TRIGGER zeroauth_audit_refuse_row ON audit_events",
        "CREATE TRIGGER aaa BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION public.nothing()",
        "CREATE RULE lose AS ON INSERT TO audit_events DO INSTEAD NOTHING",
        "CREATE UNIQUE INDEX ON audit_events (action)",
        "CREATE TABLE child () INHERITS (audit_events)",
    ]
    .into_iter()
    .enumerate()
    {
        let database = Database::audited(&format!("toctou_{n}"));
        let mut client = database.client();
        // The decoy has everything that the statement names.
        client.run(&format!("{NOTHING}; CREATE SCHEMA elsewhere; CREATE SCHEMA decoy; CREATE TABLE decoy.audit_events (action text NOT NULL, outcome text, CONSTRAINT audit_events_event_id_key UNIQUE (action));
            CREATE TRIGGER zzz_zeroauth_audit_chain AFTER INSERT ON decoy.audit_events FOR EACH ROW EXECUTE FUNCTION nothing();
            CREATE TRIGGER zeroauth_audit_refuse_row AFTER INSERT ON decoy.audit_events FOR EACH ROW EXECUTE FUNCTION nothing();
            INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')"));
        let mut other = database.client();
        other.run("BEGIN; DROP TABLE decoy.audit_events");
        client.run("SET search_path = decoy, public");
        let pid = client.line("SELECT pg_backend_pid()");
        thread::scope(|scope| {
            let statement = scope.spawn(|| client.refused("ZA004", sql));
            wait_until(DEADLINE, sql, || {
                other.line(&format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted")) == "1"
            });
            other.run("COMMIT");
            statement.join().unwrap();
        });
        assert!(log_lines(&database).iter().any(|line| line["event"] == "ddl_refused"), "{sql}");
        client.run("RESET search_path");
        assert_eq!(differences(&mut client), [] as [&str; 0], "{sql}");
        assert_whole(&mut client);
    }
}

#[test]
fn pitfall_33_review_1_6_the_script_of_another_extension_passes_no_guard() {
    let (stage, extensions) = stage_of_its_own();
    fs::write(extensions.join("beside.control"), "default_version = '1'\n").unwrap();
    for (version, sql) in [
        ("1", "SELECT 1;"),
        ("disable", "ALTER TABLE public.audit_events DISABLE TRIGGER ALL;"),
        ("function", "ALTER FUNCTION public.audit_verify(text, integer) STABLE;"),
        ("drop", "DROP TABLE public.audit_events;"),
        ("change", "DELETE FROM public.audit_events;"),
        ("state", "DELETE FROM zeroauth_audit_internal.alerts;"),
        (
            "stranger",
            "CREATE FUNCTION public.audit_verify(text, bigint) RETURNS int LANGUAGE sql AS 'SELECT 1';",
        ),
    ] {
        fs::write(extensions.join(format!("beside--{version}.sql")), sql).unwrap();
        if version != "1" {
            fs::write(extensions.join(format!("beside--1--{version}.sql")), sql).unwrap();
        }
    }
    let cluster = Cluster::builder("beside_script")
        .stage(stage.path())
        .conf("zeroauth_audit.worker", "off")
        .conf("fsync", "off")
        .start()
        .unwrap();
    let mut client = cluster.client();
    client.run(
        "CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')",
    );
    for (version, code) in [
        ("disable", "ZA004"),
        ("function", "ZA004"),
        ("drop", "ZA004"),
        ("change", "ZA003"),
        ("state", "ZA003"),
        ("stranger", "ZA004"),
    ] {
        client.refused(code, &format!("CREATE EXTENSION beside VERSION '{version}'"));
        client.run("CREATE EXTENSION beside");
        client.refused(code, &format!("ALTER EXTENSION beside UPDATE TO '{version}'"));
        client.run("DROP EXTENSION beside");
    }
    let refused = cluster
        .log()
        .matches(r#""event":"ddl_refused","operation":"ALTER TABLE","object":"audit_events""#)
        .count();
    assert_eq!(refused, 2, "each is a line of the log");
    assert_eq!(differences(&mut client), [] as [&str; 0]);
    assert_whole(&mut client);
}

/// What stands beside: refused; and what `audit_verify_installation()` calls it when it was let through.
const BESIDE: [(&str, &str); 31] = [
    (
        "CREATE FUNCTION audit_verify(tenant text, n bigint) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "stranger function public.audit_verify(text,bigint)",
    ),
    (
        "CREATE PROCEDURE audit_grant(x int) LANGUAGE sql AS 'SELECT 1'",
        "stranger function public.audit_grant(integer)",
    ),
    (
        "CREATE AGGREGATE audit_health(int) (SFUNC = int4pl, STYPE = int)",
        "stranger function public.audit_health(integer)",
    ),
    ("ALTER FUNCTION of_mine(int) RENAME TO audit_prove", "stranger function public.audit_prove(integer)"),
    (
        "ALTER FUNCTION elsewhere.audit_verify(text, int, int) SET SCHEMA public",
        "stranger function public.audit_verify(text,integer,integer)",
    ),
    (
        "CREATE FUNCTION zeroauth_audit_internal.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "stranger function zeroauth_audit_internal.mine()",
    ),
    ("CREATE TABLE zeroauth_audit_internal.mine (x int)", "stranger relation zeroauth_audit_internal.mine"),
    (
        "CREATE VIEW zeroauth_audit_internal.mine AS SELECT 1",
        "stranger relation zeroauth_audit_internal.mine",
    ),
    (
        "CREATE OPERATOR zeroauth_audit_internal.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
        "stranger operator zeroauth_audit_internal.===(integer,integer)",
    ),
    (
        "CREATE TRIGGER t AFTER INSERT ON zeroauth_audit_internal.alerts FOR EACH ROW EXECUTE FUNCTION nothing()",
        "trigger t on alerts",
    ),
    (
        "CREATE TRIGGER t AFTER INSERT ON zeroauth_audit_internal.alert_deliveries FOR EACH STATEMENT EXECUTE FUNCTION nothing()",
        "trigger t on alert_deliveries",
    ),
    (
        "CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON zeroauth_audit_internal.sinks FOR EACH ROW EXECUTE FUNCTION nothing()",
        "trigger t on sinks",
    ),
    (
        "CREATE TRIGGER t INSTEAD OF UPDATE ON audit_alert_routes FOR EACH ROW EXECUTE FUNCTION nothing()",
        "trigger t on audit_alert_routes",
    ),
    ("CREATE TABLE note (alert bigint REFERENCES zeroauth_audit_internal.alerts (id))", "trigger RI_"),
    (
        "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON audit_events DEFERRABLE FOR EACH ROW EXECUTE FUNCTION nothing()",
        "trigger t on audit_events",
    ),
    (
        "CREATE CONSTRAINT TRIGGER t AFTER INSERT OR UPDATE ON audit_events INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION nothing()",
        "trigger t on audit_events",
    ),
    ("CREATE RULE r AS ON INSERT TO zeroauth_audit_internal.alerts DO ALSO SELECT 1", "rule r on alerts"),
    ("CREATE RULE r AS ON UPDATE TO audit_jobs DO INSTEAD NOTHING", "rule r on audit_jobs"),
    ("CREATE POLICY p ON zeroauth_audit_internal.alerts USING (false)", "policy p on alerts"),
    ("ALTER TABLE zeroauth_audit_internal.alerts FORCE ROW LEVEL SECURITY", "table alerts"),
    ("CREATE UNIQUE INDEX i ON audit_events ((1)) WHERE actor_id = 'mallory'", "index i on audit_events"),
    ("CREATE UNIQUE INDEX i ON audit_events (event_id)", "index i on audit_events"),
    ("CREATE UNIQUE INDEX CONCURRENTLY i ON audit_events (event_id)", "index i on audit_events"),
    ("ALTER TABLE audit_events ADD CONSTRAINT i UNIQUE (event_id)", "constraint i on audit_events"),
    ("ALTER TABLE audit_events ADD CONSTRAINT i EXCLUDE (action WITH =)", "constraint i on audit_events"),
    ("CREATE INDEX i ON audit_events (lower(action))", "index i on audit_events"),
    ("CREATE INDEX i ON audit_events (action) WHERE actor_id = 'mallory'", "index i on audit_events"),
    ("CREATE UNIQUE INDEX i ON zeroauth_audit_internal.alerts (kind)", "index i on alerts"),
    ("ALTER VIEW audit_alerts SET (security_invoker = true)", "view audit_alerts"),
    ("ALTER VIEW zeroauth_audit_internal.exported SET (security_barrier = true)", "view exported"),
    ("ALTER SCHEMA zeroauth_audit_internal OWNER TO pg_monitor", "schema zeroauth_audit_internal"),
];

#[test]
fn pitfall_34_35_red_team_a15_review_1_4_1_7_what_stands_beside_is_refused_and_named_where_it_is_there() {
    let database = Database::audited("beside");
    let mut client = database.client();
    client.run(&format!("{NOTHING}; CREATE FUNCTION of_mine(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE SCHEMA elsewhere; CREATE FUNCTION elsewhere.audit_verify(text, int, int) RETURNS int LANGUAGE sql AS 'SELECT 1'"));
    assert_eq!(differences(&mut client), [] as [&str; 0]);
    let mut wrong = Vec::new();
    for (sql, named) in BESIDE {
        let alone = sql.contains("CONCURRENTLY");
        if !alone {
            client.run("BEGIN");
        }
        match client.batch_execute(sql) {
            Ok(()) => wrong.push(format!("went through: {sql}")),
            Err(error) if error.code().is_some_and(|code| code.code() == "ZA004") => {}
            Err(error) => wrong.push(format!("{error:?}: {sql}")),
        }
        if alone {
            client.run("DROP INDEX IF EXISTS i");
            continue;
        }
        client.run("ROLLBACK; BEGIN; SET LOCAL zeroauth_audit.maintenance = on");
        client.run(sql);
        let found = differences(&mut client);
        if !found.iter().any(|line| line.starts_with(named)) {
            wrong.push(format!("not named: {sql}\n  {found:?}"));
        }
        client.run("ROLLBACK");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_logged(&database, "ddl_refused", "CREATE UNIQUE INDEX", "audit_events", "postgres");
    assert_logged(&database, "ddl_refused", "CREATE TRIGGER", "alerts", "postgres");
    assert_eq!(differences(&mut client), [] as [&str; 0]);
}

#[test]
fn what_stands_elsewhere_or_only_finds_rows_is_everybody_s_own() {
    let database = Database::audited("beside_allowed");
    let mut client = database.client();
    client.run(&format!("{NOTHING}; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')"));
    for sql in [
        "CREATE FUNCTION audit_of_mine(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA app",
        "CREATE FUNCTION app.audit_verify(text, bigint) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION app.audit_verify(text, bigint) RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "CREATE TABLE app.audit_events (x int UNIQUE)",
        "ALTER TABLE app.audit_events ADD COLUMN y int CHECK (y > 0) DEFAULT 1",
        "CREATE UNIQUE INDEX ON app.audit_events (y) WHERE x > 1",
        "CREATE TRIGGER t BEFORE INSERT ON app.audit_events FOR EACH ROW EXECUTE FUNCTION nothing()",
        "CREATE RULE r AS ON INSERT TO app.audit_events DO INSTEAD NOTHING",
        "CREATE INDEX ON audit_events (action, occurred_at DESC)",
        "CREATE INDEX ON audit_events USING gin (details)",
        "CREATE INDEX ON audit_events USING brin (recorded_at)",
        "CREATE INDEX ON zeroauth_audit_internal.alerts (message)",
        "REINDEX TABLE CONCURRENTLY audit_events",
        "REINDEX TABLE CONCURRENTLY zeroauth_audit_internal.alerts",
        "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON audit_events NOT DEFERRABLE FOR EACH ROW EXECUTE FUNCTION nothing()",
        "CREATE TRIGGER u AFTER INSERT ON audit_events FOR EACH STATEMENT EXECUTE FUNCTION nothing()",
        "CREATE TABLE note (tenant_id text, event_id uuid, FOREIGN KEY (tenant_id, event_id) REFERENCES audit_events (tenant_id, event_id) DEFERRABLE INITIALLY DEFERRED)",
        "DROP TABLE note",
        "DROP TRIGGER t ON audit_events",
        "GRANT CREATE ON SCHEMA public TO pg_monitor",
        "ALTER SCHEMA public OWNER TO pg_database_owner",
        "VACUUM zeroauth_audit_internal.alerts",
    ] {
        client.run(sql);
        assert_eq!(differences(&mut client), [] as [&str; 0], "{sql}");
    }
    assert_eq!(log_lines(&database).iter().filter(|line| line["event"] == "ddl_refused").count(), 0);
}

#[test]
fn public_report_c11_default_privileges_of_a_schema_open_nothing_either() {
    let database = Database::empty("beside_defaults");
    let role = database.role("app");
    let quoted = quoted(&role);
    let mut client = database.client();
    for what in ["TABLES", "FUNCTIONS", "SEQUENCES"] {
        client.run(&format!("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON {what} TO {quoted}; ALTER DEFAULT PRIVILEGES GRANT ALL ON {what} TO {quoted}"));
    }
    let output = shared().psql(&database.name, "CREATE EXTENSION zeroauth_audit;").unwrap();
    assert_eq!(output.stderr.matches("default privileges gave").count(), 1, "{}", output.stderr);
    assert_eq!(
        client.line("SELECT count(*) FROM pg_depend d LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
            CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, p.proacl)) a WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'zeroauth_audit') AND d.deptype = 'e' AND a.grantee <> 10"),
        "0"
    );
    assert_eq!(differences(&mut client), [] as [&str; 0]);
}
