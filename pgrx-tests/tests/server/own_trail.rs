//! The trail of the extension itself: who writes it, and that no alert waits for it.

use zeroauth_audit_tests::{Cluster, wait_until};

use super::alerts::raise;
use crate::support::worker::{watcher, worker_after};
use crate::support::{DEADLINE, Database, Sql, assert_whole};

#[test]
fn pitfall_36_the_tenant_of_the_extension_itself_is_written_by_the_extension_alone() {
    let database = Database::audited("own_refused");
    let mut client = database.client();
    let writer = database.on_duty("writer");
    let insert = "INSERT INTO audit_events (tenant_id, action) VALUES ('zeroauth_audit', 'alert.resolved')";
    for mut session in [database.client_as(&writer), database.client()] {
        let refusal = session.refused("42501", insert);
        assert_eq!(
            refusal.message,
            "tenant zeroauth_audit is the extension's own, which alone adds events to it"
        );
        assert_eq!(refusal.hint, "Give the event another tenant_id.");
        session.refused(
            "42501",
            "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x'), ('zeroauth_audit', 'x')",
        );
    }
    client.run("SET session_replication_role = replica");
    client.refused("42501", insert);
    client.run("RESET session_replication_role");
    // Neither what a trigger does inside of the extension's own statement, nor what comes after one that failed.
    client.run("CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.audit_events (tenant_id, action) VALUES ('zeroauth_audit', 'forged'); RETURN NULL; END $$;
        CREATE TRIGGER more AFTER INSERT ON audit_events FOR EACH ROW WHEN (NEW.action <> 'forged') EXECUTE FUNCTION more()");
    raise(&mut client, 2, "gap:acme:0:1");
    assert!(client.line("SELECT trail_error FROM zeroauth_audit_internal.alerts").starts_with("42501 "));
    client.run("DROP TRIGGER more ON audit_events");
    client.refused("42501", insert);
    raise(&mut client, 2, "gap:acme:0:2");
    client.refused("42501", insert);
    assert_eq!(
        client.lines("SELECT action, resource FROM audit_events WHERE action LIKE 'alert.%'"),
        ["alert.raised|gap:acme:0:2"]
    );
    assert_whole(&mut client);
}

#[test]
fn red_team_e1_nobody_s_lock_or_trigger_delays_an_alert() {
    let cluster = Cluster::builder("own_delayed")
        .conf("fsync", "off")
        .conf("zeroauth_audit.max_chains", "1")
        .start()
        .unwrap();
    let mut client = cluster.client();
    client.run(
        "CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')",
    );
    worker_after(&mut watcher(&cluster), "audit", None);
    // The whole trail is locked, and a trigger sleeps besides.
    client.run("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
        CREATE TRIGGER slow AFTER INSERT ON audit_events FOR EACH ROW WHEN (NEW.tenant_id = 'zeroauth_audit') EXECUTE FUNCTION slow()");
    let mut holder = cluster.client();
    holder.run("BEGIN; LOCK TABLE audit_events IN SHARE MODE");
    let mut super_user = cluster.client();
    super_user.run("GRANT SELECT ON audit_jobs, audit_alerts, audit_tenants, audit_keys, audit_sinks, audit_checkpoints TO PUBLIC");
    client.run("UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'tripwire'");
    wait_until(DEADLINE, "every alert to be raised", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE kind = 'guard_disabled'")
            == "6"
    });
    holder.run("ROLLBACK");
    wait_until(DEADLINE, "the trigger to be given up", || {
        client.line("SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE trail_error IS NOT NULL")
            != "0"
    });
    client.run("UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'tripwire'");
    client.run("DROP TRIGGER slow ON audit_events; SET zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.alert_events SET next_attempt_at = now(); UPDATE zeroauth_audit_internal.jobs SET timeout = timeout");
    wait_until(DEADLINE, "the events to follow", || {
        client.line("SELECT count(*) FROM audit_events WHERE action = 'alert.raised' AND resource LIKE 'guard_disabled%'") == "6"
    });
    assert_eq!(client.line("SELECT count(*) FROM zeroauth_audit_internal.alert_events"), "0");
    assert_eq!(
        client.line("SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE trail_error IS NOT NULL"),
        "0"
    );
    assert_whole(&mut client);
}
