//! A Debian package, made by debhelper of `packaging/debian` and of files that are built already; and what lintian says of it.
//!
//! In `packaging/debian` PGVERSION stands for the major version of PostgreSQL, in names of files, too; MAINTAINERNAME and
//! MAINTAINERMAIL stand for whom the package names as its maintainer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use zeroauth_audit_tests::workspace;

use super::maintainer::{self, Maintainer};
use crate::process;

/// The Debian packages that making packages needs.
pub(crate) const TOOLS: [&str; 3] = ["debhelper", "dpkg-dev", "lintian"];
/// Stands for the major version.
const MAJOR: &str = "PGVERSION";

/// What a package is made of.
pub(crate) struct Recipe<'a> {
    /// Its name, one of those in `packaging/debian/control`.
    pub(crate) name: &'a str,
    /// The major version of PostgreSQL.
    pub(crate) major: u32,
    /// Values of variables in the control file, such as `postgresql:Minor`.
    pub(crate) variables: &'a [(&'a str, String)],
    /// Who hands it out.
    pub(crate) maintainer: &'a Maintainer,
    /// The notices of other people's code in it.
    pub(crate) notices: &'a str,
}

impl Recipe<'_> {
    /// What stands for something in `packaging/debian`, and what takes its place.
    fn fillings(&self) -> [(&'static str, String); 3] {
        [
            (MAJOR, self.major.to_string()),
            (maintainer::NAME, self.maintainer.name.clone()),
            (maintainer::MAIL, self.maintainer.mail.clone()),
        ]
    }
}

/// The folder that finished packages lie in.
pub(crate) fn folder() -> PathBuf {
    workspace().join("target/packages")
}

/// Makes the package and returns its file. `fill` puts what is installed below the folder it is given, as below `/`.
pub(crate) fn make(recipe: &Recipe, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let around = folder().join("build").join(recipe.name);
    if around.exists() {
        fs::remove_dir_all(&around).with_context(|| format!("cannot remove {}", around.display()))?;
    }
    let source = around.join("source");
    let debian = source.join("debian");
    copy_filled_in(&workspace().join("packaging/debian"), &debian, &recipe.fillings())?;
    let control = debian.join("control");
    let stanzas = only(recipe.name, &fs::read_to_string(&control).context("cannot read the control file")?)?;
    fs::write(&control, stanzas).context("cannot write the control file")?;
    let variables: String =
        recipe.variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    fs::write(source.join(format!("{}.substvars", recipe.name)), variables)?;
    fs::write(source.join("third-party-notices"), recipe.notices)?;
    fs::copy(workspace().join("CHANGELOG.md"), source.join("CHANGELOG.md"))?;
    let built = source.join("built");
    fs::create_dir(&built)?;
    fill(&built)?;

    let mut rules = Command::new("debian/rules");
    rules.arg("binary").current_dir(&source).env("DEB_BUILD_OPTIONS", "noautodbgsym");
    let output = process::output(&mut rules)?;
    if !output.status.success() {
        eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("debhelper cannot make {}; the reason is above", recipe.name);
    }
    let made = package_in(&around, recipe.name)?;
    remove_packages_of(recipe.name)?;
    let place = folder().join(made.file_name().context("a package without a name")?);
    fs::rename(&made, &place).with_context(|| format!("cannot move {}", made.display()))?;
    Ok(place)
}

/// The package `name` in a folder that holds one version of it.
pub(crate) fn package_in(folder: &Path, name: &str) -> Result<PathBuf> {
    let beginning = format!("{name}_");
    let found = packages_in(folder)?
        .into_iter()
        .find(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&beginning)));
    found.with_context(|| format!("{name} was made and is not in {}", folder.display()))
}

/// Fails unless lintian finds nothing worth a warning.
pub(crate) fn lint(packages: &[PathBuf]) -> Result<()> {
    let mut command = Command::new("lintian");
    command.args(["--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0"]).args(packages);
    let output = process::output(&mut command)?;
    let printed = [output.stdout, output.stderr].concat();
    if !output.status.success() || !printed.is_empty() {
        eprint!("{}", String::from_utf8_lossy(&printed));
        bail!("lintian does not accept the packages; the reasons are above");
    }
    Ok(())
}

/// One field of a package.
pub(crate) fn field(package: &Path, name: &str) -> Result<String> {
    let text = process::read(Command::new("dpkg-deb").arg("--field").arg(package).arg(name))?;
    Ok(text.trim().to_owned())
}

/// When the newest entry of the changelog was written.
pub(crate) fn changelog_time() -> Result<String> {
    let mut parse = Command::new("dpkg-parsechangelog");
    parse.arg("--file").arg(workspace().join("packaging/debian/changelog"));
    let seconds = process::read(parse.args(["--show-field", "Timestamp"]))?;
    let mut date = Command::new("date");
    let text = process::read(
        date.args(["--utc", "+%Y-%m-%dT%H:%M:%SZ", "--date"]).arg(format!("@{}", seconds.trim())),
    )?;
    Ok(text.trim().to_owned())
}

/// The control file without the packages that are made another time, of which debhelper would miss everything.
fn only(name: &str, control: &str) -> Result<String> {
    let mut stanzas = control.split("\n\n");
    let source = stanzas.next().context("the control file is empty")?;
    let beginning = format!("Package: {name}\n");
    let package = stanzas.find(|stanza| stanza.starts_with(&beginning));
    Ok(format!(
        "{source}\n\n{}\n",
        package.with_context(|| format!("no {name} in the control file"))?.trim_end()
    ))
}

/// Copies a folder, and puts what belongs there where something else stands for it: in the files and in their names.
fn copy_filled_in(from: &Path, to: &Path, fillings: &[(&str, String)]) -> Result<()> {
    let filled =
        |text: String| fillings.iter().fold(text, |text, (stands, for_it)| text.replace(stands, for_it));
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let source = entry?.path();
        let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let place = to.join(filled(name));
        if source.is_dir() {
            copy_filled_in(&source, &place, fillings)?;
            continue;
        }
        let text =
            fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
        fs::write(&place, filled(text)).with_context(|| format!("cannot write {}", place.display()))?;
        // `rules` is a program.
        let mode = source.metadata()?.permissions().mode() & 0o777;
        fs::set_permissions(&place, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn packages_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        found.extend(Some(entry?.path()).filter(|path| path.extension().is_some_and(|it| it == "deb")));
    }
    Ok(found)
}

/// Removes older versions of a package, and their bills of materials.
fn remove_packages_of(name: &str) -> Result<()> {
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && file.starts_with(&format!("{name}_")) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_maintainer_take_their_places_everywhere() {
        let folder = tempfile::tempdir().unwrap();
        let maintainer = "Zoe <zoe@example.com>".parse().unwrap();
        let recipe = Recipe { name: "", major: 17, variables: &[], maintainer: &maintainer, notices: "" };
        let fillings = recipe.fillings();
        copy_filled_in(&workspace().join("packaging/debian"), folder.path(), &fillings).unwrap();
        let mut names = Vec::new();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            names.push(path.file_name().unwrap().to_string_lossy().into_owned());
            let text = if path.is_dir() { String::new() } else { fs::read_to_string(&path).unwrap() };
            assert!(fillings.iter().all(|(stands, _)| !text.contains(stands)), "{path:?}");
        }
        assert!(names.contains(&"postgresql-17-zeroauth-audit.install".to_owned()), "{names:?}");
        assert_eq!(folder.path().join("rules").metadata().unwrap().permissions().mode() & 0o111, 0o111);
        // Debian takes a package whose changelog was signed by somebody else for an upload on another's behalf.
        for (file, line) in [("control", "Maintainer: "), ("changelog", " -- ")] {
            let text = fs::read_to_string(folder.path().join(file)).unwrap();
            assert!(text.contains(&format!("\n{line}Zoe <zoe@example.com>")), "{file}: {text}");
        }
    }

    #[test]
    fn packages_have_the_version_of_the_project() {
        let changelog = fs::read_to_string(workspace().join("packaging/debian/changelog")).unwrap();
        let beginning = format!("zeroauth-audit ({}-", env!("CARGO_PKG_VERSION"));
        assert!(changelog.starts_with(&beginning), "the newest entry is not of {beginning}");
    }
}
