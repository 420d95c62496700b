//! What pgbench measures: transactions a second, and the time of the slowest hundredth.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use zeroauth_audit_tests::Cluster;

use super::scenario::{Form, Side};

/// How pgbench sends statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Prepared,
    Simple,
}

/// How an insert of this form is sent.
pub(crate) fn protocol(form: Form) -> Protocol {
    if form == Form::Unprepared { Protocol::Simple } else { Protocol::Prepared }
}

/// The script of single-row inserts.
pub(crate) fn insert(side: Side, tenants: u32, form: Form) -> String {
    const VARIABLES: &str = "\\set n random(1, 1000000000)\n\\set t random(1, @tenants@)\n";
    let variables = VARIABLES.replace("@tenants@", &tenants.to_string());
    let insert = insert_statement(side);
    match form {
        Form::Prepared | Form::Unprepared => variables + &insert,
        Form::Savepoint => format!("{variables}BEGIN;\nSAVEPOINT one;\n{insert}RELEASE one;\nCOMMIT;\n"),
    }
}

/// The script of business transactions.
pub(crate) fn business(side: Side) -> String {
    include_str!("business.sql").replace("@insert@", insert_statement(side).trim_end())
}

fn insert_statement(side: Side) -> String {
    include_str!("insert.sql").replace("@table@", side.table())
}

/// Transactions a second of `script`.
pub(crate) fn rate(
    cluster: &Cluster,
    script: &str,
    protocol: Protocol,
    clients: u32,
    seconds: u32,
) -> Result<f64> {
    let report = run(cluster, script, protocol, clients, seconds, &[])?;
    tps(&report).context("pgbench printed no rate")
}

/// Prepared single-row inserts a second.
pub(crate) fn prepared_rate(
    cluster: &Cluster,
    side: Side,
    tenants: u32,
    clients: u32,
    seconds: u32,
) -> Result<f64> {
    rate(cluster, &insert(side, tenants, Form::Prepared), Protocol::Prepared, clients, seconds)
}

/// The 99th percentile of a transaction's time, in milliseconds.
pub(crate) fn tail(cluster: &Cluster, script: &str, clients: u32, seconds: u32) -> Result<f64> {
    let home = cluster.data_dir().join("bench-latencies");
    let _ = fs::remove_dir_all(&home);
    // Made by the server's own user, whom pgbench runs as.
    let made = cluster.command("mkdir").arg(&home).status().context("cannot run mkdir")?;
    ensure!(made.success(), "cannot make {}", home.display());
    let prefix = format!("--log-prefix={}", home.join("log").display());
    run(cluster, script, Protocol::Prepared, clients, seconds, &["--log", &prefix])?;
    let micros = latencies(&home)?;
    fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))?;
    Ok(percentile_99(micros).context("pgbench logged no transaction")? / 1000.0)
}

fn run(
    cluster: &Cluster,
    script: &str,
    protocol: Protocol,
    clients: u32,
    seconds: u32,
    more: &[&str],
) -> Result<String> {
    let protocol = match protocol {
        Protocol::Prepared => "--protocol=prepared",
        Protocol::Simple => "--protocol=simple",
    };
    let mut child = cluster
        .command("pgbench")
        .args(["--no-vacuum", protocol, "--jobs=2", "--file=-"])
        .args([format!("--client={clients}"), format!("--time={seconds}")])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run pgbench")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).context("cannot give pgbench its script")?;
    }
    let output = child.wait_with_output().context("pgbench is lost")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || errors.contains("aborted") {
        bail!("pgbench failed: {}", errors.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The rate in pgbench's report.
fn tps(report: &str) -> Option<f64> {
    report.lines().find_map(|line| line.strip_prefix("tps = "))?.split_whitespace().next()?.parse().ok()
}

/// Every transaction's time, in microseconds: the third field of each line of pgbench's logs.
fn latencies(folder: &Path) -> Result<Vec<f64>> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let text = fs::read_to_string(file?.path()).context("cannot read a log of pgbench")?;
        for line in text.lines() {
            found.push(latency(line).with_context(|| format!("not a line of pgbench: {line}"))?);
        }
    }
    Ok(found)
}

fn latency(line: &str) -> Option<f64> {
    line.split_whitespace().nth(2)?.parse().ok()
}

fn percentile_99(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get((values.len() * 99).div_ceil(100).checked_sub(1)?).copied()
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
    fn the_slowest_hundredth_is_read_from_the_log() {
        assert_eq!(latency("0 199 2241 0 1175850568 995598"), Some(2241.0));
        assert_eq!(percentile_99((1..=200).map(f64::from).collect()), Some(198.0));
        assert_eq!(percentile_99(vec![7.0]), Some(7.0));
        assert_eq!(percentile_99(vec![]), None);
    }

    #[test]
    fn scripts_have_no_hole_left() {
        for script in [
            insert(Side::Ours, 7, Form::Prepared),
            insert(Side::Checked, 7, Form::Savepoint),
            business(Side::Plain),
        ] {
            assert!(!script.contains('@'), "{script}");
        }
    }
}
