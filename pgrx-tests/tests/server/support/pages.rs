//! The work of a statement, counted in pages: the same on an idle machine and on a busy one, which its time is not.

use postgres::Client;

use super::Sql;

/// Runs `statement`, with all that its triggers and functions do. Returns how often it looked at a page of a table or an index.
#[track_caller]
pub fn pages(client: &mut Client, statement: &str) -> u64 {
    client.run("CREATE OR REPLACE FUNCTION pg_temp.run(statement text) RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE statement; END'");
    let statement = statement.replace('\'', "''");
    let plan = client
        .lines(&format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT pg_temp.run('{statement}')"))
        .join("\n");
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    ["Shared Hit Blocks", "Shared Read Blocks"].iter().map(|key| plan[0]["Plan"][key].as_u64().unwrap()).sum()
}
