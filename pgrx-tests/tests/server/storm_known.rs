//! What the connections of a storm know for certain, and whether the server agrees after a crash.

use std::io::Write;
use std::time::Duration;

use postgres::{Client, Error};
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::storm_writer::Writer;
use crate::support::Sql;

/// What one connection knows for certain.
#[derive(Default)]
pub struct Known {
    pub stored: Vec<String>,
    pub absent: Vec<String>,
    pub unexpected: Vec<String>,
    pub connections_lost: u32,
}

/// One connection's life: appends until it is over, and connects again when the server is back.
pub fn write(cluster: &Cluster, writer: &mut Writer, over: impl Fn() -> bool) -> Known {
    let mut known = Known::default();
    while !over() {
        let mut client = None;
        wait_until(Duration::from_secs(60), "the server to be back", || {
            client = cluster.try_client().ok();
            client.is_some()
        });
        let mut client = client.unwrap();
        while !over() {
            let (mut stored, mut absent) = (Vec::new(), Vec::new());
            match writer.step(&mut client, &mut stored, &mut absent) {
                Ok(()) => {
                    known.stored.append(&mut stored);
                    known.absent.append(&mut absent);
                }
                // Whether the statement in flight was committed is unknown: it counts for neither.
                Err(error) if connection_lost(&error) => {
                    known.connections_lost += 1;
                    break;
                }
                Err(error) => {
                    known.unexpected.push(
                        error
                            .as_db_error()
                            .map_or(error.to_string(), |e| format!("{} {}", e.code().code(), e.message())),
                    );
                    break;
                }
            }
        }
    }
    known
}

/// Whether a crash explains the error.
pub fn connection_lost(error: &Error) -> bool {
    match error.as_db_error() {
        Some(error) => ["57P01", "57P02", "57P03"].contains(&error.code().code()),
        None => true,
    }
}

/// Asserts that what was acknowledged is there, that what was rolled back is not, and that nothing failed but
/// connections. Returns how many events were acknowledged.
#[track_caller]
pub fn assert_kept(client: &mut Client, known: &[Known]) -> u32 {
    let unexpected: Vec<&String> = known.iter().flat_map(|k| &k.unexpected).collect();
    assert!(
        unexpected.is_empty(),
        "{} errors, such as {:?}",
        unexpected.len(),
        &unexpected[..unexpected.len().min(5)]
    );
    client.run("CREATE TEMP TABLE known (event_id uuid, stored boolean)");
    let mut copy = client.copy_in("COPY known FROM STDIN").unwrap();
    for k in known {
        for (ids, stored) in [(&k.stored, 't'), (&k.absent, 'f')] {
            for id in ids {
                writeln!(copy, "{id}\t{stored}").unwrap();
            }
        }
    }
    copy.finish().unwrap();
    client.run("ANALYZE known; ANALYZE audit_events");
    let acknowledged = client.line("SELECT count(*) FROM known WHERE stored").parse().unwrap();
    assert_eq!(client.line("SELECT count(*) FROM known k WHERE stored AND NOT EXISTS (SELECT FROM audit_events e WHERE e.event_id = k.event_id)"), "0", "acknowledged events lost");
    assert_eq!(client.line("SELECT count(*) FROM known k WHERE NOT stored AND EXISTS (SELECT FROM audit_events e WHERE e.event_id = k.event_id)"), "0", "events stored that were rolled back");
    client.run("DROP TABLE known");
    acknowledged
}

/// Ends what crashes left prepared: its chains would stay taken.
pub fn roll_back_prepared(client: &mut Client) {
    for gid in client.lines("SELECT gid FROM pg_prepared_xacts") {
        client.run(&format!("ROLLBACK PREPARED '{gid}'"));
    }
}

/// What the storm's writers need in a fresh cluster: the extension, and a later trigger that drops rows, as a superuser
/// may have made one.
pub const PREPARE: &str = "CREATE EXTENSION zeroauth_audit;
     CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
     SET zeroauth_audit.maintenance = on;
     CREATE TRIGGER zzzz_later BEFORE INSERT ON audit_events FOR EACH ROW WHEN (NEW.action = 'dropped') EXECUTE FUNCTION drop_row()";
