//! `cargo xtask tree`: src/ is a tree. Imports run downwards through its folders, and no files form a circle.
//!
//! What a file depends on is read from its text ([`imports`]), so a test needs neither a compiler nor PostgreSQL. `lib.rs` wires:
//! it may import anything, and nothing may import from it.

mod imports;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

/// The folders of src/, from top to bottom: a file imports from its own folder and from those below it.
const FOLDERS: [&str; 11] =
    ["worker", "anchor", "alert", "tripwire", "verify", "log", "guard", "chain", "shared", "trail", "pg"];

/// What reading the tree came to.
#[derive(Debug, Default)]
struct Tree {
    files: usize,
    /// Imports that run upwards, or from `lib.rs`, each with its place.
    upward: Vec<String>,
    /// Files that import one another in a circle, each arrow with its place.
    circles: Vec<String>,
}

/// An import that leads to another file.
#[derive(Clone, Debug)]
struct Arrow {
    to: String,
    line: usize,
    /// As `crate::..`.
    path: String,
}

/// Prints what the tree of this workspace is like; exit code 1 when it is none.
pub fn run() -> anyhow::Result<ExitCode> {
    let tree = Tree::of(&sources()?);
    for complaint in tree.upward.iter().chain(&tree.circles) {
        println!("{complaint}");
    }
    let (upward, circles) = (tree.upward.len(), tree.circles.len());
    println!("{} files, {upward} upward arrows, {circles} circles", tree.files);
    Ok(if upward + circles == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The text of every file of src/, by its path below it.
fn sources() -> anyhow::Result<BTreeMap<String, String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src");
    let (mut folders, mut found) = (vec![root.clone()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                let name = path.strip_prefix(&root).context("a file of src/ is not below it")?;
                found.insert(name.to_string_lossy().into_owned(), text);
            }
        }
    }
    Ok(found)
}

impl Tree {
    /// Reads `sources`: the text of each file by its path below src/.
    fn of(sources: &BTreeMap<String, String>) -> Self {
        let files: BTreeMap<Vec<String>, &str> =
            sources.keys().map(|file| (module_of(file), file.as_str())).collect();
        let mut tree = Self { files: sources.len(), ..Self::default() };
        let mut arrows: BTreeMap<&str, Vec<Arrow>> = BTreeMap::new();
        for (module, file) in &files {
            if module.is_empty() {
                continue;
            }
            let Some(from) = rank(file) else {
                tree.upward.push(format!("src/{file}: not in a folder of the tree: {}", FOLDERS.join(", ")));
                continue;
            };
            // One arrow for each file that is imported from: its first import.
            let mut known = BTreeSet::from([*file]);
            for import in imports::of(module, &sources[*file]) {
                let to = file_of(&files, &import.path);
                let path = format!("crate::{}", import.path.join("::"));
                if !known.insert(to) {
                    continue;
                }
                match rank(to) {
                    Some(rank) if rank >= from => {
                        arrows.entry(file).or_default().push(Arrow {
                            to: to.to_owned(),
                            line: import.line,
                            path,
                        });
                    }
                    _ => tree
                        .upward
                        .push(format!("src/{file}:{}: {path} runs upwards, to src/{to}", import.line)),
                }
            }
        }
        tree.circles = circles(&arrows);
        tree
    }
}

/// The module that a file below src/ is.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').filter(|name| *name != "lib").map(str::to_owned).collect()
}

/// The file that the item at `path` is in: the deepest module on the way that is one.
fn file_of<'a>(files: &BTreeMap<Vec<String>, &'a str>, path: &[String]) -> &'a str {
    (0..=path.len()).rev().find_map(|length| files.get(&path[..length]).copied()).unwrap_or("lib.rs")
}

/// How deep a file's folder lies; `None` for `lib.rs`, and for what is in no folder of the tree.
fn rank(file: &str) -> Option<usize> {
    let (folder, _) = file.split_once('/')?;
    FOLDERS.iter().position(|known| *known == folder)
}

/// The circles of `arrows`: one for each set of files that all reach one another, the shortest through its first file.
fn circles(arrows: &BTreeMap<&str, Vec<Arrow>>) -> Vec<String> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for file in arrows.keys() {
        if seen.contains(*file) {
            continue;
        }
        let Some(circle) = shortest(arrows, file) else { continue };
        let reached = reachable(arrows, file);
        seen.extend(reached.into_iter().filter(|other| reachable(arrows, other).contains(file)));
        let words = circle.iter().map(|(from, arrow)| {
            format!("\n    src/{from}:{}: {} -> src/{}", arrow.line, arrow.path, arrow.to)
        });
        found.push(format!("a circle of {} files{}", circle.len(), words.collect::<String>()));
    }
    found
}

/// Every file that `from` reaches by one arrow or more.
fn reachable<'a>(arrows: &'a BTreeMap<&str, Vec<Arrow>>, from: &str) -> BTreeSet<&'a str> {
    let (mut found, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(file) = open.pop() {
        for arrow in arrows.get(file).into_iter().flatten() {
            if found.insert(arrow.to.as_str()) {
                open.push(&arrow.to);
            }
        }
    }
    found
}

/// The arrows of the shortest way from a file back to itself.
fn shortest<'a>(arrows: &'a BTreeMap<&str, Vec<Arrow>>, from: &'a str) -> Option<Vec<(&'a str, &'a Arrow)>> {
    let mut by: BTreeMap<&str, (&str, &Arrow)> = BTreeMap::new();
    let mut open = VecDeque::from([from]);
    while let Some(file) = open.pop_front() {
        for arrow in arrows.get(file).into_iter().flatten() {
            if by.contains_key(arrow.to.as_str()) {
                continue;
            }
            by.insert(&arrow.to, (file, arrow));
            open.push_back(&arrow.to);
        }
    }
    let mut way = vec![*by.get(from)?];
    while let Some((file, _)) = way.last().filter(|(file, _)| *file != from) {
        way.push(*by.get(file)?);
    }
    way.reverse();
    Some(way)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        Tree::of(&files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn imports_of_src_run_downwards_and_form_no_circle() {
        let sources = sources().unwrap();
        assert!(sources.len() > 50, "only {} files found", sources.len());
        let tree = Tree::of(&sources);
        let complaints: Vec<_> = tree.upward.into_iter().chain(tree.circles).collect();
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    #[test]
    fn every_folder_of_src_has_its_place_in_the_order() {
        let folders: BTreeSet<String> =
            sources().unwrap().keys().filter_map(|file| Some(file.split_once('/')?.0.to_owned())).collect();
        assert_eq!(folders, FOLDERS.iter().map(|folder| (*folder).to_owned()).collect());
    }

    #[test]
    fn an_import_from_a_folder_above_is_refused_with_its_line() {
        let tree = tree(&[
            ("pg/settings.rs", "\nuse crate::{\n    pg::error,\n    shared::databases::{self, now},\n};"),
            ("pg/error.rs", ""),
            ("shared/databases.rs", "use crate::pg::error;"),
        ]);
        assert_eq!(
            tree.upward,
            ["src/pg/settings.rs:4: crate::shared::databases runs upwards, to src/shared/databases.rs"]
        );
        assert!(tree.circles.is_empty(), "{:?}", tree.circles);
    }

    #[test]
    fn a_path_in_the_middle_of_code_is_refused_like_an_import() {
        let files = [
            ("chain/lock.rs", "/// As [`crate::log::seal`].\nfn f() {\n    crate::log::seal::g();\n}"),
            ("log/seal.rs", ""),
        ];
        assert_eq!(
            tree(&files).upward,
            ["src/chain/lock.rs:3: crate::log::seal::g runs upwards, to src/log/seal.rs"]
        );
    }

    #[test]
    fn nothing_imports_from_lib_which_imports_anything() {
        let files = [
            ("lib.rs", "mod pg;\nuse crate::pg::call;\nfn wired() { pg::call::f(); }"),
            ("pg/mod.rs", "pub(crate) mod call;"),
            ("pg/call.rs", "fn f() { super::super::wired(); }"),
        ];
        assert_eq!(tree(&files).upward, ["src/pg/call.rs:1: crate::wired runs upwards, to src/lib.rs"]);
    }

    #[test]
    fn a_file_outside_of_the_folders_is_refused() {
        let complaints = tree(&[("helpers.rs", ""), ("misc/a.rs", "")]).upward;
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].starts_with("src/helpers.rs: not in a folder of the tree"), "{complaints:?}");
    }

    #[test]
    fn files_of_one_folder_form_no_circle() {
        let tree = tree(&[
            ("chain/at_commit.rs", "use crate::chain::head;"),
            ("chain/head.rs", "fn f() { g() }\nuse super::lock::Claim;\nuse crate::pg::error;"),
            ("chain/lock.rs", "use crate::{chain::{at_commit}, pg::error};"),
            ("chain/trigger.rs", "use crate::chain::lock;"),
            ("pg/error.rs", ""),
        ]);
        assert!(tree.upward.is_empty(), "{:?}", tree.upward);
        assert_eq!(
            tree.circles,
            ["a circle of 3 files\
              \n    src/chain/at_commit.rs:1: crate::chain::head -> src/chain/head.rs\
              \n    src/chain/head.rs:2: crate::chain::lock::Claim -> src/chain/lock.rs\
              \n    src/chain/lock.rs:1: crate::chain::at_commit -> src/chain/at_commit.rs"]
        );
    }

    #[test]
    fn a_file_and_its_child_form_no_circle_unless_both_use_each_other() {
        let child = ("verify/drift/tenants.rs", "use super::digest;");
        let declares = ("verify/drift.rs", "mod tenants;\nfn digest() {}");
        assert!(tree(&[declares, child]).circles.is_empty());
        let uses = ("verify/drift.rs", "mod tenants;\nfn digest() { tenants::replay() }");
        let circles = tree(&[uses, child]).circles;
        assert_eq!(circles.len(), 1, "{circles:?}");
        assert!(
            circles[0].contains("src/verify/drift.rs:2: crate::verify::drift::tenants::replay"),
            "{circles:?}"
        );
    }

    #[test]
    fn a_path_through_an_imported_module_leads_to_the_file_it_ends_in() {
        let files = [
            ("shared/databases.rs", "pub mod launch;"),
            ("shared/databases/launch.rs", "use crate::shared::notices;"),
            ("shared/notices.rs", "use crate::shared::databases;\nfn f() { databases::launch::begin() }"),
        ];
        let circles = tree(&files).circles;
        assert_eq!(circles.len(), 1, "{circles:?}");
        assert!(
            circles[0].contains("src/shared/notices.rs:2: crate::shared::databases::launch::begin"),
            "{circles:?}"
        );
    }
}
