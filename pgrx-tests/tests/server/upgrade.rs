//! Upgrades: an upgrade arrives at the schema that a fresh install makes, keeps the trail, and raises no alarm.
//!
//! From every version in `sql/releases`, and from one that is made here, so that the way is tested before there is a release: the
//! present script without one function, and an upgrade script that adds it. Both lie in a stage of their own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use postgres::Client;
use tempfile::TempDir;
use zeroauth_audit_tests::{Cluster, Installation, staged_folder};

use crate::support::{Sql, quoted, succeed};
use crate::tripwire::{alerts, differences, look};

/// The version that is made here.
const OLD: &str = "0.0.9-test";
/// The function that it lacks. Nothing else of the extension calls it.
const LACKED: &str = "audit_anchor_retry(";

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

/// A copy of the stage, and the folder of its scripts.
pub fn stage_of_its_own() -> (TempDir, PathBuf) {
    let stage = tempfile::tempdir().unwrap();
    succeed(std::process::Command::new("cp").arg("-r").arg(staged_folder().join(".")).arg(stage.path()));
    let extensions = extensions(stage.path());
    (stage, extensions)
}

/// A cluster whose stage has [`OLD`] beside what is staged. The folder is to be kept as long as the cluster.
fn with_old_version(name: &str) -> (Cluster, TempDir) {
    let (stage, extensions) = stage_of_its_own();
    make_old_version(&extensions);
    let cluster = Cluster::builder(name)
        .stage(stage.path())
        // What the tripwires find is looked at by the tests themselves.
        .conf("zeroauth_audit.worker", "off")
        .start()
        .unwrap();
    (cluster, stage)
}

/// Where a stage has the scripts.
fn extensions(stage: &Path) -> PathBuf {
    let sharedir = Installation::find().unwrap().sharedir;
    stage.join(sharedir.strip_prefix("/").unwrap()).join("extension")
}

/// The version that CREATE EXTENSION makes.
fn present(extensions: &Path) -> String {
    let control = fs::read_to_string(extensions.join("zeroauth_audit.control")).unwrap();
    let line = control.lines().find_map(|line| line.strip_prefix("default_version = '")).unwrap();
    line.trim_end_matches('\'').to_owned()
}

/// Divides the present script in two: the install script of [`OLD`], and the upgrade script with what is left.
fn make_old_version(extensions: &Path) {
    let present = present(extensions);
    let script = fs::read_to_string(extensions.join(format!("zeroauth_audit--{present}.sql"))).unwrap();
    let begins = ["CREATE FUNCTION", "REVOKE ALL ON FUNCTION", "COMMENT ON FUNCTION"]
        .map(|what| format!("{what} @extschema@.{LACKED}"));
    let (new, old): (Vec<&str>, Vec<&str>) = statements(&script)
        .into_iter()
        .partition(|statement| begins.iter().any(|begin| statement.trim_start().starts_with(begin)));
    assert_eq!(new.len(), 3, "the function, who may call it, and its comment: {new:#?}");
    fs::write(extensions.join(format!("zeroauth_audit--{OLD}.sql")), old.concat()).unwrap();
    fs::write(extensions.join(format!("zeroauth_audit--{OLD}--{present}.sql")), new.concat()).unwrap();
}

/// The statements of a script, each with what is before it; a semicolon at the end of a line ends one, but not in a body that is
/// quoted by `$$`.
fn statements(script: &str) -> Vec<&str> {
    let (mut found, mut begin, mut end, mut in_body) = (Vec::new(), 0, 0, false);
    for line in script.split_inclusive('\n') {
        end += line.len();
        in_body ^= line.matches("$$").count() % 2 == 1;
        if !in_body && line.trim_end().ends_with(';') {
            found.push(&script[begin..end]);
            begin = end;
        }
    }
    found.push(&script[begin..]);
    found
}

/// [`OLD`], and the released versions before the present one.
fn old_versions(extensions: &Path) -> Vec<String> {
    let present = present(extensions);
    let mut versions: Vec<String> = fs::read_dir(extensions)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            Some(name.strip_prefix("zeroauth_audit--")?.strip_suffix(".sql")?.to_owned())
        })
        .filter(|version| !version.contains("--") && *version != present)
        .collect();
    versions.sort();
    assert!(versions.iter().any(|version| version == OLD), "{versions:?}");
    versions
}

/// What health says of the definitions.
fn health(client: &mut Client) -> String {
    client.line("SELECT h ->> 'state', h -> 'reasons' FROM zeroauth_audit_internal.health_tripwires() h")
}

#[test]
fn an_upgrade_from_every_version_arrives_at_the_fresh_schema_and_keeps_the_trail() {
    let (cluster, stage) = with_old_version("upgrade");
    let mut fresh = cluster.client();
    fresh.run("CREATE EXTENSION zeroauth_audit");
    let expected = schema(&mut fresh);
    assert!(expected.len() > 100, "the comparison sees {} objects only", expected.len());
    for version in old_versions(&extensions(stage.path())) {
        let database = format!("from {version}");
        fresh.run(&format!("CREATE DATABASE {}", quoted(&database)));
        let mut client = cluster.connect("postgres", &database).unwrap();
        client.run(&format!(
            "CREATE EXTENSION zeroauth_audit VERSION '{version}';
             INSERT INTO audit_events (tenant_id, action, details)
             SELECT 'acme', 'before', jsonb_build_object('n', i) FROM generate_series(1, 100) i"
        ));
        assert_ne!(schema(&mut client), expected, "{version} is no other schema");
        // With the library of today.
        assert_eq!(health(&mut client), r#"degraded|["upgrade_pending"]"#, "{version}");
        assert_eq!(
            differences(&mut client),
            [] as [&str; 0],
            "an upgrade to come is no difference: {version}"
        );

        client.run(
            "ALTER EXTENSION zeroauth_audit UPDATE;
             INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'after')",
        );
        assert_eq!(client.line("SELECT ok, events FROM audit_verify('acme')"), "t|101", "from {version}");
        let upgraded = schema(&mut client);
        let only_fresh: Vec<_> = expected.difference(&upgraded).collect();
        let only_upgraded: Vec<_> = upgraded.difference(&expected).collect();
        assert!(
            only_fresh.is_empty() && only_upgraded.is_empty(),
            "from {version}\nonly in a fresh install: {only_fresh:#?}\nonly after the upgrade: {only_upgraded:#?}"
        );
        assert_eq!(differences(&mut client), [] as [&str; 0], "from {version}");
        assert!(!health(&mut client).contains("upgrade_pending"), "{}", health(&mut client));
    }
}

#[test]
fn an_upgraded_database_its_restored_dump_and_its_copy_raise_nothing() {
    let (cluster, _stage) = with_old_version("upgraded");
    let connect = |database: &str| {
        let mut client = cluster.connect("postgres", database).unwrap();
        client.run("SET search_path = odd, public");
        client
    };
    let mut postgres = cluster.connect("postgres", "postgres").unwrap();
    let mut client = connect("audit");
    client.run(&format!(
        "CREATE SCHEMA odd; CREATE EXTENSION zeroauth_audit SCHEMA odd VERSION '{OLD}';
         INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 50)"
    ));
    client.run("ALTER EXTENSION zeroauth_audit UPDATE");
    look(&mut client);
    assert_eq!((alerts(&mut client), differences(&mut client)), (vec![], vec![]), "after an upgrade");

    let dump = succeed(cluster.command("pg_dump").args(["-Fp", "audit"]));
    postgres.run("CREATE DATABASE restored TEMPLATE template0");
    let restored = cluster.psql("restored", &dump).unwrap();
    assert!(restored.status.success(), "{restored:?}");
    let mut copy = connect("restored");
    look(&mut copy);
    assert_eq!((alerts(&mut copy), differences(&mut copy)), (vec![], vec![]), "after a restore");
    assert_eq!(copy.line("SELECT count(*) FROM audit_events"), "50");

    drop(client);
    postgres.run("CREATE DATABASE copied TEMPLATE audit");
    let mut client = connect("copied");
    look(&mut client);
    assert_eq!((alerts(&mut client), differences(&mut client)), (vec![], vec![]), "in a copy");
}
