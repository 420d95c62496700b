//! A key that signs checkpoints, made by the auditor's program as a user makes one.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use zeroauth_audit_tests::OsUser;

use crate::process;

/// Makes the key file at `path`, which the server's user can read, and returns the public key.
pub(crate) fn make(program: &Path, origin: &str, path: &Path) -> Result<String> {
    let printed =
        process::read(Command::new(program).args(["keygen", "--origin", origin, "--out"]).arg(path))?;
    let public = printed
        .lines()
        .find(|line| line.starts_with(origin))
        .with_context(|| format!("keygen printed no public key: {printed}"))?;
    OsUser::current()?.own(path)?;
    Ok(public.to_owned())
}
