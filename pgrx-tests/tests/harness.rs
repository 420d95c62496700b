//! The harness itself, with plain PostgreSQL: no extension needed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::time::Duration;

use zeroauth_audit_tests::{Cluster, wait_until};

fn plain(name: &str) -> Cluster {
    Cluster::builder(name).preload(false).start().expect("a plain cluster starts")
}

#[test]
fn a_crash_keeps_what_was_committed_and_nothing_else() {
    let cluster = plain("crash");
    let mut client = cluster.client();
    client.batch_execute("CREATE TABLE t (i int); INSERT INTO t VALUES (1)").unwrap();
    client.batch_execute("BEGIN; INSERT INTO t VALUES (2)").unwrap();
    cluster.crash().unwrap();
    wait_until(Duration::from_secs(5), "the connection to notice", || {
        client.batch_execute("SELECT 1").is_err()
    });
    cluster.start_again().unwrap();
    let count: i64 = cluster.client().query_one("SELECT count(*) FROM t", &[]).unwrap().get(0);
    assert_eq!(count, 1);
    assert!(cluster.log().contains("automatic recovery in progress"), "{}", cluster.log());
}

#[test]
fn a_dropped_cluster_leaves_no_process_and_no_folder() {
    let cluster = plain("drop");
    let (data, sockets, pid) =
        (cluster.data_dir(), cluster.socket_dir().to_path_buf(), cluster.pid().unwrap());
    assert!(data.exists() && sockets.exists());
    drop(cluster);
    assert!(!data.exists() && !sockets.exists());
    let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    assert!(cmdline.is_empty(), "process {pid} still runs");
}

#[test]
fn clients_reach_the_cluster_as_its_own_user_and_see_settings_and_errors() {
    let cluster = Cluster::builder("clients").preload(false).conf("work_mem", "5MB").start().unwrap();
    let fine = cluster.psql("audit", "SHOW work_mem; SELECT current_user, getdatabaseencoding();").unwrap();
    assert!(fine.status.success(), "{}", fine.stderr);
    assert_eq!(fine.stdout, "5MB\npostgres|UTF8\n");
    let wrong = cluster.psql("audit", "SELECT 1/0; SELECT 2;").unwrap();
    assert_eq!(wrong.status.code(), Some(3));
    assert!(wrong.stderr.contains("22012"), "{}", wrong.stderr);
    assert_eq!(wrong.stdout, "", "psql goes on after an error");
    let dump = cluster.command("pg_dump").arg("--schema-only").output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
}

#[test]
fn several_clusters_run_side_by_side() {
    let (one, two) = (plain("side"), plain("side"));
    one.client().batch_execute("CREATE TABLE only_in_one ()").unwrap();
    assert!(two.client().batch_execute("SELECT FROM only_in_one").is_err());
    one.restart().unwrap();
    one.client().batch_execute("SELECT FROM only_in_one").unwrap();
}
