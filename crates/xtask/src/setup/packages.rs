//! The Debian packages that building and running need.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use zeroauth_audit_tests::Installation;

use super::say;
use crate::{failure, process};

/// Debian 12's PostgreSQL, which the checks run on unless another is asked for.
const MAJOR: u32 = 15;
/// The script that installs the packages given as its arguments, as root.
pub(crate) const INSTALL: &str = include_str!("install.sh");

const TOOLS: [&str; 8] = [
    "libclang-dev",
    "pkg-config",
    "libssl-dev",
    "build-essential",
    "ca-certificates",
    "git",
    "python3-venv",
    // The tests send alerts to it.
    "prometheus-alertmanager",
];

/// What building for PostgreSQL `major` and running it need.
pub(crate) fn needed(major: u32) -> Vec<String> {
    let mut packages = server(major);
    packages.extend(TOOLS.map(str::to_owned));
    packages
}

fn server(major: u32) -> Vec<String> {
    ["postgresql", "postgresql-server-dev"]
        .map(|name| format!("{name}-{major}"))
        .into_iter()
        // Its tests run the jobs by pg_cron.
        .chain([format!("postgresql-{major}-cron")])
        .collect()
}

/// Installs what is missing with apt, through sudo when we are not root. On a system without apt it only looks whether the
/// server and its headers are there.
pub(crate) fn install_missing() -> Result<()> {
    if !have_apt() {
        return headers_fit().map_err(failure::environment);
    }
    // Another installation was asked for by name: its packages are the user's own affair.
    let own_installation = std::env::var_os("PG_CONFIG").is_some();
    let mut missing: Vec<String> = needed(MAJOR)
        .into_iter()
        .filter(|package| !(own_installation && package.starts_with("postgresql")))
        .filter(|package| !is_installed(package))
        .collect();
    if !own_installation && missing.is_empty() && headers_fit().is_err() {
        // Server and headers of different minor versions: both are brought to the newest.
        missing = server(MAJOR);
    }
    if !missing.is_empty() {
        install(&missing)?;
    }
    headers_fit().map_err(failure::environment)
}

/// Whether this system has apt.
pub(crate) fn have_apt() -> bool {
    Path::new("/usr/bin/apt-get").exists()
}

/// Installs what is missing of `wanted`, which not everybody needs.
pub(crate) fn need(wanted: &[&'static str]) -> Result<()> {
    let missing: Vec<String> =
        wanted.iter().filter(|package| !is_installed(package)).map(|package| (*package).to_owned()).collect();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

fn install(missing: &[String]) -> Result<()> {
    say(&format!("installing {}", missing.join(" ")));
    let by_hand = format!("apt-get update && apt-get install -y {}", missing.join(" "));
    let mut command = as_root("sh").map_err(|_| {
        failure::environment(format!("packages are missing and there is no sudo; as root: {by_hand}"))
    })?;
    let status = command
        .args(["-c", INSTALL, "install"])
        .args(missing)
        .stdout(Stdio::null())
        .status()
        .context("cannot run the package installation")?;
    if status.success() {
        return Ok(());
    }
    Err(failure::environment(format!(
        "the packages could not be installed (apt's reason is above); as root: {by_hand}"
    )))
}

/// A command that runs as root: by itself when we are, else through sudo.
pub(crate) fn as_root(program: &str) -> Result<Command> {
    if rustix::process::geteuid().is_root() {
        return Ok(Command::new(program));
    }
    if Path::new("/usr/bin/sudo").exists() {
        let mut command = Command::new("sudo");
        command.arg(program);
        return Ok(command);
    }
    Err(failure::environment("this needs root, and there is no sudo: run it as root"))
}

fn is_installed(package: &str) -> bool {
    process::output(Command::new("dpkg-query").args(["-W", "-f", "${Status}", package]))
        .is_ok_and(|output| output.stdout.ends_with(b"ok installed"))
}

/// Whether the headers are there and of the server's own minor version, or one line that says what to do: a library built
/// against another minor version may read the server's structures wrongly.
fn headers_fit() -> Result<(), String> {
    let installation = Installation::find().map_err(|error| format!("{error:#}"))?;
    let headers = process::read(Command::new(&installation.pg_config).arg("--includedir-server"))
        .map_err(|error| format!("{error:#}"))?;
    let header = Path::new(headers.trim()).join("pg_config.h");
    let Ok(text) = std::fs::read_to_string(&header) else {
        return Err(format!(
            "the PostgreSQL headers are missing ({}): apt-get install postgresql-server-dev-15",
            header.display()
        ));
    };
    let server =
        process::read(Command::new(installation.bindir.join("postgres")).arg("--version")).map_err(|_| {
            format!("no server in {}: apt-get install postgresql-15", installation.bindir.display())
        })?;
    match (version_in_header(&text), number(&server)) {
        (Some(header), Some(server)) if header == server => Ok(()),
        (header, server) => Err(format!(
            "the server is {} and its headers are {}: bring postgresql-15 and postgresql-server-dev-15 to one version",
            server.unwrap_or("of an unknown version"),
            header.unwrap_or("of an unknown version"),
        )),
    }
}

/// The version in `#define PG_VERSION "15.20 (Debian ..)"`.
fn version_in_header(text: &str) -> Option<&str> {
    let line = text.lines().find_map(|line| line.strip_prefix("#define PG_VERSION "))?;
    number(line.trim().trim_matches('"'))
}

/// The first word that starts with a digit.
fn number(text: &str) -> Option<&str> {
    text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minor_version_is_read_from_both_sides() {
        let header = "#define PG_VERSION_NUM 150020\n#define PG_VERSION \"15.20 (Debian 15.20-0+deb12u1)\"\n";
        assert_eq!(version_in_header(header), Some("15.20"));
        assert_eq!(version_in_header("#define PG_VERSION \"15.20\"\n"), Some("15.20"));
        assert_eq!(number("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)"), Some("15.20"));
        assert_eq!(version_in_header("nothing"), None);
    }
}
