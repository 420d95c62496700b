//! A trail of PostgreSQL 15, dumped, for the tests on other versions to restore: they have no server 15 of their own.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use zeroauth_audit_tests::Cluster;

use crate::process;
use crate::setup::{Ready, say};

/// The environment variable that tells the tests in which folder the dumps are. Without it they are ignored, and counted as
/// skipped.
pub(crate) const VARIABLE: &str = "ZEROAUTH_AUDIT_DUMP_FROM_15";
/// The folder, below the target folder of whoever restores.
pub(crate) const FOLDER: &str = "from_15";

/// Writes into `folder`: the dumps `custom.dump` and `plain.sql`, and what a restore has to give again: `rows` with every
/// column of every event, and `export`. False when this machine's server is not a 15.
pub(crate) fn dump(ready: &Ready, folder: &Path) -> Result<bool> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    if ready.feature != "pg15" {
        say("there is no PostgreSQL 15 here to dump from: the tests of its dumps are skipped");
        return Ok(false);
    }
    say("dumping a trail of PostgreSQL 15");
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let cluster = Cluster::audited("from-15")?;
    let mut holder = cluster.try_client()?;
    holder.batch_execute(
        "BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'open'), ('bäckerei', 'open')",
    )?;
    let mut client = cluster.try_client()?;
    client.batch_execute(include_str!("from_15.sql")).context("cannot fill the trail to dump")?;
    holder.batch_execute("COMMIT")?;
    let chains: i64 = client.query_one("SELECT count(DISTINCT chain) FROM audit_events", &[])?.get(0);
    ensure!(chains == 2, "the trail to dump has {chains} chains, not 2");

    for (file, program, arguments) in [
        ("custom.dump", "pg_dump", ["-Fc", "audit"].as_slice()),
        ("plain.sql", "pg_dump", &["audit"]),
        ("rows", "psql", &["-Xqc", include_str!("from_15_rows.sql")]),
        ("export", "psql", &["-XqAtc", "SELECT audit_export()"]),
    ] {
        let path = folder.join(file);
        let output = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut command = cluster.command(program);
        process::run(command.args(arguments).env("PGTZ", "UTC").stdout(output))?;
    }
    Ok(true)
}
