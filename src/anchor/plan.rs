//! The job `anchor`: seals new events; then plans one batch for each enabled target, in one transaction; then links each anchor
//! to the one before it, and updates the status of tenants. Nothing leaves the machine here.
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
use zeroauth_audit_core::merkle::leaf_hash;
use zeroauth_audit_core::note::VerifierKey;
use zeroauth_audit_core::tree::Tree;

use super::clock::moment;
use super::continuity;
use crate::pg::call::{Arguments, jsonb, sql_function};
use crate::pg::error::{Failure, Kind};
use crate::pg::out_of_memory;
use crate::pg::settings;
use crate::pg::spi::{Parameter, Session};
use crate::trail::membership::INTERNAL;

/// A step takes about this long, so that other jobs have their turn in between.
const STEP: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Seal,
    Link,
}

thread_local! {
    /// The run that this process works on, and its stage.
    static AT: Cell<(i64, Stage)> = const { Cell::new((0, Stage::Seal)) };
}

/// The job's summary of one step.
#[derive(Default, Serialize)]
struct PlanSummary {
    batches: u64,
    logs: u64,
    linked: u64,
    unlinked: u64,
}

#[derive(Serialize)]
struct JobStep {
    more: bool,
    done: PlanSummary,
}

fn job(_: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let begun = Instant::now();
    let session = Session::connect();
    let run = this_run(&session, INTERNAL)?;
    let stage = Some(AT.get()).filter(|(known, _)| *known == run).map_or(Stage::Seal, |(_, stage)| stage);
    let mut done = PlanSummary::default();
    let more = match stage {
        Stage::Seal => {
            let more = seal(&session, INTERNAL)?;
            if !more {
                plan(&session, INTERNAL, &mut done)?;
            }
            AT.set((run, if more { Stage::Seal } else { Stage::Link }));
            true
        }
        Stage::Link => {
            let links = continuity::link(&session, INTERNAL, begun + STEP)?;
            (done.linked, done.unlinked) = (links.linked, links.unlinked);
            if !links.more {
                session.change(&format!("SELECT {INTERNAL}.anchor_status()"), &[], |_| Ok(()))?;
                AT.set((0, Stage::Seal));
            }
            links.more
        }
    };
    drop(session);
    jsonb(&JobStep { more, done })
}

fn this_run(session: &Session, schema: &str) -> Result<i64, Failure> {
    let sql = format!(
        "SELECT COALESCE(pg_catalog.max(r.id), 0) FROM {schema}.job_runs r WHERE r.job = 'anchor' AND r.status = 'running'"
    );
    let mut run = 0;
    session.change(&sql, &[], |row| {
        run = row.int8(0).unwrap_or(0);
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

/// The newest signed checkpoint of a log.
struct Sealed {
    tenant: String,
    epoch: i32,
    size: i64,
    root: [u8; 32],
    leaf: Digest,
}

/// The newest signed checkpoint of every open log, sorted by origin byte by byte.
fn sealed(session: &Session) -> Result<Vec<Sealed>, Failure> {
    let sql = include_str!("../../sql/queries/newest_signed_checkpoints.sql");
    let mut sealed = Vec::new();
    session.change(sql, &[], |row| {
        let note = row.text(4)?.unwrap_or_default();
        // The body ends before the empty line, with its own newline.
        let body = note.find("\n\n").map_or(note.as_str(), |at| &note[..=at]);
        out_of_memory::grow(&mut sealed)?;
        sealed.push(Sealed {
            tenant: row.text(0)?.unwrap_or_default(),
            epoch: row.int4(1).unwrap_or(0),
            size: row.int8(2).unwrap_or(0),
            root: row.bytes(3).and_then(|root| root.try_into().ok()).unwrap_or_default(),
            leaf: leaf_hash(body.as_bytes()),
        });
        Ok(())
    })?;
    Ok(sealed)
}

/// The base origin: the name of the key that signed last.
fn origin(session: &Session, schema: &str) -> Result<Option<String>, Failure> {
    let sql = format!("SELECT vkey FROM {schema}.keys ORDER BY last_used DESC, first_used DESC LIMIT 1");
    let mut vkey = None;
    session.change(&sql, &[], |row| {
        vkey = row.text(0)?;
        Ok(())
    })?;
    Ok(vkey.and_then(|vkey| VerifierKey::parse(&vkey).ok()).map(|key| key.name().to_owned()))
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
    let (targets, sealed) = (targets(session, schema)?, sealed(session)?);
    let Some(origin) = origin(session, schema)?.filter(|_| !targets.is_empty() && !sealed.is_empty()) else {
        return Ok(());
    };
    let mut leaves = Vec::new();
    out_of_memory::room(sealed.len() * size_of::<Digest>() * 2)?;
    leaves.extend(sealed.iter().map(|one| one.leaf));
    let (tree, now) = (Tree::new(leaves), moment());
    let mut first: Option<(&str, i64)> = None;
    for target in &targets {
        let batch = begin(session, schema, target, &origin, &tree, now)?;
        match first {
            None => {
                rows(session, (target, batch), &sealed, &tree)?;
                first = Some((target, batch));
            }
            Some((from, from_batch)) => {
                let sql = format!("SELECT {schema}.anchor_copy($1, $2, $3, $4)");
                let parameters = [
                    Parameter::Text(from),
                    Parameter::Int8(from_batch),
                    Parameter::Text(target),
                    Parameter::Int8(batch),
                ];
                session.change(&sql, &parameters, |_| Ok(()))?;
            }
        }
        done.batches += 1;
    }
    done.logs = tree.size();
    Ok(())
}

/// Makes the row of a batch; its epoch.
fn begin(
    session: &Session,
    schema: &str,
    target: &str,
    origin: &str,
    tree: &Tree,
    now: Moment,
) -> Result<i64, Failure> {
    let sql = format!("SELECT {schema}.anchor_begin_batch($1, $2, $3, $4, $5, $6, $7::pg_catalog.jsonb)");
    let (log_id, root) = (Batch::log_id(origin), tree.root());
    let machine = serde_json::to_string(&State::planned(now)).unwrap_or_default();
    let parameters = [
        Parameter::Text(target),
        Parameter::Text(origin),
        Parameter::Bytes(&log_id.0),
        Parameter::Bytes(root.as_bytes()),
        Parameter::count(tree.size()),
        Parameter::Int8(now.0),
        Parameter::Text(&machine),
    ];
    let mut epoch = 0;
    session.change(&sql, &parameters, |row| {
        epoch = row.int8(0).unwrap_or(0);
        Ok(())
    })?;
    Ok(epoch)
}

/// Stores each log's place in a batch: its leaf and its path to the root.
fn rows(
    session: &Session,
    (target, batch): (&str, i64),
    sealed: &[Sealed],
    tree: &Tree,
) -> Result<(), Failure> {
    let sql = include_str!("../../sql/queries/new_anchor.sql");
    let root = tree.root();
    for (index, one) in (0..).zip(sealed) {
        let path = tree.inclusion_proof(index).map_err(|error| {
            Failure::new(Kind::DamagedLog, error.to_string()).hint("It is a defect of the extension.")
        })?;
        let path: Vec<u8> = path.iter().flat_map(|hash| *hash.as_bytes()).collect();
        let parameters = [
            Parameter::Text(&one.tenant),
            Parameter::Int8(i64::from(one.epoch)),
            Parameter::Text(target),
            Parameter::Int8(batch),
            Parameter::Int8(one.size),
            Parameter::Bytes(&one.root),
            Parameter::Bytes(root.as_bytes()),
            Parameter::count(index),
            Parameter::Bytes(&path),
        ];
        session.change_again(sql, &parameters, |_| Ok(()))?;
    }
    Ok(())
}

sql_function!(zeroauth_audit_job_anchor, pg_finfo_zeroauth_audit_job_anchor, job);
