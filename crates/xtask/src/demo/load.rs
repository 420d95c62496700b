//! Events into the table, as an application does it: a role with the writer's privileges and no others.

use std::io::Write;

use anyhow::{Context, Result};
use postgres::Client;

use super::event::{COLUMNS, Event};
use crate::steps::Step;

/// Events a COPY; each COPY is a transaction.
const BATCH: usize = 2_000;

/// Writes `events` through `client` and returns how many there were.
pub(crate) fn load(client: &mut Client, tenant: &'static str, events: &[Event]) -> Result<usize> {
    let step = Step::begin(&format!("writing {} events of tenant {tenant}", events.len()), "a second");
    let copy = format!("COPY audit_events ({COLUMNS}) FROM STDIN");
    for (number, batch) in events.chunks(BATCH).enumerate() {
        step.at((number * BATCH) as u64, events.len() as u64);
        let mut writer = client.copy_in(&copy).context("cannot write events")?;
        for event in batch {
            writer.write_all(event.copy_line().as_bytes()).context("cannot write an event")?;
        }
        writer.finish().with_context(|| format!("the events of {tenant} were refused"))?;
    }
    step.done();
    Ok(events.len())
}
