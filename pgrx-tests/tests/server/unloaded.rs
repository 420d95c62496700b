//! The library outside `shared_preload_libraries`: what works all the same, and how one learns what does not.

use zeroauth_audit_tests::Cluster;

use crate::support::{Sql, assert_whole};

#[test]
fn without_preload_rows_are_chained_and_guarded_and_the_rest_is_said_to_be_off() {
    let cluster = Cluster::builder("unloaded").preload(false).conf("fsync", "off").start().unwrap();
    let output = cluster.psql("audit", "CREATE EXTENSION zeroauth_audit;").unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        output.stderr.contains("WARNING") && output.stderr.contains("shared_preload_libraries"),
        "{}",
        output.stderr
    );

    // A session of its own: nothing was loaded in it before.
    let mut client = cluster.client();
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'login'), ('acme', 'logout')");
    let mut client = cluster.client();
    client.refused("ZA003", "UPDATE audit_events SET action = 'x'");
    let mut client = cluster.client();
    client.refused("ZA003", "DELETE FROM audit_events WHERE seq = 1");
    let mut client = cluster.client();
    client.refused("ZA003", "TRUNCATE audit_events");
    let mut client = cluster.client();
    client.refused("ZA001", "INSERT INTO audit_events (tenant_id, action, seq) VALUES ('acme', 'x', 9)");
    assert_whole(&mut client);

    let mut client = cluster.client();
    let guards = client.lines("SELECT guard, active, detail FROM audit_guards()");
    assert!(guards.iter().any(|line| line.contains("|f|")), "something is inactive: {guards:?}");
    assert!(guards.iter().any(|line| line.contains("|t|")), "something is active: {guards:?}");
    assert!(
        guards
            .iter()
            .filter(|line| line.contains("|f|"))
            .all(|line| line.contains("shared_preload_libraries")),
        "and it is said why: {guards:?}"
    );

    // The same, preloaded.
    cluster.shut_down().unwrap();
    let conf = cluster.data_dir().join("postgresql.auto.conf");
    std::fs::write(&conf, "shared_preload_libraries = 'zeroauth_audit'\n").unwrap();
    cluster.start_again().unwrap();
    let mut client = cluster.client();
    let guards = client.lines("SELECT guard, active, detail FROM audit_guards()");
    assert!(guards.iter().all(|line| line.contains("|t|")), "{guards:?}");
    client.refused("ZA004", "ALTER TABLE audit_events DISABLE TRIGGER ALL");
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'login')");
    assert_whole(&mut client);
}

#[test]
fn without_preload_maintenance_still_wants_a_superuser() {
    let cluster = Cluster::builder("unloaded_roles").preload(false).conf("fsync", "off").start().unwrap();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit; CREATE ROLE app LOGIN; GRANT ALL ON audit_events TO app; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    // A placeholder set before the library is loaded must not survive the loading.
    let mut app = cluster.connect("app", "audit").unwrap();
    let _ = app.batch_execute("SET zeroauth_audit.maintenance = on");
    app.refused("ZA003", "UPDATE audit_events SET action = 'y'");
    app.refused("ZA003", "DELETE FROM audit_events");
    app.refused("42501", "SET zeroauth_audit.maintenance = on");
    let mut client = cluster.client();
    client.run("SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'y'");
    assert_eq!(client.line("SELECT ok FROM audit_verify('acme')"), "f");
}
