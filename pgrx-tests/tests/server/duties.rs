//! Duties: who may give them to whom, what giving and taking says and leaves behind, and what `audit_duties` shows.

use postgres::Client;

use crate::support::{Database, Sql, quoted, shared};

/// The notices and warnings that psql shows its user.
pub fn said(database: &Database, sql: &str) -> Vec<String> {
    let output = shared().psql(&database.name, sql).unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    let notice = |line: &str| {
        line.split_once("NOTICE:  00000: ")
            .or_else(|| line.split_once("WARNING:  01000: "))
            .map(|(_, notice)| notice.to_owned())
    };
    output.stderr.lines().filter_map(notice).collect()
}

/// The rows of some roles, in a cluster where other tests have roles, too.
fn rows(client: &mut Client, database: &Database) -> Vec<String> {
    client.lines(&format!(
        "SELECT replace(role, '{0}_', ''), duty, replace(how, '{0}_', ''), until IS NOT NULL, replace(beyond, '{0}_', ''), missing FROM audit_duties WHERE role LIKE '{0}%' OR role = 'PUBLIC'",
        database.name
    ))
}

#[test]
fn what_was_granted_is_said_once_and_is_an_event_each_time_that_something_changes() {
    let database = Database::audited("duties_events");
    let role = database.role("app");
    let mut client = database.client();
    for (call, result) in [
        ("audit_grant('ROLE', 'writer')", "granted"),
        ("audit_grant('ROLE', 'writer')", "unchanged"),
        ("audit_grant('ROLE', 'writer', '2999-01-01 00:00:00+00')", "changed"),
        ("audit_grant('ROLE', 'writer', '2999-01-01 00:00:00+00')", "unchanged"),
        ("audit_grant('ROLE', 'writer')", "changed"),
        ("audit_revoke('ROLE', 'reader')", "unchanged"),
        ("audit_revoke('ROLE', 'writer')", "revoked"),
        ("audit_revoke('ROLE', 'writer')", "unchanged"),
    ] {
        assert_eq!(client.line(&format!("SELECT {}", call.replace("ROLE", &role))), result, "{call}");
    }
    assert_eq!(
        client.lines("SELECT tenant_id, action, severity, resource, details ->> 'role', details ->> 'duty', details ->> 'by', details ->> 'until' FROM audit_events ORDER BY seq"),
        [
            format!("zeroauth_audit|duty.granted|medium|role/{role}|{role}|writer|postgres|~"),
            format!("zeroauth_audit|duty.granted|medium|role/{role}|{role}|writer|postgres|2999-01-01T00:00:00+00:00"),
            format!("zeroauth_audit|duty.granted|medium|role/{role}|{role}|writer|postgres|~"),
            format!("zeroauth_audit|duty.revoked|medium|role/{role}|{role}|writer|postgres|~"),
        ]
    );
    assert_eq!(rows(&mut client, &database), [] as [&str; 0], "nothing is left");
    // So that it can be dropped.
    client.run(&format!("DROP ROLE {}", quoted(&role)));
}

#[test]
fn what_cannot_be_given_is_refused_with_what_to_do_instead() {
    let database = Database::audited("duties_refused");
    let [app, member, heir] = ["app", "member", "heir"].map(|what| database.role(what));
    let mut client = database.client();
    client.run(&format!("GRANT postgres TO {0}; GRANT {0} TO {1}", quoted(&member), quoted(&heir)));
    let said_duties =
        "The duties: writer, writer_returning, reader, private_reader, auditor, monitor, operator.";
    for (arguments, code, message, hint) in [
        ("'APP', 'admin'", "ZA012", "there is no duty \"admin\"", said_duties),
        ("'APP', 'Writer'", "ZA012", "there is no duty \"Writer\"", said_duties),
        ("'APP', 'owner'", "ZA012", "there is no duty \"owner\"", said_duties),
        ("'APP', ''", "ZA012", "there is no duty \"\"", said_duties),
        (
            "'public', 'reader'",
            "ZA012",
            "PUBLIC is no role",
            "Grant the duty to a role, and that role to others.",
        ),
        (
            "'PUBLIC', 'reader'",
            "ZA012",
            "PUBLIC is no role",
            "Grant the duty to a role, and that role to others.",
        ),
        (
            "'pg_monitor', 'monitor'",
            "ZA012",
            "\"pg_monitor\" is a role of PostgreSQL itself",
            "Grant the duty to a role of your own.",
        ),
        (
            "'no such role', 'reader'",
            "42704",
            "role \"no such role\" does not exist",
            "Names are compared letter for letter. CREATE ROLE makes one.",
        ),
        ("NULL, 'reader'", "ZA009", "role is NULL", "Name a role and a duty."),
        ("'APP', NULL", "ZA009", "duty is NULL", "Name a role and a duty."),
    ] {
        for call in ["audit_grant", "audit_revoke"] {
            let refusal = client.refused(code, &format!("SELECT {call}({})", arguments.replace("APP", &app)));
            assert_eq!(
                (refusal.message.as_str(), refusal.hint.as_str()),
                (message, hint),
                "{call}({arguments})"
            );
        }
    }
    for (role, until, code, message) in [
        ("postgres", "", "ZA012", "a superuser needs no duty".to_owned()),
        (member.as_str(), "", "ZA012", format!("\"{member}\" is a member of the owner \"postgres\"")),
        (heir.as_str(), "", "ZA012", format!("\"{heir}\" is a member of the owner \"postgres\"")),
        (
            app.as_str(),
            ", '2020-01-01 00:00:00+00'",
            "ZA009",
            "until is not a time in the future: 2020-01-01 00:00:00+00".to_owned(),
        ),
        (app.as_str(), ", 'infinity'", "ZA009", "until is not a time in the future: infinity".to_owned()),
    ] {
        let refusal = client
            .refused(code, &format!("SET TimeZone = 'UTC'; SELECT audit_grant('{role}', 'auditor'{until})"));
        assert_eq!(refusal.message, message);
        assert!(!refusal.hint.is_empty(), "{refusal:?}");
    }
    // Who was let call it by hand is still not the owner.
    client.run(&format!("GRANT EXECUTE ON FUNCTION audit_grant, audit_revoke TO {}", quoted(&app)));
    let mut session = database.client_as(&app);
    for call in ["audit_grant", "audit_revoke"] {
        let refusal = session.refused("ZA012", &format!("SELECT {call}('{app}', 'auditor')"));
        assert_eq!(
            (refusal.message, refusal.hint),
            (
                format!("\"{app}\" is not the owner of zeroauth_audit"),
                "Ask \"postgres\" or a superuser.".into()
            )
        );
    }
    assert_eq!(client.line("SELECT count(*) FROM audit_events"), "0");
}

#[test]
fn audit_duties_shows_what_was_given_by_hand_beside_a_duty() {
    let database = Database::audited("duties_beyond");
    let mut client = database.client();
    let [app, audit, siem, report, wide, copier] =
        ["app", "audit", "siem", "report", "wide", "copier"].map(|what| database.role(what));
    client.run(&format!(
        "SELECT audit_grant('{app}', 'writer'), audit_grant('{audit}', 'auditor', '2999-01-01');
         GRANT UPDATE, DELETE ON audit_events TO {0}; GRANT {1} TO {2}; GRANT SELECT (salt, details) ON audit_events TO {3};
         GRANT SELECT ON audit_events TO {4} WITH GRANT OPTION; GRANT USAGE ON SCHEMA zeroauth_audit_internal TO {4}; GRANT {4} TO {3};
         GRANT pg_read_all_data TO {5}; ALTER ROLE {5} BYPASSRLS REPLICATION; GRANT EXECUTE ON FUNCTION zeroauth_audit_internal.uuid_v7() TO PUBLIC",
        quoted(&app), quoted(&audit), quoted(&siem), quoted(&report), quoted(&wide), quoted(&copier)
    ));
    let of_wide = "SELECT on audit_events with grant option, granted by postgres";
    let internal = "USAGE on schema zeroauth_audit_internal, granted by postgres";
    assert_eq!(
        rows(&mut client, &database),
        [
            "PUBLIC|~|~|f|EXECUTE on zeroauth_audit_internal.uuid_v7(), granted by postgres|~".to_owned(),
            "app|writer|granted|f|DELETE, UPDATE on audit_events, granted by postgres|~".to_owned(),
            "audit|auditor|granted|t|~|~".to_owned(),
            "copier|~|~|f|BYPASSRLS; REPLICATION; member of pg_read_all_data|~".to_owned(),
            format!(
                "report|~|~|f|SELECT (details, salt) on audit_events, granted by postgres; {of_wide}, as a member of wide; {internal}, as a member of wide|~"
            ),
            "siem|auditor|member of audit|t|~|~".to_owned(),
            format!("wide|~|~|f|{of_wide}; {internal}|~"),
        ]
    );
    // One notice for each, and for what comes from a membership.
    let grant =
        said(&database, &format!("SELECT audit_grant('{siem}', 'writer'), audit_grant('{app}', 'reader')"));
    assert_eq!(
        grant,
        [
            format!("\"{siem}\" also has the duty auditor as a member of \"{audit}\""),
            format!("\"{app}\" also can do: DELETE, UPDATE on audit_events, granted by postgres"),
            format!("\"{app}\" also has the duty writer, granted"),
        ]
    );
    let revoke = said(&database, &format!("SELECT audit_revoke('{siem}', 'auditor')"));
    assert_eq!(
        revoke,
        [
            format!("\"{siem}\" also has the duty auditor as a member of \"{audit}\""),
            format!("\"{siem}\" also has the duty writer, granted")
        ]
    );
    // The superuser that everything belongs to, and who may become it.
    client.run(&format!("GRANT postgres TO {}", quoted(&copier)));
    assert_eq!(
        client.line("SELECT duty, how, beyond FROM audit_duties WHERE role = 'postgres'"),
        "owner|superuser|~"
    );
    assert_eq!(
        client.line(&format!("SELECT duty, how FROM audit_duties WHERE role = '{copier}'")),
        "owner|member of postgres"
    );
}

#[test]
fn a_part_of_a_duty_says_what_is_missing_and_granting_it_again_makes_it_whole() {
    let database = Database::audited("duties_part");
    let mut client = database.client();
    let role = database.on_duty("private_reader");
    client.run(&format!("REVOKE SELECT (details, ip) ON audit_events FROM {}", quoted(&role)));
    assert_eq!(
        rows(&mut client, &database),
        [
            "private_reader|private_reader|part|f|~|SELECT (ip, details) on audit_events",
            "private_reader|reader|granted|f|~|~"
        ]
    );
    assert_eq!(client.line(&format!("SELECT audit_grant('{role}', 'private_reader')")), "granted");
    assert_eq!(rows(&mut client, &database), ["private_reader|private_reader|granted|f|~|~"]);
    // INSERT alone, as before there were duties, is as good as the duty.
    let app = database.role("app");
    client.run(&format!("GRANT INSERT ON audit_events TO {}", quoted(&app)));
    assert_eq!(
        client.line(&format!("SELECT duty, beyond FROM audit_duties WHERE role = '{app}'")),
        "writer|~"
    );
    // One column is no reader.
    let other = database.role("other");
    client.run(&format!("GRANT SELECT (action) ON audit_events TO {}", quoted(&other)));
    assert_eq!(
        client.line(&format!("SELECT duty, beyond FROM audit_duties WHERE role = '{other}'")),
        "~|SELECT (action) on audit_events, granted by postgres"
    );
}

#[test]
fn revoking_takes_what_no_other_duty_gives() {
    let database = Database::audited("duties_revoked");
    let mut client = database.client();
    let role = database.on_duty("auditor");
    let mut call = |sql: &str| client.line(&format!("SELECT {}", sql.replace("ROLE", &role)));
    // A table that one duty gives whole, and another by columns.
    call("audit_grant('ROLE', 'monitor')");
    assert_eq!(call("audit_revoke('ROLE', 'auditor')"), "revoked");
    let mut session = database.client_as(&role);
    session.run("SELECT id, message FROM audit_alerts; SELECT * FROM audit_integrity('acme')");
    session.refused("42501", "SELECT evidence FROM audit_alerts");
    session.refused("42501", "SELECT * FROM audit_verify()");
    assert_eq!(call("audit_revoke('ROLE', 'monitor')"), "revoked");
    session.refused("42501", "SELECT id, message FROM audit_alerts");
    // A duty within another goes with it, and not without it.
    call("audit_grant('ROLE', 'reader')");
    call("audit_grant('ROLE', 'private_reader')");
    assert_eq!(call("audit_revoke('ROLE', 'reader')"), "unchanged");
    session.run("SELECT * FROM audit_public_events");
    assert_eq!(call("audit_revoke('ROLE', 'private_reader')"), "revoked");
    session.refused("42501", "SELECT * FROM audit_public_events");
    // Two duties that together are as much as a third are the two.
    let both = database.role("both");
    client.run(&format!("SELECT audit_grant('{both}', 'writer'), audit_grant('{both}', 'reader')"));
    assert_eq!(
        client.lines(&format!("SELECT duty FROM audit_duties WHERE role = '{both}'")),
        ["reader", "writer"]
    );
    assert_eq!(
        said(&database, &format!("SELECT audit_revoke('{both}', 'reader')")),
        [
            format!("with that \"{both}\" has no longer all of the duty writer_returning"),
            format!("\"{both}\" also has the duty writer, granted")
        ]
    );
    let mut session = database.client_as(&both);
    session.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    session.refused("42501", "SELECT tenant_id FROM audit_events");
    client.run(&format!("SELECT audit_grant('{both}', 'reader'), audit_revoke('{both}', 'writer')"));
    assert_eq!(client.lines(&format!("SELECT duty FROM audit_duties WHERE role = '{both}'")), ["reader"]);
    client.run(&format!("SELECT audit_revoke('{both}', 'reader')"));
    // What was passed on goes, too; what somebody else gave stays.
    let [app, heir] = ["app", "heir"].map(|what| database.role(what));
    client.run(&format!(
        "SELECT audit_grant('{app}', 'writer'); GRANT INSERT ON audit_events TO {0} WITH GRANT OPTION; SET ROLE {0}; GRANT INSERT ON audit_events TO {1}; RESET ROLE",
        quoted(&app), quoted(&heir)
    ));
    assert_eq!(client.line(&format!("SELECT audit_revoke('{heir}', 'writer')")), "unchanged");
    assert_eq!(
        client.line(&format!("SELECT duty, how FROM audit_duties WHERE role = '{heir}'")),
        "writer|part"
    );
    assert_eq!(client.line(&format!("SELECT audit_revoke('{app}', 'writer')")), "revoked");
    assert_eq!(rows(&mut client, &database), [] as [&str; 0]);
}
