//! Jobs: when they run, what is recorded, that one does not hold up another, and that a change of a schedule counts at once.

use postgres::Client;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::worker::{ENDS, OFF_IS_KNOWN, ONLY_PRUNE, STARTS, timed, watcher, worker_after};
use crate::support::{DEADLINE, Database, Sql, pages};

/// A server with the extension, and jobs of the test's own beside it.
fn cluster(name: &str, jobs: &str) -> Cluster {
    let cluster = Cluster::builder(name).conf("fsync", "off").start().unwrap();
    let mut client = cluster.client();
    // Jobs begin with the first event. In one transaction: the worker is not to find some of it.
    client.run(&format!("CREATE EXTENSION zeroauth_audit; DELETE FROM zeroauth_audit_internal.jobs WHERE name <> 'prune'; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'first'); CREATE TABLE did (job text, at timestamptz DEFAULT clock_timestamp(), who text DEFAULT current_user); {jobs}"));
    cluster
}

/// A function that is a job, where the extension has its own.
fn job(name: &str, body: &str) -> String {
    format!(
        "SET LOCAL zeroauth_audit.maintenance = on; CREATE FUNCTION zeroauth_audit_internal.job_{name}() RETURNS jsonb LANGUAGE plpgsql SET search_path = public AS $f$ BEGIN {body} END $f$; INSERT INTO zeroauth_audit_internal.jobs (name, schedule) VALUES ('{name}', '0 0 1 1 *');"
    )
}

/// Makes a job due.
fn due(client: &mut Client, name: &str) {
    client.run(&format!(
        "UPDATE zeroauth_audit_internal.jobs SET next_run = '2020-01-01 00:00:00+00' WHERE name = '{name}'"
    ));
}

#[track_caller]
fn ended(client: &mut Client, name: &str) -> String {
    let sql = format!(
        "SELECT status, run_by, steps, summary, coalesce(error_code, '-'), coalesce(error, '-') FROM zeroauth_audit_internal.job_runs WHERE job = '{name}' AND finished_at IS NOT NULL ORDER BY id DESC LIMIT 1"
    );
    wait_until(DEADLINE, &format!("a run of {name} to end"), || !client.lines(&sql).is_empty());
    client.line(&sql)
}

#[test]
fn a_due_job_runs_at_once_once_and_in_steps() {
    let counting = "INSERT INTO did VALUES ('count'); RETURN jsonb_build_object('more', (SELECT count(*) FROM did) < 3, 'pause_ms', 1, 'done', jsonb_build_object('rows', 10, 'last', 'x'));";
    let cluster = cluster("jobs_due", &job("count", counting));
    let mut client = cluster.client();
    worker_after(&mut watcher(&cluster), "audit", None);
    // The changed row wakes the worker, which would else sleep for minutes.
    due(&mut client, "count");
    wait_until(DEADLINE, "the run", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE status = 'succeeded'") == "1"
    });
    assert_eq!(ended(&mut client, "count"), r#"succeeded|worker|3|{"last": "x", "rows": 30}|-|-"#);
    // Years were missed: made up by this one run, and the next is in the future.
    assert_eq!(
        client.line("SELECT next_run > now(), overdue_at > next_run, last_success IS NOT NULL, (SELECT scheduled_for = '2020-01-01 00:00:00+00' FROM zeroauth_audit_internal.job_runs) FROM zeroauth_audit_internal.jobs WHERE name = 'count'"),
        "t|t|t|t"
    );
    assert_eq!(client.line("SELECT count(*), count(DISTINCT at), min(who) FROM did"), "3|3|postgres");
}

#[test]
fn a_job_that_fails_or_hangs_is_recorded_and_delays_no_other() {
    let jobs = job("broken", "RAISE EXCEPTION USING ERRCODE = 'ZA999', MESSAGE = 'it broke';")
        + &job("hanging", "PERFORM pg_sleep(600); RETURN '{}';")
        + &job("endless", "RETURN '{\"more\": true, \"pause_ms\": 0}';")
        + &job("fine", "INSERT INTO did VALUES ('fine'); RETURN '{\"more\": false}';");
    let cluster = cluster("jobs_fail", &jobs);
    let mut client = cluster.client();
    client.run(
        "UPDATE zeroauth_audit_internal.jobs SET timeout = '2 seconds' WHERE name IN ('hanging', 'endless')",
    );
    for name in ["broken", "endless", "fine"] {
        due(&mut client, name);
    }
    assert_eq!(ended(&mut client, "broken"), "failed|worker|1|{}|ZA999|it broke");
    assert_eq!(ended(&mut client, "fine"), "succeeded|worker|1|{}|-|-");
    assert!(ended(&mut client, "endless").starts_with("timed_out|worker|"));
    assert!(
        client.line("SELECT f.finished_at < e.finished_at FROM zeroauth_audit_internal.job_runs f, zeroauth_audit_internal.job_runs e WHERE f.job = 'fine' AND e.job = 'endless'") == "t",
        "an endless job does not keep another waiting"
    );
    due(&mut client, "hanging");
    assert_eq!(
        ended(&mut client, "hanging"),
        "timed_out|worker|1|{}|57014|the run took longer than its timeout"
    );
    assert!(
        cluster.log().contains(r#"zeroauth_audit: {"event":"job_failed","job":"broken","run":"#),
        "{}",
        cluster.log()
    );
    // It goes on with the next.
    due(&mut client, "fine");
    wait_until(DEADLINE, "another run", || client.line("SELECT count(*) FROM did") == "2");
}

#[test]
fn a_change_of_the_schedule_counts_at_its_commit() {
    let cluster = cluster("jobs_change", &job("minute", "INSERT INTO did VALUES ('minute'); RETURN '{}';"));
    let mut client = cluster.client();
    let mut watcher = watcher(&cluster);
    let pid = worker_after(&mut watcher, "audit", None);
    client.run("SELECT audit_job_set('minute', '* * * * *', 'Asia/Kolkata')");
    assert_eq!(client.line("SELECT next_run - date_trunc('minute', clock_timestamp()) IN ('1 minute', '0'), overdue_at = next_run + interval '1 minute' FROM zeroauth_audit_internal.jobs WHERE name = 'minute'"), "t|t");
    let shown = format!("SELECT query FROM pg_stat_activity WHERE pid = {pid}");
    wait_until(STARTS, "the worker to plan anew", || watcher.line(&shown) == "waiting for job minute");
    client.run("SELECT audit_job_set('minute', enabled => false, note => 'enough')");
    assert_eq!(
        client.line("SELECT next_run, overdue_at FROM zeroauth_audit_internal.jobs WHERE name = 'minute'"),
        "~|~"
    );
    wait_until(STARTS, "the worker to plan anew", || watcher.line(&shown) == "waiting for job prune");
    client.run("DELETE FROM zeroauth_audit_internal.jobs");
    wait_until(STARTS, "the worker to plan anew", || watcher.line(&shown) == "waiting, no job is scheduled");
}

#[test]
fn what_is_no_schedule_or_no_job_is_refused_where_it_is_written() {
    let database = Database::audited("jobs_refused");
    let mut client = database.client();
    client.run(ONLY_PRUNE);
    for (set, code) in [
        ("schedule = '* * * *'", "ZA021"),
        ("schedule = '61 * * * *'", "ZA021"),
        ("schedule = '0 0 30 2 *'", "ZA021"),
        ("schedule = '@reboot'", "ZA021"),
        ("time_zone = 'Europe/Atlantis'", "ZA021"),
        ("time_zone = '+02'", "ZA021"),
        ("name = 'nobody'", "ZA022"),
        ("timeout = '0'", "23514"),
        ("timeout = '8 days'", "23514"),
        ("scheduler = 'cron'", "23514"),
    ] {
        let refusal = client
            .refused(code, &format!("UPDATE zeroauth_audit_internal.jobs SET {set} WHERE name = 'prune'"));
        assert!(code == "23514" || !refusal.hint.is_empty(), "{refusal:?}");
    }
    client.refused(
        "ZA022",
        "INSERT INTO zeroauth_audit_internal.jobs (name, schedule) VALUES ('other', '@daily')",
    );
    client.refused("ZA022", "SELECT zeroauth_audit_internal.run_job('other')");
    assert_eq!(
        client.line("SELECT name, schedule, time_zone, enabled, scheduler, next_run > now() FROM zeroauth_audit_internal.jobs WHERE name = 'prune'"),
        "prune|17 3 * * *|UTC|t|worker|t"
    );
    // Summer time is the schedule's own affair.
    assert_eq!(
        client.line("SELECT zeroauth_audit_internal.schedule_next('30 2 * * *', 'Europe/Berlin', '2025-03-29 12:00:00+00')"),
        "2025-03-30 01:00:00+00"
    );
}

#[test]
fn a_job_run_by_hand_returns_its_result_and_runs_once_at_a_time() {
    let cluster = cluster(
        "jobs_hand",
        &(job(
            "slow",
            "PERFORM pg_advisory_xact_lock(1); INSERT INTO did VALUES ('slow'); RETURN '{\"more\": false, \"done\": {\"rows\": 7}}';",
        ) + &job("bad", "PERFORM 1 / 0; RETURN NULL;")),
    );
    let mut client = cluster.client();
    assert_eq!(
        client.line("SELECT r ->> 'status', r ->> 'steps', r -> 'summary' FROM zeroauth_audit_internal.run_job('slow') r"),
        r#"succeeded|1|{"rows": 7}"#
    );
    assert_eq!(
        client.line(
            "SELECT r ->> 'status', r ->> 'code', r ->> 'error' FROM zeroauth_audit_internal.run_job('bad') r"
        ),
        "failed|22012|division by zero"
    );
    assert_eq!(
        client.lines(
            "SELECT job, status, run_by, scheduled_for FROM zeroauth_audit_internal.job_runs ORDER BY id"
        ),
        ["slow|succeeded|session|~", "bad|failed|session|~"]
    );
    // The worker runs it: a session is told so, and the other way round the worker skips.
    let mut holder = cluster.client();
    holder.run("SELECT pg_advisory_lock(1)");
    due(&mut client, "slow");
    wait_until(DEADLINE, "the run to begin", || {
        client.line(
            "SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'slow' AND status = 'running'",
        ) == "1"
    });
    client.refused("ZA023", "SELECT zeroauth_audit_internal.run_job('slow')");
    holder.run("SELECT pg_advisory_unlock(1)");
    wait_until(DEADLINE, "the run to end", || {
        client.line(
            "SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'slow' AND status = 'running'",
        ) == "0"
    });
    holder.run("BEGIN; SELECT zeroauth_audit_internal.job_lock('slow')");
    due(&mut client, "slow");
    wait_until(DEADLINE, "the skipped run", || ended(&mut client, "slow").starts_with("skipped|worker|0"));
    holder.run("COMMIT");
    assert_eq!(
        client.line("SELECT r ->> 'status' FROM zeroauth_audit_internal.run_job('slow') r"),
        "succeeded"
    );
}

#[test]
fn a_run_that_the_worker_could_not_end_is_settled_by_the_next() {
    let cluster = cluster("jobs_settle", &job("long", "PERFORM pg_sleep(600); RETURN NULL;"));
    let mut client = cluster.client();
    let mut watcher = watcher(&cluster);
    let pid = worker_after(&mut watcher, "audit", None);
    due(&mut client, "long");
    let shown = format!("SELECT state, query FROM pg_stat_activity WHERE pid = {pid}");
    wait_until(DEADLINE, "the job to run", || watcher.line(&shown) == "active|running job long, step 1");
    // A fast shutdown does not wait for it.
    assert!(timed(|| cluster.shut_down().unwrap()) < ENDS);
    cluster.start_again().unwrap();
    let mut client = cluster.client();
    assert_eq!(ended(&mut client, "long"), "failed|worker|0|{}|57P01|the worker ended during this run");
    // Dropping the extension does not wait for a running job either.
    due(&mut client, "long");
    wait_until(DEADLINE, "the job to run", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE status = 'running'") == "1"
    });
    client.run("DROP FUNCTION zeroauth_audit_internal.job_long()");
    assert!(
        timed(|| client.run("SET zeroauth_audit.maintenance = on; DROP EXTENSION zeroauth_audit")) < ENDS
    );
}

#[test]
fn a_running_job_blocks_no_drop_of_its_database() {
    let cluster = cluster("jobs_drop", "");
    let mut watcher = watcher(&cluster);
    watcher.run("CREATE DATABASE busy");
    let mut client = cluster.connect("postgres", "busy").unwrap();
    client.run("CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'first')");
    client.run(&job("long", "PERFORM pg_sleep(600); RETURN NULL;"));
    worker_after(&mut watcher, "busy", None);
    due(&mut client, "long");
    wait_until(DEADLINE, "the job to run", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE status = 'running'") == "1"
    });
    drop(client);
    assert!(timed(|| watcher.run("DROP DATABASE busy")) < ENDS);
}

#[test]
fn nothing_of_a_user_runs_with_more_than_the_owners_rights() {
    let spy = "CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO did (job, who) VALUES ('spy', session_user || '/' || current_user); BEGIN SET SESSION AUTHORIZATION postgres; EXCEPTION WHEN OTHERS THEN INSERT INTO did (job) VALUES (SQLSTATE); END; RETURN NULL; END $f$;
               CREATE TRIGGER spy AFTER INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION spy();";
    let cluster = cluster(
        "jobs_rights",
        &(spy.to_owned()
            + &job(
                "writes",
                "INSERT INTO public.audit_events (tenant_id, action) VALUES ('acme', 'x'); RETURN NULL;",
            )),
    );
    let mut client = cluster.client();
    client.run("CREATE ROLE owner SUPERUSER; UPDATE pg_extension SET extowner = 'owner'::regrole WHERE extname = 'zeroauth_audit'; ALTER FUNCTION spy() SET search_path = public");
    due(&mut client, "writes");
    assert!(ended(&mut client, "writes").starts_with("succeeded"));
    assert_eq!(client.lines("SELECT job, who FROM did ORDER BY at"), ["spy|postgres/owner", "42501|owner"]);
}

#[test]
fn health_says_what_is_wrong_and_stops_saying_it() {
    let cluster = cluster(
        "jobs_health",
        &job("late", "RETURN jsonb_build_object('more', 1 / (SELECT count(*) FROM did) < 0);"),
    );
    let mut client = cluster.client();
    // A worker that starts looks at the tripwires at once, and the job of the test is nothing that an installation has.
    worker_after(&mut watcher(&cluster), "audit", None);
    // Not due while the test runs; what it does under maintenance is no matter here.
    client.run("INSERT INTO zeroauth_audit_internal.jobs (name, schedule) VALUES ('tripwire', '0 0 1 1 *'), ('checkpoint', '0 0 1 1 *')");
    // That the other jobs are not there is known.
    client.run(OFF_IS_KNOWN);
    // The worker tells people of the late job, sooner or later than this is asked.
    let health = "SELECT h ->> 'state', (h -> 'reasons') - 'alerts_open:2', h #> '{worker,alive}', h #> '{jobs,jobs,late,overdue}', h #>> '{database,version}' FROM audit_health() h";
    assert_eq!(client.line(health), "ok|[]|true|false|0.1.0");
    client.run("UPDATE zeroauth_audit_internal.jobs SET overdue_at = now() WHERE name = 'late'");
    assert_eq!(client.line(health), r#"failing|["job_overdue:late"]|true|true|0.1.0"#);
    due(&mut client, "late");
    assert!(ended(&mut client, "late").starts_with("failed|worker|1|{}|22012"));
    assert_eq!(client.line(health), r#"failing|["job_overdue:late"]|true|true|0.1.0"#);
    client.run("INSERT INTO did VALUES ('x')");
    due(&mut client, "late");
    wait_until(DEADLINE, "the success", || client.line(health) == "ok|[]|true|false|0.1.0");
    client.run("SET zeroauth_audit.maintenance = on");
    assert_eq!(client.line(health), r#"degraded|["maintenance_open"]|true|false|0.1.0"#);
    client.run("RESET zeroauth_audit.maintenance");
    client.run("CREATE ROLE probe LOGIN; SELECT audit_grant('probe', 'monitor')");
    let mut probe = cluster.connect("probe", "audit").unwrap();
    assert_eq!(probe.line("SELECT audit_health() ->> 'state'"), "ok");
    for sql in [
        "UPDATE zeroauth_audit_internal.jobs SET enabled = false",
        "SELECT zeroauth_audit_internal.run_job('late')",
        "SELECT * FROM audit_events",
    ] {
        probe.refused("42501", sql);
    }
    // Cheap enough to be asked every second.
    let looked_at = pages(&mut probe, "SELECT audit_health()");
    assert!(looked_at < 500, "{looked_at}");
    // Nobody there: said from any session.
    let off = Cluster::builder("jobs_health_off")
        .conf("fsync", "off")
        .conf("zeroauth_audit.worker", "off")
        .start()
        .unwrap();
    off.client().run("CREATE EXTENSION zeroauth_audit");
    assert_eq!(
        off.client().line("SELECT h ->> 'state', h -> 'reasons' FROM audit_health() h"),
        r#"degraded|["worker_off"]"#
    );
}

#[test]
fn an_overdue_job_raises_an_alert_and_its_success_resolves_it() {
    // The alerts themselves are another part's: what is checked is what that part is told.
    let alerts = "SET LOCAL zeroauth_audit.maintenance = on; CREATE TABLE message (what text);
        DO $d$ BEGIN
          IF to_regprocedure('zeroauth_audit_internal.raise_alert(text,smallint,text,text,text,jsonb)') IS NULL THEN
            CREATE FUNCTION zeroauth_audit_internal.raise_alert(kind text, severity smallint, tenant text, fingerprint text, message text, evidence jsonb) RETURNS bigint LANGUAGE sql AS
              $f$ INSERT INTO public.message VALUES ('raise ' || kind || ' ' || severity || ' ' || fingerprint || ' ' || (evidence ->> 'job')); SELECT 1::bigint $f$;
            CREATE FUNCTION zeroauth_audit_internal.resolve_alert(fingerprint text, note text) RETURNS boolean LANGUAGE sql AS
              $f$ INSERT INTO public.message VALUES ('resolve ' || fingerprint); SELECT true $f$;
          ELSE
            CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
              INSERT INTO public.message VALUES (CASE WHEN NEW.state = 'resolved' THEN 'resolve ' || NEW.fingerprint ELSE 'raise ' || NEW.kind || ' ' || NEW.severity || ' ' || NEW.fingerprint || ' ' || (NEW.evidence ->> 'job') END); RETURN NULL; END $f$;
            CREATE TRIGGER tell AFTER INSERT OR UPDATE ON zeroauth_audit_internal.alerts FOR EACH ROW EXECUTE FUNCTION tell();
          END IF;
        END $d$;";
    let cluster = cluster("jobs_overdue", &(alerts.to_owned() + &job("late", "RETURN NULL;")));
    let mut client = cluster.client();
    worker_after(&mut watcher(&cluster), "audit", None);
    client.run(
        "UPDATE zeroauth_audit_internal.jobs SET overdue_at = clock_timestamp() + interval '1 second' WHERE name = 'late'",
    );
    wait_until(DEADLINE, "the alert", || {
        client.lines("SELECT DISTINCT what FROM message WHERE what LIKE '%job_overdue%'")
            == ["raise job_overdue 2 job_overdue:late late"]
    });
    due(&mut client, "late");
    wait_until(DEADLINE, "its resolution", || {
        client.line("SELECT count(*) FROM message WHERE what = 'resolve job_overdue:late'") != "0"
    });
}

#[test]
fn a_worker_that_starts_after_a_long_time_makes_up_once_and_raises_nothing() {
    let cluster = cluster("jobs_down", &job("often", "INSERT INTO did VALUES ('often'); RETURN NULL;"));
    let mut client = cluster.client();
    worker_after(&mut watcher(&cluster), "audit", None);
    client.run("UPDATE zeroauth_audit_internal.jobs SET schedule = '0 * * * *' WHERE name = 'often'");
    client.run("ALTER SYSTEM SET zeroauth_audit.worker = off");
    cluster.restart().unwrap();
    // Down for two days: the same as a table that is two days behind.
    let mut client = cluster.client();
    client.run("UPDATE zeroauth_audit_internal.jobs SET next_run = next_run - interval '2 days', last_success = now() - interval '2 days', overdue_at = now() - interval '2 days' WHERE name = 'often'");
    client.run("ALTER SYSTEM RESET zeroauth_audit.worker");
    cluster.restart().unwrap();
    let mut client = cluster.client();
    wait_until(DEADLINE, "the run", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE status = 'succeeded'") != "0"
    });
    assert_eq!(client.line("SELECT count(*), bool_and(overdue_at > now()), bool_and(next_run > now()) FROM zeroauth_audit_internal.jobs WHERE name = 'often'"), "1|t|t");
    assert_eq!(
        client.line("SELECT count(*) FROM did"),
        client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'often'")
    );
}

#[test]
fn the_history_of_runs_is_pruned_by_its_rule() {
    let database = Database::audited("jobs_prune");
    let mut client = database.client();
    client.run("SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.job_runs (job, run_by, status, started_at, finished_at) SELECT 'busy', 'worker', 'succeeded', now() - i * interval '10 minutes', now() - i * interval '10 minutes' FROM generate_series(1, 8000) i;
                INSERT INTO zeroauth_audit_internal.job_runs (job, run_by, status, started_at, finished_at) SELECT 'rare', 'worker', 'succeeded', now() - i * interval '30 days', now() - i * interval '30 days' FROM generate_series(1, 120) i");
    assert_eq!(
        client.line("SELECT r ->> 'status', r ->> 'steps', r -> 'summary' FROM zeroauth_audit_internal.run_job('prune') r"),
        r#"succeeded|2|{"runs_removed": 7013, "deliveries_removed": 0}"#
    );
    assert_eq!(
        client.lines("SELECT job, count(*) FROM zeroauth_audit_internal.job_runs WHERE job <> 'prune' GROUP BY 1 ORDER BY 1"),
        ["busy|1007", "rare|100"]
    );
}

#[test]
fn a_dump_brings_the_settings_of_the_jobs_and_their_history() {
    let (from, to) = (Database::audited("jobs_dump"), Database::empty("jobs_dump_to"));
    let mut client = from.client();
    client.run("UPDATE zeroauth_audit_internal.jobs SET schedule = '5 4 * * *', time_zone = 'Europe/Berlin', timeout = '3 minutes' WHERE name = 'prune'; SELECT zeroauth_audit_internal.run_job('prune')");
    let dump = crate::support::shared().command("pg_dump").arg(&from.name).output().unwrap();
    assert!(dump.status.success());
    let restored = crate::support::shared().psql(&to.name, &String::from_utf8(dump.stdout).unwrap()).unwrap();
    assert!(restored.status.success(), "{restored:?}");
    let mut copy = to.client();
    let settings = "SELECT name, schedule, time_zone, timeout, enabled, last_success IS NOT NULL, next_run > now() FROM zeroauth_audit_internal.jobs WHERE name = 'prune'";
    assert_eq!(copy.lines(settings), ["prune|5 4 * * *|Europe/Berlin|00:03:00|t|t|t"]);
    let history = "SELECT id, job, status, summary FROM zeroauth_audit_internal.job_runs ORDER BY id";
    assert_eq!(copy.lines(history), client.lines(history));
    assert_eq!(
        copy.line("SELECT (zeroauth_audit_internal.run_job('prune') ->> 'run')::int"),
        "2",
        "numbers go on"
    );
}

#[test]
fn what_a_wrong_clock_planned_is_planned_anew_and_a_small_step_back_repeats_nothing() {
    let database = Database::audited("jobs_clock");
    let mut client = database.client();
    client.run(ONLY_PRUNE);
    let plan = "SELECT next_run < now() + interval '1 day', overdue_at < now() + interval '2 days' FROM zeroauth_audit_internal.jobs";
    client.run("UPDATE zeroauth_audit_internal.jobs SET next_run = next_run + interval '400 days', overdue_at = overdue_at + interval '400 days'");
    assert_eq!(client.line(plan), "f|f");
    client.run("SELECT zeroauth_audit_internal.job_correct('prune')");
    assert_eq!(client.line(plan), "t|t");
    // The clock went back by 20 hours after the run that was due then: it is not due again.
    client.run("UPDATE zeroauth_audit_internal.jobs SET schedule = '0 * * * *'; UPDATE zeroauth_audit_internal.jobs SET next_run = date_trunc('hour', now()) + interval '21 hours'; SELECT zeroauth_audit_internal.job_correct('prune')");
    assert_eq!(
        client.line("SELECT next_run = date_trunc('hour', now()) + interval '21 hours' FROM zeroauth_audit_internal.jobs"),
        "t"
    );
    // A job whose next run is far away by its schedule stays as it is.
    client.run("UPDATE zeroauth_audit_internal.jobs SET schedule = '0 0 1 1 *'; SELECT zeroauth_audit_internal.job_correct('prune')");
    assert_eq!(
        client.line("SELECT next_run = zeroauth_audit_internal.schedule_next('0 0 1 1 *', 'UTC', now()) FROM zeroauth_audit_internal.jobs"),
        "t"
    );
}
