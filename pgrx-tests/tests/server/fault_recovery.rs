//! Backups of a server under load: restored to its end or to a point in the middle, every chain is a prefix of what it
//! was, and goes on from there.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use postgres::Client;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::dump::DIGEST;
use crate::fault_load::load;
use crate::support::{SetOnDrop, Sql, assert_whole, base_backup};

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `during` while four connections append.
fn under_load<T>(cluster: &Cluster, during: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..4 {
            let (over, mut client) = (&over, cluster.client());
            scope.spawn(move || load(&mut client, seed, over));
        }
        let _over = SetOnDrop(&over);
        let result = during();
        over.store(true, Ordering::Relaxed);
        result
    })
}

#[track_caller]
fn grow(client: &mut Client, by: i64) {
    let count =
        |client: &mut Client| client.line("SELECT count(*) FROM audit_events").parse::<i64>().unwrap();
    let before = count(client);
    wait_until(DEADLINE, "more events", || count(client) >= before + by);
}

/// Every event as one line that no other event has.
fn events(client: &mut Client) -> Vec<String> {
    client.lines("SELECT encode(event_hash, 'hex') || md5(e::text) FROM audit_events e ORDER BY 1")
}

/// Asserts that `restored` is whole, has nothing that `original` has not, and goes on where each chain ends.
#[track_caller]
fn assert_prefix_that_goes_on(restored: &mut Client, original: &mut Client) {
    assert_whole(restored);
    let (there, all) = (events(restored), events(original));
    assert!(there.iter().all(|event| all.binary_search(event).is_ok()), "nothing but what was written");
    let next = "SELECT max(seq) + 1 FROM audit_events WHERE tenant_id = 'tenant 1' AND chain = 0";
    let next = restored.line(next);
    assert_eq!(
        restored.line(
            "INSERT INTO audit_events (tenant_id, action) VALUES ('tenant 1', 'goes on') RETURNING chain, seq"
        ),
        format!("0|{next}")
    );
    assert_whole(restored);
}

#[test]
fn a_base_backup_taken_under_load_holds_a_prefix_of_every_chain() {
    let cluster = Cluster::builder("backup").conf("fsync", "off").start().unwrap();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 4, 'before' FROM generate_series(1, 2000) i");
    let backup = under_load(&cluster, || {
        grow(&mut client, 100);
        let backup = base_backup(&cluster, &["-X", "stream"]);
        grow(&mut client, 100);
        backup
    });
    let restored = Cluster::builder("backup_restored").data(&backup).start().unwrap();
    let mut on_restored = restored.client();
    let (there, all) = (events(&mut on_restored).len(), events(&mut client).len());
    assert!(2100 <= there && there < all, "{there} of {all} events");
    assert_prefix_that_goes_on(&mut on_restored, &mut client);
    assert_whole(&mut client);
}

/// A cluster with an archive of its WAL in `archive`, in its own folder.
fn archiving(name: &str) -> (Cluster, PathBuf) {
    let cluster = Cluster::builder(name)
        .conf("fsync", "off")
        .conf("archive_mode", "on")
        // The working directory is the data directory; the archive lies beside it.
        .conf("archive_command", "mkdir -p ../archive && test ! -f ../archive/%f && cp %p ../archive/%f")
        .start()
        .unwrap();
    cluster.client().run("CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 4, 'before' FROM generate_series(1, 400) i");
    let archive = cluster.data_dir().with_file_name("archive");
    (cluster, archive)
}

/// Has the WAL up to now archived.
fn archive_now(client: &mut Client) {
    let file = client.line("SELECT pg_walfile_name(pg_current_wal_insert_lsn())");
    client.run("SELECT pg_switch_wal()");
    wait_until(DEADLINE, "the archive to have the WAL", || {
        client.line(&format!("SELECT coalesce(last_archived_wal >= '{file}', false) FROM pg_stat_archiver"))
            == "t"
    });
}

/// Restores `backup` with the WAL of `archive` up to a target.
fn restore(name: &str, backup: &Path, archive: &Path, target: (&str, &str)) -> Cluster {
    std::fs::write(backup.join("recovery.signal"), "").unwrap();
    zeroauth_audit_tests::OsUser::current().unwrap().own(&backup.join("recovery.signal")).unwrap();
    let restored = Cluster::builder(name)
        .data(backup)
        .conf("archive_mode", "off")
        .conf("restore_command", &format!("cp {}/%f %p", archive.display()))
        .conf(target.0, target.1)
        .conf("recovery_target_action", "promote")
        .start()
        .unwrap();
    wait_until(DEADLINE, "recovery to end", || restored.client().line("SELECT pg_is_in_recovery()") == "f");
    restored
}

#[test]
fn a_restore_to_a_named_point_in_the_middle_of_a_load_holds_a_prefix_of_every_chain_that_goes_on() {
    let (cluster, archive) = archiving("named_point");
    let mut client = cluster.client();
    let backup = under_load(&cluster, || {
        let backup = base_backup(&cluster, &["-X", "none", "--no-manifest"]);
        grow(&mut client, 200);
        client.line("SELECT pg_create_restore_point('middle')");
        grow(&mut client, 200);
        backup
    });
    archive_now(&mut client);
    let restored = restore("named_point_restored", &backup, &archive, ("recovery_target_name", "middle"));
    let mut on_restored = restored.client();
    let (there, all) = (events(&mut on_restored).len(), events(&mut client).len());
    assert!(600 <= there && there + 100 <= all, "{there} of {all} events");
    assert_prefix_that_goes_on(&mut on_restored, &mut client);
    assert_whole(&mut client);
}

#[test]
fn a_restore_to_a_time_keeps_what_was_committed_before_it_and_drops_what_a_forger_did_after_it() {
    let (cluster, archive) = archiving("point_in_time");
    let mut client = cluster.client();
    let backup = base_backup(&cluster, &["-X", "none", "--no-manifest"]);
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i % 4, 'between' FROM generate_series(1, 100) i");
    let before = client.line(DIGEST);
    let time = client.line("SELECT clock_timestamp()");
    client.run("SET zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE tenant_id = 'tenant 2'; UPDATE audit_events SET action = 'forged' WHERE seq = 7; RESET zeroauth_audit.maintenance");
    archive_now(&mut client);
    let restored = restore("point_in_time_restored", &backup, &archive, ("recovery_target_time", &time));
    let mut on_restored = restored.client();
    assert_eq!(on_restored.line(DIGEST), before);
    assert_whole(&mut on_restored);
    on_restored.run("INSERT INTO audit_events (tenant_id, action) VALUES ('tenant 2', 'goes on')");
    assert_whole(&mut on_restored);
}
