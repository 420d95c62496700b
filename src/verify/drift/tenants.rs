//! The first part of a drift run: of each tenant the newest events are recomputed, and each watermark and the newest checkpoint are
//! compared with the trail.

use std::collections::HashMap;

use serde::Serialize;

use pgrx::pg_sys;

use super::findings::{DriftFinding, PlacedEvent, Source, collect, hex, missing, rewritten};
use crate::log::compare::Comparison;
use crate::pg::error::Failure;
use crate::pg::out_of_memory;
use crate::pg::spi::{Parameter, Session};
use crate::trail::access::Trail;
use crate::trail::columns;
use crate::verify::newest::{self, ChainEnd};
use crate::verify::replay::{ReadEvent, replay_slice};

/// Tenants that are looked up at once.
const TENANTS: i64 = 64;
/// Chains of one tenant that are looked at before the clock is.
const CHAINS: usize = 256;
/// A step with more findings than this ends: each is an alert to raise.
const MOST_FINDINGS: usize = 100;
/// More watermarks than this are not remembered in the finding that a whole tenant is missing.
const MOST_EXPECTED: usize = 1000;

/// The place of a run: behind this tenant, or behind this chain of it.
#[derive(Serialize, Clone)]
pub struct Place {
    /// The tenant; empty: before the first.
    pub tenant: String,
    /// `None`: all of its chains.
    pub chain: Option<i16>,
}

/// The outcome of one step.
#[derive(Serialize)]
pub struct TenantsReplayed {
    place: Place,
    end: bool,
    tenants: i64,
    events: i64,
    chains: Vec<Head>,
    /// Watermarks of another trail, brought by a dump, that agree with this one.
    confirmed: Vec<Foreign>,
    findings: Vec<DriftFinding>,
    /// Tenants that were compared with their logs.
    compared: Vec<String>,
}

/// The head of a replayed chain.
#[derive(Serialize)]
struct Head {
    tenant: String,
    chain: i16,
    seq: i64,
    hash: String,
    from: i64,
    /// The watermark stays as it is, until a finding is confirmed.
    keep: bool,
}

#[derive(Serialize)]
struct Foreign {
    tenant: String,
    chain: i16,
    trail: String,
}

struct Tenant {
    name: String,
    drift_rows: Option<i64>,
}

/// A watermark, and the event at its place now.
struct Watermark {
    known: PlacedEvent,
    own: bool,
    trail: String,
    /// Whether an event is there.
    there: bool,
    /// Whether it is the event of the watermark.
    same: bool,
    hash: Option<String>,
}

impl Watermark {
    /// Whether a dump brought it from another trail, whose events are not here.
    fn is_unconfirmed(&self) -> bool {
        !self.own && !self.same
    }
}

/// Replays tenants after `place` until `is_over`, and compares them with their `logs`.
pub fn replay(
    session: &Session,
    trail: &Trail,
    place: Place,
    upto: Option<&str>,
    n: i64,
    logs: bool,
    is_over: &dyn Fn() -> bool,
) -> Result<TenantsReplayed, Failure> {
    let comparison = if logs { Comparison::start(session, trail)? } else { None };
    let mut step = DriftStep {
        session,
        trail,
        comparison: comparison.map(Comparison::inside),
        n,
        done: TenantsReplayed {
            place,
            end: false,
            tenants: 0,
            events: 0,
            chains: Vec::new(),
            confirmed: Vec::new(),
            findings: Vec::new(),
            compared: Vec::new(),
        },
    };
    loop {
        let tenants = step.next_tenants(upto)?;
        if tenants.is_empty() {
            step.done.end = true;
            return Ok(step.done);
        }
        for tenant in tenants {
            let mut whole = false;
            while !whole {
                whole = step.tenant(&tenant)?;
                out_of_memory::check()?;
                pgrx::check_for_interrupts!();
                if is_over() || step.done.findings.len() >= MOST_FINDINGS {
                    return Ok(step.done);
                }
            }
        }
    }
}

struct DriftStep<'a> {
    session: &'a Session,
    trail: &'a Trail,
    /// The comparison with the logs; `None` where there are no logs, or they cannot be read.
    comparison: Option<Comparison<'a>>,
    n: i64,
    done: TenantsReplayed,
}

impl DriftStep<'_> {
    /// The next tenants that have events, watermarks or a log, in order; the one that the last step left in the middle comes first.
    fn next_tenants(&self, upto: Option<&str>) -> Result<Vec<Tenant>, Failure> {
        let mut tenants = Vec::new();
        let sql = include_str!("../../../sql/queries/tenants_to_check.sql")
            .replace("@extschema@", &self.trail.schema);
        let unfinished = i64::from(self.done.place.chain.is_some());
        let parameters = [
            Parameter::Text(&self.done.place.tenant),
            Parameter::Int8(unfinished),
            Parameter::Text(upto.unwrap_or_default()),
            Parameter::Int8(TENANTS),
            Parameter::Int8(i64::from(self.comparison.is_some())),
        ];
        self.session.again(&sql, &parameters, |row| {
            out_of_memory::grow(&mut tenants)?;
            tenants.push(Tenant { name: row.text(0)?.unwrap_or_default(), drift_rows: row.int8(1) });
            Ok(())
        })?;
        Ok(tenants)
    }

    fn watermarks(&self, tenant: &str, after: i64) -> Result<Vec<Watermark>, Failure> {
        let mut watermarks = Vec::new();
        let sql = include_str!("../../../sql/queries/watermarks_of_tenant.sql")
            .replace("@extschema@", &self.trail.schema);
        self.session.again(&sql, &[Parameter::Text(tenant), Parameter::Int8(after)], |row| {
            // SAFETY: the query selects byteas there.
            let (was, is) = unsafe { (digest(row.datum(2)), digest(row.datum(7))) };
            out_of_memory::grow(&mut watermarks)?;
            watermarks.push(Watermark {
                known: PlacedEvent {
                    chain: row.int2(0).unwrap_or(-1),
                    seq: row.int8(1).unwrap_or(0),
                    hash: was.map(|hash| hex(&hash)).unwrap_or_default(),
                },
                own: row.bool(3),
                trail: row.text(4)?.unwrap_or_default(),
                there: row.bool(5),
                same: row.bool(6),
                hash: is.map(|hash| hex(&hash)),
            });
            Ok(())
        })?;
        Ok(watermarks)
    }

    /// Replays the next chains of a tenant; true when they were the last.
    fn tenant(&mut self, tenant: &Tenant) -> Result<bool, Failure> {
        let name = tenant.name.as_str();
        let after = if self.done.place.tenant == name { self.done.place.chain } else { None };
        let after = after.map_or(-1, i64::from);
        let ends = newest::chain_ends(self.session, self.trail, name)?;
        let watermarks = self.watermarks(name, after)?;
        let incomplete = watermarks.iter().any(Watermark::is_unconfirmed);
        if ends.is_empty() {
            self.gone(name, &watermarks);
            self.sealed(name, true, incomplete)?;
            return Ok(self.whole(name));
        }
        let n = tenant.drift_rows.unwrap_or(self.n);
        let slices = newest::slices(self.session, self.trail, name, &ends, n)?;
        let ahead: Vec<usize> = (0..ends.len())
            .filter(|&at| ends[at].chain.is_none_or(|chain| i64::from(chain) > after))
            .collect();
        let batch = &ahead[..ahead.len().min(CHAINS)];
        let last = (batch.len() < ahead.len()).then(|| batch.last().and_then(|&at| ends[at].chain)).flatten();
        let mut heads: HashMap<i16, (ReadEvent, i64)> = HashMap::new();
        for &at in batch {
            let mut findings = std::mem::take(&mut self.done.findings);
            let replayed =
                replay_slice(self.session, self.trail, &slices[at], None, &mut || true, &mut |finding| {
                    collect(&mut findings, Source::Replay, name, &finding);
                });
            self.done.findings = findings;
            let replayed = replayed?;
            self.done.events += replayed.events;
            if let (Some(chain), Some(seen)) = (ends[at].chain, replayed.last) {
                heads.insert(chain, (seen, slices[at].from.unwrap_or(1)));
            }
        }
        let within = |chain: i16| last.is_none_or(|last| chain <= last);
        let kept = self.compare(name, &ends, watermarks.into_iter().filter(|mark| within(mark.known.chain)));
        for (chain, ((seq, hash), from)) in heads {
            let keep = kept.contains(&chain);
            self.done.chains.push(Head { tenant: name.to_owned(), chain, seq, hash: hex(&hash), from, keep });
        }
        if last.is_none() {
            // Earlier steps had the earlier chains.
            let before = if after < 0 { Vec::new() } else { self.watermarks(name, -1)? };
            self.sealed(name, false, incomplete || before.iter().any(Watermark::is_unconfirmed))?;
            return Ok(self.whole(name));
        }
        self.done.place = Place { tenant: name.to_owned(), chain: last };
        Ok(false)
    }

    fn whole(&mut self, name: &str) -> bool {
        self.done.place = Place { tenant: name.to_owned(), chain: None };
        self.done.tenants += 1;
        true
    }

    /// A tenant that has watermarks and no event. A dump may bring watermarks before their events: ignore them.
    fn gone(&mut self, name: &str, watermarks: &[Watermark]) {
        let own = watermarks.iter().filter(|mark| mark.own);
        let was: Vec<PlacedEvent> = own.map(|mark| mark.known.clone()).take(MOST_EXPECTED).collect();
        if !was.is_empty() {
            self.done.findings.push(missing("tenant_missing", name, -1, 1, was));
        }
    }

    /// Compares a tenant with its log. `empty`: no event of it is there. `incomplete`: a restore may not have
    /// brought all of it yet, which is reported as such; so missing events are no findings.
    fn sealed(&mut self, name: &str, empty: bool, incomplete: bool) -> Result<(), Failure> {
        let Some(comparison) = &self.comparison else { return Ok(()) };
        let findings = &mut self.done.findings;
        comparison.compare(name, empty, &mut |finding| {
            if !(incomplete && finding.missing_to.is_some()) {
                collect(findings, Source::Log, name, &finding);
            }
        })?;
        if !incomplete {
            self.done.compared.push(name.to_owned());
        }
        Ok(())
    }

    /// Compares watermarks with the events at their places. Returns the chains whose watermarks must stay.
    fn compare(
        &mut self,
        name: &str,
        ends: &[ChainEnd],
        watermarks: impl Iterator<Item = Watermark>,
    ) -> Vec<i16> {
        let mut kept = Vec::new();
        for mark in watermarks {
            let chain = mark.known.chain;
            if !mark.own {
                if mark.same {
                    self.done.confirmed.push(Foreign { tenant: name.to_owned(), chain, trail: mark.trail });
                }
                continue;
            }
            if mark.same {
                continue;
            }
            if mark.there {
                self.done.findings.push(rewritten(name, mark.known, mark.hash));
                continue;
            }
            let end = ends.iter().find(|end| end.chain == Some(chain)).map(|end| end.seq.unwrap_or(i64::MAX));
            let seq = mark.known.seq;
            let was = vec![mark.known];
            self.done.findings.push(match end {
                None => missing("chain_missing", name, chain, 1, was),
                Some(end) if end < seq => missing("tail_truncated", name, chain, end.saturating_add(1), was),
                Some(_) => missing("gap", name, chain, seq, was),
            });
            kept.push(chain);
        }
        kept
    }
}

/// A stored hash.
///
/// # Safety
/// `datum` must be a valid bytea.
unsafe fn digest(datum: Option<pg_sys::Datum>) -> Option<[u8; 32]> {
    // SAFETY: by contract.
    unsafe { columns::digest(datum) }.map(|digest| *digest.as_bytes())
}
