//! `audit_verify` and `audit_findings`: what is checked, and the verdict.
//!
//! All of one call is read from the snapshot of the statement that made it. The scan
//! ([`crate::verify::aggregate`]) checks a whole tenant, or every tenant; only a chain whose sums differ is replayed ([`crate::verify::replay`]).
//! The last n events of a tenant are replayed directly, through the primary key.

use std::collections::BTreeMap;

use pgrx::pg_sys;
use zeroauth_audit_core::multiset::{ChainState, Key};

use crate::log::compare::Comparison;
use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::{Failure, Kind, notice};
use crate::pg::out_of_memory;
use crate::pg::random;
use crate::pg::result_rows::{Rows, Value};
use crate::pg::spi::{Parameter, Session, Settings};
use crate::pg::varlena;
use crate::trail::access::Trail;
use crate::trail::columns;
use crate::trail::finding::Finding;
use crate::trail::membership::{INTERNAL, OWN_TENANT};
use crate::trail::tenants;
use crate::verify::newest;
use crate::verify::progress::Progress;
use crate::verify::replay::{ChainSlice, replay_slice};

/// The outcome of checking one tenant.
#[derive(Default)]
struct Verdict {
    events: i64,
    chains: i32,
    findings: i64,
    classes: Vec<&'static str>,
    first: Option<String>,
}

impl Verdict {
    fn add(&mut self, finding: &Finding) {
        self.findings += 1;
        if !self.classes.contains(&finding.class) {
            self.classes.push(finding.class);
        }
        if self.first.is_none() {
            self.first = Some(sentence(finding));
        }
    }

    fn row(self, tenant: Option<String>) -> Vec<Value> {
        vec![
            tenant.map_or(Value::Null, Value::Text),
            Value::Bool(self.findings == 0),
            Value::Int8(self.events),
            Value::Int8(self.findings),
            Value::Texts(self.classes),
            Value::Int4(self.chains),
            self.first.map_or(Value::Null, Value::Text),
        ]
    }
}

/// A finding as a person reads it at 3 am.
fn sentence(finding: &Finding) -> String {
    let place = match (finding.chain, finding.seq) {
        (Some(chain), Some(seq)) => format!(" at chain {chain}, seq {seq}"),
        (Some(chain), None) => format!(" in chain {chain}"),
        _ => String::new(),
    };
    format!("{}{place}: {}", finding.class, finding.detail)
}

fn finding_row(finding: Finding) -> Vec<Value> {
    vec![
        finding.tenant.map_or(Value::Null, Value::Text),
        Value::Text(finding.class.to_owned()),
        finding.chain.map_or(Value::Null, Value::Int2),
        finding.seq.map_or(Value::Null, Value::Int8),
        finding.event_id.map_or(Value::Null, Value::Uuid),
        Value::Text(finding.detail),
        finding.expected.map_or(Value::Null, Value::Bytea),
        finding.actual.map_or(Value::Null, Value::Bytea),
    ]
}

/// One check: a session, the table, and its progress.
struct Check<'a> {
    session: &'a Session,
    trail: &'a Trail,
    /// The comparison with the logs; `None` where there are none.
    comparison: Option<Comparison<'a>>,
    progress: Progress,
}

type ByTenant<T> = BTreeMap<Option<String>, T>;

impl<'a> Check<'a> {
    fn start(session: &'a Session, trail: &'a Trail, tenant: Option<&str>) -> Result<Self, Failure> {
        let total = estimate(session, trail, tenant)?;
        let comparison = Comparison::start(session, trail)?;
        Ok(Self { session, trail, comparison, progress: Progress::start(tenant, total) })
    }

    /// Scans one tenant, or all.
    fn scan(&self, halves: [i64; 2], tenant: Option<&str>) -> Result<ByTenant<Vec<Sum>>, Failure> {
        let filter = if tenant.is_some() { "WHERE tenant_id = $3" } else { "" };
        // The key is a parameter, not text of the query: it must not reach a log.
        let sql = format!(
            "SELECT tenant_id, chain, {}.chain_check($1, $2, {}) FROM {} {filter} GROUP BY tenant_id, chain",
            INTERNAL,
            columns::select_list(),
            self.trail.name,
        );
        let mut parameters = vec![Parameter::Int8(halves[0]), Parameter::Int8(halves[1])];
        parameters.extend(tenant.map(Parameter::Text));
        let _storage_order = tenant.is_none().then(Settings::storage_order);
        let mut sums: ByTenant<Vec<Sum>> = BTreeMap::new();
        self.session.all(&sql, &parameters, |row| {
            // SAFETY: the aggregate returns a bytea.
            let state =
                row.datum(2).and_then(|datum| ChainState::from_bytes(unsafe { varlena::bytes(datum) }));
            let state = state.ok_or_else(|| {
                Failure::new(Kind::UnexpectedTable, "chain_check is not ours")
                    .hint("Drop and create the extension, or restore its aggregate.")
            })?;
            let chains = sums.entry(row.text(0)?).or_default();
            out_of_memory::grow(chains)?;
            chains.push(Sum { chain: row.int2(1), state });
            Ok(())
        })?;
        sums.values_mut().for_each(|chains| chains.sort_by_key(|sum| sum.chain));
        Ok(sums)
    }

    /// Scans, and replays every chain whose sums differ.
    fn whole(
        &mut self,
        tenant: Option<&str>,
        report: &mut dyn FnMut(Finding),
    ) -> Result<ByTenant<Verdict>, Failure> {
        let halves = [i64::from_ne_bytes(random::bytes()), i64::from_ne_bytes(random::bytes())];
        let key = Key::new(halves.map(|half| half as u64));
        let mut verdicts = BTreeMap::new();
        for (tenant, sums) in self.scan(halves, tenant)? {
            let mut verdict = Verdict::default();
            for Sum { chain, state } in sums {
                verdict.events += state.events as i64;
                verdict.chains += 1;
                if tenant.is_some() && chain.is_some() && state.is_whole(&key) {
                    continue;
                }
                let slice = ChainSlice { tenant: tenant.clone(), chain, from: None };
                let before = verdict.findings;
                self.replay(&slice, &mut verdict, report)?;
                if verdict.findings == before {
                    return Err(disagreement(&slice));
                }
            }
            if let Some(tenant) = &tenant {
                self.compare(tenant, false, &mut verdict, report)?;
            }
            verdicts.insert(tenant, verdict);
            out_of_memory::check()?;
        }
        let known = match (tenant, &self.comparison) {
            (_, None) => Vec::new(),
            (Some(tenant), Some(_)) => vec![tenant.to_owned()],
            (None, Some(comparison)) => comparison.tenants()?,
        };
        for tenant in known {
            if !verdicts.contains_key(&Some(tenant.clone())) {
                let mut verdict = Verdict::default();
                self.compare(&tenant, true, &mut verdict, report)?;
                if verdict.findings > 0 {
                    verdicts.insert(Some(tenant), verdict);
                }
            }
        }
        Ok(verdicts)
    }

    /// The last `n` events of one tenant, and at least the head of each of its chains.
    fn last(&mut self, tenant: &str, n: i64, report: &mut dyn FnMut(Finding)) -> Result<Verdict, Failure> {
        let ends = newest::chain_ends(self.session, self.trail, tenant)?;
        let slices = newest::slices(self.session, self.trail, tenant, &ends, n)?;
        let mut verdict = Verdict::default();
        for slice in &slices {
            verdict.chains += 1;
            verdict.events += self.replay(slice, &mut verdict, report)?;
        }
        self.compare(tenant, slices.is_empty(), &mut verdict, report)?;
        Ok(verdict)
    }

    /// Reports how a tenant differs from its log; `empty`: it has no event.
    fn compare(
        &self,
        tenant: &str,
        empty: bool,
        verdict: &mut Verdict,
        report: &mut dyn FnMut(Finding),
    ) -> Result<(), Failure> {
        let Some(comparison) = &self.comparison else { return Ok(()) };
        comparison.compare(tenant, empty, &mut |finding| {
            verdict.add(&finding);
            report(finding);
        })?;
        Ok(())
    }

    fn replay(
        &mut self,
        slice: &ChainSlice,
        verdict: &mut Verdict,
        report: &mut dyn FnMut(Finding),
    ) -> Result<i64, Failure> {
        let progress = &mut self.progress;
        let mut count = || {
            progress.tick();
            true
        };
        let replayed = replay_slice(self.session, self.trail, slice, None, &mut count, &mut |finding| {
            verdict.add(&finding);
            report(finding);
        })?;
        Ok(replayed.events)
    }

    /// Every tenant, in order, by skipping through the primary key.
    fn tenants(&self) -> Result<Vec<String>, Failure> {
        let table = &self.trail.name;
        let sql = format!(
            "WITH RECURSIVE known AS (
                (SELECT tenant_id FROM {table} ORDER BY tenant_id LIMIT 1)
                UNION ALL
                SELECT (SELECT e.tenant_id FROM {table} e WHERE e.tenant_id > known.tenant_id
                        ORDER BY e.tenant_id LIMIT 1)
                FROM known WHERE known.tenant_id IS NOT NULL)
             SELECT tenant_id FROM known WHERE tenant_id IS NOT NULL"
        );
        let mut tenants = Vec::new();
        self.session.all(&sql, &[], |row| {
            out_of_memory::grow(&mut tenants)?;
            tenants.extend(row.text(0)?);
            Ok(())
        })?;
        if let Some(comparison) = &self.comparison {
            tenants.extend(comparison.tenants()?);
            tenants.sort_unstable();
            tenants.dedup();
        }
        Ok(tenants)
    }
}

/// The scan's state of one chain.
struct Sum {
    chain: Option<i16>,
    state: ChainState,
}

/// About how many events there are to check.
fn estimate(session: &Session, trail: &Trail, tenant: Option<&str>) -> Result<Option<i64>, Failure> {
    let mut total = None;
    let mut take = |row: &crate::pg::spi::Row<'_>| {
        total = row.int8(0).filter(|&events| events >= 0);
        Ok(())
    };
    match tenant {
        Some(tenant) => {
            let sql = format!(
                "{} SELECT pg_catalog.sum(seq)::pg_catalog.int8 FROM ends",
                newest::heads(&trail.name)
            );
            session.all(&sql, &[Parameter::Text(tenant)], &mut take)?;
        }
        None => {
            let sql =
                "SELECT reltuples::pg_catalog.int8 FROM pg_catalog.pg_class WHERE oid = $1::pg_catalog.oid";
            session.all(sql, &[Parameter::Int8(i64::from(trail.oid.to_u32()))], &mut take)?;
        }
    }
    Ok(total)
}

fn disagreement(slice: &ChainSlice) -> Failure {
    let tenant = slice.tenant.as_deref().unwrap_or_default();
    Failure::new(
        Kind::CouldNotCheck,
        "could not check: audit_events and its primary key do not show the same rows",
    )
    .detail(format!("Tenant \"{tenant}\", chain {}.", slice.chain.unwrap_or_default()))
    .hint("Check the index with amcheck (bt_index_check), REINDEX it, and verify again.")
}

/// Argument `n` as a number of events.
fn limit(arguments: &Arguments, n: usize) -> Result<Option<i64>, Failure> {
    match arguments.int4(n) {
        Some(events) if events < 1 => {
            Err(Failure::new(Kind::InvalidArgument, format!("n is {events}, not at least 1"))
                .hint("Leave n out to check the whole trail."))
        }
        events => Ok(events.map(i64::from)),
    }
}

/// `audit_verify(tenant, n)`
fn audit_verify(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let tenant = arguments.text(0)?;
    let n = limit(arguments, 1)?;
    let trail = Trail::open()?;
    let mut rows = Rows::start(arguments);
    let session = Session::connect();
    let mut check = Check::start(&session, &trail, tenant.as_deref())?;
    let Some(tenant) = tenant else {
        return every_tenant(&mut check, n, &mut rows);
    };
    let verdict = match n {
        None => check.whole(Some(&tenant), &mut |_| ())?.remove(&Some(tenant.clone())).unwrap_or_default(),
        Some(n) => check.last(&tenant, n, &mut |_| ())?,
    };
    if verdict.chains == 0 && verdict.findings == 0 {
        return Err(tenants::unknown(&session, &trail, "events", &tenant, true));
    }
    rows.push(verdict.row(Some(tenant)));
    Ok(pg_sys::Datum::null())
}

/// The verdict of every tenant: first those with findings, last the extension's own.
fn every_tenant(check: &mut Check<'_>, n: Option<i64>, rows: &mut Rows) -> Result<pg_sys::Datum, Failure> {
    let mut verdicts: Vec<(Option<String>, Verdict)> = match n {
        None => check.whole(None, &mut |_| ())?.into_iter().collect(),
        Some(n) => {
            let mut verdicts = Vec::new();
            for tenant in check.tenants()? {
                let verdict = check.last(&tenant, n, &mut |_| ())?;
                verdicts.push((Some(tenant), verdict));
            }
            verdicts
        }
    };
    // A stable sort: within each group they stay in the order of their names.
    verdicts.sort_by_key(|(tenant, verdict)| (verdict.findings == 0, tenant.as_deref() == Some(OWN_TENANT)));
    let wrong = verdicts.iter().filter(|(_, verdict)| verdict.findings > 0).count();
    if verdicts.is_empty() {
        nothing_checked();
    } else if wrong > 0 {
        let is = if wrong == 1 { "is" } else { "are" };
        let only = verdicts.first().and_then(|(tenant, _)| tenant.as_deref()).filter(|_| wrong == 1);
        let only = only.map(|tenant| format!("'{}'", tenant.replace('\'', "''"))).unwrap_or_default();
        notice(
            &format!("{wrong} of {} tenants {is} not what was written", verdicts.len()),
            &format!(
                "Do not repair anything yet. SELECT * FROM audit_findings({only}); then docs/runbook.md."
            ),
        );
    }
    for (tenant, verdict) in verdicts {
        rows.push(verdict.row(tenant));
    }
    Ok(pg_sys::Datum::null())
}

/// No row at all must not be read as "nothing is wrong".
fn nothing_checked() {
    notice("there is no event yet: nothing was checked", "Verify again when there are events.");
}

/// `audit_findings(tenant, n)`
fn audit_findings(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let tenant = arguments.text(0)?;
    let n = limit(arguments, 1)?;
    let trail = Trail::open()?;
    let mut rows = Rows::start(arguments);
    let session = Session::connect();
    let mut check = Check::start(&session, &trail, tenant.as_deref())?;
    let mut found = 0;
    let mut report = |finding| {
        found += 1;
        rows.push(finding_row(finding));
    };
    let events = match (&tenant, n) {
        (_, None) => {
            check.whole(tenant.as_deref(), &mut report)?.values().map(|verdict| verdict.events).sum()
        }
        (Some(tenant), Some(n)) => check.last(tenant, n, &mut report)?.events,
        (None, Some(n)) => {
            let mut events = 0;
            for tenant in check.tenants()? {
                events += check.last(&tenant, n, &mut report)?.events;
            }
            events
        }
    };
    match tenant {
        Some(tenant) if events == 0 && found == 0 => {
            Err(tenants::unknown(&session, &trail, "events", &tenant, true))
        }
        None if events == 0 && found == 0 => {
            nothing_checked();
            Ok(pg_sys::Datum::null())
        }
        _ => Ok(pg_sys::Datum::null()),
    }
}

/// `drill_findings(scratch)`: what `audit_findings()` would say if the table were the trail.
fn audit_drill_findings(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let trail = Trail::created_here(arguments)?;
    let mut rows = Rows::start(arguments);
    let session = Session::connect();
    let mut check = Check::start(&session, &trail, None)?;
    check.whole(None, &mut |finding| rows.push(finding_row(finding)))?;
    Ok(pg_sys::Datum::null())
}

sql_function!(zeroauth_audit_drill_findings, pg_finfo_zeroauth_audit_drill_findings, audit_drill_findings);
sql_function!(zeroauth_audit_verify, pg_finfo_zeroauth_audit_verify, audit_verify);
sql_function!(zeroauth_audit_findings, pg_finfo_zeroauth_audit_findings, audit_findings);
