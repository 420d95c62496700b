//! Citus, as far as plain PostgreSQL goes: Citus cannot be installed where the tests run. What it says of a table is said here by a
//! stand-in, tables of the same names, places and columns as its catalogs; nothing is distributed.

use postgres::Client;

use crate::support::{Database, Sql};

/// The stand-in: the catalogs of Citus 13, without a row.
const STAND_IN: &str = r#"
    SET allow_system_table_mods = on;
    CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass, partmethod "char", partkey text, colocationid integer, repmodel "char", autoconverted boolean);
    CREATE TABLE pg_catalog.pg_dist_shard (logicalrelid regclass, shardid bigint, shardstorage "char", shardminvalue text, shardmaxvalue text);
    CREATE TABLE pg_catalog.pg_dist_placement (placementid bigint, shardid bigint, shardstate integer, shardlength bigint, groupid integer);
    CREATE TABLE pg_catalog.pg_dist_local_group (groupid integer);
    GRANT SELECT ON pg_catalog.pg_dist_partition, pg_catalog.pg_dist_shard, pg_catalog.pg_dist_placement, pg_catalog.pg_dist_local_group TO PUBLIC;
    RESET allow_system_table_mods;
    INSERT INTO pg_catalog.pg_dist_local_group VALUES (0)"#;

const INSERT: &str = "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')";

fn with_stand_in(name: &str) -> (Database, Client) {
    let database = Database::audited(name);
    let mut client = database.client();
    client.run(STAND_IN);
    client.run(INSERT);
    (database, client)
}

/// As Citus has a table with one shard on so many nodes.
fn distributed(client: &mut Client, method: char, model: char, copies: u32) {
    client.run(&format!(
        "DELETE FROM pg_catalog.pg_dist_partition; DELETE FROM pg_catalog.pg_dist_shard; DELETE FROM pg_catalog.pg_dist_placement;
         INSERT INTO pg_catalog.pg_dist_partition VALUES ('audit_events', '{method}', NULL, 1, '{model}', false);
         INSERT INTO pg_catalog.pg_dist_shard VALUES ('audit_events', 102008, 't', NULL, NULL);
         INSERT INTO pg_catalog.pg_dist_placement SELECT i, 102008, 1, 0, i FROM generate_series(1, {copies}) i"
    ));
}

#[test]
fn what_citus_keeps_in_copies_is_refused_and_what_it_shards_is_not() {
    let (database, mut client) = with_stand_in("citus_copies");
    let app = database.role("app");
    client.run(&format!("GRANT INSERT ON audit_events TO {app}"));
    for (method, model, copies, said) in [
        ('h', 's', 1, None),
        // One shard that is a table of the coordinator's own.
        ('n', 's', 1, None),
        ('n', 't', 3, Some("a reference table of Citus")),
        ('h', 'c', 2, Some("a table of Citus with 2 copies of each shard")),
    ] {
        distributed(&mut client, method, model, copies);
        // It is looked up once in a session.
        let mut session = database.client_as(&app);
        match said {
            None => session.run(INSERT),
            Some(said) => {
                let message = session.refused("ZA010", INSERT).message;
                assert!(
                    message.contains(&format!("audit_events is {said}: its chains would fork")),
                    "{message}"
                );
            }
        }
    }
    assert_eq!(client.line("SELECT ok, events FROM audit_verify('acme')"), "t|3");
}

#[test]
fn the_empty_shell_of_a_distributed_trail_is_not_dropped() {
    let database = Database::audited("citus_drop");
    let mut client = database.client();
    client.run(STAND_IN);
    distributed(&mut client, 'h', 's', 1);
    // The coordinator's own copy has no row, whatever the shards have.
    assert_eq!(client.line("SELECT count(*) FROM audit_events"), "0");
    client.refused("ZA004", "DROP EXTENSION zeroauth_audit CASCADE");
    client.refused("ZA004", "DROP TABLE audit_events CASCADE");
    client.run("DELETE FROM pg_catalog.pg_dist_partition");
    client.run("DROP EXTENSION zeroauth_audit CASCADE");
}

#[test]
fn the_jobs_of_a_cluster_run_on_its_coordinator_alone() {
    let (_database, mut client) = with_stand_in("citus_jobs");
    assert_eq!(
        client.line("SELECT zeroauth_audit_internal.jobs_held() IS DISTINCT FROM 'citus_worker'"),
        "t"
    );
    client.run("UPDATE pg_catalog.pg_dist_local_group SET groupid = 2");
    assert_eq!(client.line("SELECT zeroauth_audit_internal.jobs_held()"), "citus_worker");
    let begun = |client: &mut Client, job: &str| {
        client.run(&format!(
            "UPDATE zeroauth_audit_internal.jobs SET next_run = '2020-01-01' WHERE name = '{job}'"
        ));
        client.line(&format!("SELECT zeroauth_audit_internal.job_begin('{job}', true) IS NOT NULL"))
    };
    assert_eq!(begun(&mut client, "checkpoint"), "f");
    // What is done to this node is seen on this node.
    assert_eq!(begun(&mut client, "tripwire"), "t");
    assert_eq!(client.line("SELECT zeroauth_audit_internal.health_jobs() ->> 'reasons'"), "[]");
}
