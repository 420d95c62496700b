//! The Debian packages that building and running need.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use zeroauth_audit_tests::Installation;

use crate::steps::{Step, say};
use crate::{failure, process};

/// Debian 12's PostgreSQL, which the checks run on unless another is asked for.
pub(crate) const MAJOR: u32 = 15;
/// The script that installs the packages given as its arguments, as root.
pub(crate) const INSTALL: &str = include_str!("install.sh");

/// What compiling and the demo need. The package of the headers brings a clang, whose library makes the bindings.
const TOOLS: [&str; 3] = ["build-essential", "ca-certificates", "git"];
/// What the tests need on top.
const TESTED_WITH: [&str; 3] = [
    "python3-venv",
    // Certificates and time-stamps.
    "openssl",
    // Alerts are sent to it.
    "prometheus-alertmanager",
];

/// What packages are needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The demo.
    Demo,
    /// Everything that can be done with a checkout: tests above all.
    Everything,
}

/// What is needed to build for PostgreSQL `major` and to run it.
pub(crate) fn needed(major: u32, purpose: Purpose) -> Vec<String> {
    let mut packages = server(major);
    packages.extend(TOOLS.map(str::to_owned));
    if purpose == Purpose::Everything {
        // The jobs are also run by pg_cron.
        packages.push(format!("postgresql-{major}-cron"));
        packages.extend(TESTED_WITH.map(str::to_owned));
    }
    packages
}

fn server(major: u32) -> Vec<String> {
    ["postgresql", "postgresql-server-dev"].map(|name| format!("{name}-{major}")).to_vec()
}

/// The packages that are needed here and are missing; none on a system without apt.
pub(crate) fn missing(purpose: Purpose) -> Vec<String> {
    if !have_apt() {
        return Vec::new();
    }
    // Another installation was asked for by name: its packages are the user's own affair.
    let own_installation = std::env::var_os("PG_CONFIG").is_some();
    let missing: Vec<String> = needed(MAJOR, purpose)
        .into_iter()
        .filter(|package| !(own_installation && package.starts_with("postgresql")))
        .filter(|package| !is_installed(package))
        .collect();
    if missing.is_empty() && !own_installation && headers_fit().is_err() {
        // Server and headers of different minor versions: both are brought to the newest.
        return server(MAJOR);
    }
    missing
}

/// Installs what is [`missing`] with apt, through sudo when we are not root, and looks whether server and headers fit.
pub(crate) fn install_missing(missing: &[String]) -> Result<()> {
    if !missing.is_empty() {
        install(missing)?;
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

/// Has sudo ask for the password, if it is going to need one, before bars move over its question.
pub(crate) fn ask_for_password() -> Result<()> {
    match as_root("true") {
        Ok(mut nothing) => process::run(&mut nothing).map_err(|error| {
            failure::environment(format!("packages are missing, and this is not root: {error:#}"))
        }),
        // Without sudo the installation itself says what to do.
        Err(_) => Ok(()),
    }
}

fn install(missing: &[String]) -> Result<()> {
    let by_hand = format!("apt-get update && apt-get install -y {}", missing.join(" "));
    let mut command = as_root("sh").map_err(|_| {
        failure::environment(format!("packages are missing and there is no sudo; as root: {by_hand}"))
    })?;
    say(&format!("Debian packages are missing: {}", missing.join(" ")));
    let step = Step::begin("installing them with what they need", "1 to 2 minutes");
    let mut apt = command
        .args(["-c", INSTALL, "install"])
        .args(missing)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run the package installation")?;
    if let Some(status) = apt.stdout.take() {
        for line in BufReader::new(status).lines().map_while(Result::ok) {
            if let Some((percent, what)) = progress(&line) {
                step.at(percent, 200);
                step.now(what);
            }
        }
    }
    if apt.wait().context("the package installation is lost")?.success() {
        step.done();
        return Ok(());
    }
    Err(failure::environment(format!(
        "the packages could not be installed (apt's reason is above); as root: {by_hand}"
    )))
}

/// Of one line of apt's status: how much is done, of 200, and what is being done. Half of it is the download.
fn progress(line: &str) -> Option<(u64, &str)> {
    let mut fields = line.splitn(4, ':');
    let before = match fields.next()? {
        "dlstatus" => 0.0,
        "pmstatus" => 100.0,
        _ => return None,
    };
    let percent: f64 = fields.nth(1)?.parse().ok()?;
    // A percentage: no sign and no fraction is lost that anybody sees.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some(((before + percent.clamp(0.0, 100.0)) as u64, fields.next()?))
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
    fn the_demo_needs_less_than_everything() {
        let (demo, all) = (needed(17, Purpose::Demo), needed(17, Purpose::Everything));
        assert!(demo.iter().all(|package| all.contains(package)));
        assert!(demo.contains(&"postgresql-17".into()) && !demo.contains(&"postgresql-17-cron".into()));
    }

    #[test]
    fn the_status_of_apt_is_read() {
        assert_eq!(
            progress("dlstatus:1:20.5:Retrieving file 3 of 60"),
            Some((20, "Retrieving file 3 of 60"))
        );
        assert_eq!(
            progress("pmstatus:libc6:50.0000:Unpacking libc6 (amd64)"),
            Some((150, "Unpacking libc6 (amd64)"))
        );
        assert_eq!(progress("pmerror:x:1:no"), None);
        assert_eq!(progress("pmstatus:x:much:y"), None);
    }

    #[test]
    fn the_minor_version_is_read_from_both_sides() {
        let header = "#define PG_VERSION_NUM 150020\n#define PG_VERSION \"15.20 (Debian 15.20-0+deb12u1)\"\n";
        assert_eq!(version_in_header(header), Some("15.20"));
        assert_eq!(version_in_header("#define PG_VERSION \"15.20\"\n"), Some("15.20"));
        assert_eq!(number("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)"), Some("15.20"));
        assert_eq!(version_in_header("nothing"), None);
    }
}
