//! A full disk, under the table and under the write-ahead log: a clear error, no event lost or unchained, and everything goes
//! on once there is space.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread;
use std::time::Duration;

use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::{
    SmallDisk, Sql, assert_clean_log, assert_clean_log_but, assert_nothing_is_held, assert_whole,
};

const LARGE: &str = "INSERT INTO audit_events (tenant_id, action, details) SELECT 'tenant ' || i % 7, 'x', jsonb_build_object('t', (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 60))) FROM generate_series(1, 100) i";

#[test]
fn a_full_disk_under_the_table_refuses_events_and_unchains_none() {
    // Before the disk, so that it is ended after it.
    let cluster = Cluster::builder("fault_disk").start().unwrap();
    let Some(disk) = SmallDisk::mount(24) else { return };
    let mut client = cluster.client();
    client.run(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.path().display()));
    client.run("SET default_tablespace = small; CREATE EXTENSION zeroauth_audit");
    assert_eq!(
        client.line("SELECT spcname FROM pg_class c JOIN pg_tablespace s ON s.oid = reltablespace WHERE relname = 'audit_events_pkey'"),
        "small"
    );
    let filler = disk.filler(8);

    // Four sessions run into it, and try again.
    let acknowledged: u32 = thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = cluster.client();
                    let (mut stored, mut refused) = (0, 0);
                    while refused < 3 {
                        match client.batch_execute(LARGE) {
                            Ok(()) => stored += 100,
                            Err(error) => {
                                assert_eq!(error.code().map(|c| c.code()), Some("53100"), "{error}");
                                refused += 1;
                            }
                        }
                    }
                    stored
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert!(acknowledged > 0, "the disk is not full from the start");
    assert_eq!(client.line("SELECT count(*) FROM audit_events"), acknowledged.to_string());
    assert_nothing_is_held(&mut client);

    // In a transaction that goes on.
    client.run("BEGIN; SAVEPOINT a");
    client.refused("53100", &LARGE.replace("1, 100)", "1, 10000)"));
    client.run("ROLLBACK TO a");
    assert_nothing_is_held(&mut client);
    fs::remove_file(filler).unwrap();
    client.run(LARGE);
    client.run("COMMIT");
    client.run(LARGE);
    assert_eq!(client.line("SELECT count(*) FROM audit_events"), (acknowledged + 200).to_string());
    assert_whole(&mut client);
    assert_clean_log(&cluster);
}

#[test]
fn a_full_disk_under_the_write_ahead_log_loses_no_acknowledged_event() {
    let cluster = Cluster::builder("fault_wal")
        // No checkpoint frees segments before the disk is full.
        .conf("max_wal_size", "10GB")
        .conf("min_wal_size", "32MB")
        .conf("checkpoint_timeout", "1h")
        .start()
        .unwrap();
    let Some(disk) = SmallDisk::mount(120) else { return };
    cluster.client().run("CREATE EXTENSION zeroauth_audit");
    cluster.shut_down().unwrap();
    let (here, there) = (cluster.data_dir().join("pg_wal"), disk.path().join("pg_wal"));
    let copied = Command::new("cp").arg("-a").arg(&here).arg(&there).status().unwrap();
    assert!(copied.success());
    fs::remove_dir_all(&here).unwrap();
    symlink(&there, &here).unwrap();
    let filler = disk.filler(32);
    cluster.start_again().unwrap();

    let acknowledged: u32 = thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = cluster.client();
                    let mut stored = 0;
                    loop {
                        match client.batch_execute(LARGE) {
                            Ok(()) => stored += 100,
                            // PANIC ends the connection; some may still be told why.
                            Err(error) if error.as_db_error().is_some_and(|e| e.severity() == "ERROR") => {
                                panic!("{error:?}")
                            }
                            Err(_) => return stored,
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert!(acknowledged > 0);
    let log = cluster.log();
    let panic =
        log.lines().find(|line| line.contains("PANIC:")).unwrap_or_else(|| panic!("no PANIC in\n{log}"));
    assert!(panic.contains("No space left on device"), "{panic}");

    fs::remove_file(filler).unwrap();
    // The server starts itself again, or gave up because it could not even recover: then the administrator starts it.
    let mut client = None;
    wait_until(Duration::from_secs(60), "the server to be back, or gone", || {
        client = cluster.try_client().ok();
        client.is_some() || !cluster.data_dir().join("postmaster.pid").exists()
    });
    let mut client = match client {
        Some(client) => client,
        None => {
            cluster.crash().unwrap();
            cluster.start_again().unwrap();
            cluster.client()
        }
    };
    // What was in flight when the disk was full may be committed or not.
    let stored: u32 = client.line("SELECT count(*) FROM audit_events").parse().unwrap();
    assert!(
        (acknowledged..=acknowledged + 300).contains(&stored),
        "{stored} stored, {acknowledged} acknowledged"
    );
    client.run(LARGE);
    assert_eq!(client.line("SELECT count(*) FROM audit_events"), (stored + 100).to_string());
    assert_whole(&mut client);
    assert_clean_log_but(&cluster, &["PANIC:", "was terminated by signal 6"]);
}
