//! What a superuser can do to the extension's objects is named by the tripwires, by DDL as by writing to the catalogs; what anybody
//! may do raises nothing.

use postgres::Client;

use crate::guards_ddl::allowed_in_place;
use crate::support::{Database, Sql, quoted};

/// Runs the job, which must be able to look at everything.
#[track_caller]
pub fn look(client: &mut Client) {
    assert_eq!(
        client.line("SELECT r ->> 'status', r #> '{summary,problems}' FROM zeroauth_audit_internal.run_job('tripwire') r"),
        "succeeded|~"
    );
}

/// The unresolved alerts of tripwires: kind, severity, state, message.
#[track_caller]
pub fn alerts(client: &mut Client) -> Vec<String> {
    client.lines(
        "SELECT kind, severity, state, message FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved' ORDER BY id",
    )
}

/// Objects and parts that are not as installed.
#[track_caller]
pub fn differences(client: &mut Client) -> Vec<String> {
    client.lines("SELECT object, part FROM audit_verify_installation()")
}

/// Statements of a superuser under maintenance, and the first difference that is named.
const TAMPERS: [(&str, &str); 61] = [
    (
        "ALTER TABLE audit_events DISABLE TRIGGER zeroauth_audit_refuse_row",
        "trigger zeroauth_audit_refuse_row on audit_events|definition",
    ),
    (
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "trigger zzz_zeroauth_audit_chain on audit_events|definition",
    ),
    (
        "ALTER TABLE audit_events ENABLE REPLICA TRIGGER zeroauth_audit_refuse_statement",
        "trigger zeroauth_audit_refuse_statement on audit_events|definition",
    ),
    (
        "ALTER TABLE audit_events ENABLE TRIGGER zzz_zeroauth_audit_chain",
        "trigger zzz_zeroauth_audit_chain on audit_events|definition",
    ),
    (
        "DROP TRIGGER zzz_zeroauth_audit_chain ON audit_events",
        "trigger zzz_zeroauth_audit_chain on audit_events|definition",
    ),
    (
        "CREATE OR REPLACE TRIGGER zeroauth_audit_refuse_row BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION nothing()",
        "trigger zeroauth_audit_refuse_row on audit_events|definition",
    ),
    (
        "CREATE OR REPLACE TRIGGER zeroauth_audit_refuse_row BEFORE DELETE OR UPDATE OF action ON audit_events FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.refuse_row()",
        "trigger zeroauth_audit_refuse_row on audit_events|definition",
    ),
    (
        "CREATE OR REPLACE TRIGGER zzz_zeroauth_audit_chain BEFORE INSERT ON audit_events FOR EACH ROW WHEN (NEW.tenant_id <> 'mine') EXECUTE FUNCTION zeroauth_audit_internal.chain()",
        "trigger zzz_zeroauth_audit_chain on audit_events|definition",
    ),
    (
        "CREATE TRIGGER aaa BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION nothing()",
        "trigger aaa on audit_events|definition",
    ),
    (
        "CREATE TRIGGER aaa BEFORE UPDATE ON zeroauth_audit_internal.alerts FOR EACH ROW EXECUTE FUNCTION nothing()",
        "trigger aaa on alerts|definition",
    ),
    (
        "ALTER TRIGGER zzz_zeroauth_audit_chain ON audit_events RENAME TO aaa",
        "trigger aaa on audit_events|definition",
    ),
    (
        "ALTER TABLE zeroauth_audit_internal.jobs DISABLE TRIGGER zeroauth_audit_jobs_changed",
        "trigger zeroauth_audit_jobs_changed on jobs|definition",
    ),
    (
        "CREATE OR REPLACE FUNCTION zeroauth_audit_internal.job_tripwire() RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'",
        "function job_tripwire()|body",
    ),
    (
        "CREATE OR REPLACE FUNCTION zeroauth_audit_internal.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE STRICT PARALLEL SAFE AS 'SELECT gen_random_uuid()'",
        "function uuid_v7()|attributes",
    ),
    (
        "CREATE OR REPLACE FUNCTION audit_guards() RETURNS TABLE (guard text, active boolean, detail text) LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER BEGIN ATOMIC SELECT 'all'::text, true, ''::text; END",
        "function audit_guards()|body",
    ),
    (
        "ALTER FUNCTION zeroauth_audit_internal.raise_alert(text, smallint, text, text, text, jsonb) SECURITY DEFINER",
        "function raise_alert(kind text, severity smallint, tenant text, fingerprint text, message text, evidence jsonb)|attributes",
    ),
    (
        "ALTER FUNCTION zeroauth_audit_internal.resolve_alert(text, text) STABLE",
        "function resolve_alert(fingerprint text, note text)|attributes",
    ),
    (
        "ALTER FUNCTION audit_alert_acknowledge(bigint, text) SET search_path = public",
        "function audit_alert_acknowledge(alert bigint, note text)|attributes",
    ),
    (
        "ALTER FUNCTION audit_alert_acknowledge(bigint, text) RESET ALL",
        "function audit_alert_acknowledge(alert bigint, note text)|attributes",
    ),
    (
        "ALTER FUNCTION audit_verify(text, integer) PARALLEL SAFE",
        "function audit_verify(tenant text, n integer)|attributes",
    ),
    (
        "ALTER FUNCTION audit_verify(text, integer) OWNER TO ROLE",
        "function audit_verify(tenant text, n integer)|owner",
    ),
    (
        "ALTER FUNCTION audit_verify(text, integer) SET SCHEMA elsewhere",
        "function audit_verify(tenant text, n integer)|schema",
    ),
    (
        "ALTER FUNCTION audit_verify(text, integer) RENAME TO other",
        "function audit_verify(tenant text, n integer)|attributes",
    ),
    (
        "GRANT EXECUTE ON FUNCTION audit_alert_acknowledge TO PUBLIC",
        "function audit_alert_acknowledge(alert bigint, note text)|granted",
    ),
    (
        "ALTER EXTENSION zeroauth_audit DROP FUNCTION audit_verify(text, integer)",
        "function audit_verify(tenant text, n integer)|attributes",
    ),
    ("ALTER EXTENSION zeroauth_audit ADD FUNCTION nothing()", "function nothing()|attributes"),
    (
        "CREATE TYPE of_others AS (x int); ALTER EXTENSION zeroauth_audit ADD TYPE of_others",
        "member type public.of_others|exists",
    ),
    ("GRANT UPDATE ON audit_events TO ROLE", "table audit_events|granted"),
    ("GRANT DELETE, TRUNCATE ON audit_events TO ROLE", "table audit_events|granted"),
    ("GRANT TRIGGER ON audit_events TO ROLE", "table audit_events|granted"),
    ("GRANT UPDATE (action) ON audit_events TO ROLE", "table audit_events|granted"),
    ("GRANT SELECT ON audit_events TO PUBLIC", "table audit_events|granted"),
    ("GRANT SELECT (details) ON audit_events TO PUBLIC", "table audit_events|granted"),
    ("GRANT INSERT ON zeroauth_audit_internal.alert_routes TO ROLE", "table alert_routes|granted"),
    (
        "GRANT UPDATE ON SEQUENCE zeroauth_audit_internal.alerts_id_seq TO ROLE",
        "sequence alerts_id_seq|granted",
    ),
    ("ALTER TABLE audit_events OWNER TO ROLE", "table audit_events|owner"),
    ("ALTER TABLE audit_events SET SCHEMA elsewhere", "table audit_events|schema"),
    ("ALTER TABLE audit_events RENAME COLUMN details TO other", "column audit_events.details|definition"),
    (
        "ALTER TABLE audit_events ALTER COLUMN event_hash DROP NOT NULL",
        "column audit_events.event_hash|definition",
    ),
    (
        "ALTER TABLE audit_events ALTER COLUMN outcome SET DEFAULT 'failure'",
        "column audit_events.outcome|definition",
    ),
    (
        "ALTER TABLE audit_events ALTER COLUMN occurred_at DROP DEFAULT",
        "column audit_events.occurred_at|definition",
    ),
    (
        "ALTER TABLE zeroauth_audit_internal.anchor_findings ALTER COLUMN detail TYPE varchar(2000)",
        "column anchor_findings.detail|definition",
    ),
    (
        "ALTER TABLE audit_events ADD COLUMN mine text GENERATED ALWAYS AS (upper(action)) STORED",
        "column audit_events.mine|definition",
    ),
    ("ALTER TABLE zeroauth_audit_internal.alerts ADD COLUMN mine text", "column alerts.mine|definition"),
    (
        "ALTER TABLE zeroauth_audit_internal.jobs DROP CONSTRAINT jobs_timeout_check",
        "constraint jobs_timeout_check on jobs|definition",
    ),
    (
        "ALTER TABLE audit_events ADD CONSTRAINT never CHECK (tenant_id <> 'acme') NOT VALID",
        "constraint never on audit_events|definition",
    ),
    (
        "ALTER TABLE audit_events DROP CONSTRAINT audit_events_pkey",
        "constraint audit_events_pkey on audit_events|definition",
    ),
    ("DROP INDEX zeroauth_audit_internal.alerts_unresolved", "index alerts_unresolved on alerts|definition"),
    (
        "ALTER SEQUENCE zeroauth_audit_internal.alerts_id_seq CYCLE MAXVALUE 10",
        "sequence alerts_id_seq|numbers",
    ),
    (
        "ALTER TABLE zeroauth_audit_internal.alerts ENABLE ROW LEVEL SECURITY; ALTER TABLE zeroauth_audit_internal.alerts FORCE ROW LEVEL SECURITY",
        "table alerts|row security",
    ),
    ("ALTER TABLE zeroauth_audit_internal.alert_deliveries SET UNLOGGED", "table alert_deliveries|kind"),
    (
        "CREATE RULE lose AS ON INSERT TO audit_events DO INSTEAD NOTHING",
        "rule lose on audit_events|definition",
    ),
    ("CREATE TABLE child () INHERITS (audit_events)", "table audit_events|inheritance"),
    (
        "CREATE OR REPLACE VIEW zeroauth_audit_internal.exported AS SELECT 'x'::text COLLATE \"C\" AS tenant_id, 1::smallint AS chain, 1::bigint AS seq, gen_random_uuid() AS event_id, '{}'::text AS event, '{}'::text AS public_event",
        "view exported|query",
    ),
    (
        "ALTER EXTENSION zeroauth_audit DROP VIEW zeroauth_audit_internal.exported; ALTER EXTENSION zeroauth_audit DROP FUNCTION zeroauth_audit_internal.export_lines(text, boolean); DROP VIEW zeroauth_audit_internal.exported CASCADE",
        "view exported|kind",
    ),
    (
        "ALTER EXTENSION zeroauth_audit DROP FUNCTION zeroauth_audit_internal.uuid_v7(); DROP FUNCTION zeroauth_audit_internal.uuid_v7() CASCADE",
        "function uuid_v7()|attributes",
    ),
    (
        "ALTER TABLE zeroauth_audit_internal.tripwire_state DISABLE TRIGGER ALL; ALTER TABLE zeroauth_audit_internal.tripwire_state DROP CONSTRAINT tripwire_state_pkey",
        "constraint tripwire_state_pkey on tripwire_state|definition",
    ),
    (
        "CREATE TABLE parted (LIKE audit_events) PARTITION BY LIST (tenant_id); ALTER TABLE parted ATTACH PARTITION audit_events DEFAULT",
        "table audit_events|partition or typed",
    ),
    (
        "CREATE TABLE tenant (id text COLLATE \"C\" PRIMARY KEY); ALTER TABLE audit_events ADD CONSTRAINT to_tenant FOREIGN KEY (tenant_id) REFERENCES tenant ON DELETE CASCADE NOT VALID",
        "constraint to_tenant on audit_events|definition",
    ),
    (
        "ALTER TABLE audit_events ADD CONSTRAINT again EXCLUDE (event_id WITH =)",
        "constraint again on audit_events|definition",
    ),
    ("ALTER TABLE audit_events RENAME TO audit_events_2", "table audit_events_2|kind"),
];

/// The same by writing to the catalogs, which no guard sees.
const CATALOG: [(&str, &str); 21] = [
    (
        "UPDATE pg_trigger SET tgenabled = 'D' WHERE tgname = 'zeroauth_audit_refuse_row'",
        "trigger zeroauth_audit_refuse_row on audit_events|definition",
    ),
    (
        "UPDATE pg_trigger SET tgfoid = 'nothing'::regproc WHERE tgname = 'zzz_zeroauth_audit_chain'",
        "trigger zzz_zeroauth_audit_chain on audit_events|definition",
    ),
    (
        "UPDATE pg_trigger SET tgtype = 8 | 2 | 1 WHERE tgname = 'zeroauth_audit_refuse_row'",
        "trigger zeroauth_audit_refuse_row on audit_events|definition",
    ),
    (
        "UPDATE pg_trigger SET tgisinternal = true, tgtype = tgtype | 2 WHERE tgname = 'by_a_user'",
        "trigger by_a_user on audit_events|definition",
    ),
    (
        "UPDATE pg_trigger SET tgrelid = 'other'::regclass WHERE tgname = 'zeroauth_audit_refuse_statement'",
        "trigger zeroauth_audit_refuse_statement on audit_events|definition",
    ),
    ("UPDATE pg_class SET relhastriggers = false WHERE relname = 'audit_events'", "table audit_events|flags"),
    ("UPDATE pg_class SET relhasindex = false WHERE relname = 'audit_events'", "table audit_events|flags"),
    ("UPDATE pg_class SET relchecks = 0 WHERE relname = 'alert_deliveries'", "table alert_deliveries|flags"),
    (
        "UPDATE pg_class SET relowner = 'pg_monitor'::regrole WHERE relname = 'alert_deliveries'",
        "table alert_deliveries|owner",
    ),
    (
        "UPDATE pg_class SET relacl = array_append(relacl, '=w/postgres'::aclitem) WHERE relname = 'audit_events'",
        "table audit_events|granted",
    ),
    (
        "UPDATE pg_proc SET prosrc = 'BEGIN RETURN 0; END' WHERE proname = 'tripwire_definitions' AND pronamespace = 'zeroauth_audit_internal'::regnamespace",
        "function tripwire_definitions()|body",
    ),
    (
        "UPDATE pg_proc SET prosrc = 'zeroauth_audit_preloaded' WHERE proname = 'refuse_statement' AND pronamespace = 'zeroauth_audit_internal'::regnamespace",
        "function refuse_statement()|body",
    ),
    (
        "UPDATE pg_proc SET probin = '/tmp/mine.so' WHERE proname = 'chain' AND pronamespace = 'zeroauth_audit_internal'::regnamespace",
        "function chain()|attributes",
    ),
    (
        "UPDATE pg_proc SET proconfig = NULL, prosecdef = true WHERE proname = 'escalate' AND pronamespace = 'zeroauth_audit_internal'::regnamespace",
        "function escalate()|attributes",
    ),
    (
        "UPDATE pg_proc SET proleakproof = true WHERE proname = 'event_hash' AND pronamespace = 'zeroauth_audit_internal'::regnamespace",
        "function event_hash(prev_hash bytea, tenant_id text, chain smallint, seq bigint, event_id uuid, occurred_at timestamp with time zone, recorded_at timestamp with time zone, category text, action text, outcome text, severity text, resource text, service_name text, env text, provider text, request_id text, correlation_id text, trace_id text, span_id text, status_code integer, latency_ms integer, payload_size bigint, error_code text, db_role text, private_hash bytea)|attributes",
    ),
    (
        "UPDATE pg_aggregate SET aggfinalfn = 'zeroauth_audit_internal.check_serialize' WHERE aggfnoid::text LIKE '%zeroauth_audit_internal.chain_check'",
        "|steps",
    ),
    (
        "UPDATE pg_index SET indisunique = false WHERE indexrelid = 'audit_events_pkey'::regclass",
        "index audit_events_pkey on audit_events|definition",
    ),
    (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'audit_events_event_id_key'::regclass",
        "index audit_events_event_id_key on audit_events|definition",
    ),
    (
        "UPDATE pg_constraint SET convalidated = false WHERE conname = 'audit_events_event_id_key'",
        "constraint audit_events_event_id_key on audit_events|definition",
    ),
    (
        "UPDATE pg_extension SET extconfig = extconfig[2:], extcondition = extcondition[2:] WHERE extname = 'zeroauth_audit'",
        "extension|dumped",
    ),
    (
        "DELETE FROM pg_depend WHERE deptype = 'e' AND objid = 'audit_events'::regclass",
        "table audit_events|kind",
    ),
];

#[test]
fn pitfall_18_whatever_a_superuser_changes_of_the_extension_is_named() {
    let database = Database::audited("tripwire_tampers");
    let role = database.role("somebody");
    let mut client = database.client();
    client.run("CREATE SCHEMA elsewhere; CREATE TABLE other (x int); CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER by_a_user AFTER INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION nothing()");
    assert_eq!(differences(&mut client), [] as [&str; 0]);
    let mut wrong = Vec::new();
    for (sql, named) in TAMPERS.into_iter().chain(CATALOG) {
        client
            .run("BEGIN; SET LOCAL zeroauth_audit.maintenance = on; SET LOCAL allow_system_table_mods = on");
        client.run(&sql.replace("ROLE", &quoted(&role)));
        let found = differences(&mut client);
        if !found.iter().any(|line| line == named || named.starts_with('|') && line.ends_with(named)) {
            wrong.push(format!("{sql}\n  {found:?}"));
        }
        client.run("ROLLBACK");
    }
    assert!(wrong.is_empty(), "not named:\n{}", wrong.join("\n"));
    assert_eq!(differences(&mut client), [] as [&str; 0]);
}

#[test]
fn evidence_says_what_was_and_what_is_and_stays_small() {
    let database = Database::audited("tripwire_evidence");
    let mut client = database.client();
    client.run("SET zeroauth_audit.maintenance = on; ALTER TABLE audit_events ALTER COLUMN outcome SET DEFAULT 'failure'; ALTER FUNCTION zeroauth_audit_internal.escalate() STABLE");
    look(&mut client);
    let evidence = "SELECT message, evidence -> 'differs' FROM zeroauth_audit_internal.alerts WHERE kind = 'guard_disabled' ORDER BY id";
    assert_eq!(
        client.lines(evidence),
        [
            r#"column audit_events.outcome is not as installed: definition|[{"is": "9 text NOT NULL DEFAULT 'failure'::text", "was": "9 text NOT NULL DEFAULT 'success'::text", "part": "definition"}]"#,
            r#"function escalate() is not as installed: attributes|[{"is": "plpgsql stable parallel-unsafe SET search_path=pg_catalog, pg_temp", "was": "plpgsql volatile parallel-unsafe SET search_path=pg_catalog, pg_temp", "part": "attributes"}]"#
        ]
    );
    // Everything at once: each of the first is an alert of its own, and the rest one more.
    client.run("GRANT ALL ON ALL FUNCTIONS IN SCHEMA public, zeroauth_audit_internal TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA public, zeroauth_audit_internal TO PUBLIC");
    look(&mut client);
    assert_eq!(
        client.line("SELECT count(*), count(*) FILTER (WHERE fingerprint LIKE '%:and others'), max(octet_length(evidence::text)) < 32768, bool_or(evidence ? 'cut'), bool_or(fingerprint LIKE '%:table audit_events:%') FROM zeroauth_audit_internal.alerts WHERE kind = 'guard_disabled' AND condition_gone_at IS NULL"),
        "31|1|t|f|t"
    );
}

#[test]
fn what_anybody_may_do_raises_nothing() {
    let database = Database::audited("tripwire_allowed");
    let role = database.role("somebody");
    let mut client = database.client();
    client.run("CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    for sql in allowed_in_place() {
        for statement in sql.split("; ") {
            client.run(statement);
        }
        look(&mut client);
        assert_eq!(alerts(&mut client), [] as [&str; 0], "after {sql}");
    }
    for sql in [
        "GRANT SELECT, INSERT, REFERENCES ON audit_events TO ROLE WITH GRANT OPTION",
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO ROLE",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO ROLE",
        "REVOKE ALL ON audit_events FROM ROLE",
        "ALTER INDEX audit_events_pkey SET (fillfactor = 80)",
        "ALTER TABLE audit_events CLUSTER ON audit_events_pkey",
        "CREATE INDEX mine ON audit_events (event_id)",
        "CREATE CONSTRAINT TRIGGER mine AFTER INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION nothing()",
        "CREATE PUBLICATION mine FOR TABLE audit_events; DROP PUBLICATION mine",
        "SELECT audit_job_set('prune', '7 * * * *')",
        "SELECT count(*) FROM audit_drill()",
        "COMMENT ON FUNCTION audit_verify(text, integer) IS 'ours'",
        "CREATE VIEW a_view AS SELECT * FROM audit_events; DROP VIEW a_view",
        "CREATE MATERIALIZED VIEW kept AS SELECT * FROM audit_events; REFRESH MATERIALIZED VIEW kept",
        "SET quote_all_identifiers = on; SET TimeZone = 'Asia/Kolkata'; SET DateStyle = 'SQL, DMY'; SET search_path = public, pg_catalog; SET IntervalStyle = iso_8601",
        "BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'rolled back'); ROLLBACK",
        "INSERT INTO audit_events (tenant_id, event_id, action) SELECT tenant_id, event_id, 'again' FROM audit_events WHERE tenant_id <> 'zeroauth_audit' ON CONFLICT DO NOTHING",
        "VACUUM (FREEZE) pg_trigger; VACUUM FULL pg_trigger",
        "DO $$ BEGIN UPDATE audit_events SET action = 'x'; EXCEPTION WHEN SQLSTATE 'ZA003' THEN NULL; END $$",
        "DO $$ BEGIN DELETE FROM audit_events; EXCEPTION WHEN SQLSTATE 'ZA003' THEN NULL; END $$",
    ] {
        for statement in sql.replace("ROLE", &quoted(&role)).split("; VACUUM") {
            client.run(&if statement.starts_with(" FULL") {
                format!("VACUUM{statement}")
            } else {
                statement.to_owned()
            });
        }
        look(&mut client);
        assert_eq!(alerts(&mut client), [] as [&str; 0], "after {sql}");
    }
    client.run("DROP OWNED BY \"ROLE\"".replace("\"ROLE\"", &quoted(&role)).as_str());
}

#[test]
fn a_version_that_is_not_the_library_s_is_an_upgrade_to_come_and_its_guards_are_looked_at() {
    let database = Database::audited("tripwire_pending");
    let mut client = database.client();
    client.run("UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'zeroauth_audit'; SET zeroauth_audit.maintenance = on; ALTER FUNCTION zeroauth_audit_internal.escalate() STABLE; RESET zeroauth_audit.maintenance");
    assert_eq!(differences(&mut client), [] as [&str; 0]);
    assert_eq!(
        client.line("SELECT h ->> 'state', h -> 'reasons' FROM zeroauth_audit_internal.health_tripwires() h"),
        r#"degraded|["upgrade_pending"]"#
    );
    client.run("SET zeroauth_audit.maintenance = on; ALTER TABLE audit_events DISABLE TRIGGER ALL");
    assert_eq!(differences(&mut client).len(), 3);
    client.run("UPDATE pg_extension SET extversion = '0.1.0' WHERE extname = 'zeroauth_audit'");
    assert_eq!(differences(&mut client).len(), 4);
}

#[test]
fn red_team_f1_no_setting_of_a_database_changes_what_definitions_say() {
    let database = Database::audited("tripwire_spelling");
    for (name, value) in [
        ("standard_conforming_strings", "off"),
        ("escape_string_warning", "off"),
        ("backslash_quote", "on"),
        ("transform_null_equals", "on"),
        ("array_nulls", "off"),
        ("bytea_output", "escape"),
        ("quote_all_identifiers", "on"),
        ("IntervalStyle", "iso_8601"),
        ("DateStyle", "German"),
        ("extra_float_digits", "-15"),
        ("xmloption", "document"),
    ] {
        database.client().run(&format!("ALTER DATABASE {} SET {name} = {value}", quoted(&database.name)));
    }
    let mut client = database.client();
    assert_eq!(client.line("SHOW standard_conforming_strings"), "off");
    assert_eq!(differences(&mut client), [] as [&str; 0]);
    look(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
}
