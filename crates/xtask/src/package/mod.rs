//! `cargo xtask package`: Debian packages of the extension and of the auditor's program, each with a bill of materials, in
//! `target/packages`.
//!
//! The extension is built on the Debian whose PostgreSQL it is for: here, or in a folder (`versions`). The auditor's program is
//! static and the same for all, so it is always built here.

mod advisories;
mod check;
mod components;
mod debian;
mod maintainer;
#[cfg(test)]
mod meta;
mod notices;
mod program;
mod sbom;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use zeroauth_audit_tests::Installation;

use crate::setup;
use crate::steps::say;
use crate::{failure, process, versions};
use components::Components;
use debian::Recipe;
pub(crate) use maintainer::Maintainer;
use sbom::{Linked, Subject};

/// The package of the workspace with the extension.
const EXTENSION: &str = "zeroauth_audit";

/// What is asked for.
pub(crate) struct Options {
    /// The major version of PostgreSQL; this machine's unless given.
    pub(crate) pg: Option<u32>,
    /// Use the packages on a fresh Debian, too.
    pub(crate) check: bool,
    /// In the folder of that version already: make the extension's package and nothing else.
    pub(crate) inside: bool,
    /// Whom the packages name as their maintainer; the environment's unless given.
    pub(crate) maintainer: Option<Maintainer>,
}

/// Makes the packages, and lists them on standard output.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if !setup::can_install() {
        return Err(failure::environment("packages are made on Debian: there is no apt here"));
    }
    setup::need(&debian::TOOLS)?;
    fs::create_dir_all(debian::folder()).context("cannot make target/packages")?;
    let maintainer = options.maintainer.clone().map_or_else(Maintainer::of_environment, Ok)?;
    if options.inside {
        let made = extension(&maintainer)?;
        debian::lint(&[made])?;
        return Ok(ExitCode::SUCCESS);
    }
    let own = Installation::find().map(|installation| installation.major()).ok();
    let other = options.pg.filter(|major| Some(*major) != own);
    let suite = other.map_or_else(suite, |major| versions::with_packages(major).map(str::to_owned))?;
    let checked = advisories::checked()?;
    if maintainer.is_placeholder() {
        say(
            "the packages name no real maintainer: before you hand them out, give --maintainer 'Name <mail>'",
        );
    }
    let extension = match other {
        None => extension(&maintainer)?,
        Some(major) => extension_elsewhere(major, &maintainer)?,
    };
    let made = [extension, program(&maintainer)?];
    // The other Debian's lintian has seen the extension's package there.
    debian::lint(if other.is_some() { &made[1..] } else { &made })?;
    for package in &made {
        for file in [package.clone(), sbom::path(package)] {
            println!("{} {}", fs::metadata(&file)?.len(), file.display());
        }
    }
    println!(
        "advisories: {}",
        if checked { "none is known" } else { "NOT checked, the list cannot be reached" }
    );
    if !options.check {
        return Ok(ExitCode::SUCCESS);
    }
    // It may have been installed only now.
    let major = other.map_or_else(|| Installation::find().map(|installation| installation.major()), Ok)?;
    let tally = check::run(&suite, major, &made)?;
    println!("{tally}");
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The package of the extension for this machine's PostgreSQL.
fn extension(maintainer: &Maintainer) -> Result<PathBuf> {
    let (installation, built) = setup::handed_out()?;
    let major = installation.major();
    let features = ["--no-default-features", "--features", &format!("pg{major}")].map(str::to_owned);
    let crates = components::of(EXTENSION, &features)?;
    let name = format!("postgresql-{major}-zeroauth-audit");
    say(&format!("making {name}"));
    let recipe = Recipe {
        name: &name,
        major,
        // A library that was built with the headers of one minor version may misread the structures of an earlier one.
        variables: &[("postgresql:Minor", minor(&installation)?.to_owned())],
        maintainer,
        notices: &notices::of(&crates)?,
    };
    let made = debian::make(&recipe, |root| {
        process::run(Command::new("cp").arg("--recursive").arg(built.join("usr")).arg(root))
    })?;
    write_bill(&made, "library", &crates, &[])?;
    Ok(made)
}

/// The same, made on the Debian that has PostgreSQL `major`.
fn extension_elsewhere(major: u32, maintainer: &Maintainer) -> Result<PathBuf> {
    let folder = versions::Folder::prepared(versions::with_packages(major)?, major)?;
    folder.need(debian::TOOLS)?;
    folder.take_over_builds()?;
    let mut command = folder.command(versions::As::Caller, "env")?;
    command.arg(format!("PG_CONFIG=/usr/lib/postgresql/{major}/bin/pg_config"));
    process::run(
        command.args(["cargo", "xtask", "package", "--inside", "--maintainer"]).arg(maintainer.to_string()),
    )?;
    let made =
        debian::package_in(&folder.target().join("packages"), &format!("postgresql-{major}-zeroauth-audit"))?;
    let package = debian::folder().join(made.file_name().context("a package without a name")?);
    for (from, to) in [(made.clone(), package.clone()), (sbom::path(&made), sbom::path(&package))] {
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(package)
}

/// The package of the auditor's program.
fn program(maintainer: &Maintainer) -> Result<PathBuf> {
    let program = program::build()?;
    let crates = components::of(program::PACKAGE, &[])?;
    say(&format!("making {}", program::NAME));
    let sources: Vec<String> = program
        .linked
        .iter()
        .map(|linked| format!("{} (= {})", linked.source, linked.source_version))
        .collect();
    let recipe = Recipe {
        name: program::NAME,
        // The other package of the control file is not made.
        major: 0,
        variables: &[("static:Built-Using", sources.join(", "))],
        maintainer,
        notices: &notices::of(&crates)?,
    };
    let made = debian::make(&recipe, |root| program.install(root))?;
    write_bill(&made, "application", &crates, &program.linked)?;
    Ok(made)
}

fn write_bill(package: &Path, kind: &'static str, crates: &Components, linked: &[Linked]) -> Result<()> {
    let bill = sbom::of(&Subject {
        package: &debian::field(package, "Package")?,
        version: &debian::field(package, "Version")?,
        architecture: &debian::field(package, "Architecture")?,
        file: &fs::read(package).with_context(|| format!("cannot read {}", package.display()))?,
        kind,
        time: &debian::changelog_time()?,
        rust: &program::rust_version()?,
        crates,
        linked,
    })?;
    let path = sbom::path(package);
    fs::write(&path, bill).with_context(|| format!("cannot write {}", path.display()))
}

/// The minor version of an installation, such as `15.20`.
fn minor(installation: &Installation) -> Result<&str> {
    installation
        .version
        .split_whitespace()
        .nth(1)
        .with_context(|| format!("{} is no version", installation.version))
}

/// The Debian release of this machine.
fn suite() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.context("/etc/os-release names no release")?.trim_matches('"').to_owned())
}
