//! What a superuser can do to a trail, and what the verification says when it was sealed before.

use postgres::Client;
use zeroauth_audit_tests::Cluster;

use crate::support::sealed::{ORIGIN, key_file, key_path};
use crate::support::{Sql, assert_whole};

/// A trail of two chains, sealed twice, with a few events that are not sealed yet.
pub fn sealed(name: &str) -> (Cluster, Client) {
    let cluster =
        Cluster::builder(name).conf("fsync", "off").conf("zeroauth_audit.worker", "off").start().unwrap();
    key_file(&key_path(&cluster), ORIGIN, 7);
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit");
    client.run(&format!(
        "ALTER DATABASE audit SET zeroauth_audit.checkpoint_key_file = '{}'",
        key_path(&cluster).display()
    ));
    let mut client = cluster.client();
    let mut other = cluster.client();
    for _ in 0..2 {
        other.run("BEGIN; INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'held' FROM generate_series(1, 300)");
        client.run("INSERT INTO audit_events (tenant_id, action) SELECT t, 'free' FROM generate_series(1, 100), (VALUES ('acme'), ('globex')) v (t)");
        other.run("COMMIT");
        client.run("SELECT zeroauth_audit_internal.run_job('checkpoint')");
    }
    client.run(
        "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'after' FROM generate_series(1, 5)",
    );
    assert_whole(&mut client);
    (cluster, client)
}

/// Recomputes a chain from an event on, as one does who may do everything and knows the format.
pub const RECOMPUTE: &str = "
CREATE FUNCTION recompute(t text, c smallint, from_seq bigint) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
    e audit_events;
    prev bytea;
BEGIN
    SELECT event_hash INTO prev FROM audit_events WHERE tenant_id = t AND chain = c AND seq = from_seq - 1;
    prev := coalesce(prev, decode(repeat('00', 32), 'hex'));
    FOR e IN SELECT * FROM audit_events WHERE tenant_id = t AND chain = c AND seq >= from_seq ORDER BY seq LOOP
        e.event_hash := zeroauth_audit_internal.event_hash(prev, e.tenant_id, e.chain, e.seq, e.event_id, e.occurred_at, e.recorded_at, e.category, e.action,
            e.outcome, e.severity, e.resource, e.service_name, e.env, e.provider, e.request_id, e.correlation_id, e.trace_id, e.span_id, e.status_code,
            e.latency_ms, e.payload_size, e.error_code, e.db_role, zeroauth_audit_internal.private_hash(e.salt, e.actor_type, e.actor_id, e.ip, e.user_agent, e.error_message, e.details));
        UPDATE audit_events SET prev_hash = prev, event_hash = e.event_hash WHERE tenant_id = t AND chain = c AND seq = e.seq;
        prev := e.event_hash;
    END LOOP;
END $f$";

/// Tampers, collects what the three ways of checking say, and takes it back.
fn found(client: &mut Client, tampering: &str, tenant: &str) -> Vec<String> {
    client.run("BEGIN; SET LOCAL zeroauth_audit.maintenance = on");
    client.run(tampering);
    let findings = "SELECT class, coalesce(chain::text, '-'), coalesce(seq::text, '-') FROM audit_findings";
    let mut all = client.lines(&format!("{findings}() ORDER BY 1, 2, 3"));
    let one = client.lines(&format!("{findings}('{tenant}') ORDER BY 1, 2, 3"));
    assert_eq!(all, one, "one tenant or all: {tampering}");
    let last = client.lines(&format!("SELECT DISTINCT class FROM audit_findings('{tenant}', 1)"));
    let verdict = client.line(&format!("SELECT ok, findings FROM audit_verify('{tenant}')"));
    assert_eq!(verdict, format!("f|{}", all.len()), "{tampering}");
    let others = client
        .lines(&format!("SELECT tenant_id FROM audit_verify() WHERE NOT ok AND tenant_id <> '{tenant}'"));
    assert_eq!(others, [] as [&str; 0], "only {tenant} was touched");
    all.push(format!("last: {}", last.join(", ")));
    client.run("ROLLBACK");
    all
}

#[test]
fn pitfall_15_16_17_18_27_what_was_sealed_is_missed_by_its_class() {
    let (_cluster, mut client) = sealed("log_tamper");
    client.run(RECOMPUTE);
    for (tampering, tenant, expected) in [
        // 15: the newest events, up to a sealed one and not only those after it.
        (
            "DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 0 AND seq > 599",
            "acme",
            &["tail_truncated|0|600", "last: tail_truncated"][..],
        ),
        (
            "DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 1 AND seq > 150",
            "acme",
            &["tail_truncated|1|151", "last: tail_truncated"],
        ),
        // A whole chain.
        (
            "DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 1",
            "acme",
            &["chain_missing|1|-", "last: chain_missing"],
        ),
        (
            "DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 0",
            "acme",
            &["chain_missing|0|-", "last: chain_missing"],
        ),
        // 16: a whole tenant.
        (
            "DELETE FROM audit_events WHERE tenant_id = 'globex'",
            "globex",
            &["tenant_missing|-|-", "last: tenant_missing"],
        ),
        // 17: the oldest, the rest renumbered and all hashes recomputed.
        (
            "DELETE FROM audit_events WHERE tenant_id = 'globex' AND seq <= 20; UPDATE audit_events SET seq = seq + 1000 WHERE tenant_id = 'globex'; UPDATE audit_events SET seq = seq - 1020 WHERE tenant_id = 'globex'; SELECT recompute('globex', 0::smallint, 1)",
            "globex",
            &["tail_truncated|0|181", "last: tail_truncated"],
        ),
        // 18, 27: an event rewritten and every later hash recomputed.
        (
            "UPDATE audit_events SET outcome = 'failure' WHERE tenant_id = 'acme' AND chain = 0 AND seq = 123; SELECT recompute('acme', 0::smallint, 123)",
            "acme",
            &["checkpoint_mismatch|0|123", "last: checkpoint_mismatch"],
        ),
        (
            "UPDATE audit_events SET outcome = 'failure' WHERE tenant_id = 'acme' AND chain = 1 AND seq = 200; SELECT recompute('acme', 1::smallint, 200)",
            "acme",
            &["checkpoint_mismatch|1|200", "last: checkpoint_mismatch"],
        ),
        // The same by somebody who also sets what the log remembers.
        (
            "SET LOCAL zeroauth_audit.maintenance = on; UPDATE audit_events SET outcome = 'failure' WHERE tenant_id = 'globex' AND seq = 7; SELECT recompute('globex', 0::smallint, 7); UPDATE zeroauth_audit_internal.tiles SET hashes = (SELECT string_agg(sha256('\\x00' || event_hash), '' ORDER BY seq) FROM audit_events WHERE tenant_id = 'globex') WHERE tenant_id = 'globex'",
            "globex",
            &["checkpoint_mismatch|0|200", "last: checkpoint_mismatch"],
        ),
        (
            "SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE tenant_id = 'globex' AND seq > 100; DELETE FROM zeroauth_audit_internal.log_intervals WHERE tenant_id = 'globex' AND to_seq > 100",
            "globex",
            &["checkpoint_mismatch|-|-", "last: checkpoint_mismatch"],
        ),
        (
            "SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM zeroauth_audit_internal.registry_entries WHERE tenant_id = 'globex'",
            "globex",
            &["checkpoint_mismatch|-|-", "last: checkpoint_mismatch"],
        ),
        (
            "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.registry_entries SET root = sha256('x') WHERE tenant_id = 'globex'",
            "globex",
            &["checkpoint_mismatch|-|-", "last: checkpoint_mismatch"],
        ),
        (
            "SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM zeroauth_audit_internal.tiles WHERE tenant_id = 'globex'",
            "globex",
            &["checkpoint_mismatch|0|200", "last: checkpoint_mismatch"],
        ),
    ] {
        assert_eq!(found(&mut client, tampering, tenant), expected, "{tampering}");
    }
    // What was signed is of all tenants: no log can be relied on.
    for tampering in [
        "UPDATE zeroauth_audit_internal.registry_runs SET note = ''",
        "UPDATE zeroauth_audit_internal.registry_runs SET note = (SELECT note FROM zeroauth_audit_internal.registry_runs ORDER BY number LIMIT 1)",
        "UPDATE zeroauth_audit_internal.registry_runs SET root = sha256('x')",
        "UPDATE zeroauth_audit_internal.registry_tiles SET hashes = sha256('x') || substr(hashes, 33)",
    ] {
        client.run(&format!("BEGIN; SET LOCAL zeroauth_audit.maintenance = on; {tampering}"));
        assert_eq!(
            client.lines("SELECT DISTINCT ok, classes FROM audit_verify()"),
            ["f|{checkpoint_mismatch}"],
            "{tampering}"
        );
        client.run("ROLLBACK");
    }
    assert_whole(&mut client);
    // Somebody who takes the log away with the tail is seen as long as the registry knows it; from there on that is what sinks are for.
    client.run("BEGIN; SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE tenant_id = 'globex' AND seq > 100; DELETE FROM zeroauth_audit_internal.log_intervals WHERE tenant_id = 'globex' AND to_seq > 100; UPDATE zeroauth_audit_internal.logs SET tree_size = 100 WHERE tenant_id = 'globex'");
    assert_eq!(
        client.lines("SELECT class, detail FROM audit_findings('globex')"),
        [
            "checkpoint_mismatch|entry 4 of the registry has 200 events of epoch 0, and the log is another one, with 100 of epoch 0"
        ]
    );
    client.run(
        "DELETE FROM zeroauth_audit_internal.registry_entries WHERE tenant_id = 'globex' AND tree_size > 100",
    );
    assert_eq!(client.line("SELECT ok FROM audit_verify('globex')"), "t");
    client.run("ROLLBACK");
}
