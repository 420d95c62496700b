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
        // What is compared is all of the trail: alerts about what the tests do would be events of their own, on either side.
        .conf("zeroauth_audit.worker", "off")
        .conf("fsync", "off")
        .conf("wal_retrieve_retry_interval", "200ms")
        .start()
        .unwrap();
    cluster.client().run("CREATE EXTENSION zeroauth_audit");
    cluster
}

fn subscribe(name: &str, publisher: &Cluster, subscriber: &mut Client) {
    subscriber.run(&format!(
        "CREATE SUBSCRIPTION {name} CONNECTION 'host={} port={} user=postgres dbname=audit' PUBLICATION trail",
        publisher.socket_dir().display(),
        publisher.port()
    ));
}

/// Ends a subscription whose publisher may be gone: its slot stays there.
fn unsubscribe(name: &str, subscriber: &mut Client) {
    subscriber.run(&format!("ALTER SUBSCRIPTION {name} DISABLE; ALTER SUBSCRIPTION {name} SET (slot_name = NONE); DROP SUBSCRIPTION {name}"));
}

/// What a superuser does to get a row with a hash of his own choice into the trail.
fn forge(tenant: &str) -> String {
    format!(
        "BEGIN; SET LOCAL zeroauth_audit.maintenance = on; ALTER TABLE audit_events DISABLE TRIGGER ALL;
         INSERT INTO audit_events (event_id, tenant_id, chain, seq, recorded_at, action, db_role, salt, prev_hash, event_hash, hash_version)
           SELECT gen_random_uuid(), '{tenant}', 0, 999, now(), 'forged', 'postgres', salt, event_hash, sha256(event_hash), 1 FROM audit_events WHERE tenant_id = '{tenant}' LIMIT 1;
         ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zzz_zeroauth_audit_chain; ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_row;
         ALTER TABLE audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_statement; COMMIT"
    )
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
    subscribe("hub", &publisher, &mut to);
    caught_up(&mut from, &mut to);
    let mut holder = publisher.client();
    holder.run("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('tenant 1', 'open')");
    from.run("INSERT INTO audit_events (tenant_id, action, occurred_at, details) SELECT 'tenant ' || i % 3, E'after \\\\ ' || i, CASE WHEN i % 5 = 0 THEN 'infinity'::timestamptz ELSE now() END, to_jsonb(repeat(md5(i::text), 200)) FROM generate_series(1, 90) i");
    holder.run("COMMIT");
    caught_up(&mut from, &mut to);
    assert_whole(&mut from);
    assert_whole(&mut to);
    // The processes that apply are in replica role, and nobody is told of that.
    assert_eq!(to.lines("SELECT kind, use FROM zeroauth_audit_internal.privileged_uses()"), [] as [&str; 0]);

    // The hub has tenants of its own beside the replicated ones.
    to.run("INSERT INTO audit_events (tenant_id, action) VALUES ('hub', 'x')");
    to.run("SET zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE tenant_id = 'hub'; RESET zeroauth_audit.maintenance");

    // A forged row at the publisher: nothing that follows it arrives.
    let before = to.line(DIGEST);
    from.run(&forge("tenant 2"));
    from.run("INSERT INTO audit_events (tenant_id, action) VALUES ('tenant 0', 'later')");
    wait_until(DEADLINE, "ZA002 in the subscriber's log", || {
        subscriber
            .log()
            .lines()
            .any(|line| line.contains("ZA002") && line.contains("tenant 2") && line.contains("999"))
    });
    assert_eq!(to.line(DIGEST), before);
    assert_whole(&mut to);
    unsubscribe("hub", &mut to);
}

#[test]
fn an_update_or_delete_made_in_maintenance_does_not_reach_the_subscriber() {
    let (publisher, subscriber) = (cluster("publisher_b"), cluster("subscriber_b"));
    let (mut from, mut to) = (publisher.client(), subscriber.client());
    from.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'x' FROM generate_series(1, 10); CREATE PUBLICATION trail FOR TABLE audit_events");
    subscribe("hub", &publisher, &mut to);
    caught_up(&mut from, &mut to);
    let before = to.line(DIGEST);
    from.run("SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'forged' WHERE seq = 3; RESET zeroauth_audit.maintenance");
    wait_until(DEADLINE, "ZA003 in the subscriber's log", || subscriber.log().contains("ZA003"));
    assert_eq!(to.line(DIGEST), before, "the hub keeps what was written");
    let refused = |line: &str| line.contains("\"change_refused\"") && line.contains("\"UPDATE\"");
    assert!(subscriber.log().lines().any(refused), "and says that somebody tried");
    unsubscribe("hub", &mut to);
}

#[test]
fn review_1_12_a_trigger_that_replication_runs_brings_no_events_with_hashes_of_its_own() {
    let (publisher, subscriber) = (cluster("publisher_c"), cluster("subscriber_c"));
    let (mut from, mut to) = (publisher.client(), subscriber.client());
    to.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    // An ordinary role's own table that is replicated, and its trigger, which fires in replica role.
    for client in [&mut from, &mut to] {
        client.run(
            "CREATE ROLE app; CREATE TABLE orders (id int PRIMARY KEY); ALTER TABLE orders OWNER TO app",
        );
    }
    to.run(
        "GRANT USAGE ON SCHEMA zeroauth_audit_internal TO app; GRANT SELECT, INSERT ON audit_events TO app",
    );
    let made =
        crate::holds::append("h.event_hash", 1, 0).replace("INSERT INTO audit_events", "INSERT INTO made");
    to.run(&format!(
        "CREATE TABLE made (LIKE audit_events INCLUDING DEFAULTS); {made}; GRANT SELECT ON made TO app"
    ));
    let supply = "INSERT INTO audit_events SELECT * FROM made";
    let plain = "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'order')";
    to.run(&format!(
        "CREATE FUNCTION bring() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$ BEGIN
           BEGIN {supply}; EXCEPTION WHEN OTHERS THEN RAISE LOG 'refused: % %', SQLSTATE, SQLERRM; END;
           {plain}; RETURN NULL; END $$;
         CREATE TRIGGER bring AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION bring(); ALTER TABLE orders ENABLE ALWAYS TRIGGER bring"
    ));
    from.run("CREATE PUBLICATION trail FOR TABLE orders");
    subscribe("hub", &publisher, &mut to);
    from.run("INSERT INTO orders VALUES (1)");
    wait_until(DEADLINE, "the order to arrive", || {
        to.line("SELECT count(*) FROM audit_events WHERE action = 'order'") == "1"
    });
    // Before 16 that is as the owner of the subscription, a superuser here: then it is told.
    let as_owner_of_table = subscriber.installation().major() >= 16;
    let refused = subscriber.log().lines().any(|line| line.contains("refused: ZA001"));
    let told = to.line(
        "SELECT count(*) FROM zeroauth_audit_internal.privileged_uses() WHERE kind = 'events_supplied'",
    );
    assert_eq!(
        (refused, told.as_str()),
        (as_owner_of_table, if as_owner_of_table { "0" } else { "1" }),
        "{}",
        subscriber.log()
    );
    unsubscribe("hub", &mut to);
}

#[test]
fn a_subscription_that_is_made_anew_brings_what_is_missing_and_names_an_event_whose_place_another_has() {
    let (publisher, other, hub) = (cluster("anew"), cluster("anew_other"), cluster("anew_hub"));
    let (mut from, mut theirs, mut to) = (publisher.client(), other.client(), hub.client());
    let append = |client: &mut Client, count: u32| {
        client.run(&format!("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 3, 'x' FROM generate_series(1, {count}) i"));
    };
    append(&mut from, 90);
    from.run("CREATE PUBLICATION trail FOR TABLE audit_events");
    subscribe("first", &publisher, &mut to);
    caught_up(&mut from, &mut to);
    // The publisher's slot is lost, as with a failover before PostgreSQL 17; more is written meanwhile.
    unsubscribe("first", &mut to);
    append(&mut from, 30);
    subscribe("second", &publisher, &mut to);
    caught_up(&mut from, &mut to);
    append(&mut from, 30);
    caught_up(&mut from, &mut to);
    assert_whole(&mut to);
    // Two subscriptions that bring the same: each event is there once.
    subscribe("third", &publisher, &mut to);
    append(&mut from, 30);
    caught_up(&mut from, &mut to);
    assert!(!hub.log().contains("23505"), "{}", hub.log());
    unsubscribe("second", &mut to);
    unsubscribe("third", &mut to);
    from.run("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active");

    // Another database that has written to the same places, as a publisher that came back from an older state: refused, with both hashes.
    append(&mut theirs, 3);
    theirs.run("CREATE PUBLICATION trail FOR TABLE audit_events");
    let stored = to.line(DIGEST);
    subscribe("other", &other, &mut to);
    wait_until(DEADLINE, "the refusal", || {
        hub.log()
            .lines()
            .any(|line| line.contains("ZA002") && line.contains("another event is there already: tenant"))
    });
    let said = |line: &str| line.contains("The event_hash of the one that is here is ");
    assert!(hub.log().lines().any(said), "{}", hub.log());
    assert_eq!(to.line(DIGEST), stored);
    unsubscribe("other", &mut to);
}

/// Waits for the refusal of one event in the server's log.
#[track_caller]
fn refused(subscriber: &Cluster, place: &str) {
    let error = format!("ZA002 ERROR:  event does not match its hash: {place}");
    wait_until(DEADLINE, &error, || subscriber.log().lines().any(|line| line.ends_with(&error)));
}

#[test]
fn a_hub_stops_taking_from_the_publisher_that_forged_and_goes_on_taking_from_the_other() {
    let (honest, forger, hub) = (cluster("honest"), cluster("forger"), cluster("hub"));
    let (mut at_honest, mut at_forger, mut at_hub) = (honest.client(), forger.client(), hub.client());
    let append = |client: &mut Client, whose: &str, count: u32| {
        client.run(&format!("INSERT INTO audit_events (tenant_id, action) SELECT '{whose} ' || i % 3, 'x' FROM generate_series(1, {count}) i"));
    };
    let caught_up = |from: &mut Client, to: &mut Client, whose: &str| {
        let digest = format!("{DIGEST} WHERE tenant_id LIKE '{whose} %'");
        wait_until(DEADLINE, "the hub to have what the publisher has", || {
            from.line(&digest) == to.line(&digest)
        });
    };
    append(&mut at_honest, "honest", 300);
    append(&mut at_forger, "forger", 300);
    at_honest.run("CREATE PUBLICATION trail FOR TABLE audit_events");
    at_forger.run("CREATE PUBLICATION trail FOR TABLE audit_events");

    // Changed before the hub asks for the first copy: none of that copy is taken, until the row is what it was.
    at_forger.run("SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'forger 1' AND seq = 42");
    subscribe("of_forger", &forger, &mut at_hub);
    subscribe("of_honest", &honest, &mut at_hub);
    refused(&hub, "tenant \"forger 1\", chain 0, seq 42");
    append(&mut at_honest, "honest", 60);
    caught_up(&mut at_honest, &mut at_hub, "honest");
    assert_eq!(at_hub.line("SELECT count(*) FROM audit_events WHERE tenant_id LIKE 'forger %'"), "0");
    at_forger.run("UPDATE audit_events SET action = 'x' WHERE tenant_id = 'forger 1' AND seq = 42; RESET zeroauth_audit.maintenance");
    caught_up(&mut at_forger, &mut at_hub, "forger");
    append(&mut at_forger, "forger", 60);
    caught_up(&mut at_forger, &mut at_hub, "forger");
    assert_whole(&mut at_hub);

    // Forged in the stream: what the same publisher sends after it does not arrive, what the other one sends does.
    at_forger.run(&forge("forger 2"));
    append(&mut at_forger, "forger", 3);
    refused(&hub, "tenant \"forger 2\", chain 0, seq 999");
    append(&mut at_honest, "honest", 60);
    caught_up(&mut at_honest, &mut at_hub, "honest");
    assert_eq!(at_hub.line("SELECT count(*) FROM audit_events WHERE tenant_id LIKE 'forger %'"), "360");
    assert_whole(&mut at_hub);
    assert_whole(&mut at_honest);
    unsubscribe("of_forger", &mut at_hub);
    unsubscribe("of_honest", &mut at_hub);
}

/// What the job tripwire says of replication after it looked.
fn look(client: &mut Client) -> Vec<String> {
    client.run("SELECT zeroauth_audit_internal.run_job('tripwire')");
    client.lines("SELECT severity, fingerprint FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved' AND kind IN ('subscription_failing', 'replication_behind') ORDER BY 2")
}

#[test]
fn a_subscription_that_stands_still_is_an_alert_and_in_the_health_until_events_arrive_again() {
    let (publisher, hub) = (cluster("watched"), cluster("watching"));
    let (mut from, mut to) = (publisher.client(), hub.client());
    let append = |client: &mut Client| {
        client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 3, 'x' FROM generate_series(1, 30) i");
    };
    let state = |client: &mut Client| {
        client
            .line("SELECT h ->> 'state', h -> 'reasons' FROM (SELECT audit_health() -> 'replication') v (h)")
    };
    append(&mut from);
    from.run("CREATE PUBLICATION trail FOR TABLE audit_events");
    assert_eq!(state(&mut to), "~|~", "nothing is replicated");
    subscribe("hub", &publisher, &mut to);
    caught_up(&mut from, &mut to);
    let nothing: [&str; 0] = [];
    for _ in 0..3 {
        assert_eq!(look(&mut to), nothing);
        assert_eq!(look(&mut from), nothing);
    }
    assert_eq!((state(&mut to).as_str(), state(&mut from).as_str()), ("ok|[]", "ok|[]"));

    let errors = |client: &mut Client| -> i64 {
        client
            .line("SELECT apply_error_count FROM pg_stat_subscription_stats WHERE subname = 'hub'")
            .parse()
            .unwrap()
    };
    from.run(&forge("tenant 2"));
    append(&mut from);
    wait_until(DEADLINE, "an error", || errors(&mut to) > 0);
    assert_eq!(look(&mut to), nothing, "once may be a restart");
    let before = errors(&mut to);
    wait_until(DEADLINE, "another one", || errors(&mut to) > before);
    assert_eq!(look(&mut to), ["2|subscription_failing:hub"]);
    assert_eq!(state(&mut to), r#"degraded|["subscription_failing:hub"]"#);
    assert!(
        to.lines("SELECT part, detail FROM audit_status()")
            .contains(&"replication|by hub nothing arrives".to_owned())
    );
    // The publisher's forged transaction is left out.
    let log = hub.log();
    let finished = log.lines().rev().find_map(|line| line.split_once("finished at ")).unwrap().1.trim();
    to.run(&format!("ALTER SUBSCRIPTION hub SKIP (lsn = '{finished}')"));
    wait_until(DEADLINE, "the events behind it", || {
        to.line("SELECT count(*) FROM audit_events WHERE tenant_id <> 'zeroauth_audit'") == "60"
    });
    look(&mut to);
    assert_eq!(look(&mut to), nothing);
    assert_eq!(state(&mut to), "ok|[]");

    to.run("ALTER SUBSCRIPTION hub DISABLE");
    look(&mut to);
    assert_eq!(look(&mut to), ["2|subscription_failing:hub"]);
    unsubscribe("hub", &mut to);
    assert_eq!(look(&mut to), nothing, "it is gone");
    assert_eq!(state(&mut to), "~|~");

    // At the publisher the slot is left behind, until it loses what it waited for.
    assert_eq!(look(&mut from), nothing);
    from.run("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'");
    from.run("SELECT pg_reload_conf()");
    for _ in 0..4 {
        append(&mut from);
        from.run("SELECT pg_switch_wal()");
    }
    from.run("CHECKPOINT");
    look(&mut from);
    assert_eq!(look(&mut from), ["2|replication_behind:hub"]);
    assert_eq!(state(&mut from), r#"degraded|["replication_behind:hub"]"#);
    from.run("SELECT pg_drop_replication_slot('hub')");
    assert_eq!(look(&mut from), nothing);
}
