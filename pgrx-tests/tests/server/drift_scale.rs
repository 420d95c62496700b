//! The job drift with very many tenants, very many chains, and one very long chain: short transactions whatever there is.

use postgres::Client;
use zeroauth_audit_tests::Cluster;

use super::drift::{alerts, drift};
use crate::support::{Sql, assert_replays, pages};

fn cluster(name: &str, conf: &[(&str, &str)]) -> (Cluster, Client) {
    let builder = Cluster::builder(name).conf("fsync", "off").conf("zeroauth_audit.worker", "off");
    let cluster =
        conf.iter().fold(builder, |builder, (key, value)| builder.conf(key, value)).start().unwrap();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit");
    // Steps of a twentieth of their time: there are many of them on a fast machine, too.
    client.run("SET zeroauth_audit.maintenance = on; DO $$ BEGIN EXECUTE replace(pg_get_functiondef('zeroauth_audit_internal.job_drift()'::regprocedure), 'integer := 100;', 'integer := 5;'); END $$; RESET zeroauth_audit.maintenance");
    assert_eq!(
        client.line(
            "SELECT prosrc LIKE '%step_ms CONSTANT integer := 5;%' FROM pg_proc WHERE proname = 'job_drift'"
        ),
        "t"
    );
    (cluster, client)
}

/// Runs the job step by step, each in a transaction of its own. Returns the pages that each step looked at.
fn step_by_step(client: &mut Client) -> Vec<u64> {
    let mut steps = Vec::new();
    loop {
        steps.push(pages(client, "SELECT zeroauth_audit_internal.job_drift()"));
        if client.line("SELECT phase FROM zeroauth_audit_internal.drift_state") == "idle" {
            println!("pages in each step: {steps:?}");
            return steps;
        }
    }
}

/// That no step did much of the work.
#[track_caller]
fn assert_short(steps: &[u64]) {
    let (most, all) = (steps.iter().max().unwrap(), steps.iter().sum::<u64>());
    assert!(most * 3 < all, "{most} of {all} pages in one step: {steps:?}");
}

#[test]
fn ten_thousand_tenants_are_one_run_of_short_steps() {
    let (_cluster, mut client) = cluster("scale_tenants", &[]);
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 10000, 'x' FROM generate_series(1, 30000) i");
    assert_short(&step_by_step(&mut client));
    assert_eq!(
        client
            .line("SELECT tenants_done, tenants_total, events_done FROM zeroauth_audit_internal.drift_state"),
        "10000|10000|30000"
    );
    client.run("SET zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE tenant_id = 'tenant 77' OR tenant_id = 'tenant 7777' AND seq = 3; UPDATE audit_events SET action = 'y' WHERE tenant_id = 'tenant 9999' AND seq = 1");
    assert_short(&step_by_step(&mut client));
    assert_eq!(
        alerts(&mut client),
        ["content_mismatch:tenant 9999:0", "tail_truncated:tenant 7777:0", "tenant_missing:tenant 77:"]
    );
    let one = "SELECT count(*) FROM audit_integrity('tenant 5000') WHERE state = 'ok'";
    assert_eq!(client.line(one), "1");
    // Of one tenant, not of all.
    let looked_at = pages(&mut client, one);
    println!("{looked_at} pages for the integrity of one tenant of 10,000");
    assert!(looked_at < 300, "{looked_at}");
    // The extension's own trail has events since the first alert; the run may have come to it after that.
    assert_eq!(client.line("SELECT count(*), count(*) FILTER (WHERE state = 'ok'), count(*) FILTER (WHERE state = 'tampered') FROM audit_integrity() WHERE tenant_id <> 'zeroauth_audit'"), "10000|9997|3");
}

#[test]
fn a_thousand_chains_of_one_tenant_are_looked_at_part_by_part() {
    const CHAINS: u32 = 1200;
    let (_cluster, mut client) = cluster(
        "scale_chains",
        &[("max_prepared_transactions", "1300"), ("zeroauth_audit.drift_rows", "100")],
    );
    for chain in 0..CHAINS {
        client.run(&format!("BEGIN; INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 3); PREPARE TRANSACTION 'p{chain}'"));
    }
    for chain in 0..CHAINS {
        client.run(&format!("COMMIT PREPARED 'p{chain}'"));
    }
    assert_eq!(client.line("SELECT max(chain) FROM audit_events"), (CHAINS - 1).to_string());
    let looked_at: u64 = step_by_step(&mut client).iter().sum();
    assert!(looked_at < 100 * u64::from(CHAINS), "{looked_at} pages for {CHAINS} chains");
    // Every head, and the newest hundred.
    let done: u32 =
        client.line("SELECT events_done FROM zeroauth_audit_internal.drift_state").parse().unwrap();
    assert!((CHAINS..=CHAINS + 100).contains(&done), "{done}");
    client.run("SET zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE chain = 1000 OR chain = 1100 AND seq = 3; UPDATE audit_events SET action = 'y' WHERE chain = 900 AND seq = 3");
    step_by_step(&mut client);
    assert_eq!(
        alerts(&mut client),
        ["chain_missing:acme:1000", "content_mismatch:acme:900", "tail_truncated:acme:1100"]
    );
}

#[test]
fn one_long_chain_is_recomputed_in_short_steps() {
    let (_cluster, mut client) = cluster("scale_long", &[("zeroauth_audit.full_replay_period", "1min")]);
    client.run("INSERT INTO audit_events (tenant_id, action, details) SELECT 'acme', 'x', to_jsonb(repeat('x', i % 300)) FROM generate_series(1, 200000) i");
    assert_short(&step_by_step(&mut client));
    assert_eq!(
        client.line("SELECT whole_seq, replayed_seq FROM zeroauth_audit_internal.watermarks"),
        "200000|200000"
    );
    client.run("SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'y' WHERE seq IN (7, 100000); DELETE FROM audit_events WHERE seq = 150000");
    drift(&mut client);
    assert_eq!(alerts(&mut client), ["content_mismatch:acme:0", "gap:acme:0"]);
    assert_eq!(
        client.line("SELECT first_seq, last_seq FROM zeroauth_audit_internal.drift_findings WHERE kind = 'content_mismatch'"),
        "7|100000"
    );
}

#[test]
fn the_newest_events_of_many_chains_are_chosen_by_their_time() {
    let (_cluster, mut client) = cluster("scale_newest", &[("max_prepared_transactions", "50")]);
    for chain in 0..40 {
        client.run(&format!("BEGIN; INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'old' FROM generate_series(1, 200); PREPARE TRANSACTION 'p{chain}'"));
    }
    for chain in 0..40 {
        client.run(&format!("COMMIT PREPARED 'p{chain}'"));
    }
    // All that is new is in one chain: far more than its share.
    client.run(
        "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'new' FROM generate_series(1, 900)",
    );
    assert_eq!(client.line("SELECT events, chains FROM audit_verify('acme', 900)"), "939|40");
    client.run("SET zeroauth_audit.maintenance = on; UPDATE audit_events SET resource = 'x' WHERE action = 'new' AND seq = 201");
    assert_eq!(client.line("SELECT findings FROM audit_verify('acme', 900)"), "1");
    assert_eq!(client.line("SELECT findings FROM audit_verify('acme', 899)"), "0");
    client.run("UPDATE audit_events SET resource = NULL WHERE action = 'new' AND seq = 201");
    assert_replays(&mut client);
    // So many that they are sorted on disk if need be.
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'large', 'x' FROM generate_series(1, 50000); BEGIN; INSERT INTO audit_events (tenant_id, action) SELECT 'large', 'x' FROM generate_series(1, 110000); PREPARE TRANSACTION 'large'");
    client.run(
        "INSERT INTO audit_events (tenant_id, action) SELECT 'large', 'x' FROM generate_series(1, 110000)",
    );
    client.run("COMMIT PREPARED 'large'");
    assert_eq!(client.line("SELECT events, chains FROM audit_verify('large', 250000)"), "250000|2");
    client.run("UPDATE audit_events SET resource = 'x' WHERE tenant_id = 'large' AND chain = 0 AND seq IN (20000, 20001)");
    assert_eq!(client.line("SELECT findings FROM audit_verify('large', 250000)"), "1");
    assert_eq!(client.line("SELECT findings FROM audit_verify('large', 250001)"), "2");
}
