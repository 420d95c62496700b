//! What reading an export costs an auditor: time and memory of `zeroauth-audit verify-export`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zeroauth_audit_tests::Cluster;

use super::reading::anonymous;
use super::round::timed;
use crate::process;
use crate::setup::build;

/// Exported events a second, read and judged by the one thread of the program.
pub(crate) fn rate(cluster: &Cluster, events: u64) -> Result<f64> {
    let mut command = verifier(cluster, events)?;
    timed(events, || verified(command.spawn().context("cannot run zeroauth-audit")?, events))
}

/// Mebibytes that the program has for itself at its peak.
pub(crate) fn memory(cluster: &Cluster, events: u64) -> Result<f64> {
    let child = verifier(cluster, events)?.spawn().context("cannot run zeroauth-audit")?;
    let pid = i32::try_from(child.id()).context("no pid")?;
    let most = thread::scope(|scope| -> Result<u64> {
        let sampler = scope.spawn(|| {
            let mut most = 0;
            // Nothing is mapped any more once it has ended.
            while let Some(now) = anonymous(pid) {
                most = most.max(now);
                thread::sleep(Duration::from_millis(20));
            }
            most
        });
        verified(child, events)?;
        sampler.join().map_err(|_| anyhow::anyhow!("the sampler panicked"))
    })?;
    ensure!(most > 0, "the memory could not be read");
    Ok(most as f64 / 1024.0)
}

/// The program with the export of what `audit_events` holds, which is made once.
fn verifier(cluster: &Cluster, events: u64) -> Result<Command> {
    let program = build::verifier()?;
    let path = export(cluster, events)?;
    let mut command = Command::new(program);
    command.arg("verify-export").arg(path).args(["--json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    Ok(command)
}

/// What a reader of the documentation would write, 10 GB of it in a full run.
fn export(cluster: &Cluster, events: u64) -> Result<PathBuf> {
    let path = cluster.data_dir().with_file_name(format!("export-{events}.jsonl"));
    if !path.exists() {
        let unfinished = path.with_extension("unfinished");
        let output = File::create(&unfinished).context("cannot write the export")?;
        let mut psql = cluster.command("psql");
        psql.args(["-v", "FETCH_COUNT=1000", "-XqAtc", "SELECT audit_export()"]).stdout(output);
        process::run(&mut psql)?;
        fs::rename(&unfinished, &path).context("cannot rename the export")?;
    }
    Ok(path)
}

/// So many events, if they were verified; an error when some were not, or there is anything to say against them. The few of the worker's own tenant come on
/// top.
fn verified(child: Child, events: u64) -> Result<u64> {
    let output = child.wait_with_output().context("zeroauth-audit is lost")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the export of what was just filled is not verified: {text}");
    let verdict: serde_json::Value =
        serde_json::from_str(text.lines().last().unwrap_or_default()).context("no verdict")?;
    let checked = verdict["events"].as_u64().context("no number of events")?;
    ensure!(checked >= events, "{checked} events instead of {events}");
    Ok(events)
}
