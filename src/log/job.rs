//! The job `checkpoint`: takes over what a directory has and this database lacks, adds new events to the logs, and signs the registry.
//!
//! One step is one transaction: it takes some tenants in order and leaves the rest to the next. The place in the list of tenants is kept in
//! this process alone: a run that is interrupted starts over, and finds nothing to do for tenants that are done.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use serde::Serialize;

use crate::log::keys;
use crate::log::seal::Sealer;
use crate::log::take_over::{self, Taken};
use crate::pg::call::{Arguments, jsonb, sql_function};
use crate::pg::error::Failure;
use crate::pg::out_of_memory;
use crate::pg::spi::{Parameter, Session};
use crate::trail::access::Trail;
use crate::trail::membership::INTERNAL;

/// A step takes about this long, so that other jobs have their turn in between.
const STEP: Duration = Duration::from_millis(300);

const HOUR: Duration = Duration::from_secs(3600);

thread_local! {
    /// The last tenant that this process's run has done.
    static AFTER: RefCell<String> = const { RefCell::new(String::new()) };
    /// When this process last looked whether a snapshot is due.
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The job's summary of one step.
#[derive(Default, Serialize)]
struct SealSummary {
    logs: u64,
    events: i64,
    refused: u64,
}

#[derive(Serialize)]
struct JobStep {
    more: bool,
    done: SealSummary,
}

impl JobStep {
    /// Nothing is sealed before what is there now is committed.
    fn again() -> Self {
        Self { more: true, done: SealSummary::default() }
    }

    /// Nothing may be sealed.
    fn refused() -> Self {
        Self { more: false, done: SealSummary { refused: 1, ..SealSummary::default() } }
    }
}

fn step(_: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let trail = Trail::open()?;
    let session = Session::connect();
    let done = run(&session, &trail, AFTER.take())?;
    drop(session);
    jsonb(&done)
}

/// One step, for the tenants behind `after`.
fn run(session: &Session, trail: &Trail, after: String) -> Result<JobStep, Failure> {
    let signer = keys::signer(session, INTERNAL)?;
    let sealer = match Sealer::start(session, trail, INTERNAL, signer)? {
        Ok(sealer) => sealer,
        Err(why) => {
            registry_is(session, &why)?;
            return Ok(JobStep::refused());
        }
    };
    if sealer.registry.replaced {
        sealer.registry.flush()?;
        return Ok(JobStep::again());
    }
    if let Some(signer) = &sealer.signer {
        match take_over::next(&sealer)? {
            Some(Taken::Some) => return Ok(JobStep::again()),
            Some(Taken::Refused) => return Ok(JobStep::refused()),
            None => sealer.registry.announce(signer)?,
        }
        if LOOKED.get().is_none_or(|at| at.elapsed() >= HOUR) {
            LOOKED.set(Some(Instant::now()));
            if sealer.registry.snapshot()? {
                sealer.registry.flush()?;
                return Ok(JobStep::again());
            }
        }
    }
    let refused = sealer.refused()?;
    let (tenants, mut complete) = sealer.grown(&after)?;
    // Finding them may take as long as a step, when few of many tenants have grown: each step still seals some.
    let begun = Instant::now();
    let mut done = SealSummary::default();
    let mut last = String::new();
    for (tenant, chains) in tenants {
        if begun.elapsed() > STEP {
            complete = false;
            break;
        }
        match sealer.seal(&tenant, &chains, None)? {
            Ok((events, whole)) => {
                done.logs += 1;
                done.events += events;
                if !whole {
                    // The same tenant comes again: it has more than fits one checkpoint.
                    complete = false;
                    break;
                }
                if refused.contains(&tenant) {
                    sealer.settled(&tenant)?;
                }
            }
            Err(refusal) => {
                done.refused += 1;
                sealer.refuse(&tenant, &refusal)?;
            }
        }
        last = tenant;
        out_of_memory::check()?;
    }
    sealer.writes.flush()?;
    // What is signed is committed before.
    complete &= !sealer.registry.flush()?;
    if complete {
        done.refused += sealer.missing()?;
        sealer.settle(&refused)?;
        registry_is(session, &sealer.close()?.err().unwrap_or_default())?;
    } else {
        AFTER.replace(if last.is_empty() { after } else { last });
    }
    Ok(JobStep { more: !complete, done })
}

/// Raises the alert about the registry with the reason, or resolves it when that is empty.
fn registry_is(session: &Session, why: &str) -> Result<(), Failure> {
    let sql = format!("SELECT {INTERNAL}.registry_is(NULLIF($1, ''))");
    session.change_again(&sql, &[Parameter::Text(why)], |_| Ok(()))
}

sql_function!(zeroauth_audit_job_checkpoint, pg_finfo_zeroauth_audit_job_checkpoint, step);
