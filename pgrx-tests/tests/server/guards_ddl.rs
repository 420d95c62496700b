//! DDL that could weaken the trail is refused with ZA004, to the owner as to a superuser; DDL that cannot goes through.

use crate::guards::{assert_logged, owned};
use crate::support::{Database, Sql, assert_whole, shared};

/// Refused to an owner and to a superuser alike.
const REFUSED: [&str; 50] = [
    "ALTER TABLE audit_events DISABLE TRIGGER ALL",
    "ALTER TABLE audit_events DISABLE TRIGGER USER",
    "ALTER TABLE audit_events DISABLE TRIGGER zzz_zeroauth_audit_chain",
    "ALTER TABLE audit_events ENABLE REPLICA TRIGGER zzz_zeroauth_audit_chain",
    "ALTER TABLE audit_events ENABLE TRIGGER zeroauth_audit_refuse_row",
    "ALTER TABLE audit_events ADD COLUMN extra text",
    "ALTER TABLE audit_events DROP COLUMN details",
    "ALTER TABLE audit_events ALTER COLUMN action TYPE varchar(3)",
    "ALTER TABLE audit_events ALTER COLUMN details TYPE text USING 'x'",
    "ALTER TABLE audit_events ALTER COLUMN event_hash DROP NOT NULL",
    "ALTER TABLE audit_events ALTER COLUMN outcome SET DEFAULT 'failure'",
    "ALTER TABLE audit_events ALTER COLUMN event_id DROP DEFAULT",
    "ALTER TABLE audit_events DROP CONSTRAINT audit_events_pkey",
    "ALTER TABLE audit_events DROP CONSTRAINT audit_events_event_id_key",
    "ALTER TABLE audit_events ADD CONSTRAINT never CHECK (false) NOT VALID",
    "ALTER TABLE audit_events ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY",
    "ALTER TABLE audit_events SET UNLOGGED",
    "ALTER TABLE audit_events ADD PRIMARY KEY (event_id)",
    "ALTER TABLE audit_events OWNER TO CURRENT_USER",
    "ALTER TABLE audit_events SET SCHEMA pg_temp",
    "ALTER TABLE audit_events RENAME TO other",
    "ALTER TABLE audit_events RENAME COLUMN details TO other",
    "ALTER TABLE audit_events RENAME CONSTRAINT audit_events_pkey TO other",
    "ALTER INDEX audit_events_pkey RENAME TO other",
    "ALTER INDEX audit_events RENAME TO other",
    "ALTER INDEX audit_events_pkey DEPENDS ON EXTENSION plpgsql",
    "ALTER TRIGGER zzz_zeroauth_audit_chain ON audit_events DEPENDS ON EXTENSION plpgsql",
    "ALTER TABLE audit_events SET TABLESPACE pg_default",
    "ALTER TABLE audit_events SET ACCESS METHOD heap",
    "ALTER TRIGGER zzz_zeroauth_audit_chain ON audit_events RENAME TO aaa",
    "DROP TABLE audit_events",
    "DROP TABLE audit_events CASCADE",
    "DROP TABLE IF EXISTS unrelated, audit_events",
    "DROP TRIGGER zzz_zeroauth_audit_chain ON audit_events",
    "DROP TRIGGER zeroauth_audit_refuse_row ON audit_events",
    "DROP TRIGGER zeroauth_audit_refuse_statement ON audit_events CASCADE",
    "DROP INDEX audit_events_pkey",
    "CREATE RULE lose AS ON INSERT TO audit_events DO INSTEAD NOTHING",
    "CREATE RULE more AS ON UPDATE TO audit_events DO ALSO SELECT 1",
    "CREATE TABLE child () INHERITS (audit_events)",
    "CREATE TABLE child (LIKE audit_events); ALTER TABLE child INHERIT audit_events",
    "ALTER TABLE audit_events INHERIT unrelated",
    "CREATE TRIGGER aaa BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION nothing()",
    "CREATE TRIGGER zzzz BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION nothing()",
    "CREATE TRIGGER zzzz BEFORE UPDATE ON audit_events FOR EACH STATEMENT EXECUTE FUNCTION nothing()",
    "CREATE OR REPLACE TRIGGER zzz_zeroauth_audit_chain BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION nothing()",
    "CREATE OR REPLACE TRIGGER zeroauth_audit_refuse_row AFTER UPDATE ON audit_events FOR EACH ROW EXECUTE FUNCTION nothing()",
    "DROP FUNCTION audit_verify(text, integer)",
    "ALTER TABLE audit_events ATTACH PARTITION unrelated DEFAULT",
    "ALTER TABLE parted ATTACH PARTITION audit_events DEFAULT",
];

/// What only a superuser could try at all.
const REFUSED_TO_SUPERUSERS: [&str; 25] = [
    "DROP FUNCTION zeroauth_audit_internal.uuid_v7() CASCADE",
    "ALTER EXTENSION zeroauth_audit DROP TABLE audit_events",
    "ALTER EXTENSION zeroauth_audit DROP FUNCTION audit_verify(text, integer)",
    "DROP EXTENSION zeroauth_audit",
    "DROP EXTENSION zeroauth_audit CASCADE",
    "DROP EXTENSION IF EXISTS plpgsql_never_there, zeroauth_audit",
    "DROP SCHEMA public CASCADE",
    "DROP OWNED BY \"OWNER\" CASCADE",
    "REASSIGN OWNED BY \"OWNER\" TO other",
    "CREATE OR REPLACE FUNCTION audit_verify(tenant text DEFAULT NULL, n integer DEFAULT NULL) RETURNS TABLE (tenant_id text, ok boolean, events bigint, findings bigint, classes text[], chains integer, first_finding text) LANGUAGE sql AS $$ SELECT tenant, true, 1::bigint, 0::bigint, '{}'::text[], 1, NULL::text $$",
    "CREATE OR REPLACE FUNCTION zeroauth_audit_internal.uuid_v7() RETURNS uuid LANGUAGE sql AS $$ SELECT gen_random_uuid() $$",
    "ALTER FUNCTION audit_verify(text, integer) RENAME TO other",
    "ALTER FUNCTION audit_verify(text, integer) SET search_path = pg_temp",
    "ALTER FUNCTION audit_verify(text, integer) OWNER TO other",
    "ALTER FUNCTION audit_verify(text, integer) SET SCHEMA elsewhere",
    "ALTER TABLE audit_events OWNER TO other",
    "ALTER TABLE audit_events SET SCHEMA elsewhere",
    "ALTER SCHEMA public RENAME TO elsewhere_public",
    "DROP VIEW zeroauth_audit_internal.exported",
    "ALTER VIEW zeroauth_audit_internal.exported RENAME TO other",
    "ALTER TABLE zeroauth_audit_internal.exported RENAME COLUMN event TO other",
    "DROP ROUTINE audit_verify(text, integer)",
    "ALTER ROUTINE audit_verify(text, integer) RENAME TO other",
    "ALTER FUNCTION audit_verify(text, integer) DEPENDS ON EXTENSION plpgsql",
    "CREATE OR REPLACE VIEW zeroauth_audit_internal.exported AS SELECT 'x'::text COLLATE \"C\" AS tenant_id, 1::smallint AS chain, 1::bigint AS seq, gen_random_uuid() AS event_id, '{}'::text AS event, '{}'::text AS public_event",
];

/// Weakens nothing, and people need it.
const ALLOWED: [&str; 26] = [
    "CREATE INDEX by_actor ON audit_events (tenant_id, actor_id)",
    "CREATE INDEX CONCURRENTLY by_time ON audit_events (occurred_at)",
    "DROP INDEX by_actor",
    "REINDEX TABLE audit_events",
    "REINDEX INDEX audit_events_pkey",
    "REINDEX TABLE CONCURRENTLY audit_events",
    "VACUUM audit_events",
    "VACUUM FULL audit_events",
    "ANALYZE audit_events",
    "CLUSTER audit_events USING audit_events_pkey",
    "COMMENT ON TABLE audit_events IS 'the trail'",
    "COMMENT ON COLUMN audit_events.details IS 'what happened'",
    "CREATE POLICY readers ON audit_events FOR SELECT USING (true)",
    "ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE audit_events NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE audit_events DISABLE ROW LEVEL SECURITY",
    "DROP POLICY readers ON audit_events",
    "ALTER TABLE audit_events ALTER COLUMN action SET STATISTICS 500",
    "ALTER TABLE audit_events SET (fillfactor = 100, autovacuum_vacuum_scale_factor = 0.5)",
    "ALTER TABLE audit_events ALTER COLUMN details SET STORAGE EXTERNAL",
    "ALTER TABLE audit_events REPLICA IDENTITY USING INDEX audit_events_pkey",
    "CREATE TRIGGER after_insert AFTER INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION nothing()",
    "DROP TRIGGER after_insert ON audit_events",
    "CREATE STATISTICS by_tenant ON tenant_id, action FROM audit_events",
    "CREATE TABLE note (tenant_id text, event_id uuid, FOREIGN KEY (tenant_id, event_id) REFERENCES audit_events (tenant_id, event_id)); DROP TABLE note",
    "CREATE TABLE copy_of_it (LIKE audit_events INCLUDING ALL); DROP TABLE copy_of_it",
];

/// Those of them that leave the table the file that it has.
pub fn allowed_in_place() -> impl Iterator<Item = &'static str> {
    let rewrites = |sql: &&str| sql.starts_with("VACUUM FULL") || sql.starts_with("CLUSTER audit_events");
    ALLOWED.into_iter().filter(move |sql| !rewrites(sql))
}

/// Both roles own what the statements name besides the trail.
fn surroundings(database: &Database, owner: &str) {
    database.client().run(&format!(
        "CREATE SCHEMA elsewhere; CREATE ROLE other; GRANT CREATE ON SCHEMA public TO other;
         CREATE TABLE unrelated (x int); ALTER TABLE unrelated OWNER TO \"{owner}\";
         CREATE TABLE parted (LIKE audit_events) PARTITION BY LIST (tenant_id); ALTER TABLE parted OWNER TO \"{owner}\";
         CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    ));
}

#[test]
fn pitfall_21_ddl_that_could_weaken_the_trail_is_refused_to_the_owner_and_to_a_superuser() {
    let (database, owner) = owned("guards_ddl");
    surroundings(&database, &owner);
    let (mut as_owner, mut as_superuser) = (database.client_as(&owner), database.client());
    let mut wrong = Vec::new();
    for sql in REFUSED {
        for (who, client) in [("owner", &mut as_owner), ("superuser", &mut as_superuser)] {
            outcome(client, who, sql, "ZA004", &mut wrong);
        }
    }
    for sql in REFUSED_TO_SUPERUSERS {
        outcome(
            &mut as_superuser,
            "superuser",
            &sql.replace("OWNER\"", &format!("{owner}\"")),
            "ZA004",
            &mut wrong,
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_logged(&database, "ddl_refused", "ALTER TABLE", "audit_events", &owner);
    assert_logged(&database, "ddl_refused", "DROP", "audit_events", "postgres");
    assert_whole(&mut as_superuser);
    assert_eq!(as_superuser.line("SELECT count(*) FROM audit_events"), "10");
    assert_eq!(as_superuser.lines("SELECT guard FROM audit_guards() WHERE NOT active"), [] as [&str; 0]);
    as_superuser.run("DROP OWNED BY other; DROP ROLE other");
}

/// Runs a statement in a transaction that is rolled back, so that what goes through does not falsify the next one.
fn outcome(client: &mut postgres::Client, who: &str, sql: &str, code: &str, wrong: &mut Vec<String>) {
    client.run("BEGIN");
    match client.batch_execute(sql) {
        Ok(()) => wrong.push(format!("{who}: went through: {sql}")),
        Err(error) => match error.as_db_error() {
            Some(e) if e.code().code() == code && (code != "ZA004" || e.hint().is_some()) => {}
            Some(e) => {
                wrong.push(format!("{who}: {} {} (hint {:?}): {sql}", e.code().code(), e.message(), e.hint()))
            }
            None => panic!("{error}: {sql}"),
        },
    }
    client.run("ROLLBACK");
}

#[test]
fn ddl_that_weakens_nothing_goes_through() {
    let (database, owner) = owned("guards_allowed");
    surroundings_of_allowed(&database);
    for client in [&mut database.client_as(&owner), &mut database.client()] {
        for sql in ALLOWED {
            let sql = sql.replace("CREATE STATISTICS by_tenant", "CREATE STATISTICS IF NOT EXISTS by_tenant");
            client.run("DROP INDEX IF EXISTS by_time");
            for statement in sql.split("; ") {
                client.run(statement);
            }
        }
    }
    let mut client = database.client();
    client.run(&format!("GRANT INSERT, SELECT ON audit_events TO \"{owner}\" WITH GRANT OPTION; REVOKE ALL ON audit_events FROM PUBLIC"));
    assert_whole(&mut client);
    assert_eq!(client.lines("SELECT guard FROM audit_guards() WHERE NOT active"), [] as [&str; 0]);
}

fn surroundings_of_allowed(database: &Database) {
    database
        .client()
        .run("CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'");
}

#[test]
fn other_tables_are_nobody_s_business() {
    let database = Database::audited("guards_others");
    let mut client = database.client();
    client.run(
        "CREATE SCHEMA other; CREATE TABLE other.audit_events (x int); ALTER TABLE other.audit_events ADD COLUMN y int; ALTER TABLE other.audit_events DISABLE TRIGGER ALL;
         CREATE RULE r AS ON DELETE TO other.audit_events DO INSTEAD NOTHING; DROP TABLE other.audit_events;
         CREATE TABLE parent (x int); CREATE TABLE child () INHERITS (parent); TRUNCATE parent; DROP SCHEMA other CASCADE; DROP TABLE parent CASCADE;
         CREATE FUNCTION audit_of_mine(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; DROP FUNCTION audit_of_mine(int);
         CREATE TEMP TABLE audit_events (x int); DROP TABLE pg_temp.audit_events",
    );
    client.run("INSERT INTO public.audit_events (tenant_id, action) VALUES ('acme', 'x')");
    client.run("CREATE EXTENSION hstore; DROP EXTENSION hstore; CREATE SCHEMA s; CREATE TABLE s.t (); DROP SCHEMA s CASCADE");
    assert_whole(&mut client);
}

#[test]
fn pitfall_32_a_guard_is_active_only_if_its_trigger_fires_and_runs_our_function() {
    let database = Database::audited("guards_by_function");
    let mut client = database.client();
    client.run("SET allow_system_table_mods = on; CREATE FUNCTION lenient() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(NEW, OLD); END'");
    let of_row = "tgrelid = 'audit_events'::regclass AND tgname = 'zeroauth_audit_refuse_row'";
    for (off, on, named) in [
        (
            format!("UPDATE pg_trigger SET tgfoid = 'lenient'::regproc WHERE {of_row}"),
            format!(
                "UPDATE pg_trigger SET tgfoid = 'zeroauth_audit_internal.refuse_row'::regproc WHERE {of_row}"
            ),
            "row guard|trigger \"zeroauth_audit_refuse_row\" runs public.lenient()",
        ),
        (
            format!("UPDATE pg_trigger SET tgtype = 25 WHERE {of_row}"),
            format!("UPDATE pg_trigger SET tgtype = 27 WHERE {of_row}"),
            "row guard|trigger \"zeroauth_audit_refuse_row\" does not fire when it has to",
        ),
        (
            format!("UPDATE pg_trigger SET tgattr = '8' WHERE {of_row}"),
            format!("UPDATE pg_trigger SET tgattr = '' WHERE {of_row}"),
            "row guard|trigger \"zeroauth_audit_refuse_row\" does not fire when it has to",
        ),
        (
            "UPDATE pg_class SET relhastriggers = false WHERE oid = 'audit_events'::regclass".to_owned(),
            "UPDATE pg_class SET relhastriggers = true WHERE oid = 'audit_events'::regclass".to_owned(),
            "chaining|trigger \"zzz_zeroauth_audit_chain\" is hidden: pg_class.relhastriggers is false",
        ),
    ] {
        client.run(&off);
        let inactive = client.lines("SELECT guard, detail FROM audit_guards() WHERE NOT active");
        assert_eq!(inactive.first().map(String::as_str), Some(named), "{off}");
        client.run(&on);
        assert_eq!(
            client.lines("SELECT guard FROM audit_guards() WHERE NOT active"),
            [] as [&str; 0],
            "{on}"
        );
    }
}

#[test]
fn maintenance_lets_a_superuser_s_ddl_through_and_is_logged() {
    let (database, owner) = owned("guards_ddl_maintenance");
    let mut client = database.client();
    client.run("SET zeroauth_audit.maintenance = on; ALTER TABLE audit_events DISABLE TRIGGER zeroauth_audit_refuse_row");
    assert_logged(&database, "ddl_allowed", "ALTER TABLE", "audit_events", "postgres");
    client.run("RESET zeroauth_audit.maintenance");
    let inactive = client.lines("SELECT guard || ': ' || detail FROM audit_guards() WHERE NOT active");
    assert!(
        inactive.iter().any(|line| line.contains("zeroauth_audit_refuse_row")),
        "what was switched off can be read: {inactive:?}"
    );
    client.refused("ZA004", "ALTER TABLE audit_events DISABLE TRIGGER zeroauth_audit_refuse_statement");
    client.run("SET zeroauth_audit.maintenance = on; ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_row");
    client.run("RESET zeroauth_audit.maintenance");
    assert_eq!(client.lines("SELECT guard FROM audit_guards() WHERE NOT active"), [] as [&str; 0]);
    client.run("SET zeroauth_audit.maintenance = on; DROP EXTENSION zeroauth_audit");
    assert_logged(&database, "ddl_allowed", "DROP", "audit_events", "postgres");
    drop(client);
    assert_eq!(database.client_as(&owner).line("SELECT to_regclass('audit_events')"), "~");
}

#[test]
fn a_dropped_database_is_out_of_reach_and_said_to_be_so_nowhere() {
    // DROP DATABASE runs in another database, where no guard of this one lives; it must simply work.
    let database = Database::audited("guards_drop_database");
    database.client().run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    let mut postgres = shared().connect("postgres", "postgres").unwrap();
    postgres.run(&format!("DROP DATABASE {} WITH (FORCE)", database.name));
}
