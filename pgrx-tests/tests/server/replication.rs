//! Logical replication into another cluster: the subscriber checks each row on arrival, and keeps the publisher's bytes.

use std::time::Duration;

use postgres::Client;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::dump::DIGEST;
use crate::support::{Sql, assert_whole};

const DEADLINE: Duration = Duration::from_secs(60);

fn cluster(name: &str) -> Cluster {
    let cluster = Cluster::builder(name)
        .conf("wal_level", "logical")
        .conf("fsync", "off")
        .conf("wal_retrieve_retry_interval", "200ms")
        .start()
        .unwrap();
    cluster.client().run("CREATE EXTENSION zeroauth_audit");
    cluster
}

fn subscribe(publisher: &Cluster, subscriber: &mut Client) {
    subscriber.run(&format!(
        "CREATE SUBSCRIPTION hub CONNECTION 'host={} port={} user=postgres dbname=audit' PUBLICATION trail",
        publisher.socket_dir().display(),
        publisher.port()
    ));
}

#[track_caller]
fn caught_up(publisher: &mut Client, subscriber: &mut Client) {
    wait_until(DEADLINE, "the subscriber to have what the publisher has", || {
        publisher.line(DIGEST) == subscriber.line(DIGEST)
    });
}

#[test]
fn pitfall_19_a_subscriber_gets_the_same_bytes_checks_them_and_stops_at_a_forged_row() {
    let (publisher, subscriber) = (cluster("publisher"), cluster("subscriber"));
    let (mut from, mut to) = (publisher.client(), subscriber.client());
    // Some events are there before the subscription (copied), some come after it (applied).
    from.run("INSERT INTO audit_events (tenant_id, action, details, ip) SELECT 'tenant ' || i % 3, 'before', jsonb_build_object('b', i * 1.50, 'a', i), '10.0.0.7/8' FROM generate_series(1, 90) i");
    from.run("CREATE PUBLICATION trail FOR TABLE audit_events");
    subscribe(&publisher, &mut to);
    caught_up(&mut from, &mut to);
    let mut holder = publisher.client();
    holder.run("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('tenant 1', 'open')");
    from.run("INSERT INTO audit_events (tenant_id, action, occurred_at, details) SELECT 'tenant ' || i % 3, E'after \\\\ ' || i, CASE WHEN i % 5 = 0 THEN 'infinity'::timestamptz ELSE now() END, to_jsonb(repeat(md5(i::text), 200)) FROM generate_series(1, 90) i");
    holder.run("COMMIT");
    caught_up(&mut from, &mut to);
    assert_whole(&mut from);
    assert_whole(&mut to);

    // The hub has tenants of its own beside the replicated ones.
    to.run("INSERT INTO audit_events (tenant_id, action) VALUES ('hub', 'x')");
    to.run("SET zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE tenant_id = 'hub'; RESET zeroauth_audit.maintenance");

    // A forged row at the publisher: nothing that follows it arrives.
    let before = to.line(DIGEST);
    from.run(
        "BEGIN; SET LOCAL zeroauth_audit.maintenance = on; ALTER TABLE audit_events DISABLE TRIGGER ALL;
         INSERT INTO audit_events (tenant_id, chain, seq, recorded_at, action, db_role, salt, prev_hash, event_hash, hash_version)
           SELECT 'tenant 2', 0, 999, now(), 'forged', 'postgres', salt, event_hash, sha256(event_hash), 1 FROM audit_events WHERE tenant_id = 'tenant 2' LIMIT 1;
         ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zzz_zeroauth_audit_chain; ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_row;
         ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_statement; COMMIT",
    );
    from.run("INSERT INTO audit_events (tenant_id, action) VALUES ('tenant 0', 'later')");
    wait_until(DEADLINE, "ZA002 in the subscriber's log", || {
        subscriber
            .log()
            .lines()
            .any(|line| line.contains("ZA002") && line.contains("tenant 2") && line.contains("999"))
    });
    assert_eq!(to.line(DIGEST), before);
    assert_whole(&mut to);
    to.run("ALTER SUBSCRIPTION hub DISABLE; ALTER SUBSCRIPTION hub SET (slot_name = NONE); DROP SUBSCRIPTION hub");
}

#[test]
fn an_update_or_delete_made_in_maintenance_does_not_reach_the_subscriber() {
    let (publisher, subscriber) = (cluster("publisher_b"), cluster("subscriber_b"));
    let (mut from, mut to) = (publisher.client(), subscriber.client());
    from.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 10); CREATE PUBLICATION trail FOR TABLE audit_events");
    subscribe(&publisher, &mut to);
    caught_up(&mut from, &mut to);
    let before = to.line(DIGEST);
    from.run("SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'forged' WHERE seq = 3; RESET zeroauth_audit.maintenance");
    wait_until(DEADLINE, "ZA003 in the subscriber's log", || subscriber.log().contains("ZA003"));
    assert_eq!(to.line(DIGEST), before, "the hub keeps what was written");
    let refused = |line: &str| line.contains("\"change_refused\"") && line.contains("\"UPDATE\"");
    assert!(subscriber.log().lines().any(refused), "and says that somebody tried");
    to.run("ALTER SUBSCRIPTION hub DISABLE; ALTER SUBSCRIPTION hub SET (slot_name = NONE); DROP SUBSCRIPTION hub");
}
