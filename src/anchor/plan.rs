//! The job `anchor`: seals new events; then plans one batch for each enabled target, of the registry as the newest run that may leave has
//! it. Nothing leaves the machine here.
//!
//! The stage of a run is kept in this process alone. Another run makes up for one that is interrupted ([`super::sending::Anchoring`]), and a
//! newer batch replaces one that is not begun.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use serde::Serialize;
use zeroauth_audit_anchor::machine::State;
use zeroauth_audit_anchor::{Batch, Moment};
use zeroauth_audit_core::Digest;

use super::clock::moment;
use crate::log::registry_rows::Run;
use crate::log::store::Tiles;
use crate::pg::call::{Arguments, jsonb, sql_function};
use crate::pg::error::Failure;
use crate::pg::settings;
use crate::pg::spi::{Parameter, Session};
use crate::trail::membership::INTERNAL;

/// How long a run waits until a directory has what it sealed. What is there by then is anchored.
const PUBLISHING: Duration = Duration::from_secs(30);
/// How often it looks.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Seal,
    /// Everything is sealed, since then.
    Publish(Instant),
}

thread_local! {
    /// The run that this process works on, and its stage.
    static AT: Cell<(i64, Stage)> = const { Cell::new((0, Stage::Seal)) };
}

/// The job's summary of one step.
#[derive(Default, Serialize)]
struct PlanSummary {
    batches: u64,
    entries: u64,
    unlinked: u64,
}

#[derive(Serialize)]
struct JobStep {
    more: bool,
    pause_ms: u64,
    done: PlanSummary,
}

fn job(_: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let session = Session::connect();
    let (run, by_worker) = this_run(&session, INTERNAL)?;
    let stage = Some(AT.get()).filter(|(known, _)| *known == run).map_or(Stage::Seal, |(_, stage)| stage);
    let mut step = JobStep { more: true, pause_ms: 0, done: PlanSummary::default() };
    match stage {
        Stage::Seal => {
            let more = seal(&session, INTERNAL)?;
            AT.set((run, if more { Stage::Seal } else { Stage::Publish(Instant::now()) }));
        }
        // Only the worker publishes, and only what was committed: a run in a session anchors what is out already.
        Stage::Publish(since) if by_worker && since.elapsed() < PUBLISHING && waits(&session, INTERNAL)? => {
            step.pause_ms = PAUSE.as_millis() as u64;
        }
        Stage::Publish(_) => {
            plan(&session, INTERNAL, &mut step.done)?;
            if !by_worker {
                // The worker does it by itself.
                session.change(&format!("SELECT {INTERNAL}.anchor_status()"), &[], |_| Ok(()))?;
            }
            AT.set((0, Stage::Seal));
            step.more = false;
        }
    }
    drop(session);
    jsonb(&step)
}

/// Its number, and whether the worker runs it.
fn this_run(session: &Session, schema: &str) -> Result<(i64, bool), Failure> {
    let sql = format!(
        "SELECT r.id, r.run_by = 'worker' FROM {schema}.job_runs r WHERE r.job = 'anchor' AND r.status = 'running' ORDER BY r.id DESC LIMIT 1"
    );
    let mut run = (0, false);
    session.change(&sql, &[], |row| {
        run = (row.int8(0).unwrap_or(0), row.bool(1));
        Ok(())
    })?;
    Ok(run)
}

/// One step of the job `checkpoint`, unless another process runs that job and so seals the new events itself. Whether there is more.
fn seal(session: &Session, schema: &str) -> Result<bool, Failure> {
    let sql = format!(
        "SELECT CASE WHEN {schema}.job_lock('checkpoint') THEN COALESCE(({schema}.job_checkpoint() ->> 'more')::pg_catalog.bool, false) ELSE false END"
    );
    let mut more = false;
    session.change(&sql, &[], |row| {
        more = row.bool(0);
        Ok(())
    })?;
    Ok(more)
}

/// Whether the newest run may not leave yet.
fn waits(session: &Session, schema: &str) -> Result<bool, Failure> {
    let newest = Run::newest(session, schema)?.map(|run| run.number);
    Ok(newest.is_some() && newest != outside(session, schema)?)
}

/// Number of the newest run that may leave.
fn outside(session: &Session, schema: &str) -> Result<Option<u64>, Failure> {
    let mut number = None;
    session.change(&format!("SELECT {schema}.run_outside(NULL)"), &[], |row| {
        number = row.count(0);
        Ok(())
    })?;
    Ok(number)
}

fn targets(session: &Session, schema: &str) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    let sql = format!("SELECT name FROM {schema}.anchor_targets WHERE enabled ORDER BY name");
    session.change(&sql, &[], |row| {
        names.extend(row.text(0)?);
        Ok(())
    })?;
    Ok(names)
}

fn plan(session: &Session, schema: &str, done: &mut PlanSummary) -> Result<(), Failure> {
    // A checkpoint signed by a key that is no longer here is not evidence of the present state.
    if settings::checkpoint_key_file().is_empty() {
        return Ok(());
    }
    let Some(number) = outside(session, schema)? else { return Ok(()) };
    let Some(run) = Run::numbered(session, schema, number)? else { return Ok(()) };
    let (tiles, now) = (Tiles::registry(session, schema), moment());
    for target in &targets(session, schema)? {
        if let Some((batch, why)) = unlinked(session, schema, &tiles, target, &run)? {
            let sql = format!("SELECT {schema}.anchor_find('anchor_mismatch', 'rows', '', $1, $2, $3)");
            let parameters = [Parameter::Text(target), Parameter::Int8(batch), Parameter::Text(&why)];
            session.change_again(&sql, &parameters, |_| Ok(()))?;
            done.unlinked += 1;
            continue;
        }
        begin(session, schema, target, &run, now)?;
        done.batches += 1;
    }
    done.entries = run.size;
    Ok(())
}

/// The newest anchor of this registry at a target, and why the registry does not continue it; `None` when it does.
fn unlinked(
    session: &Session,
    schema: &str,
    tiles: &Tiles<'_>,
    target: &str,
    run: &Run,
) -> Result<Option<(i64, String)>, Failure> {
    let sql = format!(
        "SELECT b.epoch, b.size, b.root FROM {schema}.anchor_batches b
         WHERE b.target = $1 AND b.origin = $2 AND b.state IN ('included', 'finalized') ORDER BY b.epoch DESC LIMIT 1"
    );
    let mut before = None;
    session.change_again(&sql, &[Parameter::Text(target), Parameter::Text(run.origin())], |row| {
        let root = row.bytes(2).and_then(Digest::from_slice);
        before = row.int8(0).zip(row.count(1)).zip(root);
        Ok(())
    })?;
    let Some(((batch, size), anchored)) = before else { return Ok(None) };
    Ok(difference(tiles, size, &anchored, run.size)?.map(|why| (batch, why)))
}

/// Why the registry of so many entries does not have the root that was anchored of `size`.
pub fn difference(
    tiles: &Tiles<'_>,
    size: u64,
    anchored: &Digest,
    entries: u64,
) -> Result<Option<String>, Failure> {
    if size > entries {
        return Ok(Some(format!("{size} entries of the registry were anchored, and it has {entries}")));
    }
    Ok(match tiles.root(size)? {
        Ok(root) if root == *anchored => None,
        Ok(root) => Some(format!("the root of {size} entries was anchored as {anchored}, and is {root}")),
        Err(why) => Some(format!("the registry has no root of {size} entries: {why}")),
    })
}

/// Makes the row of a batch.
fn begin(session: &Session, schema: &str, target: &str, run: &Run, now: Moment) -> Result<(), Failure> {
    let sql = format!("SELECT {schema}.anchor_begin_batch($1, $2, $3, $4, $5, $6, $7::pg_catalog.jsonb)");
    let log_id = Batch::log_id(run.origin());
    let machine = serde_json::to_string(&State::planned(now)).unwrap_or_default();
    let parameters = [
        Parameter::Text(target),
        Parameter::Text(run.origin()),
        Parameter::Bytes(&log_id.0),
        Parameter::Bytes(run.root.as_bytes()),
        Parameter::count(run.size),
        Parameter::Int8(now.0),
        Parameter::Text(&machine),
    ];
    session.change_again(&sql, &parameters, |_| Ok(()))
}

sql_function!(zeroauth_audit_job_anchor, pg_finfo_zeroauth_audit_job_anchor, job);
