//! The calls that change where the server writes and sends, and when: what they return and say, what they refuse, what they leave
//! in the trail. What they set in motion is in `setters_at_work`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::channel;

use postgres::{Client, NoTls};
use zeroauth_audit_core::note::SigningKey;

use crate::support::receiver::server_file;
use crate::support::sealed::folder;
use crate::support::{Database, Sql, shared};

/// A call that goes through: what it returns, and the notices beside it as `message / hint`.
#[track_caller]
pub fn called(database: &Database, sql: &str) -> (String, String) {
    let (said, heard) = channel();
    let mut config = shared().config();
    config.user("postgres").dbname(&database.name).notice_callback(move |notice| {
        let hint = notice.hint().map(|hint| format!(" / {hint}")).unwrap_or_default();
        let _ = said.send(format!("{}{hint}", notice.message()));
    });
    let result = config.connect(NoTls).unwrap().line(sql);
    (result, heard.try_iter().collect::<Vec<_>>().join("\n"))
}

/// A refusal, as `message / hint`.
#[track_caller]
pub fn refused(client: &mut Client, code: &str, sql: &str) -> String {
    let refusal = client.refused(code, sql);
    format!("{} / {}", refusal.message, refusal.hint)
}

pub fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Events of the extension about its own settings: action, severity, resource.
pub fn events(client: &mut Client) -> Vec<String> {
    client.lines("SELECT action, severity, resource FROM audit_events WHERE tenant_id = 'zeroauth_audit' AND action !~ '^alert\\.(raised|ack|resolved)' ORDER BY chain, seq")
}

pub const NO_WORKER: &str = "No worker runs in this database: nothing happens before there is one. Look at shared_preload_libraries and zeroauth_audit.worker.";
pub const FILE_HINT: &str = "It must belong to the server's user or to root. What is secret has mode 0600 or 0400; the rest may be read by all and written by its owner only.";

#[test]
fn a_sink_is_created_changed_and_dropped_and_the_trail_says_by_whom() {
    let database = Database::audited("set_sink");
    let mut client = database.client();
    let (first, second) = (folder(shared(), "set_sink_first"), folder(shared(), "set_sink_second"));
    let set = |path: &Path| {
        format!(r#"SELECT audit_sink_set('worm', 'directory', '{{"directory": "{}"}}')"#, path.display())
    };
    let (result, notices) = called(&database, &set(&first));
    assert_eq!(result, "created");
    assert_eq!(
        notices,
        format!(
            "checkpoints go to sink \"worm\" from now on; audit_sinks shows whether they arrive / {NO_WORKER}"
        )
    );
    assert_eq!(called(&database, &set(&first)), ("unchanged".into(), String::new()));
    // What it took belongs to the place, not to the name.
    client.run("UPDATE zeroauth_audit_internal.sinks SET published_to = 7, last_success = now(), failing_since = now(), last_error = 'full'");
    assert_eq!(called(&database, "SELECT audit_sink_set('worm', enabled => false)").0, "changed");
    assert_eq!(client.line("SELECT published_to FROM zeroauth_audit_internal.sinks"), "7");
    assert_eq!(called(&database, &set(&second)).0, "changed");
    assert_eq!(
        client.line("SELECT s.published_to, v.enabled, v.state, v.last_success_at, v.last_error, v.config ->> 'directory' FROM zeroauth_audit_internal.sinks s, audit_sinks v"),
        format!("0|f|off|~|~|{}", second.display())
    );
    // Switched off it stays although its place is gone; on again it is looked at.
    std::fs::remove_dir(&second).unwrap();
    assert_eq!(called(&database, "SELECT audit_sink_set('worm', enabled => false)").0, "unchanged");
    assert_eq!(
        refused(&mut client, "ZA060", "SELECT audit_sink_set('worm', enabled => true)"),
        "sink \"worm\": field \"directory\": cannot look at the directory: No such file or directory (os error 2) / It must exist, belong to the server's user or to root, and be writable by the server's user and by nobody else."
    );
    let (result, notices) = called(&database, "SELECT audit_sink_drop('worm', 'the array is sold')");
    assert_eq!(
        (result.as_str(), notices.as_str()),
        ("dropped", "nothing is published to sink \"worm\" any more; what it holds stays")
    );
    assert_eq!(client.line("SELECT count(*) FROM audit_sinks"), "0");
    assert_eq!(
        events(&mut client),
        [
            "log.sink_created|info|worm",
            "log.sink_changed|high|worm",
            "log.sink_changed|high|worm",
            "log.sink_dropped|high|worm"
        ]
    );
    assert_eq!(
        client.line("SELECT details ->> 'by', details ->> 'note', details -> 'was' ->> 'directory' FROM audit_events WHERE action = 'log.sink_dropped'"),
        format!("postgres|the array is sold|{}", second.display())
    );
    assert_eq!(
        client.line("SELECT details -> 'was' ->> 'directory', details -> 'is' ->> 'directory' FROM audit_events WHERE action = 'log.sink_changed' ORDER BY seq DESC LIMIT 1"),
        format!("{}|{}", first.display(), second.display())
    );
}

#[test]
fn a_sink_that_could_not_be_used_is_refused_at_the_call() {
    let database = Database::audited("set_sink_refused");
    let mut client = database.client();
    let open = folder(shared(), "set_sink_open");
    mode(&open, 0o777);
    let url = server_file(shared(), "set_witness.url", "http://127.0.0.1:1/\n");
    let loose = server_file(shared(), "set_witness_loose.url", "https://s3cret.example/\n");
    mode(&loose, 0o644);
    let log_key = SigningKey::from_seed("log.example", &[1; 32]).unwrap().verifier_key().to_string();
    let hint = "It must exist, belong to the server's user or to root, and be writable by the server's user and by nobody else.";
    for (kind, config, message) in [
        (
            "directory",
            format!(r#"{{"directory": "{}"}}"#, open.display()),
            format!("field \"directory\": the directory has mode 0777: others can write to it / {hint}"),
        ),
        (
            "directory",
            r#"{"directory": "mnt/worm"}"#.into(),
            "field \"directory\": the path is not absolute / A relative path would depend on where the server was started.".into(),
        ),
        (
            "directory",
            r#"{"directory": "/root"}"#.into(),
            format!("field \"directory\": cannot write to the directory: Permission denied (os error 13) / {hint}"),
        ),
        (
            "directory",
            "{}".into(),
            "field \"directory\": it is missing / Every sink of kind directory has one.".into(),
        ),
        (
            "directory",
            r#"{"directory": 7}"#.into(),
            "field \"directory\": it is no text / Put it in double quotes.".into(),
        ),
        (
            "directory",
            r#"{"directory": "/tmp", "url_file": "/x"}"#.into(),
            "field \"url_file\": directory has none of this name / The fields of directory: directory.".into(),
        ),
        (
            "witness",
            format!(r#"{{"url_file": "{}"}}"#, url.display()),
            "field \"vkey\": it is missing / Every sink of kind witness has one.".into(),
        ),
        (
            "witness",
            format!(r#"{{"url_file": "{}", "vkey": "{log_key}"}}"#, url.display()),
            "field \"vkey\": it is no key of a witness / A witness signs with the algorithm cosignature/v1; this is the key of a log.".into(),
        ),
        ("s3", "{}".into(), "there is no kind \"s3\" / The kinds: directory, witness.".into()),
        ("directory", "[]".into(), "config is no object / Give it fields: '{\"name\": \"value\"}'.".into()),
    ] {
        let sql = format!("SELECT audit_sink_set('worm', '{kind}', '{config}')");
        assert_eq!(refused(&mut client, "ZA060", &sql), format!("sink \"worm\": {message}"));
    }
    let witness =
        crate::support::witness::Witness::start(&SigningKey::from_seed("log.example", &[1; 32]).unwrap(), 2);
    let sql = format!(
        r#"SELECT audit_sink_set('w', 'witness', '{{"url_file": "{}", "vkey": "{}"}}')"#,
        loose.display(),
        witness.vkey()
    );
    let message = refused(&mut client, "ZA060", &sql);
    assert_eq!(
        message,
        format!("sink \"w\": field \"url_file\": the URL file has mode 0644, not 0600 or 0400 / {FILE_HINT}")
    );
    for (code, sql, message) in [
        (
            "ZA005",
            "SELECT audit_sink_set('wrom', enabled => false)",
            r#"there is no sink "wrom" / A new one needs kind and config: SELECT audit_sink_set('wrom', 'directory', '{"directory": "/mnt/worm"}');"#,
        ),
        (
            "ZA005",
            "SELECT audit_sink_drop('wrom', 'x')",
            "there is no sink \"wrom\" / SELECT name FROM audit_sinks shows those that there are.",
        ),
        (
            "ZA009",
            "SELECT audit_sink_set(NULL, 'directory', '{}')",
            "the name of the sink is NULL / Every call is about one, by its name.",
        ),
        (
            "ZA009",
            "SELECT audit_sink_set('a b', 'directory', '{}')",
            "\"a b\" cannot be the name of a sink / A name has 1 to 63 letters, digits, dots, dashes and underscores, and begins with a letter or a digit.",
        ),
        (
            "ZA009",
            "SELECT audit_sink_drop('worm', E' \\t')",
            "dropping a sink needs a note / Say why nothing is published there any more.",
        ),
    ] {
        assert_eq!(refused(&mut client, code, sql), message);
    }
    assert_eq!(client.line("SELECT count(*) FROM audit_sinks"), "0");
    assert_eq!(events(&mut client), [] as [&str; 0], "what is refused is no event");
}

#[test]
fn a_schedule_is_changed_by_a_call_that_says_when_the_job_runs_next() {
    let database = Database::audited("set_job");
    let mut client = database.client();
    let next = client.line("SELECT audit_job_set('prune', '5 4 * * *', 'Europe/Berlin')");
    assert_eq!(client.line("SELECT next_run_at FROM audit_jobs WHERE name = 'prune'"), next);
    assert_eq!(
        client.line("SELECT schedule, time_zone, enabled, timeout FROM audit_jobs WHERE name = 'prune'"),
        "5 4 * * *|Europe/Berlin|t|00:10:00"
    );
    let (_, notices) = called(&database, "SELECT audit_job_set('prune', timeout => '3 minutes')");
    assert!(notices.starts_with("job \"prune\" runs next at "), "{notices}");
    assert_eq!(
        called(&database, "SELECT audit_job_set('prune', timeout => '3 minutes')").1,
        "",
        "nothing changed"
    );
    for (code, call, message) in [
        (
            "ZA022",
            "'prone'",
            "there is no job \"prone\" / The jobs there are: anchor, anchor_check, checkpoint, drift, duties, pins, prune, tripwire.",
        ),
        (
            "ZA009",
            "NULL",
            "the name of the job is NULL / The jobs there are: anchor, anchor_check, checkpoint, drift, duties, pins, prune, tripwire.",
        ),
        (
            "ZA021",
            "'prune', '0 0 30 2 *'",
            "schedule \"0 0 30 2 *\" never comes / Look at the day and the month: is there such a day?",
        ),
        (
            "ZA009",
            "'prune', timeout => '0'",
            "timeout 00:00:00 is not 1 second to 7 days / Leave it out, and it stays as it is.",
        ),
        (
            "ZA009",
            "'prune', enabled => false",
            "disabling job \"prune\" needs a note / Say why it does not run any more.",
        ),
        (
            "ZA009",
            "'prune', enabled => false, note => ' '",
            "disabling job \"prune\" needs a note / Say why it does not run any more.",
        ),
    ] {
        assert_eq!(refused(&mut client, code, &format!("SELECT audit_job_set({call})")), message);
    }
    client.refused("ZA021", "SELECT audit_job_set('prune', '* * * *')");
    client.refused("ZA021", "SELECT audit_job_set('prune', time_zone => 'Europe/Atlantis')");
    let (next, notices) =
        called(&database, "SELECT audit_job_set('prune', enabled => false, note => 'the disk is slow')");
    assert_eq!(next, "~");
    assert!(
        notices.starts_with(
            "job \"prune\" does not run by itself any more, and an alert says so until it is enabled"
        ),
        "{notices}"
    );
    let alert = "SELECT severity, state, message FROM audit_alerts WHERE kind = 'job_disabled' AND fingerprint = 'job_disabled:prune'";
    assert_eq!(client.line(alert), "2|open|job \"prune\" was disabled by postgres: the disk is slow");
    // Its schedule is changed meanwhile, and the alert stays.
    client.run("SELECT audit_job_set('prune', '@daily')");
    assert_eq!(client.line(alert), "2|open|job \"prune\" was disabled by postgres: the disk is slow");
    client.run("SELECT audit_job_set('prune', enabled => true)");
    assert_eq!(client.line(alert), "2|resolved|job \"prune\" was disabled by postgres: the disk is slow");
    assert_eq!(
        events(&mut client),
        [
            "job.changed|info|prune",
            "job.changed|info|prune",
            "job.changed|high|prune",
            "job.changed|info|prune",
            "job.changed|info|prune"
        ]
    );
    assert_eq!(
        client.line("SELECT details ->> 'by', details ->> 'note', details -> 'is' ->> 'enabled' FROM audit_events WHERE action = 'job.changed' AND severity = 'high'"),
        "postgres|the disk is slow|false"
    );
    assert_eq!(
        refused(&mut client, "ZA009", "SELECT audit_job_scheduler('cron')"),
        "there is no scheduler \"cron\" / SELECT audit_job_scheduler('pg_cron') or SELECT audit_job_scheduler('worker')."
    );
    assert_eq!(client.line("SELECT audit_job_scheduler('worker')"), "0", "it has them all");
}

#[test]
fn a_job_run_by_an_operator_runs_as_the_owner_and_says_how_it_went() {
    let database = Database::audited("set_run");
    let mut client = database.client();
    let mut operator = database.client_as(&database.on_duty("operator"));
    assert_eq!(
        operator.line("SELECT * FROM audit_job_run('prune')"),
        r#"prune|succeeded|1|{"runs_removed": 0, "deliveries_removed": 0}|~"#
    );
    assert_eq!(
        refused(&mut operator, "ZA022", "SELECT * FROM audit_job_run('prone')"),
        "there is no job \"prone\" / The jobs there are: anchor, anchor_check, checkpoint, drift, duties, pins, prune, tripwire."
    );
    operator.refused("ZA009", "SELECT * FROM audit_job_run(NULL)");
    operator.refused("42501", "SELECT audit_job_scheduler('worker')");
    let mut holder = database.client();
    holder.run("BEGIN; SELECT zeroauth_audit_internal.job_lock('prune')");
    assert_eq!(
        refused(&mut operator, "ZA023", "SELECT * FROM audit_job_run('prune')"),
        "job \"prune\" is running already / Try again when it has ended: SELECT * FROM audit_job_runs WHERE job = 'prune' AND status = 'running'."
    );
    holder.run("ROLLBACK");
    client.run("SET LOCAL zeroauth_audit.maintenance = on; CREATE FUNCTION zeroauth_audit_internal.job_bad() RETURNS jsonb LANGUAGE plpgsql AS $f$ BEGIN PERFORM 1 / 0; RETURN NULL; END $f$; INSERT INTO zeroauth_audit_internal.jobs (name, schedule) VALUES ('bad', '@daily')");
    assert_eq!(operator.line("SELECT * FROM audit_job_run('bad')"), "bad|failed|1|{}|division by zero");
    assert_eq!(
        client.lines("SELECT job, status, run_by, error_code FROM audit_job_runs ORDER BY id"),
        ["prune|succeeded|session|~", "bad|failed|session|22012"]
    );
}

#[test]
fn what_is_delivered_is_forgotten_30_days_later_but_not_before_the_alert_is_over() {
    let database = Database::audited("set_prune");
    let mut client = database.client();
    client.run("SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.alert_routes (name, kind, url_file) VALUES ('a', 'alertmanager', '/x');
        SELECT zeroauth_audit_internal.raise_alert('gap', 2::smallint, NULL, 'gap:' || i, 'm', '{}') FROM generate_series(1, 3) i;
        SELECT zeroauth_audit_internal.resolve_alert('gap:' || i, 'gone') FROM generate_series(1, 2) i;
        UPDATE zeroauth_audit_internal.alert_deliveries SET state = 'delivered', delivered_at = now() - CASE fingerprint WHEN 'gap:2' THEN interval '29 days' ELSE interval '31 days' END WHERE what = 'raised' OR fingerprint = 'gap:1'");
    assert_eq!(
        client.line("SELECT summary FROM audit_job_run('prune')"),
        r#"{"runs_removed": 0, "deliveries_removed": 2}"#
    );
    assert_eq!(
        client.lines(
            "SELECT fingerprint, what, state FROM zeroauth_audit_internal.alert_deliveries ORDER BY id"
        ),
        ["gap:2|raised|delivered", "gap:3|raised|delivered", "gap:2|resolved|pending"]
    );
}

#[test]
fn a_tenant_is_checked_as_far_as_somebody_says() {
    let database = Database::audited("set_tenant");
    let mut client = database.client();
    let (result, notices) = called(&database, "SELECT audit_tenant_set('acme', 5000)");
    assert_eq!(result, "created");
    assert!(
        notices.starts_with("the next run of the job drift recomputes the newest 5000 events of this tenant"),
        "{notices}"
    );
    assert_eq!(called(&database, "SELECT audit_tenant_set('acme', 5000)").0, "unchanged");
    assert_eq!(
        client.line(
            "SELECT tenant_id, drift_rows, events, checked_at FROM audit_tenants WHERE tenant_id = 'acme'"
        ),
        "acme|5000|0|~"
    );
    assert_eq!(called(&database, "SELECT audit_tenant_set('acme', NULL)").0, "changed");
    assert_eq!(client.line("SELECT drift_rows FROM audit_tenants WHERE tenant_id = 'acme'"), "~");
    for (call, message) in [
        (
            "NULL, 5",
            "the name of the tenant is NULL / SELECT tenant_id FROM audit_tenants shows those that there are.",
        ),
        (
            "'', 5",
            "a tenant's name has 1 to 128 bytes, not 0 / SELECT tenant_id FROM audit_tenants shows those that there are.",
        ),
        (
            "repeat('é', 65), 5",
            "a tenant's name has 1 to 128 bytes, not 130 / SELECT tenant_id FROM audit_tenants shows those that there are.",
        ),
        ("'acme', 0", "drift_rows 0 is not 1 to 100000 / NULL is the setting zeroauth_audit.drift_rows."),
        (
            "'acme', 100001",
            "drift_rows 100001 is not 1 to 100000 / NULL is the setting zeroauth_audit.drift_rows.",
        ),
    ] {
        assert_eq!(refused(&mut client, "ZA009", &format!("SELECT audit_tenant_set({call})")), message);
    }
    assert_eq!(events(&mut client), ["tenant.changed|info|acme", "tenant.changed|info|acme"]);
}

#[test]
fn a_target_is_created_changed_and_dropped_unless_it_has_anchors() {
    let database = Database::audited("set_target");
    let mut client = database.client();
    let key = server_file(
        shared(),
        "set_target.key",
        &SigningKey::from_seed("log.example", &[1; 32]).unwrap().to_key_file(),
    );
    let place = folder(shared(), "set_target");
    let config = format!(r#"{{"path": "{}/anchors", "key_file": "{}"}}"#, place.display(), key.display());
    let (result, notices) =
        called(&database, &format!("SELECT audit_anchor_target_set('worm', 'file', '{config}')"));
    assert_eq!(result, "created");
    assert!(notices.starts_with("anchor target \"worm\" is part of the next anchor, at "), "{notices}");
    assert_eq!(
        called(&database, &format!("SELECT audit_anchor_target_set('worm', config => '{config}')")).0,
        "unchanged"
    );
    assert_eq!(
        client.line("SELECT kind, enabled, state, batch FROM audit_anchor_targets WHERE name = 'worm'"),
        "file|t|unused|~"
    );
    let (result, notices) = called(&database, "SELECT audit_anchor_target_set('worm', enabled => false)");
    assert_eq!(result, "changed");
    assert!(
        notices.starts_with("nothing is anchored at target \"worm\" any more; what was anchored stays"),
        "{notices}"
    );
    client.run("SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.anchor_batches (target, epoch, origin, log_id, root, size, batch_time, machine) VALUES ('worm', 1, 'o', sha256(''), sha256(''), 1, now(), '{}')");
    assert_eq!(
        refused(&mut client, "ZA061", "SELECT audit_anchor_target_drop('worm', 'sold')"),
        "anchor target \"worm\" has anchors / What was anchored there is checked by its row. Disable it instead: SELECT audit_anchor_target_set('worm', enabled => false);"
    );
    client
        .run("SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM zeroauth_audit_internal.anchor_batches");
    assert_eq!(
        called(&database, "SELECT audit_anchor_target_drop('worm', 'sold')"),
        ("dropped".into(), "nothing is anchored at target \"worm\" any more".into())
    );
    assert_eq!(
        events(&mut client),
        [
            "anchor.target_created|info|worm",
            "anchor.target_disabled|high|worm/0",
            "anchor.target_changed|high|worm",
            "anchor.target_dropped|high|worm"
        ]
    );
    let hint = "docs/anchors.md lists the fields of each kind.";
    let plain = server_file(shared(), "set_target_plain.url", "http://timestamp.example.net/\n");
    let plain_password =
        server_file(shared(), "set_target_password.url", "http://ann:pa55@timestamp.example.net/\n");
    // Most public authorities have no https, and a token is signed.
    let root = rcgen::generate_simple_self_signed(["tsa.example".to_owned()]).unwrap().cert.pem();
    let root = server_file(shared(), "set_target_root.pem", &root);
    let stamp = format!(r#"{{"url_file": "{}", "authorities_file": "{}"}}"#, plain.display(), root.display());
    assert_eq!(
        called(&database, &format!("SELECT audit_anchor_target_set('stamp', 'rfc3161', '{stamp}')")).0,
        "created"
    );
    client.run("SELECT audit_anchor_target_drop('stamp', 'a test')");
    for (kind, config, message) in [
        ("file", r#"{"path": "anchors"}"#.to_owned(), format!("has a path that is not absolute / {hint}")),
        ("file", r#"{"key": "PRIVATE+KEY+s3cret"}"#.into(), format!("unknown field \"key\", expected one of \"path\", \"key_file\", \"earlier_keys\" / {hint}")),
        ("file", format!(r#"{{"path": "/no/such/folder/anchors", "key_file": "{}"}}"#, key.display()), format!("field \"path\": cannot make the anchor file: No such file or directory (os error 2) / {FILE_HINT}")),
        ("file", r#"{"key_file": "/no/such/key"}"#.into(), format!("field \"key_file\": cannot open the key file: No such file or directory (os error 2) / {FILE_HINT}")),
        ("evm", "{}".into(), format!("missing field \"chain_id\" / {hint}")),
        ("evm", r#"{"chain_id": 1, "contract": "0x5fbdb2315678afecb367f032d93f642f64180aa3", "rpc_url_files": ["/no/such/url", "/no/other"], "signer": {"kind": "raw", "key_file": "/no/such/key"}}"#.into(), format!("field \"rpc_url_files\": cannot open the URL file: No such file or directory (os error 2) / {FILE_HINT}")),
        ("rfc3161", r#"{"url_file": "tsa.url", "authorities_file": "/a"}"#.into(), format!("field \"url_file\": the path of the URL file is not absolute / {FILE_HINT}")),
        ("rfc3161", format!(r#"{{"url_file": "{}", "authorities_file": "{}"}}"#, plain_password.display(), key.display()), format!("field \"url_file\": the URL is http:// and has a user or password, which anyone on the way could read: use https:// / {FILE_HINT}")),
        ("evm", format!(r#"{{"chain_id": 1, "contract": "0x5fbdb2315678afecb367f032d93f642f64180aa3", "rpc_url_files": ["{}", "/no/other"], "signer": {{"kind": "raw", "key_file": "/no/such/key"}}}}"#, plain.display()), format!("field \"rpc_url_files\": the URL is not https:// (http:// is for loopback addresses only) / {FILE_HINT}")),
        ("pigeon", "{}".into(), "there is no kind \"pigeon\" / The kinds: evm, file, rfc3161.".into()),
    ] {
        let sql = format!("SELECT audit_anchor_target_set('t', '{kind}', '{config}')");
        assert_eq!(refused(&mut client, "ZA060", &sql), format!("anchor target \"t\": {message}"));
    }
    for (code, sql, message) in [
        (
            "ZA005",
            "SELECT audit_anchor_target_set('t', 'file')",
            r#"there is no anchor target "t" / A new one needs kind and config: SELECT audit_anchor_target_set('t', 'file', '{"path": "/mnt/worm/anchors"}');"#,
        ),
        (
            "ZA005",
            "SELECT audit_anchor_target_drop('t', 'x')",
            "there is no anchor target \"t\" / SELECT name FROM audit_anchor_targets shows those that there are.",
        ),
        (
            "ZA009",
            "SELECT audit_anchor_target_drop('file', '')",
            "dropping an anchor target needs a note / Say why nothing is anchored there any more.",
        ),
        (
            "ZA005",
            "SELECT audit_anchor_retry('t')",
            "there is no anchor target \"t\" / SELECT name FROM audit_anchor_targets shows those that there are.",
        ),
        (
            "ZA009",
            "SELECT audit_anchor_retry(NULL)",
            "the name of the anchor target is NULL / Every call is about one, by its name.",
        ),
    ] {
        assert_eq!(refused(&mut client, code, sql), message);
    }
    assert_eq!(client.line("SELECT audit_anchor_retry('file')"), "0");
}

#[test]
fn what_is_set_comes_back_from_a_dump_switched_off_where_a_copy_would_publish() {
    let (from, to) = (Database::audited("set_dump"), Database::empty("set_dump_to"));
    let mut client = from.client();
    let place = folder(shared(), "set_dump");
    client.run(&format!(r#"SELECT audit_sink_set('worm', 'directory', '{{"directory": "{}"}}'); SELECT audit_job_set('prune', '5 4 * * *'); SELECT audit_tenant_set('acme', 77)"#, place.display()));
    client.run("UPDATE zeroauth_audit_internal.sinks SET published_to = 7, last_success = now()");
    let dump = crate::support::succeed(shared().command("pg_dump").arg(&from.name));
    let restored = shared().psql(&to.name, &dump).unwrap();
    assert!(restored.status.success(), "{}", restored.stderr);
    let mut copy = to.client();
    assert_eq!(
        copy.line("SELECT name, enabled, state, config ->> 'directory' FROM audit_sinks"),
        format!("worm|f|off|{}", place.display())
    );
    assert_eq!(copy.line("SELECT enabled, disabled_because FROM audit_anchor_targets"), "f|restored");
    assert_eq!(copy.line("SELECT schedule FROM audit_jobs WHERE name = 'prune'"), "5 4 * * *");
    assert_eq!(copy.line("SELECT drift_rows FROM audit_tenants WHERE tenant_id = 'acme'"), "77");
    assert_eq!(
        copy.line(
            "SELECT audit_sink_set('worm', enabled => true), audit_anchor_target_set('file', enabled => true)"
        ),
        "changed|changed"
    );
}
