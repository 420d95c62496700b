//! Least privilege: what a writer, a reader and an auditor can do with the documented grants, and nothing else; and that
//! a verifier who is shown less than the table says so.

use postgres::Client;
use zeroauth_audit_core::proof::Bundle;

use crate::support::sealed::{ORIGIN, key_file, trust};
use crate::support::{Database, Sql, assert_whole, quoted, shared};

/// The SQL blocks of the README's section on roles: writer, writer with RETURNING, reader, auditor, monitor. They are run as they
/// stand there, under role names of this database.
pub fn grants(block: usize, what: &str, role: &str) -> String {
    let readme = std::fs::read_to_string(zeroauth_audit_tests::workspace().join("README.md")).unwrap();
    let section = readme
        .split("\n## Roles\n")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("a section on roles");
    let sql = section
        .split("```sql\n")
        .nth(block + 1)
        .and_then(|rest| rest.split("```").next())
        .expect("its blocks of SQL");
    assert!(sql.contains(&format!("TO audit_{what};")), "block {block} is the {what}'s");
    sql.replace(&format!("audit_{what};"), &format!("{};", quoted(role)))
}

struct Roles {
    database: Database,
    writer: String,
    reader: String,
    auditor: String,
    nobody: String,
}

fn roles(name: &str) -> Roles {
    let database = Database::audited(name);
    let mut client = database.client();
    let [writer, reader, auditor] = [(0, "writer"), (2, "reader"), (3, "auditor")].map(|(block, what)| {
        let role = format!("{}_{what}", database.name);
        client.run(&grants(block, what, &role));
        client.run(&format!("ALTER ROLE {} LOGIN", quoted(&role)));
        role
    });
    let nobody = database.role("nobody");
    client.run(
        "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'), ('acme', 'y'), ('globex', 'z')",
    );
    Roles { database, writer, reader, auditor, nobody }
}

/// The auditor's grants to a role that is there already.
fn without_create(role: &str) -> String {
    grants(3, "auditor", role).replacen(&format!("CREATE ROLE {};", quoted(role)), "", 1)
}

/// Statements that no role without superuser's rights may run, whatever it was granted here.
const NOBODY_S: [&str; 7] = [
    "UPDATE audit_events SET action = 'y'",
    "DELETE FROM audit_events",
    "TRUNCATE audit_events",
    "SET zeroauth_audit.maintenance = on",
    "SET session_replication_role = replica",
    "CREATE INDEX ON audit_events (action)",
    "CREATE TRIGGER t AFTER INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
];

const CALLS: [&str; 4] = [
    "SELECT * FROM audit_verify('acme')",
    "SELECT * FROM audit_verify()",
    "SELECT * FROM audit_findings()",
    "SELECT audit_export()",
];

fn refused_all(client: &mut Client, statements: &[&str]) {
    for sql in statements {
        client.refused("42501", sql);
    }
}

#[test]
fn a_writer_appends_and_nothing_else() {
    let roles = roles("roles_writer");
    let mut writer = roles.database.client_as(&roles.writer);
    writer.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'by the writer')");
    writer.run("INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('acme', gen_random_uuid(), 'own id') ON CONFLICT DO NOTHING");
    let mut copy = writer.copy_in("COPY audit_events (tenant_id, action) FROM STDIN").unwrap();
    std::io::Write::write_all(&mut copy, b"acme\tby copy\n").unwrap();
    copy.finish().unwrap();
    refused_all(&mut writer, &NOBODY_S);
    refused_all(&mut writer, &CALLS);
    refused_all(
        &mut writer,
        &[
            "SELECT * FROM audit_events",
            "SELECT count(*) FROM audit_events",
            "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING seq",
            "COPY audit_events TO STDOUT",
        ],
    );
    writer.refused("ZA001", "INSERT INTO audit_events (tenant_id, action, event_hash) VALUES ('acme', 'x', decode(repeat('00', 32), 'hex'))");
    // RETURNING and a conflict target read columns: SELECT is what they need.
    roles.database.client().run(&grants(1, "writer", &roles.writer));
    assert_eq!(writer.line("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING chain, seq, length(event_hash)"), "0|6|32");
    writer.run("INSERT INTO audit_events (tenant_id, event_id, action) SELECT tenant_id, event_id, 'retried' FROM audit_events ON CONFLICT (tenant_id, event_id) DO NOTHING");
    refused_all(&mut writer, &NOBODY_S);
    refused_all(&mut writer, &CALLS);
    refused_all(&mut writer, &["SELECT details FROM audit_events", "SELECT * FROM audit_events"]);
    assert_eq!(writer.line("SELECT count(*) FROM audit_events"), "7");
    assert_whole(&mut roles.database.client());
}

#[test]
fn a_writer_without_the_default_s_function_needs_its_own_event_id() {
    let roles = roles("roles_default");
    roles.database.client().run(&format!("GRANT INSERT ON audit_events TO {}", quoted(&roles.nobody)));
    let mut client = roles.database.client_as(&roles.nobody);
    let refusal =
        client.refused("42501", "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    assert!(refusal.message.contains("zeroauth_audit_internal.uuid_v7"), "{refusal:?}");
    client.run(
        "INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('acme', gen_random_uuid(), 'x')",
    );
}

#[test]
fn a_reader_reads_and_nothing_else() {
    let roles = roles("roles_reader");
    let mut reader = roles.database.client_as(&roles.reader);
    assert_eq!(reader.line("SELECT count(*) FROM audit_events"), "3");
    refused_all(&mut reader, &NOBODY_S);
    refused_all(&mut reader, &CALLS);
    refused_all(
        &mut reader,
        &[
            "INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('acme', gen_random_uuid(), 'x')",
            "SELECT zeroauth_audit_internal.uuid_v7()",
        ],
    );
}

#[test]
fn an_auditor_verifies_and_exports_and_writes_nothing() {
    let roles = roles("roles_auditor");
    let mut auditor = roles.database.client_as(&roles.auditor);
    assert_whole(&mut auditor);
    assert_eq!(auditor.line("SELECT ok, events FROM audit_verify('acme')"), "t|2");
    assert_eq!(auditor.line("SELECT ok, events FROM audit_verify('acme', 1)"), "t|1");
    assert_eq!(auditor.lines("SELECT guard FROM audit_guards() WHERE NOT active"), [] as [&str; 0]);
    assert_eq!(auditor.lines("SELECT * FROM zeroauth_audit_internal.verify_progress"), [] as [&str; 0]);
    assert_eq!(auditor.lines("SELECT * FROM audit_verify_installation()"), [] as [&str; 0]);
    assert_eq!(auditor.line("SELECT length(zeroauth_audit_internal.private_hash(salt, actor_type, actor_id, ip, user_agent, error_message, details)) FROM audit_events LIMIT 1"), "32");
    refused_all(&mut auditor, &NOBODY_S);
    refused_all(
        &mut auditor,
        &["INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('acme', gen_random_uuid(), 'x')"],
    );
    roles.database.client().run("SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'acme' AND seq = 1");
    assert_eq!(
        auditor.line("SELECT class, tenant_id, chain, seq FROM audit_findings()"),
        "content_mismatch|acme|0|1"
    );
}

#[test]
fn an_auditor_compares_with_the_log_and_makes_proofs_of_it_but_cannot_touch_it() {
    let roles = roles("roles_log");
    let mut admin = roles.database.client();
    let path = shared().data_dir().with_file_name("roles_log.key");
    let trust = trust(&[&key_file(&path, ORIGIN, 61)]);
    admin.run(&format!("SET zeroauth_audit.checkpoint_key_file = '{}'", path.display()));
    admin.run("SELECT zeroauth_audit_internal.run_job('checkpoint')");
    let mut auditor = roles.database.client_as(&roles.auditor);
    assert_whole(&mut auditor);
    let believed = |note: &str| trust.open(note.as_bytes()).unwrap().checkpoint.size;
    let one = |client: &mut Client, sql: &str| client.rows(sql)[0][0].clone().unwrap();
    const PROVE: &str =
        "SELECT audit_prove(tenant_id, event_id) FROM audit_events WHERE tenant_id = 'acme' AND seq = 2";
    let bundle = one(&mut auditor, PROVE);
    let bundle = Bundle::parse(bundle.as_bytes()).unwrap();
    assert_eq!((bundle.index, believed(&bundle.checkpoint)), (1, 2));
    assert_eq!(believed(&one(&mut auditor, "SELECT zeroauth_audit_internal.checkpoint('acme')")), 2);
    assert_eq!(auditor.line("SELECT count(*) FROM audit_export_intervals('acme')"), "1");
    assert_eq!(auditor.line("SELECT audit_prove_consistency('acme', 1, 2) IS NULL"), "f");
    refused_all(
        &mut auditor,
        &[
            "INSERT INTO zeroauth_audit_internal.logs (tenant_id) VALUES ('x')",
            "UPDATE zeroauth_audit_internal.logs SET tree_size = 1",
            "DELETE FROM zeroauth_audit_internal.log_intervals",
            "UPDATE zeroauth_audit_internal.tiles SET hashes = sha256('x')",
            "DELETE FROM zeroauth_audit_internal.checkpoints",
            "DELETE FROM zeroauth_audit_internal.cosignatures",
            "DELETE FROM zeroauth_audit_internal.keys",
            "SELECT * FROM zeroauth_audit_internal.sinks",
            "SELECT nextval('zeroauth_audit_internal.checkpoints_seal_seq')",
            "SELECT zeroauth_audit_internal.run_job('checkpoint')",
            "SELECT audit_restore_acknowledge('x')",
        ],
    );
    for role in [&roles.writer, &roles.reader, &roles.nobody] {
        refused_all(
            &mut roles.database.client_as(role),
            &[
                "SELECT zeroauth_audit_internal.checkpoint('acme')",
                "SELECT audit_prove('acme', gen_random_uuid())",
            ],
        );
    }
    // Who may not read the log is not told that all is well.
    for table in [
        "zeroauth_audit_internal.logs",
        "zeroauth_audit_internal.log_intervals",
        "zeroauth_audit_internal.tiles",
        "zeroauth_audit_internal.checkpoints",
        "zeroauth_audit_internal.keys",
    ] {
        admin.run(&format!("REVOKE SELECT ON {table} FROM {}", quoted(&roles.auditor)));
        for call in &CALLS[..3] {
            auditor.refused("42501", call);
        }
        admin.run(&format!("GRANT SELECT ON {table} TO {}", quoted(&roles.auditor)));
    }
    admin.run(
        "SET zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE tenant_id = 'acme' AND seq = 2",
    );
    assert_eq!(auditor.line("SELECT ok, classes FROM audit_verify('acme')"), "f|{tail_truncated}");
}

#[test]
fn a_verifier_without_select_could_not_check() {
    let roles = roles("roles_no_select");
    let mut admin = roles.database.client();
    admin.run(&format!(
        "{}; REVOKE SELECT ON audit_events FROM {}",
        without_create(&roles.nobody),
        quoted(&roles.nobody)
    ));
    let mut client = roles.database.client_as(&roles.nobody);
    let could_not_check = |client: &mut Client| {
        for call in CALLS {
            let refusal = client.refusal(call);
            // PostgreSQL itself refuses what is plain SQL in the function.
            let code = if call.contains("export") { ["ZA006", "42501"] } else { ["ZA006", "ZA006"] };
            assert!(code.contains(&refusal.code.as_str()), "{call}: {refusal:?}");
        }
    };
    could_not_check(&mut client);
    // Some columns are not enough: content cannot be hashed from a part of it.
    admin.run(&format!(
        "GRANT SELECT (tenant_id, chain, seq, event_hash, prev_hash) ON audit_events TO {}",
        quoted(&roles.nobody)
    ));
    could_not_check(&mut client);
    refused_all(&mut roles.database.client_as(&roles.writer), &CALLS);
}

#[test]
fn pitfall_23_rows_hidden_by_row_level_security_are_could_not_check_never_ok_never_tampered() {
    let roles = roles("roles_rls");
    let mut admin = roles.database.client();
    admin.run(&format!(
        "ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY;
         CREATE POLICY acme_only ON audit_events FOR SELECT TO {0}, {1} USING (tenant_id = 'acme' AND seq > 1);
         CREATE POLICY acme_writes ON audit_events FOR INSERT TO {2} WITH CHECK (tenant_id = 'acme')",
        quoted(&roles.reader), quoted(&roles.auditor), quoted(&roles.writer)
    ));
    let mut auditor = roles.database.client_as(&roles.auditor);
    assert_eq!(auditor.line("SELECT count(*) FROM audit_events"), "1");
    for call in CALLS {
        for setting in ["on", "off"] {
            auditor.run(&format!("SET row_security = {setting}"));
            // With row_security off PostgreSQL refuses plain SQL over the table on its own, and as loudly. From 18 on it plans
            // a function's statements one by one, and ours comes first.
            let by_postgres =
                setting == "off" && call.contains("export") && shared().installation().major() < 18;
            let refusal = auditor.refused(if by_postgres { "42501" } else { "ZA006" }, call);
            assert!(by_postgres || !refusal.hint.is_empty(), "{refusal:?}");
        }
    }
    // An unknown tenant stays could-not-check: whether it is there is not for this role to know.
    auditor.refused("ZA006", "SELECT * FROM audit_verify('nobody at all')");
    // Who sees everything goes on: superuser, and a role that bypasses row security.
    assert_whole(&mut admin);
    admin.run(&format!("ALTER ROLE {} BYPASSRLS", quoted(&roles.auditor)));
    assert_whole(&mut roles.database.client_as(&roles.auditor));

    // Policies reach writers as they would on any table, and the chain has no gap from what they refuse.
    let mut writer = roles.database.client_as(&roles.writer);
    writer.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'allowed')");
    writer.refused(
        "42501",
        "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'allowed'), ('globex', 'refused')",
    );
    writer.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'allowed')");
    assert_eq!(
        admin.line(
            "SELECT string_agg(seq::text, ',' ORDER BY seq) FROM audit_events WHERE tenant_id = 'acme'"
        ),
        "1,2,3,4"
    );
    assert_whole(&mut admin);
}

#[test]
fn a_policy_that_hides_the_head_does_not_mislead_the_chain() {
    let roles = roles("roles_head");
    roles.database.client().run(&format!(
        "GRANT SELECT ON audit_events TO {0};
         ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY; ALTER TABLE audit_events FORCE ROW LEVEL SECURITY;
         CREATE POLICY w ON audit_events FOR INSERT TO {0} WITH CHECK (true);
         CREATE POLICY r ON audit_events FOR SELECT TO {0} USING (action = 'mine')",
        quoted(&roles.writer)
    ));
    let mut writer = roles.database.client_as(&roles.writer);
    assert_eq!(
        writer.line(
            "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'mine') RETURNING chain, seq"
        ),
        "0|3"
    );
    assert_eq!(
        writer.line(
            "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'mine') RETURNING chain, seq"
        ),
        "0|4"
    );
    assert_eq!(writer.line("SELECT count(*) FROM audit_events"), "2");
    assert_whole(&mut roles.database.client());
}

#[test]
fn forced_row_security_holds_for_the_table_s_owner_too() {
    let database = Database::audited("roles_forced");
    let owner = database.role("owner");
    let mut admin = database.client();
    admin.run(&format!(
        "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x');
         SET zeroauth_audit.maintenance = on; ALTER TABLE audit_events OWNER TO {0}; RESET zeroauth_audit.maintenance;
         {1}",
        quoted(&owner), without_create(&owner)
    ));
    let mut client = database.client_as(&owner);
    client.run("ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY");
    assert_whole(&mut client);
    client.run("ALTER TABLE audit_events FORCE ROW LEVEL SECURITY");
    for call in CALLS {
        client.refused("ZA006", call);
    }
}

#[test]
fn a_security_definer_function_audits_for_callers_without_rights_and_db_role_is_the_caller_s() {
    let roles = roles("roles_definer");
    roles.database.client().run(&format!(
        "CREATE FUNCTION audit_login() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS
           $$ INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'login') RETURNING seq $$;
         GRANT EXECUTE ON FUNCTION audit_login() TO {}",
        quoted(&roles.nobody)
    ));
    let mut client = roles.database.client_as(&roles.nobody);
    assert_eq!(client.line("SELECT audit_login()"), "3");
    assert_eq!(roles.database.client().line("SELECT db_role FROM audit_events WHERE seq = 3"), roles.nobody);
    // A definer's superuser rights do not open the server's columns to the caller's own statements.
    refused_all(&mut client, &["INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')"]);
}
