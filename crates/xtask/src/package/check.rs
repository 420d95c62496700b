//! The packages in use, on a Debian that was made for it: `check.sh` has the steps.
//!
//! Under `target/versions`: `<suite>-clean` is that Debian, never entered; `<suite>-trial` its copy, which is entered and removed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use zeroauth_audit_tests::workspace;

use super::debian;
use crate::setup::packages;
use crate::steps::Step;
use crate::test::Tally;
use crate::{failure, process, versions};

/// The script that enters a folder.
const ENTER: &str = include_str!("clean.sh");

/// Uses the packages on a fresh Debian `suite` with PostgreSQL `major`: one test for each step.
pub(crate) fn run(suite: &str, major: u32, made: &[PathBuf]) -> Result<Tally> {
    let folder = workspace().join("target/versions");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let lock = File::create(folder.join(format!("{suite}-clean.lock"))).context("cannot make a lock")?;
    lock.lock().context("cannot lock the clean Debian")?;
    let (clean, trial) = (folder.join(format!("{suite}-clean")), folder.join(format!("{suite}-trial")));
    if !clean.exists() {
        versions::make(suite, &clean)?;
    }
    remove(&trial)?;
    process::run(packages::as_root("cp")?.args(["--archive", "--reflink=auto"]).arg(&clean).arg(&trial))?;
    let step = Step::begin(&format!("using the packages on a fresh Debian {suite}"), "2 minutes");
    let done = in_trial(&trial, suite, major, made);
    step.done();
    remove(&trial)?;
    done
}

fn in_trial(trial: &Path, suite: &str, major: u32, made: &[PathBuf]) -> Result<Tally> {
    let inside = trial.join("packages");
    process::run(packages::as_root("mkdir")?.arg(&inside))?;
    process::run(packages::as_root("cp")?.args(made).arg(&inside))?;
    let script = workspace().join("crates/xtask/src/package/check.sh");
    process::run(packages::as_root("cp")?.arg(script).arg(trial.join("check.sh")))?;
    let version = debian::field(made.first().context("no packages")?, "Version")?;
    let mut command = packages::as_root("unshare")?;
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "clean.sh"]);
    command.arg(trial).arg("/check.sh").args([suite, &major.to_string(), &version]);
    let output = process::output(command.stderr(Stdio::inherit()))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    print!("{printed}");
    let tally = tally(&printed);
    if tally == Tally::default() {
        return Err(failure::environment("mounting or chroot is not possible here; the reason is above"));
    }
    Ok(tally.at_least_one_failed_unless(output.status.success()))
}

/// What the steps came to.
fn tally(printed: &str) -> Tally {
    let mut sum = Tally::default();
    for line in printed.lines() {
        match line {
            _ if line.starts_with("ok ") => sum += Tally::one(true),
            _ if line.starts_with("not ok ") => sum += Tally::one(false),
            _ => {}
        }
    }
    sum
}

/// Removes a folder that belongs to root. Nothing is mounted in it once the last process inside is gone.
fn remove(folder: &Path) -> Result<()> {
    process::run(packages::as_root("rm")?.args(["--recursive", "--force", "--one-file-system"]).arg(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_and_nothing_else() {
        let sum = tally("ok a\nnot ok b\nokay\n    not ok c\n");
        assert_eq!((sum.passed, sum.failed), (1, 1));
    }
}
