//! The checks that cargo makes: lints, tests of the pure crates, tests on real servers.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use zeroauth_audit_tests::Installation;

use super::tally::Tally;
use crate::process;
use crate::setup::build::for_installation;
use crate::setup::{Ready, say};
use crate::versions::from_15;

/// The package of tests that start servers.
const SERVER_TESTS: &str = "zeroauth-audit-tests";
/// The extension's own package: its library needs a server around it and has no tests of its own.
const EXTENSION: &str = "zeroauth_audit";
/// Files of tests on servers that are about what is outside of them, or about how long something takes: alike on every version of
/// PostgreSQL. Where several versions are tested at once, these are tested on one.
pub(crate) const ALIKE: &[&str] = &[
    "anchor_check::",
    "anchor_crashes::",
    "anchor_days::",
    "anchor_faults::",
    "anchor_targets::",
    "deliveries::",
    "drift_scale::",
    "fault_scale::",
    "offline::",
    "publish::",
    "reference::",
    "vectors::",
    "verify_long::",
    "worker_alerts::",
];

/// Tests on servers that want `contrib` or pg_cron: Debian's packages have them, a server from elsewhere may not.
const NEED_CONTRIB: &[&str] = &[
    "drift::pitfall_23_what_could_not_be_checked_is_a_failed_run_and_neither_a_finding_nor_ok",
    "drift_log::a_log_that_cannot_be_read_is_a_failed_run_and_keeps_no_event_from_being_checked",
    "environments::other_extensions_are_good_neighbours",
    "guards_ddl::other_tables_are_nobody_s_business",
    "a_stage_outside_usr_serves_create_extension_load_and_preload",
    "worker_cron::pg_cron_runs_the_jobs_and_the_worker_none_until_they_are_taken_back",
    "worker_cron::what_pg_cron_cannot_say_in_gmt_is_refused_and_nothing_changes_hands",
];

/// clippy over everything, warnings denied; the extension as it is built for the installation.
pub(crate) fn clippy(ready: &Ready) -> Command {
    let mut command = process::cargo();
    for_installation(&mut command, &ready.installation);
    let feature = &ready.feature;
    command.args(["clippy", "--quiet", "--locked", "--workspace", "--all-targets"]);
    command.args(["--no-default-features", "--features", &format!("{EXTENSION}/{feature}")]);
    command.args(["--", "-D", "warnings"]);
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

/// The tests of one file that are left out otherwise, because of what they need: `environment` says where that is.
pub(crate) fn ignored_tests(package: &str, file: &str, environment: &[(&str, String)]) -> Result<Tally> {
    let mut command = process::cargo();
    command.args(["test", "--quiet", "--locked", "--package", package, "--test", file, "--", "--ignored"]);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    counted(command)
}

/// Every test that starts servers, but those in the files `left_out`. Two at a time: each brings its own server's processes.
pub(crate) fn server_tests(
    filter: Option<&str>,
    left_out: &[&str],
    installation: &Installation,
) -> Result<Tally> {
    say("testing: on real servers");
    server_tests_with(filter, left_out, installation, &[])
}

/// The same, with environment variables that say how long a test takes.
pub(crate) fn server_tests_with(
    filter: Option<&str>,
    left_out: &[&str],
    installation: &Installation,
    length: &[(&str, String)],
) -> Result<Tally> {
    let mut command = process::cargo();
    command.args(["test", "--quiet", "--locked", "--no-fail-fast", "--package", SERVER_TESTS, "--"]);
    command.args(["--test-threads", "2"]).args(filter).env("PG_CONFIG", &installation.pg_config);
    let without: &[&str] = if installation.has_contrib() {
        &[]
    } else {
        say("the server has no contrib: what needs it is left out");
        NEED_CONTRIB
    };
    command.args(left_out.iter().chain(without).flat_map(|name| ["--skip", name]));
    if env::var_os(from_15::VARIABLE).is_some() {
        command.arg("--include-ignored");
    }
    command.envs(length.iter().map(|(name, value)| (name, value)));
    counted(command)
}

/// Runs test programs, lets their output through and adds up what they report.
fn counted(command: Command) -> Result<Tally> {
    let mut sum = Tally::default();
    let succeeded = for_lines(command, |line| {
        println!("{line}");
        sum += Tally::of_line(line);
    })?;
    Ok(sum.at_least_one_failed_unless(succeeded))
}

/// Runs another `cargo xtask test`, lets its output through and takes over its closing line, which is not printed.
pub(crate) fn closing(command: Command) -> Result<Tally> {
    let mut sum = None;
    let succeeded = for_lines(command, |line| match Tally::of_closing_line(line) {
        Some(tally) => sum = Some(tally),
        None => println!("{line}"),
    })?;
    // It ends with the line whatever failed: without one it did not get to the end.
    Ok(sum.unwrap_or_default().at_least_one_failed_unless(succeeded && sum.is_some()))
}

/// Runs a command and hands over each line it prints; whether it succeeded.
fn for_lines(mut command: Command, mut take: impl FnMut(&str)) -> Result<bool> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run the tests")?;
    let output = child.stdout.take().context("the tests have no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read what the tests print")?;
        take(&String::from_utf8_lossy(&line));
    }
    Ok(child.wait().context("the tests are lost")?.success())
}

#[cfg(test)]
mod tests {
    use zeroauth_audit_tests::workspace;

    use super::{ALIKE, NEED_CONTRIB};

    #[test]
    fn what_is_left_out_exists() {
        for name in ALIKE {
            let file = name.strip_suffix("::").unwrap_or_default();
            let path = workspace().join("pgrx-tests/tests/server").join(file).with_extension("rs");
            assert!(path.exists(), "{name} leaves nothing out");
        }
        for name in NEED_CONTRIB {
            let (file, test) = name.split_once("::").unwrap_or(("../harness_stage", name));
            let path = workspace().join("pgrx-tests/tests/server").join(file).with_extension("rs");
            let text = std::fs::read_to_string(path).unwrap_or_default();
            assert!(text.contains(&format!("fn {test}")), "{name} leaves nothing out");
        }
    }
}
