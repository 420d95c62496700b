//! Checkpoints, tiles, proofs and cosignatures against the packages `aics-tlog` and `aics-witness` from PyPI.
//!
//! The test itself is in `crates/verifier/tests/interoperability`; here is what it needs installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use zeroauth_audit_tests::workspace;

use super::rust;
use super::tally::Tally;
use crate::process;
use crate::setup::say;

/// Pinned, with all that they bring along: another version may mean another format.
const PACKAGES: [&str; 5] =
    ["aics-tlog==0.2.1", "aics-witness==0.1.0", "cryptography==50.0.2", "cffi==2.1.1", "pycparser==3.12"];

/// Where the test finds their Python.
const VARIABLE: &str = "ZEROAUTH_AUDIT_AICS_PYTHON";

/// Runs the test that needs them.
pub(crate) fn check() -> Result<Tally> {
    let python = python()?;
    say("testing: interoperability with aics-tlog and aics-witness");
    rust::ignored_tests(
        "zeroauth-audit-verifier",
        "interoperability",
        &[(VARIABLE, python.display().to_string())],
    )
}

/// Python with the packages, in an environment of its own under target/, installed the first time.
fn python() -> Result<PathBuf> {
    let environment = workspace().join("target/aics-0.2.1-0.1.0");
    let python = environment.join("bin/python");
    if !works(&python) {
        say("installing aics-tlog and aics-witness into target/");
        process::read(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        process::read(
            Command::new(environment.join("bin/pip"))
                // They ask for Python 3.12, and use nothing that the 3.11 of Debian 12 has not.
                .args(["install", "--quiet", "--disable-pip-version-check", "--ignore-requires-python"])
                .args(["--only-binary", ":all:", "--no-deps"])
                .args(PACKAGES),
        )?;
    }
    Ok(python)
}

fn works(python: &Path) -> bool {
    let imports = "import aics_tlog, aics_witness, cryptography";
    process::output(Command::new(python).args(["-c", imports])).is_ok_and(|output| output.status.success())
}
