//! The release build of the extension, as `cargo pgrx package` lays it out.

use std::path::PathBuf;

use anyhow::Result;
use zeroauth_audit_tests::{Installation, workspace};

use super::pgrx::CargoPgrx;
use super::say;
use crate::process;

/// Builds the package and returns its folder. Cargo decides what has to be built again.
pub(crate) fn package(pgrx: &CargoPgrx, installation: &Installation) -> Result<PathBuf> {
    let folder = workspace().join("target/package").join(&pgrx.feature);
    say("building the extension");
    let mut command = pgrx.command();
    command
        .args(["package", "--no-default-features", "--features", &pgrx.feature, "--pg-config"])
        .arg(&installation.pg_config)
        .arg("--out-dir")
        .arg(&folder);
    let output = process::output(&mut command)?;
    if !output.status.success() {
        eprint!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        anyhow::bail!("the extension does not build; the reason is above");
    }
    Ok(folder)
}

/// How a program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// In seconds, for a demonstration.
    Debug,
    /// As it is handed out; its optimisation takes minutes and pays for exports of millions of events.
    Release,
}

/// The program that auditors get, built from this checkout.
pub(crate) fn verifier(profile: Profile) -> Result<PathBuf> {
    say("building zeroauth-audit");
    let mut command = process::cargo();
    command.args(["build", "--quiet", "--locked", "--package", "zeroauth-audit-verifier"]);
    let folder = match profile {
        Profile::Debug => "target/debug",
        Profile::Release => {
            command.arg("--release");
            "target/release"
        }
    };
    process::run(&mut command)?;
    Ok(workspace().join(folder).join("zeroauth-audit"))
}
