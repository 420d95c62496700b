//! The npm packages of `contracts/`, in `target/node`: the compiler of the contract, and the local chain of tests and demo.
//!
//! The lockfile pins every package by its digest, and none of their scripts runs.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use zeroauth_audit_tests::workspace;

use super::packages;
use crate::steps::Step;
use crate::{failure, process};

/// What npm is told what to install by.
const LISTS: [&str; 2] = ["package.json", "package-lock.json"];
/// What has to be there afterwards.
const WANTED: [&str; 2] = ["solc/soljson.js", ANVIL];
/// The local chain.
const ANVIL: &str = "@foundry-rs/anvil-linux-amd64/bin/anvil";

/// Installs what the lockfile says, unless it is there already.
pub(crate) fn ready() -> Result<()> {
    let folder = folder();
    if is_ready() {
        return Ok(());
    }
    let done = folder.join("done");
    let _ = fs::remove_file(&done);
    // A npm from elsewhere brings its own node, and Debian's would not go beside it.
    if !in_path("npm") {
        packages::need(&["nodejs", "npm"])?;
    }
    let step =
        Step::begin("installing the compiler of the contract and a local chain in target/node", "10 seconds");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for list in LISTS {
        copy(list)?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"])
        .current_dir(&folder);
    if let Err(error) = process::read(&mut npm) {
        return Err(failure::environment(format!(
            "the packages of contracts/package-lock.json cannot be installed ({error:#}): look whether npm reaches its registry"
        )));
    }
    if !complete() {
        return Err(failure::environment(
            "npm has no anvil for this machine: the tests of anchors need Linux on x86-64",
        ));
    }
    fs::write(&done, "").with_context(|| format!("cannot write {}", done.display()))?;
    step.done();
    Ok(())
}

/// Whether [`ready`] needs no Debian package.
pub(crate) fn can_be_ready() -> bool {
    is_ready() || in_path("npm")
}

/// Whether all of it is there, by the lists of today.
fn is_ready() -> bool {
    let folder = folder();
    let current = LISTS.iter().all(|list| {
        let wanted = fs::read(workspace().join("contracts").join(list));
        wanted.is_ok_and(|wanted| fs::read(folder.join(list)).is_ok_and(|found| found == wanted))
    });
    current && folder.join("done").exists() && complete()
}

fn complete() -> bool {
    WANTED.iter().all(|file| folder().join("node_modules").join(file).exists())
}

/// The program of the local chain, once [`ready`].
pub(crate) fn anvil() -> PathBuf {
    folder().join("node_modules").join(ANVIL)
}

fn folder() -> PathBuf {
    workspace().join("target/node")
}

fn copy(list: &str) -> Result<()> {
    let source = workspace().join("contracts").join(list);
    fs::copy(&source, folder().join(list)).with_context(|| format!("cannot copy {}", source.display()))?;
    Ok(())
}

fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).exists())
}
