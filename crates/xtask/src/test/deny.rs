//! Licences, advisories and sources of the dependencies, by cargo-deny, once there is a deny.toml.

use anyhow::Result;
use zeroauth_audit_tests::workspace;

use super::tally::Tally;
use crate::process;
use crate::setup::say;

/// Runs cargo-deny. Building it takes longer than all tests together, so it is built only when `asked` for; where it is not
/// installed the check is skipped, and counted as such.
pub(crate) fn check(asked: bool) -> Result<Tally> {
    if !workspace().join("deny.toml").exists() {
        return Ok(Tally::default());
    }
    let installed = process::output(process::cargo().args(["deny", "--version"]))
        .is_ok_and(|output| output.status.success());
    if !installed && !asked {
        say("skipping cargo deny, which is not installed: cargo xtask test --deny builds it");
        return Ok(Tally::skipped());
    }
    if !installed {
        say("building cargo-deny, which takes minutes");
        process::run(process::cargo().args(["install", "--locked", "--quiet", "cargo-deny"]))?;
    }
    Ok(super::check("dependencies", process::cargo().args(["deny", "--log-level", "error", "check"])))
}
