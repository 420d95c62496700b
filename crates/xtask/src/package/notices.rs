//! The notices of the crates in a binary: their licences ask for them wherever the binary goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::components::Components;

/// How the file of a notice begins, in capital letters.
const BEGINNINGS: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// The notices of all crates in a binary but our own, each text once.
pub(crate) fn of(components: &Components) -> Result<String> {
    let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut list = String::from("This package contains the following crates. Their notices are below.\n\n");
    for ((name, version), component) in &components.all {
        if !component.shipped || component.checksum.is_none() {
            continue;
        }
        list.push_str(&format!("{name} {version}: {}\n", component.license));
        for file in notices_in(&component.sources)? {
            let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let text = String::from_utf8_lossy(&text).replace("\r\n", "\n");
            users.entry(text.trim().to_owned()).or_default().insert(format!("{name} {version}"));
        }
    }
    for (text, users) in users {
        let users: Vec<String> = users.into_iter().collect();
        list.push_str(&format!("\n{}\n{}\n\n{text}\n", "-".repeat(80), users.join(", ")));
    }
    Ok(list)
}

/// Files with notices in the folder of a crate, in the order of their names.
fn notices_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_file() && BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::components;
    use super::*;

    #[test]
    fn each_crate_in_the_binary_is_listed_and_each_text_is_there_once() {
        let components = &*components::PROGRAM;
        let notices = of(components).unwrap();
        for ((name, version), component) in &components.all {
            let foreign = component.shipped && component.checksum.is_some();
            assert_eq!(notices.contains(&format!("\n{name} {version}: ")), foreign, "{name}");
        }
        assert!(notices.contains("RustCrypto Developers"), "the notice of sha2");
        let together = |line: &str| line.contains("serde_core 1.") && line.contains(", serde_json 1.");
        assert!(notices.lines().any(together), "crates with the same text share it");
    }
}
