//! One measurement: events a second of one side.

use std::io::Write;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use postgres::Client;
use zeroauth_audit_tests::Cluster;

use super::Effort;
use super::scenario::{Scenario, Side, Work};
use super::tables::{self, COLUMNS};

/// Measures `side` doing the work of `scenario`, from an empty table; for a verification from a full one.
pub(crate) fn measure(scenario: &Scenario, side: Side, cluster: &Cluster, effort: &Effort) -> Result<f64> {
    let mut client = cluster.try_client()?;
    match scenario.work {
        Work::Inserts { clients, tenants } => {
            tables::empty(&mut client, side)?;
            pgbench(cluster, side, clients, tenants, effort.seconds)
        }
        Work::InsertSelect => {
            tables::empty(&mut client, side)?;
            timed(effort.rows.into(), || tables::fill(&mut client, side))
        }
        Work::Copy => {
            tables::empty(&mut client, side)?;
            copy(&mut client, cluster, side, effort)
        }
        Work::VerifyAll { workers } => verify_all(&mut client, side, workers, effort),
    }
}

fn copy(client: &mut Client, cluster: &Cluster, side: Side, effort: &Effort) -> Result<f64> {
    let file = cluster.data_dir().join("bench-source.copy");
    if !file.exists() {
        client
            .batch_execute(&format!("COPY source TO '{}'", file.display()))
            .context("cannot write the rows to load")?;
    }
    let copy = format!("COPY {} ({COLUMNS}) FROM '{}'", side.table(), file.display());
    timed(effort.rows.into(), || client.execute(&copy, &[]).context("cannot COPY"))
}

fn verify_all(client: &mut Client, side: Side, workers: u32, effort: &Effort) -> Result<f64> {
    let table = side.table();
    let rows: i64 = client.query_one(&format!("SELECT count(*) FROM {table}"), &[])?.get(0);
    if rows != i64::from(effort.rows) {
        tables::empty(client, side)?;
        tables::fill(client, side)?;
        client.batch_execute(&format!("VACUUM ANALYZE {table}"))?;
    }
    client.batch_execute(&format!("SET max_parallel_workers_per_gather = {workers}"))?;
    timed(effort.rows.into(), || {
        let verdicts = client
            .query("SELECT ok, events_checked FROM audit_verify_all()", &[])
            .context("cannot verify")?;
        ensure!(
            verdicts.iter().all(|row| row.get::<_, bool>(0)),
            "the table that was just filled is reported broken"
        );
        Ok(verdicts.iter().map(|row| row.get::<_, i64>(1).unsigned_abs()).sum())
    })
}

/// Events a second of `work`, which says how many events it did; another number than `expected` is an error.
fn timed(expected: u64, work: impl FnOnce() -> Result<u64>) -> Result<f64> {
    let started = Instant::now();
    let done = work()?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(done == expected, "{done} events instead of {expected}");
    Ok(done as f64 / seconds)
}

fn pgbench(cluster: &Cluster, side: Side, clients: u32, tenants: u32, seconds: u32) -> Result<f64> {
    let script = include_str!("insert.sql")
        .replace("@table@", side.table())
        .replace("@tenants@", &tenants.to_string());
    let mut child = cluster
        .command("pgbench")
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--file=-"])
        .args([format!("--client={clients}"), format!("--time={seconds}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run pgbench")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).context("cannot give pgbench its script")?;
    }
    let output = child.wait_with_output().context("pgbench is lost")?;
    if !output.status.success() {
        bail!("pgbench failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    tps(&String::from_utf8_lossy(&output.stdout)).context("pgbench printed no rate")
}

/// The rate in pgbench's report.
fn tps(report: &str) -> Option<f64> {
    report.lines().find_map(|line| line.strip_prefix("tps = "))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_the_report() {
        let report = "latency average = 1.2 ms\ntps = 12345.678901 (without initial connection time)\n";
        assert_eq!(tps(report), Some(12345.678901));
        assert_eq!(tps("nothing"), None);
    }

    #[test]
    fn lost_rows_are_not_a_fast_run() {
        assert!(timed(2, || Ok(2)).is_ok());
        assert!(timed(2, || Ok(1)).is_err());
    }
}
