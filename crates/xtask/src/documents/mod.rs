//! `cargo xtask docs`: writes the SQL reference from the COMMENTs of the installed extension, and checks the documents.
//!
//! What can be checked without a server is a unit test too: links and anchors ([`links`]), and that every error and every kind of
//! alert in the sources is documented ([`complete`]). A test on a server compares `docs/sql.md` and runs the examples.

mod complete;
mod links;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use zeroauth_audit_tests::{Cluster, reference, workspace};

use crate::setup;
use crate::setup::build::Profile;

/// Writes docs/sql.md, then says what is wrong with the documents.
pub(crate) fn run() -> Result<ExitCode> {
    setup::run(Profile::Dev)?;
    let cluster = Cluster::audited("docs")?;
    let text = reference::sql(&mut cluster.try_client()?)?;
    let path = workspace().join(reference::FILE);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", reference::FILE);
    let mut wrong = links::broken(&workspace())?;
    wrong.extend(complete::missing(&workspace())?);
    for line in &wrong {
        println!("{line}");
    }
    println!(
        "{} found",
        if wrong.is_empty() { "nothing wrong".into() } else { format!("{} defects", wrong.len()) }
    );
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The documents whose links are checked, relative to the workspace: those at its root, and everything in `docs/`.
fn documents(workspace: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(PathBuf::from).into();
    found.extend(files(workspace, "docs", &["md"])?);
    Ok(found)
}

/// Files below `folder` with one of these extensions, relative to the workspace, in the order of their names.
fn files(workspace: &Path, folder: &str, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        let full = workspace.join(&folder);
        for entry in fs::read_dir(&full).with_context(|| format!("cannot read {}", full.display()))? {
            let path = folder.join(entry?.file_name());
            if workspace.join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extensions.iter().any(|e| extension == *e)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read(workspace: &Path, path: &Path) -> Result<String> {
    let full = workspace.join(path);
    fs::read_to_string(&full).with_context(|| format!("cannot read {}", full.display()))
}

/// The extension's own sources.
fn sources(workspace: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = files(workspace, "src", &["rs"])?;
    for folder in ["sql/schema", "sql/queries"] {
        paths.extend(files(workspace, folder, &["sql"])?);
    }
    Ok(paths)
}
