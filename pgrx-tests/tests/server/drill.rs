//! The drill.
use crate::support::{Database, Sql};

#[test]
fn drill_prints() {
    let database = Database::audited("drill_first");
    let mut client = database.client();
    for line in client.lines("SELECT * FROM audit_drill()") { eprintln!("{line}"); }
    panic!();
}
