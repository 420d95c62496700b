//! Duties: what each of them can do and nothing else, tried as a role; who may give them to whom; and what `audit_duties` says.

use postgres::Client;

use crate::support::{Database, Sql, quoted, shared};

/// Every duty, and the letter that stands for it below.
const DUTIES: [(char, &str); 7] = [
    ('w', "writer"),
    ('t', "writer_returning"),
    ('r', "reader"),
    ('p', "private_reader"),
    ('A', "auditor"),
    ('M', "monitor"),
    ('O', "operator"),
];

/// What can be tried, and which duties may. Nobody else gets further than 42501.
const TRIED: &[(&str, &str)] = &[
    ("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')", "wt"),
    (
        "INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('acme', gen_random_uuid(), 'x') ON CONFLICT DO NOTHING",
        "wt",
    ),
    (
        "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING tenant_id, event_id, chain, seq, event_hash, recorded_at",
        "t",
    ),
    (
        "INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('acme', gen_random_uuid(), 'x') ON CONFLICT (tenant_id, event_id) DO NOTHING",
        "t",
    ),
    ("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING action", ""),
    ("SELECT tenant_id, event_id, chain, seq, event_hash, recorded_at FROM audit_events", "trp"),
    ("SELECT * FROM audit_public_events", "rp"),
    (
        "SELECT occurred_at, category, action, outcome, severity, resource, service_name, env, provider, request_id, correlation_id, trace_id, span_id, status_code, latency_ms, payload_size, error_code, db_role, prev_hash, hash_version FROM audit_events",
        "rp",
    ),
    (
        "SELECT actor_type, actor_id, ip, user_agent, error_message, details, private_hash FROM audit_events",
        "p",
    ),
    ("SELECT details FROM audit_events", "p"),
    ("SELECT private_hash FROM audit_events", "p"),
    ("SELECT salt FROM audit_events", ""),
    ("SELECT * FROM audit_events", ""),
    ("COPY audit_events TO STDOUT", ""),
    ("UPDATE audit_events SET action = 'y'", ""),
    ("DELETE FROM audit_events", ""),
    ("TRUNCATE audit_events", ""),
    ("LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE; SELECT 1", ""),
    (
        "CREATE TABLE mine (tenant_id text, event_id uuid, FOREIGN KEY (tenant_id, event_id) REFERENCES audit_events (tenant_id, event_id))",
        "",
    ),
    ("SELECT * FROM audit_verify('acme')", "A"),
    ("SELECT * FROM audit_findings('acme')", "A"),
    ("SELECT * FROM audit_integrity('acme')", "AMO"),
    ("SELECT * FROM audit_event_state('acme', gen_random_uuid())", "A"),
    ("SELECT count(*) FROM audit_export('acme')", "A"),
    ("SELECT count(*) FROM audit_export_intervals('acme')", "A"),
    ("SELECT audit_prove('acme', gen_random_uuid())", "A"),
    ("SELECT audit_prove_consistency('acme', 1, 2)", "A"),
    ("SELECT count(*) FROM audit_drill()", "AO"),
    ("SELECT * FROM audit_guards()", "AMO"),
    ("SELECT * FROM audit_verify_installation()", "AMO"),
    ("SELECT * FROM audit_verify_pins()", "AO"),
    ("SELECT * FROM audit_status()", "AMO"),
    ("SELECT audit_health()", "M"),
    ("SELECT * FROM audit_progress()", "AMO"),
    ("SELECT * FROM audit_help()", "wtrpAMO"),
    ("SELECT * FROM audit_tenants", "AMO"),
    ("SELECT * FROM audit_checkpoints", "A"),
    ("SELECT * FROM audit_keys", "AM"),
    ("SELECT * FROM audit_anchors", "A"),
    ("SELECT * FROM audit_sinks", "AMO"),
    ("SELECT * FROM audit_anchor_targets", "AMO"),
    ("SELECT * FROM audit_alerts", "AO"),
    ("SELECT id, severity, state, kind, tenant_id, raised_at, occurrences, message FROM audit_alerts", "AMO"),
    ("SELECT evidence FROM audit_alerts", "AO"),
    ("SELECT acknowledged_note FROM audit_alerts", "AO"),
    ("SELECT resolved_note FROM audit_alerts", "AO"),
    ("SELECT * FROM audit_alert_routes", "O"),
    ("SELECT * FROM audit_alert_deliveries", "O"),
    ("SELECT * FROM audit_jobs", "AMO"),
    ("SELECT * FROM audit_job_runs", "AMO"),
    ("SELECT * FROM audit_duties", "AO"),
    ("SELECT audit_alert_acknowledge(0, 'x')", "O"),
    ("SELECT audit_alert_resolve(0, 'x')", "O"),
    ("SELECT audit_alert_test('none')", "O"),
    ("SELECT audit_alert_route_set('none', enabled => false)", "O"),
    ("SELECT * FROM audit_job_run('prune')", "O"),
    ("SELECT audit_job_set('prune', timeout => '11 minutes')", "O"),
    ("SELECT audit_anchor_retry('none')", "O"),
    ("SELECT audit_tenant_set('acme', 100)", "O"),
    ("SELECT audit_alert_route_drop('none', 'x')", ""),
    ("SELECT audit_job_scheduler('worker')", ""),
    ("SELECT audit_sink_set('none')", ""),
    ("SELECT audit_sink_drop('none', 'x')", ""),
    ("SELECT audit_anchor_target_set('none')", ""),
    ("SELECT audit_anchor_target_drop('none', 'x')", ""),
    ("SELECT audit_restore_acknowledge('x')", ""),
    ("SELECT audit_grant(current_user::text, 'private_reader')", ""),
    ("SELECT audit_revoke(current_user::text, 'writer')", ""),
    ("INSERT INTO audit_sinks (name) VALUES ('x')", ""),
    ("DELETE FROM audit_jobs", ""),
    ("SELECT * FROM zeroauth_audit_internal.alerts", ""),
    ("SELECT * FROM zeroauth_audit_internal.duty_grants", ""),
    ("SELECT zeroauth_audit_internal.give_duty(current_user::regrole, 'auditor')", ""),
];

#[test]
fn each_duty_can_do_what_it_is_for_and_nothing_else() {
    let database = Database::audited("duties_tried");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    // No table can be made in the schema: what is refused then has nothing to do with the trail.
    client.run(&format!(
        "CREATE SCHEMA work; ALTER DATABASE {} SET search_path = work, public",
        quoted(&database.name)
    ));
    let mut wrong = Vec::new();
    for (letter, duty) in DUTIES {
        let role = database.on_duty(duty);
        client.run(&format!("GRANT ALL ON SCHEMA work TO {}", quoted(&role)));
        let mut session = database.client_as(&role);
        for (sql, may) in TRIED {
            let refused = match session.batch_execute(sql) {
                Ok(()) => None,
                Err(error) => {
                    Some(error.as_db_error().map(|error| error.code().code().to_owned()).unwrap_or_default())
                }
            };
            let may = may.contains(letter);
            if may == (refused.as_deref() == Some("42501")) {
                wrong.push(format!("{duty}: {sql}: {refused:?}"));
            }
        }
    }
    assert_eq!(wrong, [] as [&str; 0]);
    let all = client.lines(
        "SELECT DISTINCT duty FROM zeroauth_audit_internal.duty_grants WHERE duty <> 'owner' ORDER BY 1",
    );
    assert_eq!(
        all,
        ["auditor", "monitor", "operator", "private_reader", "reader", "writer", "writer_returning"]
    );
}

#[test]
fn everything_that_people_call_is_in_the_list_and_all_that_is_listed_is_there() {
    let database = Database::audited("duties_list");
    let mut client = database.client();
    let there = "SELECT p.proname || '(' || oidvectortypes(p.proargtypes) || ')' FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
          WHERE p.pronamespace = 'public'::regnamespace AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'zeroauth_audit')
        UNION ALL SELECT c.relname FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
          WHERE c.relnamespace = 'public'::regnamespace AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'zeroauth_audit')";
    let listed = "SELECT object FROM zeroauth_audit_internal.duty_grants";
    assert_eq!(
        client.lines(&format!("({there}) EXCEPT {listed} ORDER BY 1")),
        [] as [&str; 0],
        "in no duty, and not the owner's"
    );
    assert_eq!(
        client.lines(&format!("{listed} EXCEPT ({there}) ORDER BY 1")),
        [] as [&str; 0],
        "listed, and not there"
    );
    // A column that is not there would be granted to nobody, silently.
    assert_eq!(
        client.lines("SELECT g.duty, g.object, c FROM zeroauth_audit_internal.duty_grants g, unnest(g.columns || g.all_but) c
            WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass(g.object) AND a.attname = c)"),
        [] as [&str; 0]
    );
}

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
