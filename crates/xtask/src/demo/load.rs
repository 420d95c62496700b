//! Events into the table, as an application does it: a role with the writer's privileges and no others.

use std::io::Write;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use postgres::Client;

use super::event::{COLUMNS, Event};

/// Events a COPY; each COPY is a transaction.
const BATCH: usize = 2_000;

/// Writes `events` through `client` and returns how many there were.
pub(crate) fn load(client: &mut Client, tenant: &'static str, events: &[Event]) -> Result<usize> {
    let bar = ProgressBar::new(events.len() as u64)
        .with_style(
            ProgressStyle::with_template("{prefix:>6} [{bar:40}] {pos}/{len} events")?.progress_chars("=> "),
        )
        .with_prefix(tenant);
    let copy = format!("COPY audit_events ({COLUMNS}) FROM STDIN");
    for batch in events.chunks(BATCH) {
        let mut writer = client.copy_in(&copy).context("cannot write events")?;
        for event in batch {
            writer.write_all(event.copy_line().as_bytes()).context("cannot write an event")?;
        }
        writer.finish().with_context(|| format!("the events of {tenant} were refused"))?;
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(events.len())
}
