//! What demo, test and bench stand on: installed packages, cargo-pgrx, and the built extension in `target/stage`.
//!
//! Everything is checked before it is changed, so a second run only asks a few programs for their version.

pub(crate) mod build;
pub(crate) mod node;
pub(crate) mod packages;
mod pgrx;
mod stage;

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};
use zeroauth_audit_tests::{Installation, OsUser, workspace};

use crate::failure;

/// A build of everything needs about this much; less is refused before anything is downloaded.
const SPACE_FOR_A_BUILD: u64 = 1 << 30;

/// What a set-up leaves ready for use.
pub(crate) struct Ready {
    /// The PostgreSQL that was built for.
    pub(crate) installation: Installation,
    /// The feature of the extension for its major version, such as `pg15`.
    pub(crate) feature: String,
}

/// Installs what is missing, builds the release extension and stages it.
pub(crate) fn run() -> Result<Ready> {
    let target = workspace().join("target");
    fs::create_dir_all(&target).map_err(|e| {
        failure::environment(format!("cannot write {}: {e}; make the checkout writable", target.display()))
    })?;
    if failure::free(&target).is_some_and(|bytes| bytes < SPACE_FOR_A_BUILD) {
        return Err(failure::environment(format!(
            "less than 1 GiB is free on the disk of {}: free some and run this again",
            target.display()
        )));
    }
    // Two set-ups at once would install and stage over each other.
    let lock = File::create(target.join("setup.lock")).map_err(|e| {
        failure::environment(format!(
            "cannot write in {}: {e}; give it to the user who runs this",
            target.display()
        ))
    })?;
    lock.lock().context("cannot lock target/setup.lock")?;

    packages::install_missing()?;
    OsUser::current()?;
    let installation = Installation::find()?;
    let pgrx = pgrx::ready(&installation)?;
    let package = build::package(&pgrx, &installation)?;
    stage::publish(&package, &installation)?;
    Ok(Ready { installation, feature: pgrx.feature })
}

/// The program of a local chain, installed.
pub(crate) fn chain() -> Result<PathBuf> {
    node::ready()?;
    Ok(node::anvil())
}

/// Whether Debian packages can be had here.
pub(crate) fn can_install() -> bool {
    packages::have_apt()
}

/// Installs the Debian packages among `wanted` that are missing.
pub(crate) fn need(wanted: &[&'static str]) -> Result<()> {
    packages::need(wanted)
}

/// Says what is being done, on standard error: standard output belongs to results.
pub(crate) fn say(text: &str) {
    eprintln!("xtask: {text}");
}
