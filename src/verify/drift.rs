//! Drift replay, the reading part: one step's worth of events is recomputed and compared with the watermarks.
//!
//! Nothing is written here. What a step saw goes back as JSON to `job_drift()` (`sql/schema/verify/drift.sql`), which keeps
//! it in tables, raises alerts and decides what comes next. Everything that one call compares, watermarks included, is read
//! from the snapshot of the statement that made the call: what a watermark remembers was visible when it was written, so
//! it is visible in every later snapshot, unless it was removed.

mod findings;
mod tenants;

use std::time::{Duration, Instant};

use pgrx::pg_sys;
use serde::Serialize;

use crate::pg::call::{Arguments, jsonb, sql_function};
use crate::pg::error::{Failure, Kind};
use crate::pg::spi::Session;
use crate::trail::access::Trail;
use crate::verify::replay::{ChainSlice, replay_slice};
use findings::{DriftFinding, PlacedEvent, Source, hex};
use tenants::Place;

fn absent() -> Failure {
    Failure::new(Kind::InvalidArgument, "an argument of a function of drift is NULL")
        .hint("It is called by the job drift.")
}

/// How long the call may go on; it ends after the unit that it is at.
struct Until(Instant);

impl Until {
    fn new(arguments: &Arguments, n: usize) -> Result<Self, Failure> {
        let milliseconds = int4(arguments, n)?;
        Ok(Self(Instant::now() + Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))))
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.0
    }
}

fn int4(arguments: &Arguments, n: usize) -> Result<i32, Failure> {
    arguments.datum(n).map(|datum| datum.value() as i32).ok_or_else(absent)
}

/// `replay_tenants(after, after_chain, upto, n, logs, milliseconds)`
fn replay_tenants(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let place = Place {
        tenant: arguments.text(0)?.ok_or_else(absent)?,
        // SAFETY: declared as smallint.
        chain: arguments.datum(1).map(|datum| datum.value() as i16),
    };
    let upto = arguments.text(2)?;
    let n = arguments.int8(3).filter(|n| *n > 0).ok_or_else(absent)?;
    // SAFETY: declared as boolean.
    let logs = arguments.datum(4).map(|datum| datum.value() != 0).ok_or_else(absent)?;
    let until = Until::new(arguments, 5)?;
    let trail = Trail::open()?;
    let session = Session::connect();
    let replayed = tenants::replay(&session, &trail, place, upto.as_deref(), n, logs, &|| until.is_over())?;
    drop(session);
    jsonb(&replayed)
}

/// The outcome of a replay of one chain.
#[derive(Serialize)]
struct ChainReplayed {
    events: i64,
    /// The last event that was recomputed.
    last: Option<PlacedEvent>,
    /// The event before the first of them.
    before: Option<PlacedEvent>,
    /// Whether the replay came to the end of the chain.
    complete: bool,
    findings: Vec<DriftFinding>,
}

/// `replay_chain(tenant, chain, after, upto, stop_at, most, milliseconds)`
fn replay_chain(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let tenant = arguments.text(0)?.ok_or_else(absent)?;
    // SAFETY: declared as smallint.
    let chain = arguments.datum(1).map(|datum| datum.value() as i16).ok_or_else(absent)?;
    let after = arguments.int8(2).ok_or_else(absent)?;
    let upto = arguments.int8(3).ok_or_else(absent)?;
    let stop_at = arguments.text(4)?;
    let most = arguments.int8(5).ok_or_else(absent)?;
    let until = Until::new(arguments, 6)?;
    let trail = Trail::open()?;
    let session = Session::connect();
    // -1 stands for rows without a chain, as in a finding.
    let number = (chain >= 0).then_some(chain);
    let slice = ChainSlice {
        tenant: Some(tenant.clone()),
        chain: number,
        from: number.map(|_| after.saturating_add(1)),
    };
    let (mut findings, mut events) = (Vec::new(), 0);
    let stopped = std::cell::Cell::new(false);
    let mut go_on = || {
        events += 1;
        events < most && !stopped.get() && !until.is_over()
    };
    let replayed =
        replay_slice(&session, &trail, &slice, number.map(|_| upto), &mut go_on, &mut |finding| {
            stopped.set(stopped.get() || stop_at.as_deref() == Some(finding.class));
            findings::collect(&mut findings, Source::Replay, &tenant, &finding);
        })?;
    drop(session);
    let known = |seen: Option<crate::verify::replay::ReadEvent>| {
        seen.map(|(seq, hash)| PlacedEvent { chain, seq, hash: hex(&hash) })
    };
    jsonb(&ChainReplayed {
        events: replayed.events,
        last: known(replayed.last),
        before: known(replayed.before),
        complete: !replayed.broken_off,
        findings,
    })
}

/// `process_cpu()`: milliseconds of processor time that this process has used.
fn process_cpu(_: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a local. The clock is there on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    let milliseconds = time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6;
    Ok(pg_sys::Datum::from(milliseconds.to_bits()))
}

sql_function!(zeroauth_audit_replay_tenants, pg_finfo_zeroauth_audit_replay_tenants, replay_tenants);
sql_function!(zeroauth_audit_replay_chain, pg_finfo_zeroauth_audit_replay_chain, replay_chain);
sql_function!(zeroauth_audit_process_cpu, pg_finfo_zeroauth_audit_process_cpu, process_cpu);
