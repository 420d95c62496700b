//! The SQL files of the extension: the install script, put together from the list in `src/lib.rs`; the scripts of `sql/` and
//! `sql/releases/`; and the control file.
//!
//! cargo-pgrx makes the same install script from the compiled library, and takes longer to build than everything here. No SQL
//! of ours comes from another macro than `extension_sql_file!`, so reading the list is enough; the tests below keep it so.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// The macro that names an SQL file.
const MACRO: &str = "extension_sql_file!(";

/// The first line of an install script.
pub(crate) const HEADER: &str = "-- Put together from the SQL files that src/lib.rs lists, in their order.";

/// One SQL file of the list.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// Relative to `src/`.
    path: String,
    name: String,
    bootstrap: bool,
    requires: Vec<String>,
}

/// The install script of the workspace `root`: every SQL file in the order of the list.
pub(crate) fn install_script(root: &Path) -> Result<String> {
    let wiring = root.join("src/lib.rs");
    let text = fs::read_to_string(&wiring).with_context(|| format!("cannot read {}", wiring.display()))?;
    let mut script = format!("{HEADER}\n");
    for entry in list(&text)? {
        let file = root.join("src").join(&entry.path);
        let sql = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        script.push_str(&format!("\n-- {}\n{}\n", entry.path.trim_start_matches("../"), sql.trim()));
    }
    Ok(script)
}

/// The name of the install script of `version`.
pub(crate) fn install_script_name(version: &str) -> String {
    format!("zeroauth_audit--{version}.sql")
}

/// Upgrade scripts: `sql/zeroauth_audit--A--B.sql`, where `cargo pgrx install` looks for them, too.
pub(crate) fn upgrade_scripts(root: &Path) -> Result<Vec<PathBuf>> {
    scripts(&root.join("sql"), 2)
}

/// The folder of the install scripts of released versions, as `cargo xtask freeze` wrote them.
pub(crate) fn releases(root: &Path) -> PathBuf {
    root.join("sql/releases")
}

/// Install scripts of released versions; none before the first release.
pub(crate) fn released_scripts(root: &Path) -> Result<Vec<PathBuf>> {
    scripts(&releases(root), 1)
}

/// The scripts in `folder` with so many versions in their names, in the order of their names; none if there is no such folder.
fn scripts(folder: &Path, versions: usize) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return Ok(found) };
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if versions_in(&name) == Some(versions) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// 1 for `zeroauth_audit--A.sql` and 2 for `zeroauth_audit--A--B.sql`; None for another file.
fn versions_in(name: &str) -> Option<usize> {
    let versions = name.strip_prefix("zeroauth_audit--")?.strip_suffix(".sql")?.split("--");
    versions.clone().all(|version| !version.is_empty()).then(|| versions.count())
}

/// The control file of the workspace `root` for `version`.
pub(crate) fn control_file(root: &Path, version: &str) -> Result<String> {
    let path = root.join("zeroauth_audit.control");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.replace("@CARGO_VERSION@", version))
}

/// The list in `lib.rs`. Each entry requires exactly the one before it: otherwise cargo-pgrx might choose another order.
fn list(wiring: &str) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for part in code(wiring).split(MACRO).skip(1) {
        let (arguments, _) =
            part.split_once(");").context("an extension_sql_file! in src/lib.rs has no end")?;
        let entry = entry(arguments).with_context(|| format!("src/lib.rs: {}", arguments.trim()))?;
        let expected: Vec<String> = entries.last().map(|before| before.name.clone()).into_iter().collect();
        ensure!(
            entry.requires == expected && entry.bootstrap == entries.is_empty(),
            "src/lib.rs: {} must require {expected:?}, the file before it: the order of the script is not certain",
            entry.path
        );
        entries.push(entry);
    }
    ensure!(!entries.is_empty(), "src/lib.rs lists no SQL file");
    Ok(entries)
}

/// Without the lines that are comments.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// What is between the parentheses: `"path", name = "..", bootstrap` or `"path", name = "..", requires = [..]`.
fn entry(arguments: &str) -> Result<Entry> {
    let mut entry =
        Entry { path: String::new(), name: String::new(), bootstrap: false, requires: Vec::new() };
    let (list, rest) = match arguments.split_once("requires") {
        None => (None, arguments.to_owned()),
        Some((before, after)) => {
            let (list, after) = after
                .trim_start()
                .strip_prefix('=')
                .and_then(|list| list.trim_start().strip_prefix('['))
                .and_then(|list| list.split_once(']'))
                .context("requires = [..] is expected")?;
            (Some(list), format!("{before}{after}"))
        }
    };
    for part in list.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty()) {
        entry.requires.push(literal(part)?);
    }
    for (index, part) in rest.split(',').map(str::trim).filter(|part| !part.is_empty()).enumerate() {
        match part.split_once('=') {
            None if index == 0 => entry.path = literal(part)?,
            None if part == "bootstrap" => entry.bootstrap = true,
            Some((key, value)) if key.trim() == "name" => entry.name = literal(value.trim())?,
            _ => bail!("{part} is not understood: only a path, name, bootstrap and requires are"),
        }
    }
    ensure!(!entry.path.is_empty() && !entry.name.is_empty(), "path and name are needed");
    Ok(entry)
}

/// The text of a string literal without escapes.
fn literal(text: &str) -> Result<String> {
    text.strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .filter(|text| !text.contains(['"', '\\']))
        .map(str::to_owned)
        .with_context(|| format!("{text} is no plain string literal"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use zeroauth_audit_tests::workspace;

    use super::*;

    /// What pgrx makes SQL of, apart from the macro that is read here.
    const OTHER_MACROS: [&str; 11] = [
        "#[pg_extern",
        "#[pgrx::pg_extern",
        "#[pg_trigger",
        "#[pgrx::pg_trigger",
        "#[pg_operator",
        "#[pg_aggregate",
        "#[pg_cast",
        "#[pg_schema",
        "extension_sql!",
        "PostgresType",
        "PostgresEnum",
    ];

    fn files_below(folder: &Path, extension: &str) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files_below(&path, extension));
            } else if path.extension().is_some_and(|found| found == extension) {
                found.insert(path);
            }
        }
        found
    }

    #[test]
    fn a_list_is_read_in_its_order_whatever_its_layout_and_without_comments() {
        let text = r#"
            // pgrx::extension_sql_file!("../sql/not.sql", name = "not", bootstrap);
            pgrx::extension_sql_file!("../sql/a.sql", name = "a", bootstrap);
            pgrx::extension_sql_file!(
                "../sql/b.sql",
                name = "b",
                requires = ["a"],
            );
            pgrx::extension_sql_file!("../sql/c.sql", requires = [ "b" ], name = "c");
        "#;
        let entries = list(text).unwrap();
        let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["../sql/a.sql", "../sql/b.sql", "../sql/c.sql"]);
    }

    #[test]
    fn a_list_whose_order_is_not_certain_is_refused() {
        let first = r#"pgrx::extension_sql_file!("a.sql", name = "a", bootstrap);"#;
        for (second, why) in [
            (r#"pgrx::extension_sql_file!("b.sql", name = "b");"#, "must require"),
            (r#"pgrx::extension_sql_file!("b.sql", name = "b", requires = ["x"]);"#, "must require"),
            (r#"pgrx::extension_sql_file!("b.sql", name = "b", requires = ["a", "x"]);"#, "must require"),
            (r#"pgrx::extension_sql_file!("b.sql", name = "b", bootstrap);"#, "must require"),
            (r#"pgrx::extension_sql_file!("b.sql", name = "b", requires = ["a"], finalize);"#, "finalize"),
            (r#"pgrx::extension_sql_file!(B, name = "b", requires = ["a"]);"#, "no plain string"),
            (r#"pgrx::extension_sql_file!("b.sql", requires = ["a"]);"#, "path and name"),
        ] {
            let error = format!("{:#}", list(&format!("{first}\n{second}")).unwrap_err());
            assert!(error.contains(why), "{second}: {error}");
        }
        assert!(list("no list").is_err());
    }

    #[test]
    fn the_script_has_every_sql_file_of_the_schema_once() {
        let root = workspace();
        let listed = list(&fs::read_to_string(root.join("src/lib.rs")).unwrap()).unwrap();
        let listed: Vec<PathBuf> =
            listed.iter().map(|entry| root.join(entry.path.trim_start_matches("../"))).collect();
        let there = files_below(&root.join("sql/schema"), "sql");
        assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), there);
        let script = install_script(&root).unwrap();
        for file in listed {
            let sql = fs::read_to_string(&file).unwrap();
            assert_eq!(script.matches(sql.trim()).count(), 1, "{}", file.display());
        }
    }

    #[test]
    fn no_other_macro_makes_sql() {
        for file in files_below(&workspace().join("src"), "rs") {
            let text = code(&fs::read_to_string(&file).unwrap());
            for name in OTHER_MACROS {
                assert!(!text.contains(name), "{} in {}: the script would lack it", name, file.display());
            }
        }
    }

    #[test]
    fn only_versioned_scripts_of_the_extension_count() {
        assert_eq!(versions_in("zeroauth_audit--0.1.0--0.2.0.sql"), Some(2));
        assert_eq!(versions_in("zeroauth_audit--0.1.0.sql"), Some(1));
        for other in ["zeroauth_audit.sql", "zeroauth_audit--.sql", "zeroauth_audit--1--.sql", "other--1.sql"]
        {
            assert_eq!(versions_in(other), None, "{other}");
        }
    }

    #[test]
    fn the_control_file_names_the_version() {
        let control = control_file(&workspace(), "1.2.3").unwrap();
        assert!(control.contains("default_version = '1.2.3'\n") && !control.contains('@'), "{control}");
    }
}
