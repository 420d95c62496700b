//! Known advisories against the dependencies: a package that has one is not made.
//!
//! The list is on the network. Where it cannot be reached, the packages are made all the same, and it is said.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process;
use crate::steps::say;
use crate::test::deny;

/// Where cargo-deny has the advisories from.
const LIST: &str = "https://github.com/RustSec/advisory-db";
/// Seconds until a network that does not answer counts as none.
const PATIENCE: &str = "30";

/// Whether the dependencies were checked; an error if one has an advisory that deny.toml does not accept.
pub(crate) fn checked() -> Result<bool> {
    // Building cargo-deny takes minutes, for nothing if there is no list.
    if deny::is_built() || reachable() {
        let tally = deny::advisories(&deny::built()?)?;
        if tally.failed > 0 {
            bail!("no package is made: cargo deny does not accept the dependencies, and says why above");
        }
        if tally.skipped == 0 {
            return Ok(true);
        }
    }
    say("the dependencies are NOT checked for advisories: the list cannot be reached");
    Ok(false)
}

fn reachable() -> bool {
    let mut command = Command::new("timeout");
    command.args([PATIENCE, "git", "ls-remote", "--exit-code", LIST, "HEAD"]);
    command.env("GIT_TERMINAL_PROMPT", "0");
    process::output(&mut command).is_ok_and(|output| output.status.success())
}
