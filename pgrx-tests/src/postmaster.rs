//! Starting and stopping one postmaster, always by its own process id.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::environment::OsUser;
use crate::installation::Installation;

/// How long a start or a stop may take: recovery after a crash under load included.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a command to its end; a failure carries what it printed.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {what}"))?;
    if output.status.success() {
        return Ok(());
    }
    bail!(
        "{what} failed ({}): {}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    )
}

/// Starts the server of `data`, waits until it answers, and returns its process id.
pub(crate) fn start(
    data: &Path,
    log: &Path,
    user: OsUser,
    installation: &Installation,
    environment: &[(String, String)],
) -> Result<i32> {
    let started = run(
        user.command(installation.bindir.join("pg_ctl"))
            .args(["start", "--silent", "--wait", "--timeout", &PATIENCE.as_secs().to_string(), "-D"])
            .arg(data)
            .arg("--log")
            .arg(log)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/"),
        "pg_ctl start",
    );
    if let Err(error) = started {
        let written = fs::read(log).unwrap_or_default();
        let written = String::from_utf8_lossy(&written);
        let tail: Vec<&str> = written.lines().rev().take(15).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        return Err(
            error.context(format!("the server does not start; the end of its log:\n{}", tail.join("\n")))
        );
    }
    pid_of(data).context("the server started but left no process id")
}

/// The process id in `postmaster.pid`, if that process really is a server working in `data`.
pub(crate) fn pid_of(data: &Path) -> Option<i32> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    works_in(pid, data).then_some(pid)
}

/// Sends `signal` to the postmaster `pid` of `data` and waits until it is gone. A process id that was reused by
/// another program is left alone.
pub(crate) fn stop(pid: i32, data: &Path, signal: Signal) -> Result<()> {
    if !works_in(pid, data) {
        return Ok(());
    }
    if let Some(target) = Pid::from_raw(pid)
        && let Err(error) = kill_process(target, signal)
        && works_in(pid, data)
    {
        bail!("cannot stop the server, process {pid}: {error}");
    }
    let since = Instant::now();
    while works_in(pid, data) {
        if since.elapsed() > PATIENCE {
            bail!("the server, process {pid}, did not stop within {} s", PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Whether process `pid` is alive and was started on `data`. Its command line says so to everybody; its working directory
/// would not, because root in a container may not read that of another user. A zombie has an empty command line.
fn works_in(pid: i32, data: &Path) -> bool {
    let Ok(cmdline) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    cmdline.split(|byte| *byte == 0).any(|argument| argument == data.as_os_str().as_bytes())
}
