//! One measurement of one side, and the loads that are one statement.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use postgres::Client;
use zeroauth_audit_tests::Cluster;

use super::Effort;
use super::pgbench::Protocol;
use super::scenario::{Form, Scenario, Side, Size, Work};
use super::tables::{self, COLUMNS};
use super::{auditor, drift, jobs, log, peers, pgbench, reading, session};

/// Measures `side` doing the work of `scenario`, from an empty table; what reads, from a full one.
pub(crate) fn measure(scenario: &Scenario, side: Side, cluster: &Cluster, effort: &Effort) -> Result<f64> {
    let mut client = cluster.try_client()?;
    match scenario.work {
        Work::Inserts { clients, tenants, form } => {
            tables::empty(&mut client, side)?;
            let script = pgbench::insert(side, tenants, form);
            let protocol = pgbench::protocol(form);
            let rate = || pgbench::rate(cluster, &script, protocol, clients, effort.seconds);
            match side {
                Side::WithJobs => jobs::beside(&mut client, rate),
                Side::PgAudit => peers::pgaudit(&script, protocol, clients, effort),
                _ => rate(),
            }
        }
        Work::Session(statements) => session::rate(side, statements, effort.seconds),
        Work::Tail { clients } => {
            tables::empty(&mut client, side)?;
            pgbench::tail(cluster, &pgbench::insert(side, 1, Form::Prepared), clients, effort.seconds)
        }
        Work::Business { clients } => {
            tables::empty(&mut client, side)?;
            pgbench::rate(cluster, &pgbench::business(side), Protocol::Prepared, clients, effort.seconds)
        }
        Work::InsertSelect => {
            tables::empty(&mut client, side)?;
            timed(effort.rows.into(), || tables::fill(&mut client, side))
        }
        Work::Copy => {
            tables::empty(&mut client, side)?;
            copy(&mut client, cluster, side, effort)
        }
        Work::VerifyAll { workers } => {
            let events = tables::hold(&mut client, effort, Size::Large)?;
            match side {
                Side::ReadAndHash => reading::read_and_hash(&mut client, workers, events),
                _ => reading::verify_all(&mut client, workers, events),
            }
        }
        Work::VerifyLast => {
            tables::hold(&mut client, effort, Size::Huge)?;
            reading::verify_last(&mut client)
        }
        Work::VerifyMemory => {
            let events = tables::hold(&mut client, effort, Size::Huge)?;
            reading::verify_memory(client, cluster, events)
        }
        Work::ExportMemory => {
            let events = tables::hold(&mut client, effort, Size::Huge)?;
            reading::export_memory(client, cluster, events)
        }
        Work::VerifyExport => {
            let events = tables::hold(&mut client, effort, Size::Huge)?;
            auditor::rate(cluster, events)
        }
        Work::VerifyExportMemory => {
            let events = tables::hold(&mut client, effort, Size::Huge)?;
            auditor::memory(cluster, events)
        }
        Work::DriftRun => drift::one_run(&mut client, effort),
        Work::InsertsBesideDrift { clients } => drift::inserts(&mut client, cluster, side, clients, effort),
        Work::SealNew { tenants } => log::new_event(&mut client, cluster, effort, tenants),
        Work::SealNothing { tenants } => log::nothing_new(&mut client, cluster, effort, tenants),
        Work::CompareLogs { tenants } => log::comparison(&mut client, cluster, effort, tenants),
        Work::Tiles { tenants } => log::tiles(&mut client, cluster, effort, tenants),
        Work::AnchorBatch { tenants } => log::anchor_batch(&mut client, cluster, effort, tenants),
        Work::Prove => log::proof_time(&mut client, cluster, effort),
        Work::ProofSize => log::proof_size(&mut client, cluster, effort),
        Work::InsertsBesideCheckpoints { clients, tenants } => {
            log::inserts(&mut client, cluster, side, clients, effort, tenants)
        }
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

/// Events a second of `work`, which says how many events it did; another number than `expected` is an error.
pub(crate) fn timed(expected: u64, work: impl FnOnce() -> Result<u64>) -> Result<f64> {
    let started = Instant::now();
    let done = work()?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(done == expected, "{done} events instead of {expected}");
    Ok(done as f64 / seconds)
}

/// Runs a job of the extension in this session, without pauses.
pub(crate) fn run_job(client: &mut Client, job: &str) -> Result<()> {
    let result: String =
        client.query_one("SELECT zeroauth_audit_internal.run_job($1)::text", &[&job])?.get(0);
    ensure!(result.contains("\"succeeded\""), "the job {job} failed: {result}");
    Ok(())
}

/// Milliseconds of this session's processor time that `work` takes.
pub(crate) fn processor_time(
    client: &mut Client,
    work: impl FnOnce(&mut Client) -> Result<()>,
) -> Result<f64> {
    let used = "SELECT zeroauth_audit_internal.process_cpu()";
    let before: f64 = client.query_one(used, &[])?.get(0);
    work(client)?;
    let after: f64 = client.query_one(used, &[])?.get(0);
    Ok(after - before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_rows_are_not_a_fast_run() {
        assert!(timed(2, || Ok(2)).is_ok());
        assert!(timed(2, || Ok(1)).is_err());
    }
}
