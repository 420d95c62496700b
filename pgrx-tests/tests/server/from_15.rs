//! A trail that was dumped by PostgreSQL 15, restored here: `cargo xtask test --pg 17` makes the dumps before it comes here.

use std::fs;
use std::path::PathBuf;

use crate::support::audit::{assert_whole, export};
use crate::support::{Database, Sql, shared};

/// Every column of every event, as xtask recorded them before it dumped.
const ROWS: &str = include_str!("../../../crates/xtask/src/versions/from_15_rows.sql");

/// A file that xtask made on the other server.
fn file(name: &str) -> PathBuf {
    let folder = std::env::var_os("ZEROAUTH_AUDIT_DUMP_FROM_15").expect("ZEROAUTH_AUDIT_DUMP_FROM_15 is set");
    PathBuf::from(folder).join(name)
}

fn recorded(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap()
}

/// Asserts that `copy` holds the recorded bytes, verifies, and goes on.
#[track_caller]
fn assert_as_recorded(copy: &Database) {
    let rows =
        shared().command("psql").args(["-Xqc", ROWS, "-d", &copy.name]).env("PGTZ", "UTC").output().unwrap();
    assert!(rows.status.success(), "{}", String::from_utf8_lossy(&rows.stderr));
    assert!(
        String::from_utf8(rows.stdout).unwrap() == recorded("rows"),
        "the rows differ from the recorded ones"
    );
    let mut client = copy.client();
    let exported = export(&mut client);
    assert_eq!(exported, recorded("export").lines().collect::<Vec<_>>());
    assert!(exported.len() > 2000, "the trail is not a small one");
    assert_whole(&mut client);

    let heads =
        "SELECT chain, max(seq) FROM audit_events WHERE tenant_id = 'acme' GROUP BY chain ORDER BY chain";
    let before = client.lines(heads);
    assert_eq!(before.len(), 2, "{before:?}");
    let (_, head) = before[0].split_once('|').unwrap();
    assert_eq!(
        client.line(
            "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'goes on') RETURNING chain, seq"
        ),
        format!("0|{}", head.parse::<i64>().unwrap() + 1)
    );
    client.refused("ZA003", "DELETE FROM audit_events");
    assert_eq!(client.lines("SELECT guard FROM audit_guards() WHERE NOT active"), [] as [&str; 0]);
    assert_whole(&mut client);
}

#[test]
#[ignore = "needs dumps made by PostgreSQL 15, which cargo xtask test --pg 17 makes"]
fn pitfall_20_a_plain_dump_of_15_through_psql_gives_the_same_bytes() {
    let to = Database::empty("from_15_plain");
    let output = shared().psql(&to.name, &recorded("plain.sql")).unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    assert_as_recorded(&to);
}

#[test]
#[ignore = "needs dumps made by PostgreSQL 15, which cargo xtask test --pg 17 makes"]
fn pitfall_20_a_custom_dump_of_15_through_pg_restore_gives_the_same_bytes() {
    let to = Database::empty("from_15_custom");
    let restore = |database: &Database, options: &[&str]| {
        let output = shared()
            .command("pg_restore")
            .args(["--exit-on-error", "-d", &database.name])
            .args(options)
            .arg(file("custom.dump"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    restore(&to, &["-j", "2"]);
    assert_as_recorded(&to);

    let data_only = Database::audited("from_15_data");
    restore(&data_only, &["--data-only"]);
    assert_as_recorded(&data_only);
}

#[test]
#[ignore = "needs dumps made by PostgreSQL 15, which cargo xtask test --pg 17 makes"]
fn pitfall_20_an_event_of_15_changed_in_the_dump_is_refused() {
    let to = Database::empty("from_15_changed");
    let dump = recorded("plain.sql");
    let (was, is) = ("\tinvoice/1234\t", "\tinvoice/1235\t");
    assert!(dump.contains(was));
    let output = shared().psql(&to.name, &dump.replacen(was, is, 1)).unwrap();
    assert!(!output.status.success());
    assert!(output.stderr.contains("ZA002"), "{}", output.stderr);
    assert_eq!(to.client().line("SELECT count(*) FROM audit_events"), "0", "nothing of the table is kept");
}
