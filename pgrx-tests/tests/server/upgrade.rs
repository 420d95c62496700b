//! Upgrades: the schema that an upgrade arrives at is the schema that a fresh install makes.
//!
//! `sql/install` holds the frozen install script of every earlier schema; they never change. Whoever changes the schema
//! changes the last upgrade script with it (until the version is released, then a new one is due), or this fails.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first thing that is wrong")]

use std::collections::BTreeSet;

use postgres::Client;
use zeroauth_audit_tests::{Cluster, workspace};

/// Everything a member of the extension is made of, one line each, with no oid in it.
const SCHEMA: &str = "
WITH member AS (
    SELECT classid, objid FROM pg_depend
    WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
      AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'zeroauth_audit')
), class AS (
    SELECT c.* FROM pg_class c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
)
SELECT 'object ' || pg_describe_object(classid, objid, 0) || ' :: ' || coalesce(obj_description(objid, classid::regclass::name), '') FROM member
UNION ALL
SELECT 'function ' || CASE prokind WHEN 'a' THEN oid::regprocedure::text || aggregate::text ELSE pg_get_functiondef(oid) END
       || ' acl ' || coalesce(proacl::text, '')
FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
LEFT JOIN LATERAL (SELECT (aggfnoid::regproc, aggtransfn, aggfinalfn, aggcombinefn, aggserialfn, aggdeserialfn, aggtranstype::regtype, aggtransspace)::text AS aggregate
                   FROM pg_aggregate a WHERE a.aggfnoid = p.oid) a ON true
UNION ALL
SELECT 'class ' || relname || ' kind ' || relkind::text || ' acl ' || coalesce(relacl::text, '') || ' rls ' || relrowsecurity FROM class
UNION ALL
SELECT 'column ' || c.relname || '.' || attnum || ' ' || attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull
       || ' ' || coalesce(attcollation::regcollation::text, '') || ' ' || coalesce(pg_get_expr(adbin, adrelid), '')
       || ' :: ' || coalesce(col_description(c.oid, attnum), '')
FROM class c JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = attnum
UNION ALL
SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(o.oid) || ' :: ' || coalesce(obj_description(o.oid, 'pg_constraint'), '')
FROM pg_constraint o JOIN class c ON o.conrelid = c.oid
UNION ALL
SELECT 'index ' || pg_get_indexdef(indexrelid) FROM pg_index i JOIN class c ON i.indrelid = c.oid
UNION ALL
SELECT 'trigger ' || pg_get_triggerdef(t.oid) || ' ' || tgenabled::text || ' :: ' || coalesce(obj_description(t.oid, 'pg_trigger'), '')
FROM pg_trigger t JOIN class c ON t.tgrelid = c.oid WHERE NOT tgisinternal
UNION ALL
SELECT 'view ' || pg_get_viewdef(oid) FROM class WHERE relkind = 'v'
UNION ALL
SELECT 'dumped ' || unnest(extconfig)::regclass::text FROM pg_extension WHERE extname = 'zeroauth_audit'";

fn schema(client: &mut Client) -> BTreeSet<String> {
    client.query(SCHEMA, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

/// The versions that `sql/install` has a frozen script of.
fn frozen() -> Vec<String> {
    let folder = workspace().join("sql/install");
    let mut versions: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            Some(name.strip_prefix("zeroauth_audit--")?.strip_suffix(".sql")?.to_owned())
        })
        .collect();
    versions.sort();
    versions
}

#[test]
fn an_upgrade_from_every_frozen_schema_arrives_at_the_fresh_one_and_keeps_the_trail() {
    let cluster = Cluster::audited("upgrade").unwrap();
    let mut fresh = cluster.client();
    let expected = schema(&mut fresh);
    assert!(expected.len() > 100, "the comparison sees {} objects only", expected.len());
    let versions = frozen();
    assert!(!versions.is_empty(), "sql/install has no frozen schema");
    for version in versions {
        let database = format!("from {version}");
        fresh.batch_execute(&format!("CREATE DATABASE \"{database}\"")).unwrap();
        let mut client = cluster.connect("postgres", &database).unwrap();
        client
            .batch_execute(&format!(
                "CREATE EXTENSION zeroauth_audit VERSION '{version}';
                 INSERT INTO audit_events (tenant_id, action, details)
                 SELECT 'acme', 'before', jsonb_build_object('n', i) FROM generate_series(1, 100) i;
                 ALTER EXTENSION zeroauth_audit UPDATE;
                 INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'after')"
            ))
            .unwrap();
        let verdict = client.query_one("SELECT ok, events FROM audit_verify('acme')", &[]).unwrap();
        assert_eq!((verdict.get::<_, bool>(0), verdict.get::<_, i64>(1)), (true, 101), "from {version}");
        let upgraded = schema(&mut client);
        let only_fresh: Vec<_> = expected.difference(&upgraded).collect();
        let only_upgraded: Vec<_> = upgraded.difference(&expected).collect();
        assert!(
            only_fresh.is_empty() && only_upgraded.is_empty(),
            "from {version}\nonly in a fresh install: {only_fresh:#?}\nonly after the upgrade: {only_upgraded:#?}"
        );
    }
}
