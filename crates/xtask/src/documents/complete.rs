//! Completeness: every SQLSTATE in the sources has its row in `docs/errors.md`, every kind of alert its heading in
//! `docs/runbook.md`, and neither document has one that the sources do not have.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::{files, read, sources};

const ERRORS: &str = "docs/errors.md";
const RUNBOOK: &str = "docs/runbook.md";

/// Where the sources name the kind of an alert or the class of a finding: what stands before the word.
const KINDS: [&str; 7] = [
    "raise_alert('",
    "raise_incident('",
    "anchor_find('",
    "anchor_notice($1, $2, '",
    "Finding::new(\"",
    "finding(\"",
    // The names of notices in the machine of anchors.
    "=> \"anchor_",
];
/// A notice that ends an alert and raises none.
const NO_ALERT: &str = "anchor_recovered";

/// Every gap between sources and documents, as a line.
pub(super) fn missing(workspace: &Path) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    let documented = rows(&read(workspace, Path::new(ERRORS))?);
    compare(&sqlstates(workspace)?, &documented, ERRORS, &mut missing);
    let documented = headings(&read(workspace, Path::new(RUNBOOK))?);
    compare(&kinds(workspace)?, &documented, RUNBOOK, &mut missing);
    Ok(missing)
}

fn compare(sources: &BTreeSet<String>, documented: &BTreeSet<String>, file: &str, missing: &mut Vec<String>) {
    missing.extend(sources.difference(documented).map(|word| format!("{file}: {word} is missing")));
    missing
        .extend(documented.difference(sources).map(|word| format!("{file}: {word} is not in the sources")));
}

/// Everything that looks like an SQLSTATE of ours in the extension: `ZA` and three digits.
fn sqlstates(workspace: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for path in sources(workspace)? {
        let text = read(workspace, &path)?;
        for (at, _) in text.match_indices("ZA") {
            if let Some(code) = text.get(at..at + 5)
                && code[2..].bytes().all(|b| b.is_ascii_digit())
            {
                found.insert(code.to_owned());
            }
        }
    }
    Ok(found)
}

fn kinds(workspace: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut paths = sources(workspace)?;
    for folder in ["crates/anchor/src", "crates/verifier/src"] {
        paths.extend(files(workspace, folder, &["rs"])?);
    }
    for path in paths {
        let text = read(workspace, &path)?;
        for before in KINDS {
            for (at, _) in text.match_indices(before) {
                let prefix = if before.ends_with("anchor_") { "anchor_" } else { "" };
                let rest = &text[at + before.len()..];
                let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
                // A sentence is no word.
                if let Some(word) = end.and_then(|end| rest.get(..end))
                    && rest[word.len()..].starts_with(['\'', '"'])
                {
                    found.insert(format!("{prefix}{word}"));
                }
            }
        }
    }
    found.remove(NO_ALERT);
    Ok(found)
}

/// The first cells of a table's rows that are SQLSTATEs of ours.
fn rows(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| ZA"))
        .filter_map(|rest| rest.split(' ').next())
        .map(|digits| format!("ZA{digits}"))
        .collect()
}

/// Headings that are one word of code.
fn headings(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.trim_start_matches('#').trim().strip_prefix('`')?.strip_suffix('`'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_and_every_kind_of_alert_is_documented() {
        let workspace = zeroauth_audit_tests::workspace();
        // As many as there were when this was written: a pattern that no longer matches would find nothing missing.
        assert!(sqlstates(&workspace).unwrap().len() >= 20);
        assert!(kinds(&workspace).unwrap().len() >= 25);
        let missing = missing(&workspace).unwrap();
        assert!(missing.is_empty(), "{}", missing.join("\n"));
    }

    #[test]
    fn what_one_side_lacks_is_named() {
        let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let mut missing = Vec::new();
        compare(&set(&["a", "b"]), &set(&["b", "c"]), "x.md", &mut missing);
        assert_eq!(missing, ["x.md: a is missing", "x.md: c is not in the sources"]);
        assert_eq!(rows("| SQLSTATE | x |\n| ZA001 | y |\n| 42501 | z |\n"), set(&["ZA001"]));
        assert_eq!(headings("# Runbook\n### `gap`\ntext `fork`\n"), set(&["gap"]));
    }
}
