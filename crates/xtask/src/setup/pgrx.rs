//! cargo-pgrx in the one version that fits the pgrx crates.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use zeroauth_audit_tests::{Installation, workspace};

use super::say;
use crate::{failure, process};

/// The version of pgrx in the root Cargo.toml; the two have to be equal.
const VERSION: &str = "0.18.1";

/// A cargo-pgrx that fits, told about the installation.
pub(crate) struct CargoPgrx {
    program: PathBuf,
    /// The feature of the installation's major version, such as `pg15`.
    pub(crate) feature: String,
}

impl CargoPgrx {
    /// `cargo pgrx`, to be followed by a subcommand.
    pub(crate) fn command(&self) -> Command {
        let cargo = process::cargo();
        let mut command = Command::new(&self.program);
        for (name, value) in cargo.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.arg("pgrx").current_dir(workspace());
        command
    }
}

/// Finds or installs cargo-pgrx and tells it where PostgreSQL is.
pub(crate) fn ready(installation: &Installation) -> Result<CargoPgrx> {
    let feature = feature(installation.major()).ok_or_else(|| {
        failure::environment(format!(
            "{} is not supported: install PostgreSQL 15 to 18",
            installation.version
        ))
    })?;
    let pgrx = CargoPgrx { program: program()?, feature };
    let wanted = config(&pgrx.feature, &installation.pg_config);
    let path = process::pgrx_home().join("config.toml");
    if fs::read_to_string(&path).unwrap_or_default() != wanted {
        // What `cargo pgrx init --no-run` would write, without starting anything.
        fs::create_dir_all(process::pgrx_home()).context("cannot make target/pgrx")?;
        fs::write(&path, wanted).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(pgrx)
}

fn config(feature: &str, pg_config: &Path) -> String {
    format!("[configs]\n{feature} = {:?}\n", pg_config.display().to_string())
}

/// The program, installed if need be. A cargo-pgrx of another version belongs to somebody's other project: it is left
/// alone, and ours goes under target/.
fn program() -> Result<PathBuf> {
    let private = workspace().join("target/tools");
    let found = [in_path(), Some(private.join("bin/cargo-pgrx"))];
    if let Some(program) = found.iter().flatten().find(|program| version(program).as_deref() == Some(VERSION))
    {
        return Ok(program.clone());
    }
    let mut install = process::cargo();
    install.args(["install", "--locked", "--quiet", "--version", &format!("={VERSION}"), "cargo-pgrx"]);
    match in_path().and_then(|program| version(&program)) {
        Some(other) => {
            say(&format!(
                "cargo-pgrx {other} is installed, {VERSION} is needed: building it in target/tools, which takes minutes"
            ));
            install.arg("--root").arg(&private);
        }
        // Where cargo installs by default: the next clone finds it there.
        None => say(&format!("building cargo-pgrx {VERSION}, which takes minutes")),
    }
    process::run(&mut install).map_err(|error| {
        failure::environment(format!(
            "cargo-pgrx could not be built ({error:#}): cargo install --locked --version ={VERSION} cargo-pgrx"
        ))
    })?;
    [in_path(), Some(private.join("bin/cargo-pgrx"))]
        .into_iter()
        .flatten()
        .find(|program| version(program).as_deref() == Some(VERSION))
        .context("cargo-pgrx was built and cannot be found")
}

fn in_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    env::split_paths(&path)
        .chain(home.map(|home| home.join("bin")))
        .map(|folder| folder.join("cargo-pgrx"))
        .find(|program| program.exists())
}

fn version(program: &Path) -> Option<String> {
    let printed = process::read(Command::new(program).args(["pgrx", "--version"])).ok()?;
    printed.split_whitespace().last().map(str::to_owned)
}

/// The feature for a major version.
fn feature(major: u32) -> Option<String> {
    (15..=18).contains(&major).then(|| format!("pg{major}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_feature_follows_the_major_version() {
        assert_eq!(feature(15).as_deref(), Some("pg15"));
        assert_eq!(feature(18).as_deref(), Some("pg18"));
        assert_eq!(feature(14), None);
        assert_eq!(feature(0), None);
    }

    #[test]
    fn the_version_is_the_one_of_the_crates() {
        let manifest = include_str!("../../../../Cargo.toml");
        assert!(
            manifest.contains(&format!("version = \"={VERSION}\"")),
            "Cargo.toml names another version of pgrx"
        );
    }
}
