//! What one of our binaries is made of: the crates that cargo compiles for it, with licences and checksums.
//!
//! `cargo tree` knows which crates a package needs with its features, `Cargo.lock` has their checksums, and `cargo metadata`
//! knows where their sources lie.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use zeroauth_audit_tests::workspace;

use crate::process;

/// A crate: name and version. Cargo.lock has no two of both.
pub(crate) type Key = (String, String);

/// One crate.
#[derive(Debug)]
pub(crate) struct Component {
    /// An SPDX expression; empty if the crate says nothing.
    pub(crate) license: String,
    /// Empty if the crate says nothing.
    pub(crate) repository: String,
    /// SHA-256 of the crate's archive; None for the crates of this workspace.
    pub(crate) checksum: Option<String>,
    /// Whether it is part of the binary. What is not runs when the binary is built: build scripts, macros, and what they use.
    pub(crate) shipped: bool,
    /// The folder with its sources.
    pub(crate) sources: PathBuf,
    /// The crates that it uses.
    pub(crate) uses: BTreeSet<Key>,
}

/// All crates of a binary.
#[derive(Debug)]
pub(crate) struct Components {
    /// The package that the binary is made of.
    pub(crate) root: Key,
    /// Every crate, the root included.
    pub(crate) all: BTreeMap<Key, Component>,
}

/// The crates that `package` of the workspace is compiled from with `features`, further arguments of cargo.
pub(crate) fn of(package: &str, features: &[String]) -> Result<Components> {
    let tree = |edges| {
        let mut command = process::cargo();
        command.args(["tree", "--locked", "--package", package, "--edges", edges]).args(features);
        process::read(command.args(["--prefix", "depth", "--format", "\t{p}\t{l}\t{r}"]))
    };
    let mut components = read_tree(&tree("normal,build")?)?;
    for key in read_tree(&tree("normal,no-proc-macro")?)?.all.into_keys() {
        components.all.get_mut(&key).context("cargo tree names other crates the second time")?.shipped = true;
    }
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    for (key, checksum) in checksums(&lock) {
        if let Some(component) = components.all.get_mut(&key) {
            component.checksum = Some(checksum);
        }
    }
    let mut metadata = process::cargo();
    let metadata = process::read(metadata.args(["metadata", "--locked", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata gives no JSON")?;
    for package in metadata["packages"].as_array().context("cargo metadata names no packages")? {
        let text = |field: &str| package[field].as_str().unwrap_or_default().to_owned();
        if let Some(component) = components.all.get_mut(&(text("name"), text("version"))) {
            component.sources = PathBuf::from(text("manifest_path")).parent().context("no folder")?.into();
        }
    }
    Ok(components)
}

/// Reads lines of `cargo tree`: depth, name and version, licence, repository. Crates that were shown before have no lines below them.
fn read_tree(text: &str) -> Result<Components> {
    let mut all: BTreeMap<Key, Component> = BTreeMap::new();
    let mut above: Vec<Key> = Vec::new();
    for line in text.lines() {
        let line = line.strip_suffix(" (*)").unwrap_or(line);
        let mut fields = line.split('\t');
        let mut field = || fields.next().with_context(|| format!("cargo tree says {line}"));
        let (depth, package, license, repository) = (field()?, field()?, field()?, field()?);
        let depth: usize = depth.parse().with_context(|| format!("cargo tree says {line}"))?;
        let mut words = package.split(' ');
        let name = words.next().unwrap_or_default().to_owned();
        let version = words.next().and_then(|word| word.strip_prefix('v'));
        let key = (name, version.with_context(|| format!("cargo tree says {line}"))?.to_owned());
        ensure!(depth <= above.len(), "cargo tree leaves out a level: {line}");
        above.truncate(depth);
        if let Some(user) = above.last().and_then(|user| all.get_mut(user)) {
            user.uses.insert(key.clone());
        }
        above.push(key.clone());
        all.entry(key).or_insert_with(|| Component {
            // Crates that are old write a slash.
            license: license.replace('/', " OR "),
            repository: repository.to_owned(),
            checksum: None,
            shipped: false,
            sources: PathBuf::new(),
            uses: BTreeSet::new(),
        });
    }
    Ok(Components { root: above.into_iter().next().context("cargo tree names no crate")?, all })
}

/// The checksums in a Cargo.lock, which cargo always lays out alike: one field a line.
fn checksums(lock: &str) -> Vec<(Key, String)> {
    let packages = lock.split("[[package]]").skip(1);
    let field = |package: &str, name: &str| {
        let value = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        value.map(|value| value.trim_matches('"').to_owned())
    };
    packages
        .filter_map(|package| {
            Some(((field(package, "name")?, field(package, "version")?), field(package, "checksum")?))
        })
        .collect()
}

/// The crates of the auditor's program, which several tests look at: cargo takes seconds to name them.
#[cfg(test)]
pub(crate) static PROGRAM: std::sync::LazyLock<Components> =
    std::sync::LazyLock::new(|| of(super::program::PACKAGE, &[]).unwrap());

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, version: &str) -> Key {
        (name.into(), version.into())
    }

    #[test]
    fn a_crate_that_is_shown_twice_is_one_with_two_users() {
        let tree = read_tree(
            "0\ta v1.0.0 (/a)\tMIT\t\n1\tb v2.0.0 (proc-macro)\tMIT/Apache-2.0\thttps://b\n2\tc v3.0.0\tISC\t\n1\tc v3.0.0\tISC\t (*)\n",
        )
        .unwrap();
        assert_eq!(tree.root, key("a", "1.0.0"));
        assert_eq!(tree.all.len(), 3);
        assert_eq!(tree.all[&tree.root].uses, [key("b", "2.0.0"), key("c", "3.0.0")].into());
        let b = &tree.all[&key("b", "2.0.0")];
        assert_eq!((b.license.as_str(), b.repository.as_str()), ("MIT OR Apache-2.0", "https://b"));
        assert_eq!(b.uses, [key("c", "3.0.0")].into());
        assert!(read_tree("0\ta v1\t\t\n2\tb v1\t\t\n").is_err());
        assert!(read_tree("warning: something").is_err());
    }

    #[test]
    fn only_crates_from_a_registry_have_a_checksum() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry\"\nchecksum = \"00ff\"\n\n[[package]]\nname = \"b\"\nversion = \"1.0.0\"\n";
        assert_eq!(checksums(lock), [(key("a", "1.0.0"), "00ff".into())]);
    }

    #[test]
    fn the_auditors_program_has_its_own_crates_and_none_of_the_manuals_or_the_tests() {
        let components = &*PROGRAM;
        let named = |name: &str| components.all.iter().find(|((found, _), _)| found == name);
        let (_, sha2) = named("sha2").unwrap();
        assert!(sha2.shipped && sha2.checksum.is_some() && sha2.sources.join("Cargo.toml").exists());
        let (_, core) = named("zeroauth-audit-core").unwrap();
        assert!(core.shipped && core.checksum.is_none());
        let (_, derive) = named("clap_derive").unwrap();
        assert!(!derive.shipped, "a macro is in no binary");
        for absent in ["clap_mangen", "proptest", "pgrx"] {
            assert!(named(absent).is_none(), "{absent}");
        }
    }
}
