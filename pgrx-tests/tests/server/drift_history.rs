//! The part of the job drift that goes through all history: slice by slice, without a seam, within the period.

use postgres::Client;
use zeroauth_audit_tests::Cluster;

use super::drift::{alerts, drift, recompute};
use crate::support::{Database, Sql};

/// A server whose drift takes a small slice of the history at each run.
fn cluster(name: &str, period: &str) -> (Cluster, Client) {
    let cluster = Cluster::builder(name)
        .conf("fsync", "off")
        .conf("zeroauth_audit.worker", "off")
        .conf("zeroauth_audit.drift_rows", "10")
        .conf("zeroauth_audit.full_replay_period", period)
        .start()
        .unwrap();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) SELECT tenant, 'x' FROM unnest('{acme,globex}'::text[]) tenant, generate_series(1, 5000)");
    // The next run is two to three minutes away, as far as the job knows.
    client.run("UPDATE zeroauth_audit_internal.jobs SET schedule = extract(minute FROM now() + interval '3 minutes') || ' * * * *' WHERE name = 'drift'; SET zeroauth_audit.maintenance = on");
    recompute(&mut client);
    (cluster, client)
}

fn position(client: &mut Client) -> i64 {
    client
        .line("SELECT replayed_seq FROM zeroauth_audit_internal.watermarks WHERE tenant_id = 'acme'")
        .parse()
        .unwrap()
}

#[test]
fn a_run_takes_the_part_of_the_history_that_is_due_until_the_next() {
    let database = Database::audited("history_budget");
    let mut client = database.client();
    // Seven days of hourly runs, as the job would make them, over ten million events.
    client.run(
        "CREATE TABLE run AS
         WITH RECURSIVE run AS (
             SELECT timestamptz '2026-01-01 00:07:00.01+00' AS at, 0::bigint AS done, zeroauth_audit_internal.drift_budget(10000000, 0, '2026-01-01 00:07:00+00', '2026-01-01 00:07:00.01+00') AS budget
             UNION ALL
             SELECT r.at + interval '1 hour', r.done + r.budget, zeroauth_audit_internal.drift_budget(10000000, r.done + r.budget, '2026-01-01 00:07:00+00', r.at + interval '1 hour')
             FROM run r WHERE r.done + r.budget < 10000000)
         SELECT * FROM run",
    );
    assert_eq!(client.line("SELECT max(at) - min(at) BETWEEN '6 days' AND '6 days 9 hours' FROM run"), "t");
    assert_eq!(
        client.line("SELECT min(budget) > 60000, max(budget) FILTER (WHERE done < 9900000) < 70000 FROM run"),
        "t|t"
    );
    // After three days without a run the rest is spread over what is left of the period; after a month it is caught up
    // with at four times the pace.
    assert_eq!(
        client.line("SELECT zeroauth_audit_internal.drift_budget(10000000, 0, '2026-01-01 00:07:00+00', '2026-01-04 00:07:00+00') BETWEEN 120000 AND 130000,
                            zeroauth_audit_internal.drift_budget(10000000, 0, '2026-01-01 00:07:00+00', '2026-02-01 00:07:00+00') BETWEEN 250000 AND 270000"),
        "t|t"
    );
}

#[test]
fn an_old_event_is_found_forged_when_the_replay_comes_to_it() {
    let (_cluster, mut client) = cluster("history_old", "1h");
    drift(&mut client);
    let first = position(&mut client);
    assert!((50..2000).contains(&first), "{first}");
    client.run("UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'acme' AND seq = 3000");
    let mut runs = 0;
    let mut before = first;
    while alerts(&mut client).is_empty() {
        let done = drift(&mut client)["history_events"].as_i64().unwrap();
        assert!(done < 1000, "a run takes a small part only: {done}");
        let now = position(&mut client);
        assert!(now > before, "and goes on where the last one ended");
        assert_eq!(now >= 3000, !alerts(&mut client).is_empty(), "{now}");
        before = now;
        runs += 1;
        assert!(runs < 100);
    }
    assert!(runs > 3, "{runs}");
    assert_eq!(alerts(&mut client), ["content_mismatch:acme:0"]);
    assert_eq!(client.line("SELECT evidence ->> 'first_seq' FROM zeroauth_audit_internal.alerts"), "3000");
    // Later runs count it up although they are elsewhere by now, and one resolves it when it is gone.
    drift(&mut client);
    assert_eq!(client.line("SELECT occurrences FROM zeroauth_audit_internal.alerts"), "2");
    client.run("UPDATE audit_events SET action = 'x' WHERE seq = 3000; SELECT audit_alert_acknowledge(id, 'seen') FROM zeroauth_audit_internal.alerts");
    drift(&mut client);
    assert_eq!(client.line("SELECT state FROM zeroauth_audit_internal.alerts"), "resolved");
}

#[test]
fn there_is_no_seam_between_two_slices() {
    let (_cluster, mut client) = cluster("history_seam", "1h");
    drift(&mut client);
    let at = position(&mut client);
    let on = |seq: i64| format!("WHERE tenant_id = 'acme' AND chain = 0 AND seq = {seq}");
    for (tampering, expected) in [
        // The last event of the slice, with a hash of its own content: only the link to the next slice shows it.
        (
            format!(
                "UPDATE audit_events SET action = 'forged' {}; SELECT recompute('acme', 0::smallint, {at}); UPDATE audit_events e SET prev_hash = o.prev_hash, event_hash = o.event_hash FROM kept o WHERE e.tenant_id = 'acme' AND e.seq > {at} AND o.tenant_id = 'acme' AND o.seq = e.seq",
                on(at)
            ),
            "content_mismatch:acme:0 link_broken:acme:0",
        ),
        (format!("DELETE FROM audit_events {}", on(at)), "gap:acme:0"),
        (format!("DELETE FROM audit_events {}", on(at + 1)), "gap:acme:0"),
        (
            format!(
                "DELETE FROM audit_events WHERE tenant_id = 'acme' AND seq BETWEEN {} AND {}",
                at - 3,
                at + 3
            ),
            "gap:acme:0",
        ),
        (
            format!("UPDATE audit_events SET prev_hash = sha256(prev_hash) {}", on(at + 1)),
            "content_mismatch:acme:0 link_broken:acme:0",
        ),
    ] {
        client.run(&format!("BEGIN; CREATE TEMP TABLE kept AS SELECT * FROM audit_events; {tampering}"));
        drift(&mut client);
        assert_eq!(alerts(&mut client).join(" "), expected, "after {tampering}");
        client.run("ROLLBACK");
    }
}

#[test]
fn all_history_is_recomputed_in_every_period_and_the_share_says_so() {
    let (_cluster, mut client) = cluster("history_whole", "1min");
    // The next run is far away: all of it is due.
    client.run("UPDATE zeroauth_audit_internal.jobs SET schedule = '0 0 1 1 *' WHERE name = 'drift'");
    let share = "SELECT tenant_id, history FROM audit_integrity() ORDER BY 1";
    assert_eq!(client.lines(share), ["acme|0.0000", "globex|0.0000"]);
    let summary = drift(&mut client);
    assert_eq!(summary["history_events"], 2 * (5000 - 9), "{summary}");
    assert_eq!(client.lines(share), ["acme|1.0000", "globex|1.0000"]);
    assert_eq!(
        client.line("SELECT pass_started_at, phase FROM zeroauth_audit_internal.drift_state"),
        "~|idle"
    );
    // New events and new chains join.
    client
        .run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 5000)");
    assert_eq!(client.lines(share), ["acme|0.5000", "globex|1.0000"]);
    drift(&mut client);
    assert_eq!(client.lines(share), ["acme|1.0000", "globex|1.0000"]);
    // What was recomputed longer ago than the period does not count.
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.watermarks SET verified_at = verified_at - interval '1 hour', replay_started_at = replay_started_at - interval '1 hour', replayed_at = replayed_at - interval '1 hour',
                whole_started_at = whole_started_at - interval '1 hour', whole_ended_at = whole_ended_at - interval '1 hour'");
    assert_eq!(client.lines(share), ["acme|0.0000", "globex|0.0000"]);
}

#[test]
fn a_pass_that_takes_longer_than_the_period_is_degraded_health() {
    let (_cluster, mut client) = cluster("history_behind", "1h");
    drift(&mut client);
    let health = "SELECT audit_health() #>> '{drift,state}', audit_health() #>> '{drift,reasons}'";
    assert_eq!(client.line(health), "ok|[]");
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.drift_state SET pass_started_at = pass_started_at - interval '61 minutes'");
    assert_eq!(client.line(health), "degraded|[\"history_behind\"]");
    drift(&mut client);
    assert_eq!(client.line(health), "ok|[]", "a little is caught up with at once");
}
