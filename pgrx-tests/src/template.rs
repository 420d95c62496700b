//! The cluster that initdb made once and every other one is copied from: a copy takes a tenth of initdb's time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::environment::OsUser;
use crate::installation::Installation;
use crate::postmaster::run;

/// Copies the template into `data`, making the template first if need be. The caller holds the lock of `base`.
pub(crate) fn copy(base: &Path, data: &Path, user: OsUser, installation: &Installation) -> Result<()> {
    let template = base.join(format!("template_{}", version_slug(&installation.version)));
    if !template.exists() {
        make(&template, user, installation)?;
    }
    run(Command::new("cp").arg("-a").arg(&template).arg(data), "copy of the template cluster")
}

/// Makes the template under another name and renames it: a half-made one is never taken for whole.
fn make(template: &Path, user: OsUser, installation: &Installation) -> Result<()> {
    let draft = PathBuf::from(format!("{}.draft", template.display()));
    if draft.exists() {
        fs::remove_dir_all(&draft).with_context(|| format!("cannot remove {}", draft.display()))?;
    }
    run(
        user.command(installation.bindir.join("initdb"))
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "--no-instructions",
                "-D",
            ])
            .arg(&draft)
            .current_dir("/"),
        "initdb",
    )?;
    create_database(&draft, user, installation)?;
    fs::rename(&draft, template).context("cannot rename the template cluster")
}

/// Creates the database `audit` with a single-user server, so that no copy has to.
fn create_database(data: &Path, user: OsUser, installation: &Installation) -> Result<()> {
    use std::io::Write;
    let mut server = user
        .command(installation.bindir.join("postgres"))
        .args(["--single", "-D"])
        .arg(data)
        .arg("postgres")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run postgres --single")?;
    if let Some(mut stdin) = server.stdin.take() {
        stdin.write_all(b"CREATE DATABASE audit;\n")?;
    }
    let output = server.wait_with_output()?;
    let messages = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success() && !messages.contains("ERROR"),
        "cannot create the database audit: {messages}"
    );
    Ok(())
}

/// The version without what a file name should not carry.
fn version_slug(version: &str) -> String {
    version.split_whitespace().nth(1).unwrap_or("unknown").replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}
