//! What others do about the same need, on the same table: pgaudit, which writes a line of the server log for each statement.
//!
//! supa_audit is in no package that can be had without a checkout of it, so it is not measured.

use anyhow::{Context, Result, ensure};

use super::pgbench::{self, Protocol};
use super::{Effort, configured};
use crate::setup::packages;

/// Inserts a second into the plain table while pgaudit logs what writes. Its library has to be loaded by the server, so each round has one of
/// its own.
pub(crate) fn pgaudit(script: &str, protocol: Protocol, clients: u32, effort: &Effort) -> Result<f64> {
    packages::need(&["postgresql-15-pgaudit"])?;
    let cluster = configured("bench_pgaudit")
        // Ours is there for the columns of the table, and has nothing to do.
        .conf("shared_preload_libraries", "pgaudit,zeroauth_audit")
        .conf("pgaudit.log", "write")
        .start()?;
    let mut client = cluster.try_client()?;
    client.batch_execute("CREATE EXTENSION zeroauth_audit")?;
    client.batch_execute(include_str!("tables.sql")).context("cannot make the compared tables")?;
    client.batch_execute("CHECKPOINT")?;
    let rate = pgbench::rate(&cluster, script, protocol, clients, effort.seconds)?;
    let lines = cluster.log().lines().filter(|line| line.contains("AUDIT: SESSION")).count() as f64;
    ensure!(lines >= rate, "pgaudit logged {lines} of {rate} inserts a second");
    Ok(rate)
}
