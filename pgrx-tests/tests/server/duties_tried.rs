//! What each duty can do and nothing else: everything that people call or read, tried as a role of every duty.

use crate::support::{Database, Sql, quoted};

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
    ("SELECT audit_export_names() IS NULL", "A"),
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
    ("SELECT audit_copy_acknowledge('x')", ""),
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
