//! Inserts while the worker does all that it does by default.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use postgres::Client;

/// The jobs that run every minute: the schedules are put off while other things are measured, so each is made due once, at the begin
/// of a round. A round is shorter than a minute, so they run more often than they do by default. So does `drift`, which is hourly.
const JOBS: [&str; 3] = ["tripwire", "checkpoint", "drift"];

/// Measures while the jobs run beside; all of them must have ended well.
pub(crate) fn beside(client: &mut Client, measure: impl FnOnce() -> Result<f64>) -> Result<f64> {
    let list = JOBS.join("', '");
    let ended = format!(
        "SELECT count(DISTINCT job) FROM zeroauth_audit_internal.job_runs WHERE job IN ('{list}') AND status = 'succeeded' AND started_at >= $1::text::timestamptz"
    );
    // No job runs before the first event.
    client.batch_execute("INSERT INTO audit_events (tenant_id, action) VALUES ('tenant-1', 'first')")?;
    let since: String = client.query_one("SELECT now()::text", &[])?.get(0);
    client.batch_execute(&format!(
        "SET zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name IN ('{list}')"
    ))?;
    let rate = measure()?;
    let begun = Instant::now();
    while client.query_one(&ended, &[&since])?.get::<_, i64>(0) < JOBS.len() as i64 {
        ensure!(begun.elapsed() < Duration::from_secs(60), "not every job ran beside the inserts");
        thread::sleep(Duration::from_millis(200));
    }
    Ok(rate)
}
