//! Watching the launcher and its workers from outside.

use std::time::{Duration, Instant};

use postgres::Client;
use zeroauth_audit_tests::Cluster;

use super::Sql;

/// A worker is there this soon after CREATE EXTENSION.
pub const STARTS: Duration = Duration::from_secs(10);
/// And gone this soon when it has to go.
pub const ENDS: Duration = Duration::from_secs(3);

/// Leaves one job, for tests of how jobs are run: the others are due every minute, and at once when a worker starts. To be run
/// in the transaction that creates the extension.
pub const ONLY_PRUNE: &str = "DELETE FROM zeroauth_audit_internal.jobs WHERE name <> 'prune'";

/// Has a person know of every job that is off: for tests that take jobs away or make them rare, and ask for the health.
pub const OFF_IS_KNOWN: &str = "SELECT audit_alert_acknowledge(zeroauth_audit_internal.raise_alert('job_off', 2::smallint, NULL, 'job_off:' || name, 'x', NULL), 'x') FROM zeroauth_audit_internal.job_limits()";

/// A superuser's connection to the database `postgres`, from where the others can be dropped.
pub fn watcher(cluster: &Cluster) -> Client {
    cluster.connect("postgres", "postgres").unwrap()
}

/// The worker's process in `database`, if there is one; there is never more than one.
#[track_caller]
pub fn worker(watcher: &mut Client, database: &str) -> Option<i32> {
    let found = watcher.lines(&format!(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'zeroauth_audit worker' AND datname = '{database}'"
    ));
    assert!(found.len() < 2, "{found:?}");
    found.first().map(|pid| pid.parse().unwrap())
}

/// Waits until `database` has a worker that waits for its jobs, another one than `before`.
#[track_caller]
pub fn worker_after(watcher: &mut Client, database: &str, before: Option<i32>) -> i32 {
    let since = Instant::now();
    loop {
        let ready = watcher.lines(&format!(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'zeroauth_audit worker' AND datname = '{database}' AND state = 'idle'"
        ));
        match ready.first().map(|pid| pid.parse().unwrap()) {
            Some(pid) if Some(pid) != before => return pid,
            _ => {}
        }
        assert!(since.elapsed() < STARTS, "no worker in {database} within {STARTS:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `database` has no worker.
#[track_caller]
pub fn no_worker(watcher: &mut Client, database: &str) {
    let since = Instant::now();
    while let Some(pid) = worker(watcher, database) {
        assert!(since.elapsed() < ENDS, "worker {pid} of {database} is still there after {ENDS:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How long something takes.
pub fn timed(action: impl FnOnce()) -> Duration {
    let since = Instant::now();
    action();
    since.elapsed()
}
