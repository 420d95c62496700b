//! Links of the documents: every relative one leads to a file of the tree, and every `#anchor` to a heading in it.
//!
//! Anchors follow GitHub's rule. Links to the web are not followed: a test must not depend on somebody else's server.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use super::{documents, read};

/// Every broken link, as `file: link: why`; and every document that a source names, in a hint for example, and that is not there.
pub(super) fn broken(workspace: &Path) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for source in super::sources(workspace)? {
        for document in mentions(&read(workspace, &source)?) {
            if !workspace.join(&document).exists() {
                broken.push(format!("{}: {document}: there is no such file", source.display()));
            }
        }
    }
    for document in documents(workspace)? {
        let text = read(workspace, &document)?;
        for link in links(&text) {
            if let Some(why) = wrong(workspace, &document, &link)? {
                broken.push(format!("{}: {link}: {why}", document.display()));
            }
        }
    }
    Ok(broken)
}

fn wrong(workspace: &Path, document: &Path, link: &str) -> Result<Option<String>> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(None);
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = if path.is_empty() {
        document.to_path_buf()
    } else {
        match normalised(&document.parent().unwrap_or(Path::new("")).join(path)) {
            Some(target) => target,
            None => return Ok(Some("leads out of the tree".into())),
        }
    };
    if !workspace.join(&target).exists() {
        return Ok(Some("there is no such file".into()));
    }
    let Some(anchor) = anchor else { return Ok(None) };
    if target.extension().is_none_or(|extension| extension != "md") {
        return Ok(Some("an anchor in what is not Markdown".into()));
    }
    let found = anchors(&read(workspace, &target)?).iter().any(|there| there == anchor);
    Ok((!found).then(|| "there is no such heading".into()))
}

/// Documents of the manual that a source names.
fn mentions(text: &str) -> Vec<String> {
    text.match_indices("docs/")
        .filter_map(|(at, _)| {
            let rest = &text[at..];
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "/-_.".contains(c)))?;
            let name = rest[..end].trim_end_matches('.');
            name.ends_with(".md").then(|| name.to_owned())
        })
        .collect()
}

/// The path without `.` and `..`; None when it leads above the workspace.
fn normalised(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir if clean.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(clean)
}

/// The lines that are not part of a block of code: not fenced, and not indented by four after an empty line.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let (mut fenced, mut indented, mut empty) = (false, false, true);
    text.lines().filter(move |line| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return false;
        }
        indented = line.starts_with("    ") && (empty || indented);
        empty = line.trim().is_empty();
        !fenced && !indented
    })
}

/// The targets of inline links and images.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        let line = without_code(line);
        let mut rest = line.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            if let Some(end) = rest.find(')') {
                found.push(rest[..end].split(' ').next().unwrap_or_default().to_owned());
            }
        }
    }
    found
}

/// Code between backticks left out.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The anchors of a document's headings, as GitHub makes them; an HTML `id` counts as well.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut anchors = Vec::new();
    for line in prose(text) {
        let Some(heading) = heading(line) else { continue };
        let slug = slug(heading);
        let count = seen.entry(slug.clone()).and_modify(|n| *n += 1).or_insert(0);
        anchors.push(if *count == 0 { slug } else { format!("{slug}-{count}") });
    }
    anchors
}

fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    ((1..=6).contains(&level) && text.starts_with(' ')).then(|| text.trim())
}

/// Lower case, without anything but letters, digits, spaces, hyphens and underscores; spaces become hyphens.
fn slug(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading;
    // The text of a link counts, its target does not.
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text.to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_of_the_documents_leads_somewhere() {
        let workspace = zeroauth_audit_tests::workspace();
        let linked: usize = documents(&workspace)
            .unwrap()
            .iter()
            .map(|document| links(&read(&workspace, document).unwrap()).len())
            .sum();
        assert!(linked > 100, "{linked} links were found");
        let broken = broken(&workspace).unwrap();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
    }

    #[test]
    fn anchors_are_those_that_github_makes() {
        let text = "# A `code.word` heading\n## Same\n## Same\n```\n# not one\n```\n### What it *does* not: [do](x.md)\n#none\n";
        assert_eq!(anchors(text), ["a-codeword-heading", "same", "same-1", "what-it-does-not-do"]);
    }

    #[test]
    fn documents_that_sources_name_are_found() {
        let text = "HINT: SELECT 1; then docs/runbook.md. See docs/errors.md, docs/benchmarks.svg and docs/ddl.md lists\n";
        assert_eq!(mentions(text), ["docs/runbook.md", "docs/errors.md", "docs/ddl.md"]);
    }

    #[test]
    fn links_in_code_are_none() {
        let text = "[a](x.md) and ![b](y.svg \"title\"), `[c](z.md)`\n\n    [d](u.md)\n\n```\n[e](v.md)\n```\n- [f](w.md)\n    [g](#t)\n";
        assert_eq!(links(text), ["x.md", "y.svg", "w.md", "#t"]);
    }

    #[test]
    fn a_file_a_heading_or_a_folder_above_the_tree_that_is_not_there_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("docs")).unwrap();
        std::fs::write(folder.path().join("README.md"), "# One\n").unwrap();
        let check = |link: &str| wrong(folder.path(), Path::new("docs/a.md"), link).unwrap().is_some();
        assert!(!check("../README.md") && !check("../README.md#one") && !check("https://example.com/#x"));
        assert!(check("README.md") && check("../README.md#two") && check("../../README.md"));
    }
}
