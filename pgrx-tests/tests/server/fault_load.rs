//! Writers that know the place of each event they appended and the order in which it was acknowledged, for faults that
//! may lose the newest events but never one in the middle.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use postgres::{Client, Error, SimpleQueryMessage};

use crate::storm_known::connection_lost;
use crate::support::Sql;

/// What the server returned for one acknowledged event.
pub struct Appended {
    pub tenant: String,
    pub chain: String,
    pub seq: String,
    pub event_hash: String,
}

/// The acknowledged transactions of one connection, in order.
pub type Acknowledged = Vec<Vec<Appended>>;

/// One transaction of one to four events of a few tenants.
pub fn append(client: &mut Client, rng: &mut Rng) -> Result<Vec<Appended>, Error> {
    let rows: Vec<String> =
        (0..rng.u8(1..5)).map(|_| format!("('tenant {}', 'load')", rng.u8(0..4))).collect();
    // The simple protocol: what returns without an error was committed.
    let messages = client.simple_query(&format!(
        "INSERT INTO audit_events (tenant_id, action) VALUES {} RETURNING tenant_id, chain, seq, event_hash",
        rows.join(", ")
    ))?;
    let text = |row: &postgres::SimpleQueryRow, i: usize| row.get(i).unwrap().to_owned();
    Ok(messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(Appended {
                tenant: text(row, 0),
                chain: text(row, 1),
                seq: text(row, 2),
                event_hash: text(row, 3),
            }),
            _ => None,
        })
        .collect())
}

/// Appends on one connection until it is over or the connection is lost; any other error panics.
pub fn load(client: &mut Client, seed: u64, over: &AtomicBool) -> Acknowledged {
    let mut rng = Rng::with_seed(seed);
    let mut acknowledged = Vec::new();
    while !over.load(Ordering::Relaxed) {
        match append(client, &mut rng) {
            Ok(events) => acknowledged.push(events),
            Err(error) if connection_lost(&error) => break,
            Err(error) => panic!("{:?}", error.as_db_error()),
        }
    }
    acknowledged
}

/// Asserts that nothing is lost but tails: of each chain, and of what each connection did. To be called before anything
/// is appended again. Returns how many events were acknowledged, and how many of them are lost.
#[track_caller]
pub fn assert_only_tails_lost(client: &mut Client, known: &[Acknowledged]) -> (u32, u32) {
    client.run("CREATE TEMP TABLE known (connection int, n int, tenant_id text, chain smallint, seq bigint, event_hash bytea, kept boolean)");
    let mut copy = client.copy_in("COPY known FROM STDIN").unwrap();
    for (connection, transactions) in known.iter().enumerate() {
        for (n, events) in transactions.iter().enumerate() {
            for Appended { tenant, chain, seq, event_hash } in events {
                writeln!(copy, "{connection}\t{n}\t{tenant}\t{chain}\t{seq}\t\\{event_hash}\t\\N").unwrap();
            }
        }
    }
    copy.finish().unwrap();
    client.run("ANALYZE audit_events; UPDATE known k SET kept = EXISTS (SELECT FROM audit_events e WHERE (e.tenant_id, e.chain, e.seq, e.event_hash) = (k.tenant_id, k.chain, k.seq, k.event_hash))");
    let broken = |by: &str, order: &str| {
        format!(
            "SELECT {by}, max({order}) FILTER (WHERE kept), min({order}) FILTER (WHERE NOT kept) FROM known GROUP BY {by} HAVING max({order}) FILTER (WHERE kept) >= min({order}) FILTER (WHERE NOT kept)"
        )
    };
    for (by, order) in [("tenant_id, chain", "seq"), ("connection", "n")] {
        assert_eq!(client.lines(&broken(by, order)), [] as [&str; 0], "{by}: kept up to, lost from");
    }
    let acknowledged = client.line("SELECT count(*) FROM known").parse().unwrap();
    let lost = client.line("SELECT count(*) FROM known WHERE NOT kept").parse().unwrap();
    client.run("DROP TABLE known");
    (acknowledged, lost)
}
