//! The job `anchor_check`, the reading part: the root of a log from its events, in the order of its leaves, compared with what the
//! registry said of it each time that the registry was anchored; and the registry's root at the size that was anchored.
//!
//! Nothing is written, and no tile of the log is read. That the registry is the one that was anchored is checked for each batch; here,
//! that an entry is the registry's: an attacker who changes entries along with the events gains nothing.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use serde::Serialize;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::{leaf_hash, verify_inclusion};
use zeroauth_audit_core::range::Frontier;
use zeroauth_audit_core::registry::Entry;

use super::plan;
use crate::log::registry_rows::{Run, log, name_key};
use crate::log::store::{Tiles, digests};
use crate::pg::call::{self, Arguments, jsonb, sql_function};
use crate::pg::error::{Failure, Kind};
use crate::pg::spi::{Parameter, Session};
use crate::pg::varlena;
use crate::trail::access::Trail;
use crate::trail::membership::INTERNAL;

/// Intervals that are read in one query.
const MOST_INTERVALS: i64 = 200;

/// How far the recomputation is.
#[derive(Serialize)]
struct Recomputed {
    leaf: u64,
    frontier: String,
    done: bool,
    compared: u64,
    difference: Option<String>,
}

/// `anchor_recompute(tenant, epoch, leaf, frontier, since, milliseconds)`
fn recompute(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let int4 = |n: usize| arguments.datum(n).map_or(0, |datum| datum.value() as i32);
    let until = Instant::now() + Duration::from_millis(u64::try_from(int4(5)).unwrap_or(0));
    let leaf = arguments.int8(2).and_then(|leaf| u64::try_from(leaf).ok()).unwrap_or(0);
    // SAFETY: declared as bytea, STRICT.
    let nodes = arguments.datum(3).map(|datum| unsafe { varlena::bytes(datum) }).unwrap_or_default();
    let frontier = Frontier::from_parts(leaf, digests(nodes)).map_err(|error| {
        Failure::new(Kind::InvalidArgument, error.to_string()).hint("It is called by the job anchor_check.")
    })?;
    let trail = Trail::open()?;
    let session = Session::connect();
    let mut log = Log {
        session: &session,
        schema: INTERNAL,
        trail: &trail.name,
        tenant: arguments.text(0)?.unwrap_or_default(),
        epoch: int4(1),
        frontier,
        compared: 0,
    };
    let (done, difference) = match log.anchored(arguments.int8(4).unwrap_or(0))? {
        Ok(anchored) => log.go_on(&anchored, until)?,
        Err(difference) => (true, Some(difference)),
    };
    let (leaf, nodes) = log.frontier.parts();
    let frontier = nodes.iter().map(ToString::to_string).collect();
    let result = Recomputed { leaf, frontier, done, compared: log.compared, difference };
    drop(log);
    drop(session);
    jsonb(&result)
}

struct Log<'a> {
    session: &'a Session,
    schema: &'a str,
    trail: &'a str,
    tenant: String,
    epoch: i32,
    frontier: Frontier,
    compared: u64,
}

/// A state of the log that was anchored.
struct Anchored {
    size: u64,
    root: Digest,
}

/// A slice of a chain in the log.
struct Interval {
    chain: i16,
    from: i64,
    to: i64,
    first_leaf: u64,
}

impl Log<'_> {
    /// What the registry said of the log when it was anchored, as far as it lies ahead; or which entry is not the registry's. Leaves out what
    /// an acknowledged restore lost.
    fn anchored(&self, since: i64) -> Result<Result<Vec<Anchored>, String>, Failure> {
        let Some(names) = name_key(self.session, self.schema)? else {
            return Ok(Err("the registry's name key is gone".to_owned()));
        };
        let sql = include_str!("../../sql/queries/anchored_states.sql");
        let parameters = [
            Parameter::Text(&self.tenant),
            Parameter::Int8(i64::from(self.epoch)),
            Parameter::count(self.frontier.size()),
            Parameter::Int8(since),
        ];
        let mut states = Vec::new();
        self.session.all(sql, &parameters, |row| {
            let entry = row.count(0).zip(log(row, 2, &names, &self.tenant));
            states.extend(entry.zip(row.count(1)));
            Ok(())
        })?;
        let registry = Tiles::registry(self.session, self.schema);
        let mut known = Vec::new();
        for ((index, log), entries) in states {
            let leaf = Entry::leaf(&Entry::Log(log).text());
            let (path, root) = (registry.inclusion(index, entries)?, registry.root(entries)?);
            let is_in =
                |path: Vec<Digest>, root| verify_inclusion(index, entries, &leaf, &path, &root).is_ok();
            if !path.ok().zip(root.ok()).is_some_and(|(path, root)| is_in(path, root)) {
                return Ok(Err(format!("entry {index} of the registry is not what was sealed")));
            }
            known.push(Anchored { size: log.size, root: log.root });
        }
        Ok(Ok(known))
    }

    /// Whether the log is done, and how it first differs from what was anchored.
    fn go_on(&mut self, anchored: &[Anchored], until: Instant) -> Result<(bool, Option<String>), Failure> {
        let mut wanted = anchored.iter().peekable();
        loop {
            let intervals = self.intervals()?;
            if intervals.is_empty() || wanted.peek().is_none() {
                let lost = wanted.peek().map(|one| {
                    format!("{} events were anchored, and the log has {}", one.size, self.frontier.size())
                });
                return Ok((true, lost));
            }
            for interval in &intervals {
                if interval.first_leaf != self.frontier.size() {
                    return Ok((true, Some(format!("the log has nothing at leaf {}", self.frontier.size()))));
                }
                if let Some(missing) = self.add(interval)? {
                    return Ok((true, Some(missing)));
                }
                while let Some(one) = wanted.next_if(|one| one.size <= self.frontier.size()) {
                    if one.size < self.frontier.size() {
                        return Ok((
                            true,
                            Some(format!("the log never had {} events, which were anchored", one.size)),
                        ));
                    }
                    self.compared += 1;
                    let root = self.frontier.root();
                    if root != one.root {
                        let anchored = one.root;
                        return Ok((
                            true,
                            Some(format!(
                                "the root of {} events was anchored as {anchored}, and is {root}",
                                one.size
                            )),
                        ));
                    }
                }
                if wanted.peek().is_none() {
                    return Ok((true, None));
                }
                if Instant::now() >= until {
                    return Ok((false, None));
                }
            }
        }
    }

    fn intervals(&self) -> Result<Vec<Interval>, Failure> {
        let sql = format!(
            "SELECT i.chain, i.from_seq, i.to_seq, i.first_leaf FROM {}.log_intervals i
             WHERE i.tenant_id = $1 AND i.epoch = $2::pg_catalog.int4 AND i.first_leaf >= $3 ORDER BY i.first_leaf LIMIT $4",
            self.schema
        );
        let leaf = i64::try_from(self.frontier.size()).unwrap_or(i64::MAX);
        let parameters = [
            Parameter::Text(&self.tenant),
            Parameter::Int8(i64::from(self.epoch)),
            Parameter::Int8(leaf),
            Parameter::Int8(MOST_INTERVALS),
        ];
        let mut intervals = Vec::new();
        self.session.again(&sql, &parameters, |row| {
            intervals.push(Interval {
                chain: row.int2(0).unwrap_or(0),
                from: row.int8(1).unwrap_or(0),
                to: row.int8(2).unwrap_or(0),
                first_leaf: row.count(3).unwrap_or(u64::MAX),
            });
            Ok(())
        })?;
        Ok(intervals)
    }

    /// Adds the events of an interval; returns the `seq` of the first one that is missing.
    fn add(&mut self, interval: &Interval) -> Result<Option<String>, Failure> {
        let sql = format!(
            "SELECT seq, event_hash FROM {} WHERE tenant_id = $1 AND chain = $2 AND seq > $3 AND seq <= $4 ORDER BY seq",
            self.trail
        );
        let parameters = [
            Parameter::Text(&self.tenant),
            Parameter::Int2(interval.chain),
            Parameter::Int8(interval.from),
            Parameter::Int8(interval.to),
        ];
        let mut expected = interval.from + 1;
        let frontier = &mut self.frontier;
        self.session.stream(&sql, &parameters, |row| {
            match row.bytes(1).and_then(Digest::from_slice) {
                Some(hash) if row.int8(0) == Some(expected) => frontier.push(leaf_hash(hash.as_bytes())),
                _ => return Ok(ControlFlow::Break(())),
            }
            expected += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((expected <= interval.to)
            .then(|| format!("event {expected} of chain {} was anchored, and is not there", interval.chain)))
    }
}

/// `anchor_batch_difference(target, batch)`
fn batch_difference(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let (target, batch) = (arguments.text(0)?.unwrap_or_default(), arguments.int8(1).unwrap_or(0));
    let session = Session::connect();
    let difference = difference(&session, INTERNAL, &target, batch)?;
    drop(session);
    Ok(difference.map_or_else(|| arguments.return_null(), |difference| call::text(&difference)))
}

/// Why the registry does not have what a batch anchored of it; `None` when it does, or when the batch is of a registry before it.
fn difference(session: &Session, schema: &str, target: &str, batch: i64) -> Result<Option<String>, Failure> {
    let sql = format!(
        "SELECT b.origin, b.size, b.root FROM {schema}.anchor_batches b WHERE b.target = $1 AND b.epoch = $2"
    );
    let Some(run) = Run::newest(session, schema)? else {
        return Ok(Some("the registry was anchored, and is not there".to_owned()));
    };
    let mut anchored = None;
    session.again(&sql, &[Parameter::Text(target), Parameter::Int8(batch)], |row| {
        let is_this = row.text(0)?.as_deref() == Some(run.origin());
        anchored = row.count(1).zip(row.bytes(2).and_then(Digest::from_slice)).filter(|_| is_this);
        Ok(())
    })?;
    let Some((size, root)) = anchored else { return Ok(None) };
    plan::difference(&Tiles::registry(session, schema), size, &root, run.size)
}

sql_function!(zeroauth_audit_anchor_recompute, pg_finfo_zeroauth_audit_anchor_recompute, recompute);
sql_function!(
    zeroauth_audit_anchor_batch_difference,
    pg_finfo_zeroauth_audit_anchor_batch_difference,
    batch_difference
);
