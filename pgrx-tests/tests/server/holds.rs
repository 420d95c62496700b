//! What holds jobs, and what does not: through the worker, not by calling its jobs.

use postgres::Client;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::worker::{watcher, worker_after};
use crate::support::{DEADLINE, Database, Sql};

const HELD: &str = "SELECT zeroauth_audit_internal.jobs_held()";
/// Every statement of a superuser who wants an hour without checks.
const COPY_ONE: &str =
    "INSERT INTO audit_events SELECT * FROM audit_events WHERE tenant_id = 'acme' AND seq = 1";

fn cluster(name: &str) -> (Cluster, Client) {
    let cluster = Cluster::builder(name).conf("fsync", "off").start().unwrap();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit");
    worker_after(&mut watcher(&cluster), "audit", None);
    (cluster, client)
}

/// Waits until the worker has run a job once more.
#[track_caller]
fn runs_again(client: &mut Client, job: &str) {
    let runs = format!(
        "SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = '{job}' AND status = 'succeeded'"
    );
    let before = client.line(&runs);
    client.run(&format!("UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = '{job}'"));
    wait_until(DEADLINE, &format!("{job} to run"), || client.line(&runs) != before);
}

fn kinds(client: &mut Client) -> String {
    client.line("SELECT coalesce(string_agg(DISTINCT kind, ' ' ORDER BY kind), '') FROM zeroauth_audit_internal.alerts WHERE kind NOT IN ('clock_step', 'settings_written') AND state <> 'resolved'")
}

#[test]
fn pitfall_31_review_1_1_an_emptied_trail_puts_no_watcher_to_sleep() {
    let (_cluster, mut client) = cluster("holds_emptied");
    // Tripwires watch a trail that has no event yet, too.
    assert_eq!(client.line(HELD), "no_events");
    runs_again(&mut client, "tripwire");
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 20)");
    assert_eq!(client.line(HELD), "~");
    wait_until(DEADLINE, "the counters", || {
        client.line("SELECT pg_stat_get_tuples_inserted('audit_events'::regclass) >= 20") == "t"
    });
    runs_again(&mut client, "tripwire");
    client
        .run("SET zeroauth_audit.maintenance = on; TRUNCATE audit_events; RESET zeroauth_audit.maintenance");
    assert_eq!(client.line(HELD), "~", "it is not as if there had been none");
    wait_until(DEADLINE, "what was done to be told", || {
        client.run("UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'tripwire'");
        kinds(&mut client) == "maintenance_used table_rewritten"
    });
    runs_again(&mut client, "checkpoint");
    // Nor do counters that begin anew, nor a log that is emptied.
    client.run("SELECT pg_stat_reset_single_table_counters('audit_events'::regclass); SET zeroauth_audit.maintenance = on; DELETE FROM zeroauth_audit_internal.watermarks; RESET zeroauth_audit.maintenance");
    runs_again(&mut client, "tripwire");
    assert_eq!(client.line(HELD), "~");
}

#[test]
fn red_team_c1_review_1_2_a_copied_or_rolled_back_row_holds_nothing() {
    let database = Database::audited("holds_copied");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 3)");
    let mut other = database.client();
    for sql in [
        format!("{COPY_ONE} ON CONFLICT DO NOTHING"),
        format!("BEGIN; {COPY_ONE} ON CONFLICT DO NOTHING; ROLLBACK"),
        "BEGIN; SET LOCAL zeroauth_audit.maintenance = on; CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM audit_events WHERE seq = 3; DELETE FROM audit_events WHERE seq = 3; INSERT INTO audit_events SELECT * FROM kept; ROLLBACK".to_owned(),
        format!("BEGIN; SAVEPOINT s; {COPY_ONE} ON CONFLICT DO NOTHING; ROLLBACK TO s; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'y'); COMMIT"),
        format!("DO $$ BEGIN {COPY_ONE}; EXCEPTION WHEN unique_violation THEN NULL; END $$"),
        format!("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'y'); BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'y'); {COPY_ONE} ON CONFLICT DO NOTHING; COMMIT"),
    ] {
        client.run(&sql);
        assert_eq!(other.line("SELECT zeroauth_audit_internal.jobs_held(), zeroauth_audit_internal.restore_since()"), "~|~", "{sql}");
    }
    assert_eq!(
        other.lines(
            "SELECT kind FROM zeroauth_audit_internal.privileged_uses() WHERE kind = 'events_supplied'"
        ),
        [] as [&str; 0],
        "nothing was stored"
    );
}

#[test]
fn public_report_c13_a_drill_holds_nothing() {
    let database = Database::audited("holds_drill");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    client.run("SELECT count(*) FROM audit_drill()");
    let mut other = database.client();
    assert_eq!(
        other.line("SELECT zeroauth_audit_internal.jobs_held(), zeroauth_audit_internal.restore_since()"),
        "~|~"
    );
}

/// Moves the events of one database to another, in a session that stays.
fn load(from: &Database, to: &mut Client) {
    use std::io::{Read, Write};
    let mut bytes = Vec::new();
    from.client().copy_out("COPY audit_events TO STDOUT").unwrap().read_to_end(&mut bytes).unwrap();
    let mut copy = to.copy_in("COPY audit_events FROM STDIN").unwrap();
    copy.write_all(&bytes).unwrap();
    copy.finish().unwrap();
}

#[test]
fn a_restore_holds_jobs_until_the_trail_is_sealed_and_raises_an_alert_when_it_lasts() {
    let (from, to) = (Database::audited("holds_from"), Database::audited("holds_to"));
    from.client()
        .run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 20)");
    let (mut loader, mut client) = (to.client(), to.client());
    load(&from, &mut loader);
    assert_eq!(client.line(HELD), "restore_running");
    assert_eq!(client.line("SELECT now() - zeroauth_audit_internal.restore_since() < '1 minute'"), "t");
    client.run("SELECT zeroauth_audit_internal.run_job('tripwire')");
    assert_eq!(kinds(&mut client), "", "a first restore is what it is for");
    // Sealed: what comes with its hashes now holds nothing, and is told.
    client.run("SELECT zeroauth_audit_internal.run_job('checkpoint')");
    assert_eq!(client.line(HELD), "~");
    let from = Database::audited("holds_more");
    from.client()
        .run("INSERT INTO audit_events (tenant_id, action) SELECT 'globex', 'x' FROM generate_series(1, 5)");
    load(&from, &mut loader);
    assert_eq!(client.line(HELD), "~");
    client.run("SELECT zeroauth_audit_internal.run_job('tripwire')");
    assert_eq!(
        client.line("SELECT kind, severity, evidence ->> 'role', message FROM zeroauth_audit_internal.alerts WHERE kind = 'events_supplied'"),
        "events_supplied|2|postgres|postgres stored events that brought their hashes in audit_events"
    );
}

/// A row that continues a chain, with everything of it chosen by who inserts it.
const APPEND: &str = "INSERT INTO audit_events (tenant_id, chain, seq, event_id, occurred_at, recorded_at, action, db_role, salt, prev_hash, event_hash, hash_version)
    SELECT h.tenant_id, h.chain, h.seq + @beyond@, i, t, t, 'transfer.approved', 'alice', s, @prev@,
        zeroauth_audit_internal.event_hash(@prev@, h.tenant_id, h.chain, h.seq + @beyond@, i, t, t, NULL, 'transfer.approved', 'success', 'info', NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL, 'alice',
            zeroauth_audit_internal.private_hash(s, NULL,NULL,NULL,NULL,NULL,NULL)), 1
    FROM (SELECT * FROM audit_events WHERE tenant_id = 'acme' AND chain = 0 ORDER BY seq DESC OFFSET @back@ LIMIT 1) h,
        gen_random_uuid() i, (VALUES (timestamptz '2020-01-01', decode(repeat('00', 16), 'hex'))) x (t, s)";

/// An event with right hashes, `beyond` the newest but `back`.
pub fn append(prev: &str, beyond: i32, back: i32) -> String {
    APPEND
        .replace("@prev@", prev)
        .replace("@beyond@", &beyond.to_string())
        .replace("@back@", &back.to_string())
}

#[test]
fn pitfall_40_review_1_3_an_event_with_the_right_hashes_that_is_supplied_late_is_told_by_role() {
    let database = Database::audited("holds_late");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 3)");
    client.run(&format!("BEGIN; {}; ROLLBACK", append("h.event_hash", 1, 0)));
    client.run("SELECT zeroauth_audit_internal.run_job('tripwire')");
    assert_eq!(kinds(&mut client), "", "it was rolled back");
    client.run(&append("h.event_hash", 1, 0));
    client.run("SELECT zeroauth_audit_internal.run_job('tripwire')");
    assert_eq!(kinds(&mut client), "events_supplied");
}

#[test]
fn pitfall_40_a_supplied_event_is_told_whatever_else_its_transaction_stored_or_did_not() {
    let database = Database::audited("holds_hidden");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action, event_id) SELECT 'acme', 'x', ('00000000-0000-7000-8000-00000000000' || i)::uuid FROM generate_series(1, 3) i");
    let mut told = 0;
    let mut seen = |client: &mut Client| {
        let all = client.line("SELECT coalesce(sum(times), 0) FROM zeroauth_audit_internal.privileged_uses() WHERE kind = 'events_supplied'").parse::<i64>().unwrap();
        all - std::mem::replace(&mut told, all)
    };
    let supply = append("h.event_hash", 1, 0);
    let chained = "INSERT INTO audit_events (tenant_id, action) VALUES ('globex', 'y')";
    let dropped = "INSERT INTO audit_events (tenant_id, action, event_id) VALUES ('acme', 'y', '00000000-0000-7000-8000-000000000001') ON CONFLICT DO NOTHING";
    for (sql, times) in [
        (format!("BEGIN; {dropped}; {supply}; COMMIT"), 1),
        (format!("BEGIN; {supply}; {dropped}; {COPY_ONE} ON CONFLICT DO NOTHING; COMMIT"), 1),
        (format!("BEGIN; SAVEPOINT s; {chained}; ROLLBACK TO s; {supply}; COMMIT"), 1),
        (
            format!(
                "BEGIN; {COPY_ONE} ON CONFLICT DO NOTHING; SAVEPOINT s; {supply}; RELEASE s; {chained}; COMMIT"
            ),
            1,
        ),
        (
            format!(
                "BEGIN; {supply}; SAVEPOINT s; {supply}; ROLLBACK TO s; {COPY_ONE} ON CONFLICT DO NOTHING; COMMIT"
            ),
            1,
        ),
        (
            format!(
                "DO $$ BEGIN {supply}; BEGIN {COPY_ONE}; EXCEPTION WHEN unique_violation THEN NULL; END; END $$"
            ),
            1,
        ),
        (
            format!(
                "BEGIN; {supply}; SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE tenant_id = 'globex'; COMMIT"
            ),
            1,
        ),
        (format!("SET track_counts = off; BEGIN; {chained}; {supply}; COMMIT; RESET track_counts"), 1),
        (format!("BEGIN; {supply}; PREPARE TRANSACTION 'holds_hidden'"), 1),
        ("COMMIT PREPARED 'holds_hidden'".to_owned(), 0),
        // Nothing of these is there.
        (format!("SET track_counts = off; {COPY_ONE} ON CONFLICT DO NOTHING; RESET track_counts"), 0),
        (
            format!("BEGIN; SAVEPOINT s; SAVEPOINT t; {supply}; RELEASE t; ROLLBACK TO s; {chained}; COMMIT"),
            0,
        ),
        (
            format!(
                "BEGIN; SAVEPOINT s; {supply}; {supply}; ROLLBACK TO s; {COPY_ONE} ON CONFLICT DO NOTHING; COMMIT"
            ),
            0,
        ),
        (
            format!(
                "BEGIN; {supply}; SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM audit_events e USING (SELECT max(seq) AS seq FROM audit_events WHERE tenant_id = 'acme') m WHERE e.tenant_id = 'acme' AND e.seq = m.seq; COMMIT"
            ),
            0,
        ),
    ] {
        client.run(&sql);
        assert_eq!(seen(&mut client), times, "{sql}");
    }
}

#[test]
fn pitfall_40_a_supplied_event_must_fit_the_events_beside_it() {
    let database = Database::audited("holds_beside");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 3)");
    let refusal = client.refused("ZA002", &append("sha256('x')", 1, 0));
    assert_eq!(refusal.message, "event does not fit into its chain: tenant \"acme\", chain 0, seq 4");
    assert_eq!(refusal.detail, "Its prev_hash is not the event_hash of seq 3, which is here.");
    // In any order: without one beside it nothing is compared, and the next one is.
    client.run(&append("sha256('y')", 2, 0));
    let refusal = client.refused("ZA002", &append("h.event_hash", 1, 1));
    assert_eq!(refusal.detail, "The prev_hash of seq 5, which is here, is not its event_hash.");
    let first = append("sha256('x')", 1, 0).replace("h.seq + 1", "1").replace("h.tenant_id", "'globex'");
    assert_eq!(
        client.refused("ZA002", &first).detail,
        "It is the first event of the chain, and its prev_hash is that of another."
    );
    assert_eq!(client.line("SELECT count(*) FROM audit_events WHERE tenant_id = 'acme'"), "4");
}

#[test]
fn alerts_that_a_dump_brings_come_before_those_raised_meanwhile() {
    let database = Database::audited("holds_alerts");
    let mut client = database.client();
    let raise = "SELECT zeroauth_audit_internal.raise_alert('clock_step', 3::smallint, NULL, 'clock_step:unsynchronised', 'x', NULL)";
    assert_eq!(client.line(raise), "1");
    client.run("SET zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.alerts (id, raised_at, severity, kind, fingerprint, message) VALUES
        (1, '2026-01-01', 3, 'clock_step', 'clock_step:unsynchronised', 'of the dump'), (2, '2026-01-02', 2, 'gap', 'gap:acme', 'of the dump')");
    assert_eq!(
        client.lines("SELECT id > 0, state, message FROM zeroauth_audit_internal.alerts ORDER BY id"),
        ["f|resolved|x", "t|open|of the dump", "t|open|of the dump"]
    );
    // The sequence is behind what was brought.
    client.run("SELECT setval('zeroauth_audit_internal.alerts_id_seq', 1, false)");
    assert_eq!(
        client
            .line("SELECT zeroauth_audit_internal.raise_alert('gap', 3::smallint, NULL, 'gap:x', 'x', NULL)"),
        "3"
    );
    assert_eq!(client.line(raise), "1", "counted up");
}
