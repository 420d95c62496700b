//! `pg_upgrade` with the library loaded in both servers: it comes to an end, and the chains go on in the new one.

use std::process::Command;

use zeroauth_audit_tests::Cluster;

use crate::dump::DIGEST;
use crate::support::{Sql, assert_whole, succeed};
use crate::tripwire::{alerts, look};

/// Seconds after which a run of pg_upgrade counts as hanging.
const PATIENCE: &str = "180";

/// `pg_upgrade` from one stopped cluster to the other, ended when it does not end by itself.
fn pg_upgrade(old: &Cluster, new: &Cluster) -> Command {
    let program = |cluster: &Cluster| cluster.installation().bindir.clone();
    let mut command = new.command("timeout");
    command
        .arg(PATIENCE)
        .arg(program(new).join("pg_upgrade"))
        .arg("-b")
        .arg(program(old))
        .arg("-B")
        .arg(program(new))
        .arg("-d")
        .arg(old.data_dir())
        .arg("-D")
        .arg(new.data_dir())
        .args(["-p", &old.port().to_string(), "-P", &new.port().to_string(), "-U", "postgres"])
        .arg("-s")
        .arg(new.socket_dir());
    command
}

#[test]
fn pg_upgrade_with_the_library_loaded_on_both_sides_keeps_every_byte_and_the_chains_go_on() {
    // What the tripwires find is looked at by the test itself.
    let cluster = |name| {
        Cluster::builder(name).conf("fsync", "off").conf("zeroauth_audit.worker", "off").start().unwrap()
    };
    let (old, new) = (cluster("upgraded_from"), cluster("upgraded_to"));
    let mut client = old.client();
    let mut holder = old.client();
    client.run("CREATE EXTENSION zeroauth_audit");
    holder.run("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('tenant 1', 'holds chain 0')");
    client.run("INSERT INTO audit_events (tenant_id, action, details) SELECT 'tenant ' || i % 3, 'x', jsonb_build_object('b', i * 1.50, 'long', repeat(md5(i::text), 200)) FROM generate_series(1, 300) i");
    holder.run("COMMIT");
    let before = client.line(DIGEST);
    assert!(before.starts_with("301|"), "{before}");
    // Copied from one template, both have the same system identifier; no two clusters that initdb made have.
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.tripwire_state SET cluster = cluster + 1");
    let guards = client.lines("SELECT guard, active FROM audit_guards()");
    new.connect("postgres", "postgres").unwrap().run("DROP DATABASE audit");
    old.shut_down().unwrap();
    new.shut_down().unwrap();

    assert!(succeed(pg_upgrade(&old, &new).arg("--check")).contains("Clusters are compatible"));
    // A check changes nothing: the old one still runs.
    old.start_again().unwrap();
    assert_eq!(old.client().line(DIGEST), before);
    old.shut_down().unwrap();

    succeed(&mut pg_upgrade(&old, &new));
    new.start_again().unwrap();
    let mut client = new.client();
    assert_eq!(client.line(DIGEST), before);
    assert_whole(&mut client);
    assert_eq!(client.lines("SELECT guard, active FROM audit_guards()"), guards);
    look(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0], "everything is as installed, in another cluster");
    client.refused("ZA003", "DELETE FROM audit_events");
    client.refused("ZA004", "ALTER TABLE audit_events DISABLE TRIGGER ALL");
    let next =
        client.line("SELECT max(seq) + 1 FROM audit_events WHERE tenant_id = 'tenant 1' AND chain = 0");
    assert_eq!(
        client.line(
            "INSERT INTO audit_events (tenant_id, action) VALUES ('tenant 1', 'after') RETURNING chain, seq"
        ),
        format!("0|{next}")
    );
    assert_whole(&mut client);
}
