//! The views that show what the server does: their columns, who can read them, and what happens to whoever edits one.

use postgres::Client;

use crate::support::{Database, Sql};

/// Every view and its columns, in their order: as public as a function's signature.
const VIEWS: [(&str, &str); 11] = [
    (
        "audit_alert_deliveries",
        "route state attempts created_at last_error delivered_at next_attempt_at refused what level id alert_id delivery_key",
    ),
    ("audit_alert_routes", "name kind enabled state last_success_at failing_since last_error config"),
    (
        "audit_alerts",
        "id severity state kind tenant_id raised_at occurrences message last_seen_at condition_gone_at escalation_level acknowledged_at acknowledged_by acknowledged_note resolved_at resolved_by resolved_note fingerprint trail_error evidence",
    ),
    (
        "audit_anchor_targets",
        "name kind enabled state last_success_at failing_since last_error config batch batch_state batch_at disabled_because checked_at check_error",
    ),
    (
        "audit_anchors",
        "tenant_id target anchored_at state tree_size tx_hash block_number block_hash chain_id contract token batch epoch root registry_size registry_root attempts error",
    ),
    ("audit_checkpoints", "sealed_at origin tree_size root note run"),
    (
        "audit_job_runs",
        "job status started_at finished_at run_by steps error error_code scheduled_for id summary",
    ),
    ("audit_jobs", "name enabled schedule time_zone next_run_at last_success_at overdue timeout scheduler"),
    ("audit_keys", "vkey first_used_at last_used_at"),
    ("audit_sinks", "name kind enabled state last_success_at failing_since last_error config"),
    (
        "audit_tenants",
        "tenant_id events tree_size last_event_at checked_at anchored_at anchor_state banner anchor_state_since chains open_findings log_state log_held_by drift_rows first_seen_at check_error",
    ),
];

/// One row of everything, as the server would have made it.
const STATE: &str = r#"SET LOCAL zeroauth_audit.maintenance = on; 
INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'), ('acme', 'y');
SELECT zeroauth_audit_internal.run_job('drift');
INSERT INTO zeroauth_audit_internal.alert_routes (name, kind, url_file, secret_file) VALUES ('oncall', 'webhook', '/run/oncall.url', '/run/oncall.key');
SELECT zeroauth_audit_internal.raise_alert('gap', 1::smallint, 'acme', 'gap:acme', 'events are missing', '{"seq": 7}');
INSERT INTO zeroauth_audit_internal.sinks (name, kind, directory) VALUES ('worm', 'directory', '/mnt/worm');
UPDATE zeroauth_audit_internal.sinks SET published_to = 3, last_success = '2026-11-30 05:00+00';
INSERT INTO zeroauth_audit_internal.logs (tenant_id, tree_size) VALUES ('acme', 2);
INSERT INTO zeroauth_audit_internal.keys (public_key, vkey) VALUES (sha256('k'), 'log.example/audit+1ab2c3d4+AQID');
INSERT INTO zeroauth_audit_internal.registry_entries (entry, tenant_id, epoch, tree_size, root) VALUES (1, 'acme', 0, 2, sha256('2'));
INSERT INTO zeroauth_audit_internal.registry_runs (number, size_before, size, system_identifier, database, root, digest, note) VALUES (1, 0, 2, '7', 5, sha256('r'), sha256('f'), E'log.example/audit\n2\n');
INSERT INTO zeroauth_audit_internal.registry_cosignatures (sink, run, size, line, cosigned_at) VALUES ('b', 1, 2, 'seen by b', now()), ('a', 1, 2, 'seen by a', now());
INSERT INTO zeroauth_audit_internal.anchor_batches (target, epoch, origin, log_id, root, size, batch_time, machine, state, finalized_at, anchored_at) VALUES ('file', 1, 'log.example/audit', sha256('o'), sha256('r'), 2, '2026-11-30 00:30+00', '{"secret bytes": 1}', 'finalized', '2026-11-30 00:31+00', '2026-11-30 00:31+00');
INSERT INTO zeroauth_audit_internal.tenant_status (tenant_id, state, since, banner) VALUES ('acme', 'anchor-late', '2026-11-29 00:30+00', 'the anchor is late')"#;

fn shown(name: &str) -> (Database, Client) {
    let database = Database::audited(name);
    let mut client = database.client();
    client.run(STATE);
    (database, client)
}

/// Message, detail and hint of a refusal with ZA011.
#[track_caller]
fn refused(client: &mut Client, sql: &str) -> (String, String, String) {
    let error = client.batch_execute(sql).expect_err(sql);
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "ZA011", "{error:?}");
    assert_eq!(error.where_(), None, "nobody is shown where in our code that was");
    let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
    (error.message().to_owned(), text(error.detail()), text(error.hint()))
}

#[test]
fn columns_and_their_order_are_the_interface() {
    let database = Database::audited("views_columns");
    let found = database.client().rows(
        "SELECT c.relname, string_agg(a.attname, ' ' ORDER BY a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
         WHERE c.relkind = 'v' AND c.relname = ANY (string_to_array('audit_alerts audit_alert_routes audit_alert_deliveries audit_jobs audit_job_runs audit_sinks audit_checkpoints audit_keys audit_anchors audit_anchor_targets audit_tenants', ' '))
         GROUP BY 1 ORDER BY 1",
    );
    let found: Vec<(&str, &str)> =
        found.iter().map(|row| (row[0].as_deref().unwrap(), row[1].as_deref().unwrap())).collect();
    assert_eq!(found, VIEWS);
}

#[test]
fn an_auditor_who_operates_reads_them_all_and_nothing_behind_them() {
    let (database, mut client) = shown("views_reader");
    let role = database.role("reader");
    for (view, _) in VIEWS {
        database.client_as(&role).refused("42501", &format!("SELECT * FROM {view}"));
    }
    client.run(&format!("SELECT audit_grant('{role}', 'auditor'), audit_grant('{role}', 'operator')"));
    let mut reader = database.client_as(&role);
    for (view, _) in VIEWS {
        assert!(!reader.lines(&format!("SELECT * FROM {view}")).is_empty(), "{view}");
        reader.refused("42501", &format!("DELETE FROM {view}"));
    }
    reader.refused("42501", "SELECT * FROM zeroauth_audit_internal.alerts");
    assert_eq!(
        reader.line("SELECT severity, state, kind, tenant_id, occurrences, message FROM audit_alerts"),
        "1|open|gap|acme|1|events are missing"
    );
    assert_eq!(
        reader.line("SELECT name, kind, enabled, state, last_success_at, config FROM audit_sinks"),
        r#"worm|directory|t|ok|2026-11-30 05:00:00+00|{"directory": "/mnt/worm"}"#
    );
    assert_eq!(
        reader.line("SELECT name, kind, enabled, state, failing_since, config FROM audit_alert_routes"),
        r#"oncall|webhook|t|unused|~|{"url_file": "/run/oncall.url", "from_level": 1, "secret_file": "/run/oncall.key", "min_severity": 4}"#
    );
    assert_eq!(
        reader.lines("SELECT run, origin, tree_size, note FROM audit_checkpoints ORDER BY run"),
        ["1|log.example/audit|2|log.example/audit\n2\nseen by a\nseen by b\n"]
    );
    assert_eq!(
        reader.line(
            "SELECT name, kind, enabled, state, last_success_at, batch, batch_state FROM audit_anchor_targets"
        ),
        "file|file|t|ok|2026-11-30 00:31:00+00|1|finalized"
    );
    assert_eq!(
        reader.line("SELECT count(*) FROM audit_anchors WHERE anchored_at > timestamptz '2026-11-30 06:00+00' - interval '36 hours'"),
        "1"
    );
    assert_eq!(
        reader.line("SELECT events, tree_size, last_event_at IS NOT NULL, checked_at IS NOT NULL, anchored_at, anchor_state, banner, chains, open_findings, log_state FROM audit_tenants WHERE tenant_id = 'acme'"),
        "2|2|t|t|2026-11-30 00:31:00+00|late|the anchor is late|1|0|open"
    );
    assert_eq!(
        reader.line("SELECT job, status, run_by, error FROM audit_job_runs"),
        "drift|succeeded|session|~"
    );
    assert_eq!(
        reader.line("SELECT enabled, schedule, time_zone, next_run_at > now(), overdue, scheduler FROM audit_jobs WHERE name = 'prune'"),
        "t|17 3 * * *|UTC|t|f|worker"
    );
    // What is to be sent is for those who send it.
    let all: String =
        VIEWS.iter().flat_map(|(view, _)| reader.lines(&format!("SELECT v FROM {view} v"))).collect();
    assert!(!all.contains("secret bytes"));
}

#[test]
fn states_have_one_word_each_and_no_hyphen() {
    let (_database, mut client) = shown("views_states");
    let state = "SELECT anchor_state FROM audit_tenants WHERE tenant_id = 'acme'";
    for (stored, word) in
        [("ok", "ok"), ("anchor-late", "late"), ("anchor-degraded", "degraded"), ("not-anchored", "off")]
    {
        client.run(&format!("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.tenant_status SET state = '{stored}'"));
        assert_eq!(client.line(state), word);
    }
    let sink = "SELECT state FROM audit_sinks";
    client.run("UPDATE zeroauth_audit_internal.sinks SET failing_since = now()");
    assert_eq!(client.line(sink), "failing");
    client.run("UPDATE zeroauth_audit_internal.sinks SET enabled = false");
    assert_eq!(client.line(sink), "off");
    client.run(
        "UPDATE zeroauth_audit_internal.sinks SET enabled = true, failing_since = NULL, last_success = NULL",
    );
    assert_eq!(client.line(sink), "unused");
    let route = "SELECT state, failing_since IS NOT NULL, last_error FROM audit_alert_routes";
    client.run(
        "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alert_deliveries SET attempts = 2, last_error = 'no answer in time'",
    );
    assert_eq!(client.line(route), "failing|t|no answer in time");
    client
        .run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alert_deliveries SET state = 'delivered', delivered_at = now()");
    assert_eq!(client.line(route), "ok|f|~");
    let target = "SELECT state, failing_since IS NOT NULL, last_error, batch FROM audit_anchor_targets";
    client.run("SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.anchor_batches (target, epoch, origin, log_id, root, size, batch_time, machine, next_at, first_failed_at, last_error) VALUES ('file', 2, 'o', sha256('o'), sha256('r'), 1, now(), '{}', now(), now(), 'endpoint 1: no answer in time')");
    assert_eq!(client.line(target), "failing|t|endpoint 1: no answer in time|2");
    client.run("UPDATE zeroauth_audit_internal.jobs SET overdue_at = now() - interval '1 second' WHERE name = 'prune'");
    assert_eq!(client.line("SELECT overdue FROM audit_jobs WHERE name = 'prune'"), "t");
    client.run("UPDATE zeroauth_audit_internal.jobs SET enabled = false WHERE name = 'prune'");
    assert_eq!(client.line("SELECT overdue, next_run_at FROM audit_jobs WHERE name = 'prune'"), "f|~");
}

#[test]
fn an_edit_is_refused_with_the_call_that_does_it() {
    let (_database, mut client) = shown("views_edited");
    let alert = client.line("SELECT id FROM audit_alerts");
    let job = "SELECT * FROM audit_job_run('checkpoint');";
    let key =
        "A key is here when it has signed: zeroauth_audit.checkpoint_key_file names the file of the key.";
    for (view, insert, set, hints) in [
        (
            "audit_alerts",
            "(message) VALUES ('x')".to_owned(),
            "severity = 4",
            [
                "SELECT audit_alert_test();".to_owned(),
                format!("SELECT audit_alert_acknowledge({alert}, 'what is being done');"),
                format!("SELECT audit_alert_resolve({alert}, 'why it is over');"),
            ],
        ),
        (
            "audit_alert_routes",
            "(name, kind) VALUES ('it''s', 'webhook')".to_owned(),
            "enabled = false",
            [
                r#"SELECT audit_alert_route_set('it''s', 'webhook', '{"url_file": "/etc/zeroauth/oncall.url", "secret_file": "/etc/zeroauth/oncall.key"}');"#.to_owned(),
                "SELECT audit_alert_route_set('oncall', enabled => false);".to_owned(),
                "SELECT audit_alert_route_drop('oncall', 'why');".to_owned(),
            ],
        ),
        (
            "audit_alert_deliveries",
            "(route) VALUES ('oncall')".to_owned(),
            "state = 'delivered'",
            [
                "SELECT audit_alert_test('oncall');".to_owned(),
                "What is queued is tried until it is accepted. When the route is at fault: SELECT audit_alert_route_set('oncall', config => '{..}');".to_owned(),
                "What is queued is tried until it is accepted, what was delivered goes by itself: SELECT * FROM audit_job_run('prune');".to_owned(),
            ],
        ),
        (
            "audit_jobs",
            "(name, schedule) VALUES ('drift', '@daily')".to_owned(),
            "next_run_at = 'infinity' WHERE name = 'drift'",
            [
                "SELECT audit_job_set('drift', enabled => true);".to_owned(),
                "SELECT audit_job_set('drift', schedule => '0 * * * *');".to_owned(),
                "SELECT audit_job_set('drift', enabled => false, note => 'why');".to_owned(),
            ],
        ),
        (
            "audit_job_runs",
            "(job) VALUES ('drift')".to_owned(),
            "status = 'succeeded'",
            [
                "SELECT * FROM audit_job_run('drift');".to_owned(),
                "SELECT * FROM audit_job_run('drift');".to_owned(),
                "SELECT * FROM audit_job_run('prune');".to_owned(),
            ],
        ),
        (
            "audit_sinks",
            "(kind) VALUES ('directory')".to_owned(),
            "enabled = false",
            [
                r#"SELECT audit_sink_set(NULL, 'directory', '{"directory": "/mnt/worm"}');"#.to_owned(),
                "SELECT audit_sink_set('worm', enabled => false);".to_owned(),
                "SELECT audit_sink_drop('worm', 'why');".to_owned(),
            ],
        ),
        (
            "audit_anchor_targets",
            "(name) VALUES ('second')".to_owned(),
            "config = '{}'",
            [
                r#"SELECT audit_anchor_target_set('second', 'file', '{"path": "/mnt/worm/anchors"}');"#.to_owned(),
                "SELECT audit_anchor_target_set('file', enabled => false);".to_owned(),
                "SELECT audit_anchor_target_drop('file', 'why');".to_owned(),
            ],
        ),
        (
            "audit_anchors",
            "(tenant_id) VALUES ('acme')".to_owned(),
            "anchored_at = now()",
            [
                "SELECT * FROM audit_job_run('anchor');".to_owned(),
                "SELECT audit_anchor_retry('file');".to_owned(),
                "What was anchored stays: the target has it, too. To anchor there no more: SELECT audit_anchor_target_set('file', enabled => false);".to_owned(),
            ],
        ),
        (
            "audit_checkpoints",
            "(run) VALUES (7)".to_owned(),
            "run = 1",
            [
                job.to_owned(),
                job.to_owned(),
                "What was signed stays. After a restore: SELECT audit_restore_acknowledge('what was restored, and why');".to_owned(),
            ],
        ),
        (
            "audit_keys",
            "(vkey) VALUES ('mine')".to_owned(),
            "vkey = 'mine'",
            [
                key.to_owned(),
                key.to_owned(),
                "A key that has signed stays: what it signed is verified with it.".to_owned(),
            ],
        ),
        (
            "audit_tenants",
            "(tenant_id) VALUES ('new')".to_owned(),
            "banner = 'all is well' WHERE tenant_id = 'acme'",
            [
                "SELECT audit_tenant_set('new', drift_rows => 1000);".to_owned(),
                "SELECT audit_tenant_set('acme', drift_rows => 1000);".to_owned(),
                "A tenant is here while it has events, a log or settings. To have it checked as every other: SELECT audit_tenant_set('acme', drift_rows => NULL);".to_owned(),
            ],
        ),
    ] {
        let only = set.split_once(" WHERE ").map(|(_, only)| format!(" WHERE {only}")).unwrap_or_default();
        let statements = [
            format!("INSERT INTO {view} {insert}"),
            format!("UPDATE {view} SET {set}"),
            format!("DELETE FROM {view}{only}"),
        ];
        for (sql, hint) in statements.iter().zip(hints) {
            assert_eq!(
                refused(&mut client, sql),
                (
                    format!("{view} is not edited directly"),
                    "It shows what the server does.".to_owned(),
                    hint
                ),
                "{sql}"
            );
        }
    }
    // Where no row is meant there is nothing to refuse, and where triggers do not fire nothing happens.
    client.run("DELETE FROM audit_sinks WHERE name = 'none'");
    client.run("SET session_replication_role = replica; DELETE FROM audit_sinks; UPDATE audit_jobs SET enabled = false; RESET session_replication_role");
    assert_eq!(
        client.line("SELECT count(*), (SELECT bool_and(enabled) FROM audit_jobs) FROM audit_sinks"),
        "1|t"
    );
}
