//! The checks that cargo makes: lints, tests of the pure crates, tests on real servers.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use zeroauth_audit_tests::Installation;

use super::tally::Tally;
use crate::process;
use crate::setup::say;

/// The package of tests that start servers.
const SERVER_TESTS: &str = "zeroauth-audit-tests";
/// The extension's own package: its library needs a server around it and has no tests of its own.
const EXTENSION: &str = "zeroauth_audit";

/// clippy over everything, warnings denied.
pub(crate) fn clippy() -> Command {
    let mut command = process::cargo();
    command.args(["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    command
}

/// Every test that needs no server.
pub(crate) fn unit_tests(filter: Option<&str>) -> Result<Tally> {
    say("testing: the crates that need no server");
    let mut command = process::cargo();
    command.args(["test", "--quiet", "--locked", "--no-fail-fast", "--workspace"]);
    command.args(["--exclude", EXTENSION, "--exclude", SERVER_TESTS, "--"]).args(filter);
    counted(command)
}

/// Every test that starts servers. Two at a time: each brings its own server's processes.
pub(crate) fn server_tests(filter: Option<&str>, installation: &Installation) -> Result<Tally> {
    say("testing: on real servers");
    server_tests_with(filter, installation, &[])
}

/// The same, with environment variables that say how long a test takes.
pub(crate) fn server_tests_with(
    filter: Option<&str>,
    installation: &Installation,
    length: &[(&str, String)],
) -> Result<Tally> {
    let mut command = process::cargo();
    command.args(["test", "--quiet", "--locked", "--no-fail-fast", "--package", SERVER_TESTS, "--"]);
    command.args(["--test-threads", "2"]).args(filter).env("PG_CONFIG", &installation.pg_config);
    command.envs(length.iter().map(|(name, value)| (name, value)));
    counted(command)
}

/// Runs test programs, lets their output through and adds up what they report. A failure that none of them reports, such
/// as a test that does not compile or a program that died, counts as one.
fn counted(mut command: Command) -> Result<Tally> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut sum = Tally::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read what cargo test prints")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        sum += Tally::of_line(&line);
    }
    let status = child.wait().context("cargo test is lost")?;
    if !status.success() && sum.failed == 0 {
        sum += Tally::one(false);
    }
    Ok(sum)
}
