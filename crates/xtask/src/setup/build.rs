//! What is built from this checkout with nothing but cargo: the extension as `cargo pgrx package` lays it out, and the program
//! that auditors get.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use zeroauth_audit_tests::{Installation, workspace};

use super::{cargo, script};
use crate::steps::Step;
use crate::{failure, process};

/// The version of the extension: every package of the workspace has the same.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The packages that are built, and the program of the second.
const EXTENSION: &str = "zeroauth_audit";
const VERIFIER: &str = "zeroauth-audit-verifier";
const PROGRAM: &str = "zeroauth-audit";
/// The pgrx crates find the headers of the server by it.
const PG_CONFIG: &str = "PGRX_PG_CONFIG_PATH";

/// How something is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// In a minute or two, for the demo and the tests: they share every crate that is built.
    Dev,
    /// As it is handed out, for packages and benchmarks: whole-program optimisation takes minutes.
    Release,
}

impl Profile {
    /// As `cargo build --profile` has it.
    fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }
}

/// The feature of the extension for an installation, such as `pg15`.
pub(crate) fn feature(installation: &Installation) -> Result<String> {
    feature_of(installation.major()).ok_or_else(|| {
        failure::environment(format!(
            "{} is not supported: install PostgreSQL 15 to 18",
            installation.version
        ))
    })
}

fn feature_of(major: u32) -> Option<String> {
    (15..=18).contains(&major).then(|| format!("pg{major}"))
}

/// Has `command`, a cargo that compiles the extension, compile it for `installation`. Otherwise the pgrx crates would want to know
/// it from `cargo pgrx init`.
pub(crate) fn for_installation(command: &mut Command, installation: &Installation) {
    command.env(PG_CONFIG, &installation.pg_config);
}

/// What [`extension_and_verifier`] made.
pub(crate) struct Built {
    /// The folder with the extension, as of [`package`].
    pub(crate) package: PathBuf,
    /// The program that auditors get.
    pub(crate) verifier: PathBuf,
}

/// Builds the extension for `installation` and returns a folder that has its files where the installation would have them, as
/// `cargo pgrx package` lays it out. Cargo decides what has to be built again.
pub(crate) fn package(installation: &Installation, profile: Profile) -> Result<PathBuf> {
    if profile == Profile::Dev {
        return Ok(extension_and_verifier(installation)?.package);
    }
    let feature = feature(installation)?;
    let step = Step::begin("building the extension as it is handed out", "5 minutes the first time");
    let mut command = process::cargo();
    command.args(["build", "--locked", "--lib", "--package", EXTENSION, "--profile", profile.name()]);
    command.args(["--no-default-features", "--features", &feature]);
    for_installation(&mut command, installation);
    let files = cargo::build(command, &step).context("the extension does not build")?;
    let folder = lay_out(&files, installation, profile)?;
    step.done();
    Ok(folder)
}

/// Builds the program that auditors get, as it is handed out.
pub(crate) fn verifier() -> Result<PathBuf> {
    let step = Step::begin("building zeroauth-audit as it is handed out", "2 minutes the first time");
    let mut command = process::cargo();
    command.args(["build", "--locked", "--package", VERIFIER, "--bin", PROGRAM]);
    command.args(["--profile", Profile::Release.name()]);
    let files = cargo::build(command, &step).context("zeroauth-audit does not build")?;
    step.done();
    made(&files, PROGRAM)
}

/// Builds extension and auditor's program for the demo and the tests. At once: one after the other they would want the same
/// crates with other features, and half of them would be built twice.
pub(crate) fn extension_and_verifier(installation: &Installation) -> Result<Built> {
    let step = Step::begin(
        "building the extension and zeroauth-audit",
        "2 to 3 minutes the first time, then seconds",
    );
    let mut command = both(&feature(installation)?);
    for_installation(&mut command, installation);
    let files = cargo::build(command, &step).context("the extension does not build")?;
    let built =
        Built { package: lay_out(&files, installation, Profile::Dev)?, verifier: made(&files, PROGRAM)? };
    step.done();
    Ok(built)
}

/// Builds what [`extension_and_verifier`] needs, as far as that goes without PostgreSQL and its headers: they are being installed.
/// Where it gets stuck, and whether there is more to it, is seen when all of it is built.
pub(crate) fn ahead(major: u32) {
    let step = Step::begin("building meanwhile what needs no PostgreSQL", "2 minutes");
    if let Some(feature) = feature_of(major) {
        let mut command = both(&feature);
        command.arg("--keep-going");
        let _ = cargo::build(command, &step);
    }
    step.done();
}

fn both(feature: &str) -> Command {
    let mut command = process::cargo();
    command.args(["build", "--locked", "--package", EXTENSION, "--package", VERIFIER]);
    command.args(["--lib", "--bin", PROGRAM, "--no-default-features", "--features"]);
    // Each goes to the package that has it. Written as package/feature, cargo leaves out that of the second package.
    command.arg(format!("{feature},network"));
    command
}

/// The file called `name` among those that cargo made.
fn made(files: &[PathBuf], name: &str) -> Result<PathBuf> {
    let found = files.iter().rfind(|file| file.file_name().is_some_and(|found| found == name));
    found.cloned().with_context(|| format!("cargo built no {name}"))
}

/// Makes the folder of the package anew, with the library among `files`, control file, install script and upgrade scripts.
fn lay_out(files: &[PathBuf], installation: &Installation, profile: Profile) -> Result<PathBuf> {
    let library = made(files, "libzeroauth_audit.so")?;
    let name = format!("{}-{}", feature(installation)?, profile.name());
    let folder = workspace().join("target/package").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let inside = |path: &Path| folder.join(path.strip_prefix("/").unwrap_or(path));
    let (libraries, extensions) =
        (inside(&installation.pkglibdir), inside(&installation.sharedir).join("extension"));
    for made in [&libraries, &extensions] {
        fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
    }
    let root = workspace();
    fs::copy(library, libraries.join("zeroauth_audit.so")).context("cannot copy the library")?;
    let control = script::control_file(&root, VERSION)?;
    fs::write(extensions.join("zeroauth_audit.control"), control).context("cannot write the control file")?;
    let install = extensions.join(script::install_script_name(VERSION));
    fs::write(install, script::install_script(&root)?).context("cannot write the install script")?;
    for upgrade in script::upgrade_scripts(&root)? {
        let name = upgrade.file_name().context("a script without a name")?;
        fs::copy(&upgrade, extensions.join(name))
            .with_context(|| format!("cannot copy {}", upgrade.display()))?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_feature_follows_the_major_version() {
        assert_eq!(feature_of(15).as_deref(), Some("pg15"));
        assert_eq!(feature_of(18).as_deref(), Some("pg18"));
        assert_eq!(feature_of(14), None);
        assert_eq!(feature_of(0), None);
    }
}
