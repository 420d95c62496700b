//! Missed days: the state of each tenant's anchors, written to `tenant_status`. [`zeroauth_audit_anchor::missed`] decides
//! what counts as missed; its arguments are read here, for all tenants at once.
//!
//! Only batches that can still matter are read: a target's newest final batch covers every day before it, so the days since then and
//! a few before are enough. A target without a final batch is read from the day it was enabled.

use std::collections::BTreeMap;

use pgrx::pg_sys;
use serde::Serialize;
use zeroauth_audit_anchor::Moment;
use zeroauth_audit_anchor::missed::{Anchored, Health, health};
use zeroauth_audit_schedule::Schedule;

use super::clock::moment;
use crate::pg::call::{Arguments, jsonb, sql_function};
use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Session};
use crate::trail::membership::INTERNAL;

/// Times of the schedule that are looked back at most, and before the newest final batch.
const MOST_BACK: i64 = 100;
const BEFORE_FINAL: i64 = 4;
/// Tenants that an alert names.
const NAMED: usize = 20;

/// The job's summary.
#[derive(Default, Serialize)]
struct StatusSummary {
    tenants: u64,
    late: u64,
    degraded: u64,
}

/// A target that is enabled.
struct Target {
    name: String,
    /// Days before are not missed.
    since: i64,
    /// Days before are of no interest.
    from: i64,
}

/// A row of `tenant_status`.
#[derive(Clone, PartialEq, Eq)]
struct Row {
    state: &'static str,
    since: i64,
    banner: Option<String>,
}

/// A tenant that has a log.
struct Tenant {
    name: String,
    /// When its first log began, and its current one.
    started: i64,
    epoch_started: i64,
    /// The first entry of its current log.
    first_entry: Option<u64>,
}

/// What is included at a target.
struct Included {
    /// Entries of the registry; `None`: of one before this one.
    entries: Option<u64>,
    anchored: Anchored,
}

impl Included {
    /// Whether the current log of the tenant is part of it.
    fn covers(&self, tenant: &Tenant) -> bool {
        match self.entries {
            Some(entries) => tenant.first_entry.is_some_and(|first| first < entries),
            None => self.anchored.batch_time.0 >= tenant.epoch_started,
        }
    }
}

/// By target.
type Anchors = BTreeMap<String, Vec<Included>>;

fn status(_: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let session = Session::connect();
    let reader = Reader { session: &session, schema: INTERNAL, now: moment() };
    let summary = reader.update()?;
    drop(session);
    jsonb(&summary)
}

struct Reader<'a> {
    session: &'a Session,
    schema: &'a str,
    now: Moment,
}

impl Reader<'_> {
    fn update(&self) -> Result<StatusSummary, Failure> {
        let schedule = self.schedule()?;
        let targets = match &schedule {
            Some((schedule, _)) => self.targets(schedule)?,
            None => Vec::new(),
        };
        let due = match &schedule {
            Some((schedule, _)) => due(schedule, &targets, self.now),
            None => Vec::new(),
        };
        let zone = schedule.map(|(_, zone)| zone).unwrap_or_default();
        let texts = self.texts(&due, &zone)?;
        let (anchors, known) = (self.anchors(&targets)?, self.known()?);
        let mut summary = StatusSummary::default();
        let mut degraded: Vec<(String, Row)> = Vec::new();
        for tenant in self.tenants()? {
            let row = if targets.is_empty() {
                Row { state: "not-anchored", since: self.now.0, banner: None }
            } else {
                let days = |target: &Target| {
                    let first = tenant.started.max(target.since).max(target.from);
                    due.partition_point(|day| day.0 < first)
                };
                let of = |target: &Target| {
                    let included = anchors.get(&target.name).into_iter().flatten();
                    let anchored: Vec<Anchored> =
                        included.filter(|one| one.covers(&tenant)).map(|one| one.anchored).collect();
                    health(&due[days(target)..], &anchored, self.now)
                };
                worst(targets.iter().map(|target| (target.name.as_str(), of(target))), self.now, &texts)
            };
            summary.tenants += 1;
            summary.late += u64::from(row.state == "anchor-late");
            let row = continued(row, known.get(&tenant.name));
            if row.state == "anchor-degraded" {
                summary.degraded += 1;
                if degraded.len() < NAMED {
                    degraded.push((tenant.name.clone(), row.clone()));
                }
            }
            if known.get(&tenant.name) != Some(&row) {
                self.store(&tenant.name, &row)?;
            }
        }
        self.raise_degraded(summary.degraded, &degraded)?;
        Ok(summary)
    }

    /// When anchors are due, and in which time zone that is meant; `None` when the job is disabled.
    fn schedule(&self) -> Result<Option<(Schedule, String)>, Failure> {
        let mut found = None;
        let sql =
            format!("SELECT schedule, time_zone FROM {}.jobs WHERE name = 'anchor' AND enabled", self.schema);
        self.session.all(&sql, &[], |row| {
            let (schedule, zone) = (row.text(0)?.unwrap_or_default(), row.text(1)?.unwrap_or_default());
            found = Schedule::new(&schedule, &zone).ok().map(|schedule| (schedule, zone));
            Ok(())
        })?;
        Ok(found)
    }

    fn targets(&self, schedule: &Schedule) -> Result<Vec<Target>, Failure> {
        let between = interval(schedule, self.now);
        let sql = format!(
            "SELECT t.name, pg_catalog.date_part('epoch', COALESCE(t.enabled_since, t.registered_at))::pg_catalog.int8,
                (SELECT pg_catalog.date_part('epoch', pg_catalog.max(b.batch_time))::pg_catalog.int8 FROM {0}.anchor_batches b WHERE b.target = t.name AND b.state = 'finalized')
             FROM {0}.anchor_targets t WHERE t.enabled ORDER BY t.name",
            self.schema
        );
        let mut targets = Vec::new();
        self.session.all(&sql, &[], |row| {
            let since = row.int8(1).unwrap_or(self.now.0);
            let last = self.now.0 - MOST_BACK * between;
            let from =
                row.int8(2).map_or(since, |last| last.min(self.now.0) - BEFORE_FINAL * between).max(last);
            targets.push(Target { name: row.text(0)?.unwrap_or_default(), since, from });
            Ok(())
        })?;
        Ok(targets)
    }

    /// Tenants with a log, and since when.
    fn tenants(&self) -> Result<Vec<Tenant>, Failure> {
        let sql = format!(
            "SELECT l.tenant_id, pg_catalog.date_part('epoch', l.started)::pg_catalog.int8, pg_catalog.date_part('epoch', n.started_at)::pg_catalog.int8,
                (SELECT e.entry FROM {0}.registry_entries e WHERE e.tenant_id = l.tenant_id AND e.epoch = l.epoch ORDER BY e.entry LIMIT 1)
             FROM (SELECT tenant_id, pg_catalog.min(started_at) AS started, pg_catalog.max(epoch) AS epoch FROM {0}.logs GROUP BY tenant_id) l
             JOIN {0}.logs n ON n.tenant_id = l.tenant_id AND n.epoch = l.epoch ORDER BY l.tenant_id",
            self.schema
        );
        let mut tenants = Vec::new();
        self.session.all(&sql, &[], |row| {
            crate::pg::out_of_memory::grow(&mut tenants)?;
            let started = |n: usize| row.int8(n).unwrap_or(self.now.0);
            tenants.push(Tenant {
                name: row.text(0)?.unwrap_or_default(),
                started: started(1),
                epoch_started: started(2),
                first_entry: row.count(3),
            });
            Ok(())
        })?;
        Ok(tenants)
    }

    fn anchors(&self, targets: &[Target]) -> Result<Anchors, Failure> {
        let sql = format!(
            "SELECT CASE WHEN b.origin = (SELECT pg_catalog.split_part(r.note, E'\\n', 1) FROM {0}.registry_runs r ORDER BY r.number DESC LIMIT 1) THEN b.size END,
                pg_catalog.date_part('epoch', b.batch_time)::pg_catalog.int8, pg_catalog.ceil(pg_catalog.date_part('epoch', b.included_at))::pg_catalog.int8, b.state = 'finalized'
             FROM {0}.anchor_batches b
             WHERE b.target = $1 AND b.state IN ('included', 'finalized') AND b.batch_time >= pg_catalog.to_timestamp($2)",
            self.schema
        );
        let mut anchors = Anchors::new();
        for target in targets {
            let included = anchors.entry(target.name.clone()).or_default();
            self.session.again(
                &sql,
                &[Parameter::Text(&target.name), Parameter::Int8(target.from)],
                |row| {
                    included.push(Included {
                        entries: row.count(0),
                        anchored: Anchored {
                            batch_time: Moment(row.int8(1).unwrap_or(0)),
                            included_at: Moment(row.int8(2).unwrap_or(i64::MAX)),
                            finalized: row.bool(3),
                        },
                    });
                    Ok(())
                },
            )?;
        }
        Ok(anchors)
    }

    fn known(&self) -> Result<BTreeMap<String, Row>, Failure> {
        let sql = format!(
            "SELECT tenant_id, state, pg_catalog.floor(pg_catalog.date_part('epoch', since))::pg_catalog.int8, banner FROM {}.tenant_status",
            self.schema
        );
        let mut known = BTreeMap::new();
        self.session.all(&sql, &[], |row| {
            let state = match row.text(1)?.as_deref() {
                Some("ok") => "ok",
                Some("anchor-late") => "anchor-late",
                Some("anchor-degraded") => "anchor-degraded",
                _ => "not-anchored",
            };
            let found = Row { state, since: row.int8(2).unwrap_or(0), banner: row.text(3)? };
            known.insert(row.text(0)?.unwrap_or_default(), found);
            Ok(())
        })?;
        Ok(known)
    }

    /// Times as people in that zone read them.
    fn texts(&self, due: &[Moment], zone: &str) -> Result<BTreeMap<i64, String>, Failure> {
        let sql = "SELECT pg_catalog.to_char(pg_catalog.timezone($2, pg_catalog.to_timestamp($1)), 'YYYY-MM-DD HH24:MI') || ' ' || $2";
        let mut texts = BTreeMap::new();
        for day in due {
            self.session.again(sql, &[Parameter::Int8(day.0), Parameter::Text(zone)], |row| {
                texts.insert(day.0, row.text(0)?.unwrap_or_default());
                Ok(())
            })?;
        }
        Ok(texts)
    }

    fn store(&self, tenant: &str, row: &Row) -> Result<(), Failure> {
        let sql = format!(
            "INSERT INTO {}.tenant_status (tenant_id, state, since, banner) VALUES ($1, $2, pg_catalog.to_timestamp($3), NULLIF($4, ''))
             ON CONFLICT (tenant_id) DO UPDATE SET state = excluded.state, since = excluded.since, banner = excluded.banner",
            self.schema
        );
        let banner = Parameter::Text(row.banner.as_deref().unwrap_or_default());
        let parameters =
            [Parameter::Text(tenant), Parameter::Text(row.state), Parameter::Int8(row.since), banner];
        self.session.change_again(&sql, &parameters, |_| Ok(()))
    }

    fn raise_degraded(&self, count: u64, some: &[(String, Row)]) -> Result<(), Failure> {
        let named: BTreeMap<&str, Option<&str>> =
            some.iter().map(|(tenant, row)| (tenant.as_str(), row.banner.as_deref())).collect();
        let banner = some.first().and_then(|(_, row)| row.banner.as_deref()).unwrap_or_default();
        let sql = format!("SELECT {}.anchor_degraded($1, $2::pg_catalog.jsonb, $3)", self.schema);
        let named = serde_json::to_string(&named).unwrap_or_default();
        let parameters = [Parameter::count(count), Parameter::Text(&named), Parameter::Text(banner)];
        self.session.change(&sql, &parameters, |_| Ok(()))
    }
}

/// Seconds between two times of the schedule.
fn interval(schedule: &Schedule, now: Moment) -> i64 {
    let first = schedule.next_after(now.0);
    let second = first.and_then(|first| schedule.next_after(first));
    first.zip(second).map_or(86_400, |(first, second)| (second - first).max(60))
}

/// Every time of the schedule that is of interest, up to now.
fn due(schedule: &Schedule, targets: &[Target], now: Moment) -> Vec<Moment> {
    let Some(from) = targets.iter().map(|target| target.from).min() else { return Vec::new() };
    let mut due = Vec::new();
    let mut at = from - 1;
    while let Some(next) = schedule.next_after(at).filter(|next| *next <= now.0) {
        due.push(Moment(next));
        at = next;
    }
    due
}

/// The worst state at any target.
fn worst<'a>(
    all: impl Iterator<Item = (&'a str, Health)>,
    now: Moment,
    texts: &BTreeMap<i64, String>,
) -> Row {
    let mut worst = Row { state: "ok", since: now.0, banner: None };
    for (target, health) in all {
        let (state, since) = match &health {
            Health::Degraded { since, .. } if worst.state != "anchor-degraded" || since.0 < worst.since => {
                ("anchor-degraded", since.0)
            }
            Health::Late { missed } if worst.state == "ok" => ("anchor-late", missed.0),
            _ => continue,
        };
        let at = |moment: Moment| texts.get(&moment.0).cloned().unwrap_or_default();
        let banner = health.banner(at).map(|banner| format!("target {target}: {banner}"));
        worst = Row { state, since, banner };
    }
    worst
}

/// A state that persists keeps its first time: the batches that are read do not reach back for ever.
fn continued(row: Row, known: Option<&Row>) -> Row {
    match known {
        Some(known) if known.state == row.state && known.state != "anchor-late" => {
            Row { since: known.since.min(row.since), ..row }
        }
        _ => row,
    }
}

sql_function!(zeroauth_audit_anchor_status, pg_finfo_zeroauth_audit_anchor_status, status);
