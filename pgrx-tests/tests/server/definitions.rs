//! The definitions that the library compares the catalogs with: the committed file is what an install makes, at any schema name.
//!
//! `ZEROAUTH_AUDIT_BLESS=1 cargo xtask test definitions` writes the file of the tested major version anew. It is compiled into the
//! library, so other tests see it from the next build on.

use std::path::PathBuf;

use postgres::Client;
use zeroauth_audit_tests::workspace;
use zeroauth_audit_tripwire::definitions::{Definition, Definitions};

use crate::support::{Database, Sql, shared};

/// Set: the file is written instead of compared.
const BLESS: &str = "ZEROAUTH_AUDIT_BLESS";
/// So that its name is found in definitions only where the schema is meant.
const UNIQUE: &str = "this_schema_is_called_like_nothing_else";
/// The version whose file has everything; the others have what is different.
const HOME: u32 = 15;

fn file(major: u32) -> PathBuf {
    workspace().join(format!("sql/definitions/{major}.txt"))
}

fn header(major: u32) -> String {
    let what = if major == HOME {
        "What this version of the extension is made of".to_owned()
    } else {
        format!("What is different on PostgreSQL {major} from {HOME}.txt")
    };
    format!(
        "# {what}: object, part, value; long values as their SHA-256, with the places of the schema's name.\n# Written by a test: {BLESS}=1 cargo xtask test definitions\n"
    )
}

fn read(text: &str, over: &mut Definitions) {
    over.read(text).unwrap_or_else(|line| panic!("{line:?}"));
}

fn definitions(client: &mut Client) -> Vec<Definition> {
    client
        .query("SELECT object, part, value FROM zeroauth_audit_internal.definitions()", &[])
        .unwrap()
        .iter()
        .map(|row| Definition { object: row.get(0), part: row.get(1), value: row.get(2) })
        .collect()
}

/// Makes views anew from PostgreSQL's own text of them, as pg_upgrade does.
fn made_anew(client: &mut Client) {
    client.run("SET zeroauth_audit.maintenance = on; SET search_path = pg_catalog");
    let statements = client.lines(&format!(
        "SELECT 'CREATE OR REPLACE VIEW ' || oid::regclass || ' AS ' || pg_get_viewdef(oid) FROM pg_class WHERE relnamespace IN ('{UNIQUE}'::regnamespace, 'zeroauth_audit_internal'::regnamespace) AND relkind = 'v'"
    ));
    assert!(statements.len() > 2, "{statements:?}");
    for statement in statements {
        client.run(&statement);
    }
    client.run(&format!("RESET zeroauth_audit.maintenance; SET search_path = {UNIQUE}, public"));
}

#[test]
fn the_definitions_that_are_compiled_in_are_those_of_a_fresh_install() {
    let database = Database::empty("definitions");
    let mut client = database.client();
    client.run(&format!("CREATE SCHEMA {UNIQUE}; CREATE EXTENSION zeroauth_audit SCHEMA {UNIQUE}; SET search_path = {UNIQUE}, public"));
    let actual = definitions(&mut client);
    let mut keys: Vec<_> = actual.iter().map(|d| (&d.object, &d.part)).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), actual.len(), "no part of an object has two values");
    // PostgreSQL's text of a parsed body is not the same in all minor versions of one major version.
    let parsed = "SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid WHERE e.extname = 'zeroauth_audit' AND p.prosqlbody IS NOT NULL";
    assert_eq!(client.lines(parsed), [] as [&str; 0], "functions are text");
    let mut blessed = Definitions::bless(&actual, UNIQUE);
    made_anew(&mut client);
    blessed.bless_too(&definitions(&mut client), UNIQUE);
    assert!(blessed.len() > 300, "only {} definitions are seen", blessed.len());

    let major = shared().installation().major();
    let committed = std::fs::read_to_string(file(major)).unwrap();
    let written = if major == HOME {
        header(major) + &blessed.to_file()
    } else {
        let mut common = Definitions::default();
        read(&std::fs::read_to_string(file(HOME)).unwrap(), &mut common);
        header(major) + &blessed.to_file_over(&common)
    };
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(file(major), &written).unwrap();
        return;
    }
    let changed: Vec<&str> = written
        .lines()
        .filter(|line| !committed.contains(line))
        .chain(committed.lines().filter(|line| !written.contains(line)))
        .collect();
    assert!(
        written == committed,
        "the extension's objects changed: write the file anew with {BLESS}=1 cargo xtask test definitions, and look at the difference\n{}",
        changed.join("\n")
    );
}

#[test]
fn definitions_are_as_installed_at_any_schema_name() {
    if std::env::var_os(BLESS).is_some() {
        return; // The library still has the file from before.
    }
    // Among them names that are aliases in function bodies, and one that needs quotes.
    for schema in [
        "a",
        "j",
        "d",
        "t",
        "x",
        "audit",
        "\"Odd, schema.name\"",
        "\"the schema of the audit trail, a name of the longest kind..\"",
    ] {
        let database = Database::empty("definitions_schema");
        let mut client = database.client();
        client.run(&format!("CREATE SCHEMA {schema}; CREATE EXTENSION zeroauth_audit SCHEMA {schema}; SET search_path = pg_catalog"));
        assert_eq!(
            client.lines(&format!("SELECT object, part FROM {schema}.audit_verify_installation() LIMIT 5")),
            [] as [&str; 0],
            "in schema {schema}"
        );
    }
}

/// Every file below a folder.
fn files(folder: PathBuf, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(path, found) } else { found.push(path) }
    }
}

#[test]
fn no_statement_has_an_empty_list_of_columns_which_citus_cannot_plan() {
    let mut all = Vec::new();
    for folder in ["sql/schema", "sql/queries", "src"] {
        files(workspace().join(folder), &mut all);
    }
    assert!(all.len() > 100);
    for path in all {
        for (number, line) in (1..).zip(std::fs::read_to_string(&path).unwrap().lines()) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let is_empty = |pair: &[&str]| {
                let verb = pair[0].trim_start_matches(['(', '"']);
                (verb.eq_ignore_ascii_case("SELECT") || verb.eq_ignore_ascii_case("PERFORM"))
                    && pair[1].eq_ignore_ascii_case("FROM")
            };
            assert!(!words.windows(2).any(is_empty), "{}:{number}: {line}", path.display());
        }
    }
}
