//! Licences, sources and advisories of the dependencies, by cargo-deny, once there is a deny.toml.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use zeroauth_audit_tests::workspace;

use super::tally::Tally;
use crate::process;
use crate::setup::say;

/// What cargo-deny says when it cannot ask for the advisories; the dependencies may be fine or not.
const NO_DATABASE: &str = "failed to fetch advisory database";

/// Runs cargo-deny. Building it takes longer than all tests together, so it is built only when `asked` for; where it is not
/// installed the check is skipped, and counted as such.
pub(crate) fn check(asked: bool) -> Result<Tally> {
    if !workspace().join("deny.toml").exists() {
        return Ok(Tally::default());
    }
    if !asked && !is_built() {
        say("skipping cargo deny, which is not installed: cargo xtask test --deny builds it");
        return Ok(Tally::skipped());
    }
    let program = built()?;
    let mut sum = super::check("dependencies", deny(&program).args(["check", "bans", "licenses", "sources"]));
    sum += advisories(&program)?;
    Ok(sum)
}

/// Whether cargo-deny is there without building it.
pub(crate) fn is_built() -> bool {
    installed().is_some()
}

/// cargo-deny, built if need be.
pub(crate) fn built() -> Result<PathBuf> {
    if let Some(program) = installed() {
        return Ok(program);
    }
    say("building cargo-deny, which takes minutes");
    let mut install = process::cargo();
    install.args(["install", "--locked", "--quiet", "cargo-deny", "--root"]);
    process::run(install.arg(workspace().join("target/tools")))?;
    installed().context("cargo-deny was built and cannot be found")
}

/// The advisories are kept on the network; without it nothing can be said, and the check is skipped.
pub(crate) fn advisories(program: &Path) -> Result<Tally> {
    say("checking: advisories");
    let output = process::output(deny(program).args(["check", "advisories"]))?;
    let printed = String::from_utf8_lossy(&output.stderr);
    if printed.contains(NO_DATABASE) {
        say("skipping the advisories: their database cannot be fetched");
        return Ok(Tally::skipped());
    }
    eprint!("{printed}");
    Ok(Tally::one(output.status.success()))
}

fn deny(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--log-level", "error"]).current_dir(workspace());
    command
}

/// The program in the PATH, or the one built under target/.
fn installed() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([workspace().join("target/tools/bin")])
        .map(|folder| folder.join("cargo-deny"))
        .find(|program| program.exists())
}
