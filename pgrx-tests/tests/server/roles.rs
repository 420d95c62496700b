//! Least privilege: what a writer, a reader and an auditor do with their duty, and nothing else; and that a verifier who is
//! shown less than the table says so.

use std::collections::BTreeSet;

use postgres::Client;
use zeroauth_audit_core::proof::Bundle;

use crate::support::audit::{export, place, reference_places, verifier_places};
use crate::support::sealed::{ORIGIN, key_file, trust};
use crate::support::{Database, Sql, assert_whole, quoted, shared};

struct Roles {
    database: Database,
    writer: String,
    reader: String,
    auditor: String,
    nobody: String,
}

/// A trail with three events of two tenants, and a role for each duty.
fn roles(name: &str) -> Roles {
    let database = Database::audited(name);
    let [writer, reader, auditor] = ["writer", "reader", "auditor"].map(|duty| database.on_duty(duty));
    let nobody = database.role("nobody");
    database.client().run(
        "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'), ('acme', 'y'), ('globex', 'z')",
    );
    Roles { database, writer, reader, auditor, nobody }
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
    // RETURNING and a conflict target read columns: for them there is a duty of its own.
    roles.database.client().run(&format!("SELECT audit_grant('{}', 'writer_returning')", roles.writer));
    assert_eq!(
        writer.line("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING tenant_id, event_id IS NULL, chain, seq, length(event_hash), recorded_at IS NULL"),
        "acme|f|0|6|32|f"
    );
    writer.run("INSERT INTO audit_events (tenant_id, event_id, action) SELECT tenant_id, event_id, 'retried' FROM audit_events WHERE tenant_id = 'acme' ON CONFLICT (tenant_id, event_id) DO NOTHING");
    refused_all(&mut writer, &NOBODY_S);
    refused_all(&mut writer, &CALLS);
    refused_all(
        &mut writer,
        &[
            "SELECT details FROM audit_events",
            "SELECT * FROM audit_events",
            "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING action",
            "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING *",
        ],
    );
    assert_eq!(writer.line("SELECT count(tenant_id) FROM audit_events WHERE tenant_id = 'acme'"), "6");
    assert_whole(&mut roles.database.client());
}

#[test]
fn a_writer_needs_insert_and_nothing_else() {
    let roles = roles("roles_insert");
    let mut admin = roles.database.client();
    admin.run(&format!("GRANT INSERT ON audit_events TO {}", quoted(&roles.nobody)));
    let mut client = roles.database.client_as(&roles.nobody);
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    client.run("INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('acme', NULL, 'x')");
    assert_eq!(admin.line("SELECT count(DISTINCT event_id) FROM audit_events WHERE action = 'x'"), "3");
}

#[test]
fn a_reader_reads_what_is_public_and_nothing_else() {
    let roles = roles("roles_reader");
    let mut reader = roles.database.client_as(&roles.reader);
    assert_eq!(
        reader.lines("SELECT tenant_id, action FROM audit_public_events WHERE tenant_id <> 'zeroauth_audit' ORDER BY tenant_id, seq"),
        ["acme|x", "acme|y", "globex|z"]
    );
    assert_eq!(reader.line("SELECT action, length(prev_hash), length(event_hash), hash_version FROM audit_events WHERE tenant_id = 'acme' AND seq = 2"), "y|32|32|1");
    refused_all(&mut reader, &NOBODY_S);
    refused_all(&mut reader, &CALLS);
    refused_all(
        &mut reader,
        &[
            "SELECT * FROM audit_events",
            "SELECT actor_id FROM audit_events",
            "SELECT salt FROM audit_events",
            "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')",
            "INSERT INTO audit_public_events (tenant_id, action) VALUES ('acme', 'x')",
            "UPDATE audit_public_events SET action = 'x'",
            "SELECT zeroauth_audit_internal.uuid_v7()",
        ],
    );
    // With the private fields, and never the salt: with it, guesses of erased values could be tested.
    roles.database.client().run(&format!("SELECT audit_grant('{}', 'private_reader')", roles.reader));
    assert_eq!(reader.line("SELECT count(*), count(details), count(actor_type), count(actor_id), count(ip), count(user_agent), count(error_message), count(private_hash) FROM audit_events WHERE tenant_id = 'acme'"), "2|0|0|0|0|0|0|0");
    refused_all(&mut reader, &["SELECT salt FROM audit_events", "SELECT * FROM audit_events"]);
}

#[test]
fn a_reader_sees_through_the_view_what_a_policy_lets_it_see() {
    let roles = roles("roles_view");
    roles.database.client().run(&format!(
        "ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY; CREATE POLICY globex_only ON audit_events FOR SELECT TO {} USING (tenant_id = 'globex')",
        quoted(&roles.reader)
    ));
    let mut reader = roles.database.client_as(&roles.reader);
    assert_eq!(reader.lines("SELECT tenant_id, action FROM audit_public_events"), ["globex|z"]);
}

/// Every way of verifying, to a role that may not read the table.
#[track_caller]
fn assert_verified(client: &mut Client) {
    assert_eq!(client.lines("SELECT tenant_id FROM audit_verify() WHERE ok IS NOT TRUE"), [] as [&str; 0]);
    assert_eq!(client.lines("SELECT * FROM audit_findings()"), [] as [&str; 0]);
    assert_eq!(reference_places(&export(client)), BTreeSet::new());
}

#[test]
fn an_auditor_verifies_and_exports_and_writes_nothing() {
    let roles = roles("roles_auditor");
    let mut auditor = roles.database.client_as(&roles.auditor);
    assert_verified(&mut auditor);
    assert_eq!(auditor.line("SELECT ok, events FROM audit_verify('acme')"), "t|2");
    assert_eq!(auditor.line("SELECT ok, events FROM audit_verify('acme', 1)"), "t|1");
    assert_eq!(auditor.lines("SELECT guard FROM audit_guards() WHERE NOT active"), [] as [&str; 0]);
    assert_eq!(auditor.lines("SELECT * FROM audit_progress()"), [] as [&str; 0]);
    assert_eq!(auditor.lines("SELECT * FROM audit_verify_installation()"), [] as [&str; 0]);
    refused_all(&mut auditor, &NOBODY_S);
    refused_all(
        &mut auditor,
        &[
            "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')",
            "SELECT action FROM audit_events",
            "SELECT zeroauth_audit_internal.private_hash(NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        ],
    );
    // What a role may SELECT is what its exports show.
    let line =
        "SELECT e::jsonb ? 'actor_id', e::jsonb ->> 'private_hash' IS NULL FROM audit_export('globex') e";
    assert_eq!(auditor.line(line), "f|f");
    auditor.refused("42501", "SELECT * FROM audit_export('globex', true)");
    roles.database.client().run(&format!("SELECT audit_grant('{}', 'private_reader')", roles.auditor));
    assert_eq!(auditor.line(line), "t|t");
    assert_eq!(auditor.line("SELECT e::jsonb ? 'actor_id' FROM audit_export('globex', false) e"), "f");
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
    let event = admin.line("SELECT event_id FROM audit_events WHERE tenant_id = 'acme' AND seq = 2");
    let mut auditor = roles.database.client_as(&roles.auditor);
    assert_verified(&mut auditor);
    let one = |client: &mut Client, sql: &str| client.rows(sql)[0][0].clone().unwrap();
    let prove = format!("SELECT audit_prove('acme', '{event}')");
    let bundle = one(&mut auditor, &prove);
    let bundle = Bundle::parse(bundle.as_bytes()).unwrap();
    let registry = trust.registry(bundle.checkpoint.as_bytes()).unwrap().checkpoint;
    assert!(bundle.log.is_some_and(|place| place.index == 1) && registry.size > bundle.index);
    let note = one(&mut auditor, "SELECT note FROM audit_checkpoints ORDER BY run DESC LIMIT 1");
    assert_eq!(trust.registry(note.as_bytes()).unwrap().checkpoint, registry);
    assert_eq!(auditor.line("SELECT count(*) FROM audit_export_intervals('acme')"), "1");
    assert_eq!(auditor.line("SELECT audit_prove_consistency('acme', 1, 2) IS NULL"), "f");
    refused_all(
        &mut auditor,
        &[
            "INSERT INTO zeroauth_audit_internal.logs (tenant_id) VALUES ('x')",
            "UPDATE zeroauth_audit_internal.logs SET tree_size = 1",
            "DELETE FROM zeroauth_audit_internal.log_intervals",
            "UPDATE zeroauth_audit_internal.tiles SET hashes = sha256('x')",
            "DELETE FROM zeroauth_audit_internal.registry_runs",
            "SELECT * FROM zeroauth_audit_internal.sinks",
            "SELECT * FROM audit_alert_routes",
            "SELECT zeroauth_audit_internal.run_job('checkpoint')",
            "SELECT audit_restore_acknowledge('x')",
        ],
    );
    for role in [&roles.writer, &roles.reader, &roles.nobody] {
        refused_all(
            &mut roles.database.client_as(role),
            &["SELECT * FROM audit_checkpoints", "SELECT audit_prove('acme', gen_random_uuid())"],
        );
    }
    admin.run(
        "SET zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE tenant_id = 'acme' AND seq = 2",
    );
    assert_eq!(auditor.line("SELECT ok, classes FROM audit_verify('acme')"), "f|{tail_truncated}");
}

#[test]
fn exports_and_proofs_show_what_their_caller_may_read() {
    let roles = roles("roles_private");
    let mut admin = roles.database.client();
    let path = shared().data_dir().with_file_name("roles_private.key");
    key_file(&path, ORIGIN, 63);
    admin.run(&format!("SET zeroauth_audit.checkpoint_key_file = '{}'", path.display()));
    admin.run("INSERT INTO audit_events (tenant_id, action, actor_id, details) VALUES ('initech', 'x', 'zoe', '{\"secret\": 1}')");
    admin.run("SELECT zeroauth_audit_internal.run_job('checkpoint')");
    let event = admin.line("SELECT event_id FROM audit_events WHERE tenant_id = 'initech'");
    let calls = |private_fields: &str| {
        [
            format!("SELECT audit_export('initech'{private_fields})"),
            format!("SELECT audit_prove('initech', '{event}'{private_fields})"),
        ]
    };
    let shows = |text: &str| text.contains("zoe") || text.contains("secret") || text.contains("salt");
    let mut auditor = roles.database.client_as(&roles.auditor);
    for sql in calls("").iter().chain(&calls(", private_fields => false")) {
        assert!(!shows(&auditor.line(sql)), "{sql}");
    }
    for sql in calls(", true") {
        let refusal = auditor.refused("42501", &sql);
        assert!(refusal.message.contains("private fields of audit_events"), "{refusal:?}");
        assert!(refusal.hint.contains("private_hash"), "{refusal:?}");
    }
    // All six, and no less; the salt comes with them.
    let grant =
        |columns: &str| format!("GRANT SELECT ({columns}) ON audit_events TO {}", quoted(&roles.auditor));
    admin.run(&grant("actor_type, actor_id, ip, user_agent, error_message"));
    assert!(!shows(&auditor.line(&calls("")[0])));
    admin.run(&grant("details"));
    for sql in calls("").iter().chain(&calls(", true")) {
        let text = auditor.line(sql);
        assert!(
            text.contains("zoe") && text.contains("secret") && text.contains("\"salt\":\""),
            "{sql}: {text}"
        );
    }
    for sql in calls(", false") {
        assert!(!shows(&auditor.line(&sql)), "{sql}");
    }
    auditor.refused("42501", "SELECT salt FROM audit_events");
    // The one who acts counts, not the one who logged in.
    admin.run(&format!("SET ROLE {}", quoted(&roles.auditor)));
    assert!(shows(&admin.line(&calls("")[0])));
    admin.run(&format!(
        "RESET ROLE; REVOKE SELECT (details) ON audit_events FROM {0}; SET ROLE {0}",
        quoted(&roles.auditor)
    ));
    assert!(!shows(&admin.line(&calls("")[0])));
    admin.run("RESET ROLE");
    assert!(shows(&admin.line(&calls("")[0])));
    for lines in [export(&mut auditor), export(&mut admin)] {
        assert_eq!(reference_places(&lines), BTreeSet::new());
    }
}

#[test]
fn an_event_that_contradicts_itself_does_not_look_whole_without_its_private_part() {
    let roles = roles("roles_contradicts");
    let mut admin = roles.database.client();
    admin.run("SET zeroauth_audit.maintenance = on");
    let hash = "zeroauth_audit_internal.private_hash(salt, actor_type, actor_id, ip, user_agent, error_message, details)";
    let mut auditor = roles.database.client_as(&roles.auditor);
    for change in [
        format!("private_hash = {hash}"),
        format!("private_hash = {hash}, salt = NULL, actor_id = 'somebody else'"),
        "salt = NULL".to_owned(),
        "salt = salt || salt".to_owned(),
    ] {
        admin.run(&format!(
            "BEGIN; ALTER TABLE audit_events DISABLE TRIGGER zeroauth_audit_refuse_row; UPDATE audit_events SET {change} WHERE tenant_id = 'acme' AND seq = 1; ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_row; COMMIT"
        ));
        let lines = export(&mut auditor);
        assert!(!lines.concat().contains("somebody"), "{change}");
        assert_eq!(
            verifier_places(&lines),
            BTreeSet::from([place("content_mismatch", "acme", 0, 1)]),
            "{change}"
        );
        admin.run("DELETE FROM audit_events; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'), ('acme', 'y')");
    }
}

#[test]
fn pitfall_23_rows_hidden_by_row_level_security_are_could_not_check_never_ok_never_tampered() {
    let roles = roles("roles_rls");
    let mut admin = roles.database.client();
    admin.run(&format!(
        "SELECT audit_grant('{2}', 'reader');
         ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY;
         CREATE POLICY acme_only ON audit_events FOR SELECT TO {0}, {1} USING (tenant_id = 'acme' AND seq > 1);
         CREATE POLICY acme_writes ON audit_events FOR INSERT TO {3} WITH CHECK (tenant_id = 'acme')",
        quoted(&roles.reader), quoted(&roles.auditor), roles.auditor, quoted(&roles.writer)
    ));
    let mut auditor = roles.database.client_as(&roles.auditor);
    assert_eq!(auditor.line("SELECT count(action) FROM audit_events"), "1");
    for setting in ["on", "off"] {
        auditor.run(&format!("SET row_security = {setting}"));
        // Verification reads as the owner, to whom no policy applies.
        assert_eq!(auditor.line("SELECT ok, events FROM audit_verify('acme')"), "t|2");
        assert_eq!(auditor.lines("SELECT * FROM audit_findings()"), [] as [&str; 0]);
        // What a line shows is what its caller may see; a part of a trail would look like gaps.
        for call in ["SELECT audit_export()", "SELECT audit_export('nobody at all')"] {
            let refusal = auditor.refused("ZA006", call);
            assert!(!refusal.hint.is_empty(), "{refusal:?}");
        }
    }
    // Who sees everything goes on: superuser, and a role that bypasses row security.
    assert_whole(&mut admin);
    admin.run(&format!("ALTER ROLE {} BYPASSRLS", quoted(&roles.auditor)));
    assert_verified(&mut roles.database.client_as(&roles.auditor));

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
        "SELECT audit_grant('{1}', 'writer_returning');
         ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY; ALTER TABLE audit_events FORCE ROW LEVEL SECURITY;
         CREATE POLICY w ON audit_events FOR INSERT TO {0} WITH CHECK (true);
         CREATE POLICY r ON audit_events FOR SELECT TO {0} USING (action = 'mine')",
        quoted(&roles.writer),
        roles.writer
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
    assert_eq!(writer.line("SELECT count(tenant_id) FROM audit_events"), "2");
    assert_whole(&mut roles.database.client());
}

#[test]
fn forced_row_security_holds_for_the_owner_and_for_all_who_read_as_the_owner() {
    let database = Database::empty("roles_forced");
    let [owner, auditor] = ["owner", "auditor"].map(|what| database.role(what));
    let mut admin = database.client();
    admin.run(&format!("ALTER ROLE {} SUPERUSER", quoted(&owner)));
    database.client_as(&owner).run("CREATE EXTENSION zeroauth_audit");
    admin.run(&format!(
        "ALTER ROLE {} NOSUPERUSER; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'); SELECT audit_grant('{}', 'auditor')",
        quoted(&owner),
        auditor
    ));
    let (mut owner, mut auditor) = (database.client_as(&owner), database.client_as(&auditor));
    assert_whole(&mut owner);
    assert_verified(&mut auditor);
    owner.run("ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY");
    assert_whole(&mut owner);
    assert_eq!(auditor.line("SELECT ok FROM audit_verify('acme')"), "t");
    owner.run("ALTER TABLE audit_events FORCE ROW LEVEL SECURITY");
    for call in CALLS.into_iter().chain(["SELECT * FROM audit_integrity()"]) {
        owner.refused("ZA006", call);
        auditor.refused("ZA006", call);
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
    assert_eq!(
        roles.database.client().line("SELECT db_role FROM audit_events WHERE tenant_id = 'acme' AND seq = 3"),
        roles.nobody
    );
    // A definer's superuser rights do not open the server's columns to the caller's own statements.
    refused_all(&mut client, &["INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')"]);
}
