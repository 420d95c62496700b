//! Where the extension has to work: any schema, any database name, beside other extensions; and where it must refuse.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use zeroauth_audit_tests::Cluster;

use crate::support::{Database, SetOnDrop, Sql, assert_whole, shared, verdict};

/// What a DBA does to a busy table; the primary key that the chaining reads is another one after half of it.
const MAINTENANCE: [&str; 8] = [
    "REINDEX TABLE CONCURRENTLY audit_events",
    "REINDEX INDEX CONCURRENTLY audit_events_pkey",
    "CREATE INDEX CONCURRENTLY by_time ON audit_events (occurred_at)",
    "VACUUM FULL audit_events",
    "DROP INDEX CONCURRENTLY by_time",
    "CLUSTER audit_events USING audit_events_event_id_key",
    "VACUUM (FREEZE, ANALYZE) audit_events",
    "REINDEX TABLE audit_events",
];

#[test]
fn it_lives_in_the_schema_named_at_create_extension() {
    let database = Database::empty("environments_schema");
    let mut client = database.client();
    client.run("CREATE SCHEMA audit; CREATE EXTENSION zeroauth_audit SCHEMA audit");
    assert_eq!(
        client.line(
            "SELECT count(*) FROM pg_depend d
             CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) o
             WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'zeroauth_audit')
               AND o.schema IS DISTINCT FROM 'zeroauth_audit_internal' AND NOT (o.schema = 'audit' AND o.identity LIKE '%audit.audit%')
               AND d.classid NOT IN ('pg_extension'::regclass, 'pg_namespace'::regclass)"
        ),
        "0",
        "every object is in that schema or the internal one"
    );
    // Whatever is on the search path, also things named like ours.
    client.run(
        "CREATE TABLE audit_events (tenant_id text, action text, seq int); INSERT INTO audit_events VALUES ('fake', 'x', 1);
         CREATE FUNCTION public.uuid_v7() RETURNS uuid LANGUAGE sql AS $$ SELECT '00000000-0000-0000-0000-000000000000'::uuid $$;
         CREATE FUNCTION public.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT '\\x00'::bytea $$;",
    );
    for path in ["public", "pg_temp", "public, pg_catalog", "\"$user\", audit", ""] {
        client.run(&format!("SELECT set_config('search_path', '{path}', false)"));
        client
            .run("INSERT INTO audit.audit_events (tenant_id, action) VALUES ('acme', 'x'), ('globex', 'y')");
        assert_eq!(
            client.line("SELECT ok, chains, findings FROM audit.audit_verify('acme')"),
            "t|1|0",
            "{path}"
        );
        assert_eq!(
            client.line(
                "SELECT string_agg(tenant_id, ',' ORDER BY tenant_id), bool_and(ok) FROM audit.audit_verify()"
            ),
            "acme,globex|t",
            "{path}"
        );
        assert_eq!(client.line("SELECT count(*) FROM audit.audit_findings()"), "0", "{path}");
    }
    client.run("SET search_path = audit, public");
    assert_eq!(verdict(&mut client, "acme"), "t|5|1|0|{}");
    assert_whole(&mut client);
    client.refused("0A000", "ALTER EXTENSION zeroauth_audit SET SCHEMA public");
    client.refused("ZA004", "ALTER SCHEMA audit RENAME TO other");
    client.refused("ZA004", "DROP SCHEMA audit CASCADE");
    client.refused("2BP01", "DROP SCHEMA audit");
}

#[test]
fn an_odd_schema_name_is_only_a_name() {
    let database = Database::empty("environments_odd_schema");
    let mut client = database.client();
    client.run("CREATE SCHEMA \"Audit Trail-é\"; CREATE EXTENSION zeroauth_audit SCHEMA \"Audit Trail-é\"");
    client.run("SET search_path = \"Audit Trail-é\"; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    assert_whole(&mut client);
}

#[test]
fn an_odd_database_name_is_only_a_name() {
    let database = Database::create("Odd \"näme'; -- $$", "TEMPLATE template0");
    let mut client = database.client();
    client.run(
        "CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')",
    );
    client.refused("ZA003", "DELETE FROM audit_events");
    assert_whole(&mut client);
    let log = shared().log();
    let line = log
        .lines()
        .rfind(|line| line.contains("zeroauth_audit: {") && line.contains("Odd"))
        .expect("a log line");
    let json: serde_json::Value =
        serde_json::from_str(line.split_once("zeroauth_audit: ").unwrap().1).unwrap();
    assert_eq!(json["database"], database.name.as_str(), "the name arrives whole");
}

#[test]
fn a_database_that_is_not_utf_8_is_refused() {
    for encoding in ["LATIN1", "SQL_ASCII", "EUC_JP"] {
        let database = Database::create(
            "environments_encoding",
            &format!("TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"),
        );
        let mut client = database.client();
        let refusal = client.refused("ZA008", "CREATE EXTENSION zeroauth_audit");
        assert!(refusal.message.contains("UTF"), "{refusal:?}");
        assert!(!refusal.hint.is_empty(), "{refusal:?}");
        assert_eq!(
            client.line("SELECT count(*) FROM pg_class WHERE relname LIKE 'audit%'"),
            "0",
            "nothing is left behind"
        );
    }
}

#[test]
fn a_client_in_another_encoding_stores_the_same_text() {
    let database = Database::audited("environments_client_encoding");
    // psql converts what it sends; the chain hashes what is stored.
    let output = shared()
        .psql(&database.name, "SET client_encoding = 'LATIN1';\nSELECT set_config('x.y', convert_from('\\xe9'::bytea, 'LATIN1'), false) IS NOT NULL;\nINSERT INTO audit_events (tenant_id, action, resource) VALUES ('acme', 'x', current_setting('x.y'));\n")
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut client = database.client();
    assert_eq!(client.line("SELECT encode(convert_to(resource, 'UTF8'), 'hex') FROM audit_events"), "c3a9");
    assert_whole(&mut client);
}

#[test]
fn other_extensions_are_good_neighbours() {
    let database = Database::empty("environments_neighbours");
    let mut client = database.client();
    client.run("CREATE EXTENSION pg_stat_statements; CREATE EXTENSION pgcrypto; CREATE EXTENSION zeroauth_audit; CREATE EXTENSION btree_gist; CREATE EXTENSION hstore");
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 20)");
    client.refused("ZA003", "UPDATE audit_events SET action = 'y'");
    client.refused("ZA004", "ALTER TABLE audit_events ADD COLUMN x int");
    assert_eq!(
        client.line("SELECT sum(calls) FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query LIKE 'INSERT INTO audit_events%'"),
        "1",
        "the utility hook passes on to the one before it"
    );
    // pgcrypto recomputes an event's hash on its own.
    assert_eq!(client.line("SELECT bool_and(digest(salt, 'sha256') = sha256(salt)) FROM audit_events"), "t");
    client.run("DROP EXTENSION pgcrypto; DROP EXTENSION hstore");
    assert_whole(&mut client);
}

#[test]
fn it_can_be_dropped_and_made_again_while_there_are_no_events() {
    let database = Database::empty("environments_again");
    let mut client = database.client();
    for schema in ["public", "audit"] {
        client.run(&format!(
            "CREATE SCHEMA IF NOT EXISTS {schema}; CREATE EXTENSION zeroauth_audit SCHEMA {schema}"
        ));
        client.run("DROP EXTENSION zeroauth_audit");
    }
    client.run(
        "CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')",
    );
    client.refused("ZA004", "DROP EXTENSION zeroauth_audit");
    assert_whole(&mut client);
}

#[test]
fn a_table_around_it_may_be_partitioned_and_feed_it() {
    let database = Database::audited("environments_partitioned");
    let mut client = database.client();
    client.run(
        "CREATE TABLE orders (id int, day date) PARTITION BY RANGE (day);
         CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
         CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
         CREATE FUNCTION audit_order() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN INSERT INTO audit_events (tenant_id, action, resource) VALUES ('shop', lower(TG_OP), TG_TABLE_NAME); RETURN NULL; END $$;
         CREATE TRIGGER audit_order AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION audit_order();
         INSERT INTO orders SELECT i, '2024-01-15'::date + i FROM generate_series(1, 30) i;
         UPDATE orders SET day = '2024-01-02' WHERE id = 30;
         DELETE FROM orders WHERE id = 1",
    );
    // Moving a row between partitions is a delete and an insert.
    assert_eq!(
        client.lines("SELECT action, count(*) FROM audit_events GROUP BY 1 ORDER BY 1"),
        ["delete|2", "insert|31"]
    );
    assert_eq!(verdict(&mut client, "shop"), "t|33|1|0|{}");
    assert_whole(&mut client);
}

#[test]
fn appending_goes_on_under_reindex_vacuum_cluster_and_new_indexes() {
    let database = Database::audited("environments_maintenance");
    let over = AtomicBool::new(false);
    let appended: u32 = thread::scope(|scope| {
        let end = SetOnDrop(&over);
        let (database, over) = (&database, &over);
        let append = move |writer: u32| {
            let (mut client, mut count) = (database.client(), 0);
            while !over.load(Ordering::Relaxed) {
                client.run(&format!("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'), ('tenant {writer}', 'y'), ('acme', 'z')"));
                count += 3;
            }
            count
        };
        let writers: Vec<_> = (0..4).map(|writer| scope.spawn(move || append(writer))).collect();
        let work = scope.spawn(move || {
            let mut client = database.client();
            for statement in MAINTENANCE.iter().cycle().take(MAINTENANCE.len() * 3) {
                client.run(statement);
            }
        });
        let worked = work.join();
        drop(end);
        let appended = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        worked.expect("maintenance goes through");
        appended
    });
    let mut client = database.client();
    assert_eq!(client.line("SELECT count(*) FROM audit_events"), appended.to_string());
    assert_whole(&mut client);
}

#[test]
fn red_team_u5_no_error_has_a_backtrace_whatever_the_environment_of_the_server_says() {
    let cluster = Cluster::builder("environments_backtrace")
        .environment("RUST_BACKTRACE", "1")
        .environment("RUST_LIB_BACKTRACE", "1")
        .conf("zeroauth_audit.worker", "off")
        .start()
        .unwrap();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 20000)");
    // An error of PostgreSQL's in the midst of our own code, one of ours, and one that the trigger passes on.
    for (code, sql) in [
        ("57014", "SET statement_timeout = '5ms'; SELECT count(*) FROM audit_verify()"),
        ("ZA005", "SELECT * FROM audit_verify('nobody')"),
        (
            "23505",
            "INSERT INTO audit_events (tenant_id, action, event_id) SELECT tenant_id, action, event_id FROM audit_events WHERE seq = 1",
        ),
    ] {
        let refusal = client.refused(code, sql);
        assert!(!refusal.detail.contains("backtrace") && !refusal.detail.contains(".rs:"), "{refusal:?}");
        client.run("RESET statement_timeout");
    }
    assert!(!cluster.log().contains("stack backtrace"), "{}", cluster.log());
}
