//! What the catalog says about the extension's objects: commented, granted to nobody, safe to call, as documented.

use crate::support::{Database, Sql};

/// Members of the extension.
const MEMBERS: &str = "SELECT d.classid, d.objid FROM pg_depend d
    WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'zeroauth_audit')";

#[test]
fn every_object_and_every_column_says_what_it_is() {
    let database = Database::audited("objects_comments");
    let mut client = database.client();
    let silent = client.lines(&format!(
        "WITH members AS ({MEMBERS}), parts AS (
           -- From 17 on a table's row type and its array are members too; the table speaks for them.
           SELECT classid, objid, 0 AS objsubid FROM members
             WHERE NOT (classid = 'pg_type'::regclass AND objid IN (SELECT unnest(ARRAY[t.oid, t.typarray]) FROM pg_type t WHERE t.typrelid <> 0))
           UNION ALL SELECT 'pg_class'::regclass, a.attrelid, a.attnum FROM pg_attribute a JOIN members m ON m.classid = 'pg_class'::regclass AND m.objid = a.attrelid
             WHERE a.attnum > 0 AND NOT a.attisdropped AND NOT EXISTS (SELECT FROM pg_class s WHERE s.oid = a.attrelid AND s.relkind = 'S')
           UNION ALL SELECT 'pg_trigger'::regclass, t.oid, 0 FROM pg_trigger t JOIN members m ON m.classid = 'pg_class'::regclass AND m.objid = t.tgrelid WHERE NOT t.tgisinternal)
         SELECT pg_describe_object(classid, objid, objsubid) FROM parts
         WHERE coalesce((SELECT description FROM pg_description WHERE (classoid, pg_description.objoid, pg_description.objsubid) = (parts.classid, parts.objid, parts.objsubid)), '') = ''
         ORDER BY 1"
    ));
    assert_eq!(silent, [] as [&str; 0]);
    assert_ne!(client.line("SELECT obj_description((SELECT oid FROM pg_extension WHERE extname = 'zeroauth_audit'), 'pg_extension')"), "~");
}

#[test]
fn nothing_is_granted_to_public() {
    let database = Database::audited("objects_public");
    let mut client = database.client();
    let open = client.lines(&format!(
        "WITH members AS ({MEMBERS}), acls AS (
           SELECT pg_describe_object(classid, objid, 0) AS what, coalesce(p.proacl, acldefault('f', p.proowner)) AS acl FROM members JOIN pg_proc p ON classid = 'pg_proc'::regclass AND p.oid = objid
           UNION ALL SELECT pg_describe_object(classid, objid, 0), coalesce(c.relacl, acldefault('r', c.relowner)) FROM members JOIN pg_class c ON classid = 'pg_class'::regclass AND c.oid = objid
           UNION ALL SELECT pg_describe_object('pg_class'::regclass, a.attrelid, a.attnum), a.attacl FROM members JOIN pg_attribute a ON classid = 'pg_class'::regclass AND a.attrelid = objid WHERE a.attacl IS NOT NULL)
         SELECT what, (aclexplode(acl)).privilege_type, (aclexplode(acl)).grantee::regrole FROM acls WHERE EXISTS (SELECT FROM aclexplode(acl) WHERE grantee = 0)"
    ));
    assert_eq!(open, [] as [&str; 0]);
    let nobody = database.role("nobody");
    let mut nobody = database.client_as(&nobody);
    for sql in [
        "SELECT * FROM audit_events",
        "SELECT * FROM audit_progress()",
        "SELECT zeroauth_audit_internal.uuid_v7()",
        "SELECT * FROM audit_guards()",
        "SELECT audit_verify()",
        "SELECT zeroauth_audit_internal.raise_alert('gap', 1::smallint, NULL, 'x', 'x', NULL)",
        "SELECT * FROM zeroauth_audit_internal.alerts",
        "SELECT zeroauth_audit_internal.private_hash(NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    ] {
        nobody.refused("42501", sql);
    }
}

#[test]
fn functions_have_a_fixed_search_path_and_what_people_call_runs_as_the_owner() {
    let database = Database::audited("objects_functions");
    let mut client = database.client();
    // A C function names its objects itself, and a body that was parsed at CREATE FUNCTION holds them; any other would
    // look them up in the caller's path.
    assert_eq!(
        client.lines(&format!(
            "SELECT p.oid::regprocedure FROM ({MEMBERS}) m JOIN pg_proc p ON classid = 'pg_proc'::regclass AND p.oid = objid JOIN pg_language l ON l.oid = p.prolang
             WHERE l.lanname NOT IN ('c', 'internal') AND p.prokind <> 'a' AND p.prosqlbody IS NULL AND NOT EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s LIKE 'search_path=pg_catalog,%pg_temp')"
        )),
        [] as [&str; 0]
    );
    // Who calls one needs no right but EXECUTE: what looks at its caller first becomes the owner by itself, and duties are given
    // with the rights of who gives them.
    assert_eq!(
        client.lines(&format!(
            "SELECT p.oid::regprocedure FROM ({MEMBERS}) m JOIN pg_proc p ON classid = 'pg_proc'::regclass AND p.oid = objid
             WHERE p.prosecdef <> (p.pronamespace = 'public'::regnamespace) ORDER BY p.proname"
        )),
        [
            "audit_export(text,boolean)",
            "audit_grant(text,text,timestamp with time zone)",
            "audit_help(text)",
            "audit_prove(text,uuid,boolean)",
            "audit_revoke(text,text)",
            "zeroauth_audit_internal.export_lines(text,boolean)",
            "zeroauth_audit_internal.help(text,oid)",
        ]
    );
    let strict = format!(
        "SELECT p.oid::regprocedure FROM ({MEMBERS}) m JOIN pg_proc p ON classid = 'pg_proc'::regclass AND p.oid = objid WHERE p.proisstrict AND p.pronamespace = 'public'::regnamespace"
    );
    assert_eq!(client.lines(&strict), [] as [&str; 0], "a NULL that means nothing is an error");
    // A function that calls a volatile one is volatile, but for those that only say what time it is.
    assert_eq!(
        client.lines("SELECT proname FROM pg_proc WHERE proname IN ('audit_health', 'audit_status', 'audit_integrity', 'audit_progress', 'audit_verify_pins', 'health_worker', 'health_jobs', 'health_pins', 'health_time') AND provolatile <> 'v'"),
        [] as [&str; 0]
    );
}

#[test]
fn the_table_is_as_documented() {
    let database = Database::audited("objects_table");
    let mut client = database.client();
    assert_eq!(
        client.lines("SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'audit_events'::regclass AND contype IN ('p', 'u') ORDER BY 1"),
        ["audit_events_event_id_key|UNIQUE (tenant_id, event_id)", "audit_events_pkey|PRIMARY KEY (tenant_id, chain, seq)"]
    );
    assert_eq!(
        client.lines("SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'audit_events'::regclass AND NOT tgisinternal ORDER BY 1"),
        ["zeroauth_audit_refuse_row|A", "zeroauth_audit_refuse_statement|A", "zzz_zeroauth_audit_chain|A"]
    );
    assert_eq!(
        client.lines("SELECT attname FROM pg_attribute WHERE attrelid = 'audit_events'::regclass AND attnum > 0 AND attnotnull ORDER BY attnum"),
        ["tenant_id", "chain", "seq", "event_id", "occurred_at", "recorded_at", "action", "outcome", "severity", "db_role", "prev_hash", "event_hash", "hash_version"]
    );
    assert_eq!(
        client.lines("SELECT a.attname, pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE d.adrelid = 'audit_events'::regclass ORDER BY a.attnum"),
        ["occurred_at|now()", "outcome|'success'::text", "severity|'info'::text"]
    );
    assert_eq!(
        client.lines("SELECT DISTINCT t.tgfoid::regproc FROM pg_trigger t WHERE t.tgrelid = 'audit_events'::regclass AND NOT t.tgisinternal ORDER BY 1"),
        ["zeroauth_audit_internal.chain", "zeroauth_audit_internal.refuse_row", "zeroauth_audit_internal.refuse_statement"]
    );
    assert_eq!(client.line("SELECT extrelocatable, extconfig @> ARRAY['audit_events'::regclass::oid] FROM pg_extension WHERE extname = 'zeroauth_audit'"), "f|t");
    assert_eq!(client.line("SELECT collname FROM pg_attribute a JOIN pg_collation c ON c.oid = attcollation WHERE attrelid = 'audit_events'::regclass AND attname = 'tenant_id'"), "C");
    assert_eq!(client.lines("SELECT guard FROM audit_guards() WHERE NOT active"), [] as [&str; 0]);
}

#[test]
fn no_pure_function_runs_in_a_composite_value_of_the_trail() {
    // Rows of the table never travel as one value: PostgreSQL 15.20's check of them is not made by this binding.
    let database = Database::audited("objects_composite");
    let mut client = database.client();
    assert_eq!(client.lines(&format!("SELECT p.oid::regprocedure FROM ({MEMBERS}) m JOIN pg_proc p ON classid = 'pg_proc'::regclass AND p.oid = objid WHERE 'audit_events'::regtype = ANY (p.proargtypes)")), [] as [&str; 0]);
}
