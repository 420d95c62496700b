//! Random queries by sqlsmith against a database with the extension: as a superuser, and as an ordinary role with the documented
//! grants. Nothing may crash, no internal error may be ours, and afterwards every chain is whole.
//!
//! A superuser's random queries write too. None of them is in maintenance, so whatever they wrote to the trail went through its
//! guards, and the verdict on it must be good.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use zeroauth_audit_tests::Cluster;

use super::server_log;
use crate::setup::{self, say};
use crate::test::tally::Tally;

/// Fewer transactions than this in a run mean that sqlsmith did not do its work.
const LEAST: i64 = 50;

/// Runs sqlsmith from the seed `first` on for `time`, half of it as each role; one passed or failed each.
pub(crate) fn check(time: Duration, first: u64) -> Result<Tally> {
    if !setup::can_install() {
        say("skipping sqlsmith, which is installed from Debian's packages");
        return Ok(Tally::skipped());
    }
    setup::need(&["sqlsmith"])?;
    let mut sum = Tally::default();
    for role in ["postgres", "smith"] {
        say(&format!("random queries: as {role} for {} s", time.as_secs() / 2));
        let found = round(role, time / 2, first)?;
        for line in &found {
            eprintln!("sqlsmith as {role}: {line}");
        }
        sum += Tally::one(found.is_empty());
    }
    Ok(sum)
}

/// One run on a cluster of its own: what is wrong afterwards.
fn round(role: &str, time: Duration, first: u64) -> Result<Vec<String>> {
    let cluster = Cluster::builder("soak")
        .conf("log_error_verbosity", "verbose")
        // A warning is judged by the query that it comes from.
        .conf("log_min_error_statement", "warning")
        .conf("statement_timeout", "2s")
        .conf("fsync", "off")
        .start()?;
    // Judged by `server_log`.
    cluster.asks_for("you don't own a lock of type");
    let mut client = cluster.try_client()?;
    client.batch_execute(include_str!("data.sql")).context("cannot make the data of the soak")?;
    let pid = cluster.pid();
    let until = Instant::now() + time;
    let (mut seed, mut at_once) = (first, 0);
    // It ends when a query of its own takes its connection away, and then goes on with another seed.
    while Instant::now() < until && at_once < 5 {
        let begun = Instant::now();
        let mut smith = start(&cluster, role, seed)?;
        let ended = wait(&mut smith, until)?;
        at_once = if ended && begun.elapsed() < Duration::from_secs(1) { at_once + 1 } else { 0 };
        seed += 1;
    }

    let mut found = server_log::wrong(&cluster.log());
    if at_once == 5 {
        found.push(format!("sqlsmith ends as soon as it is started, the last with seed {}", seed - 1));
    }
    if cluster.pid() != pid {
        found.push("the server is another one".into());
    }
    match verdict(&cluster) {
        Ok(wrong) => found.extend(wrong),
        Err(error) => found.push(format!("{error:#}")),
    }
    Ok(found)
}

fn start(cluster: &Cluster, role: &str, seed: u64) -> Result<Child> {
    let target =
        format!("host={} port={} dbname=audit user={role}", cluster.socket_dir().display(), cluster.port());
    let mut command = Command::new("sqlsmith");
    command.arg(format!("--target={target}")).arg(format!("--seed={seed}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("cannot run sqlsmith")
}

/// Waits until `until` and ends it, or until it has ended by itself, which is returned.
fn wait(smith: &mut Child, until: Instant) -> Result<bool> {
    while Instant::now() < until {
        if smith.try_wait().context("sqlsmith is lost")?.is_some() {
            return Ok(true);
        }
        sleep(Duration::from_millis(100));
    }
    smith.kill().context("cannot end sqlsmith")?;
    smith.wait().context("sqlsmith is lost")?;
    Ok(false)
}

/// What is wrong with the trail, or with the run.
fn verdict(cluster: &Cluster) -> Result<Vec<String>> {
    let mut client = cluster.try_client()?;
    // Random queries may have changed the database's or the role's own settings.
    client.batch_execute("SET statement_timeout = '5min'; SET search_path = public, pg_catalog")?;
    let mut found = Vec::new();
    for row in client.query("SELECT format('%s: %s findings, %s', tenant_id, findings, first_finding) FROM audit_verify() WHERE ok IS NOT TRUE", &[])? {
        found.push(row.get(0));
    }
    let row = client.query_one(
        "SELECT (SELECT count(*) FROM audit_events WHERE tenant_id LIKE 'soak %'),
            (SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'audit')",
        &[],
    )?;
    let (events, transactions): (i64, i64) = (row.get(0), row.get(1));
    say(&format!("random queries: {transactions} transactions"));
    if events < 2000 {
        found.push(format!("{events} of 2000 events are left"));
    }
    if transactions < LEAST {
        found.push(format!("only {transactions} transactions: sqlsmith does not work here"));
    }
    Ok(found)
}
