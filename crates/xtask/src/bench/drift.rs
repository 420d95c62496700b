//! What the job drift costs: one run of it, and what inserts notice of one that keeps to its load.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postgres::Client;
use zeroauth_audit_tests::Cluster;

use super::Effort;
use super::pgbench;
use super::round::{processor_time, run_job};
use super::scenario::Side;
use super::tables::{self, COLUMNS};

/// Tenants of the table that drift replays: those of `source`, ten times.
pub(crate) const TENANTS: u32 = tables::TENANTS * 10;

/// Longer than any run takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// Each row's tenant, one of ten times as many as `source` has.
const TENANT: &str = "tenant_id || '-' || left(right('000' || ltrim(request_id, 'req-'), 3), 1)";

/// Makes `audit_events` hold so many events of [`TENANTS`] tenants, all of them seen by a run. More are left as they are.
fn hold(client: &mut Client, effort: &Effort) -> Result<()> {
    // An hourly job whose next run is an hour away, whenever this is.
    client.batch_execute(
        "UPDATE zeroauth_audit_internal.jobs SET schedule = extract(minute FROM now() - interval '1 minute') || ' * * * *' WHERE name = 'drift'",
    )?;
    let seen: i64 = client.query_one("SELECT count(*) FROM zeroauth_audit_internal.watermarks", &[])?.get(0);
    if seen.unsigned_abs() >= u64::from(TENANTS) {
        return Ok(());
    }
    tables::empty(client, Side::Ours)?;
    let columns = COLUMNS.strip_prefix("tenant_id, ").context("the columns begin with the tenant")?;
    let mut events = 0;
    while events < effort.huge {
        events += client
            .execute(
                &format!("INSERT INTO audit_events ({COLUMNS}) SELECT {TENANT}, {columns} FROM source"),
                &[],
            )
            .context("cannot fill audit_events")?;
    }
    client.batch_execute("VACUUM ANALYZE audit_events")?;
    client.batch_execute("CHECKPOINT")?;
    run(client)?;
    // The extension's own trail has alerts by now, about the schedule above.
    let tenants: i64 = client
        .query_one(
            "SELECT count(DISTINCT tenant_id) FROM zeroauth_audit_internal.watermarks WHERE tenant_id <> 'zeroauth_audit'",
            &[],
        )?
        .get(0);
    ensure!(tenants.unsigned_abs() == u64::from(TENANTS), "{tenants} tenants instead of {TENANTS}");
    Ok(())
}

/// Runs the job in this session, without pauses.
fn run(client: &mut Client) -> Result<()> {
    run_job(client, "drift")?;
    let alerts: i64 =
        client.query_one("SELECT count(*) FROM zeroauth_audit_internal.drift_findings", &[])?.get(0);
    ensure!(alerts == 0, "the table that was just filled is reported broken");
    Ok(())
}

/// Milliseconds of processor time of one run.
pub(crate) fn one_run(client: &mut Client, effort: &Effort) -> Result<f64> {
    hold(client, effort)?;
    processor_time(client, run)
}

/// Inserts a second into the table; on the side [`Side::BesideDrift`] while the worker runs the job, paced as it is by default.
pub(crate) fn inserts(
    client: &mut Client,
    cluster: &Cluster,
    side: Side,
    clients: u32,
    effort: &Effort,
) -> Result<f64> {
    hold(client, effort)?;
    client.batch_execute("CHECKPOINT")?;
    let beside = side == Side::BesideDrift;
    let runs = "SELECT count(*) FILTER (WHERE status = 'running'), count(*) FILTER (WHERE status = 'succeeded') FROM zeroauth_audit_internal.job_runs WHERE job = 'drift' AND run_by = 'worker'";
    let count = |client: &mut Client| -> Result<(i64, i64)> {
        let row = client.query_one(runs, &[])?;
        Ok((row.get(0), row.get(1)))
    };
    let (_, done) = count(client)?;
    if beside {
        client
            .batch_execute("UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'drift'")?;
        until("the run to begin", || Ok(count(client)?.0 == 1))?;
    }
    let rate = pgbench::prepared_rate(cluster, side, tables::TENANTS, clients, effort.seconds)?;
    if beside {
        ensure!(count(client)?.0 == 1, "the run ended before the inserts: nothing was measured beside it");
        until("the run to end well", || Ok(count(client)?.1 == done + 1))?;
    }
    Ok(rate)
}

fn until(what: &str, mut met: impl FnMut() -> Result<bool>) -> Result<()> {
    let since = Instant::now();
    while !met()? {
        ensure!(since.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(Duration::from_millis(20));
    }
    Ok(())
}
