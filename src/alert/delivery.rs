//! Delivery of alerts by the worker: what is due is taken in one short transaction, sent by threads that know nothing of
//! PostgreSQL, and recorded in the next one. No transaction is open while something is sent.
//!
//! The worker's loop owns a [`Delivery`]. It waits on [`Delivery::wake_fd`] besides its latch, for no longer than
//! [`Delivery::next_due`], and calls [`Delivery::tick`]. Nothing here waits: a process that must end simply ends, and what
//! was being sent then is sent again after the next start, since nobody knows whether it arrived.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::mem::take;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use zeroauth_audit_alert_delivery::{Batch, Kind, Pace, Route, Senders, Settlement, Shipment};

use crate::pg::error::Failure;
use crate::pg::random;
use crate::pg::spi::{Parameter, Row, Session};

/// Deliveries of one route that a thread gets at once.
const MOST_EACH: i64 = 50;

/// Sends what the table `alert_deliveries` holds.
#[derive(Debug)]
pub struct Delivery {
    senders: Senders,
    pace: Pace,
    /// How often each delivery under way was tried before.
    attempts: HashMap<i64, u32>,
    /// Outcomes that have come back and are not recorded yet.
    settled: Vec<Settlement>,
    /// The routes that reported.
    reported: BTreeSet<String>,
    /// Whether the deliveries that the previous worker left under way are queued again.
    requeued: bool,
    next_due: Option<Instant>,
}

/// What one transaction found for the worker to do.
#[derive(Default)]
struct ToDo {
    batches: Vec<Batch>,
    attempts: Vec<(i64, u32)>,
    next_due: Option<Duration>,
}

impl Delivery {
    /// Nothing under way yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            senders: Senders::new()?,
            pace: Pace::default(),
            attempts: HashMap::new(),
            settled: Vec::new(),
            reported: BTreeSet::new(),
            requeued: false,
            next_due: Some(Instant::now()),
        })
    }

    /// Whether to call [`Delivery::tick`] now.
    pub fn is_due(&self) -> bool {
        self.senders.has_report() || self.next_due.is_some_and(|due| due <= Instant::now())
    }

    /// Readable when something has come back: call [`Delivery::tick`].
    pub fn wake_fd(&self) -> RawFd {
        self.senders.wake_fd().as_raw_fd()
    }

    /// When to call [`Delivery::tick`] at the latest, if nothing wakes the worker before; `None`: never. A session that
    /// raises or acknowledges an alert wakes the worker.
    pub fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// Records outcomes, escalates, takes the deliveries that are due, and sends them. `transaction` runs its argument in one
    /// transaction, with a connection to SPI and the extension's schema, quoted; it must not have committed when it returns
    /// an error. Call it outside of any transaction.
    pub fn tick<E>(
        &mut self,
        transaction: impl FnOnce(&mut dyn FnMut(&Session, &str) -> Result<(), Failure>) -> Result<(), E>,
    ) -> Result<(), E> {
        let now = Instant::now();
        for report in self.senders.reports() {
            let attempts = &self.attempts;
            let settled =
                self.pace.after(&report, now, jitter(), |id| attempts.get(&id).copied().unwrap_or(0));
            self.settled.extend(settled);
            self.reported.insert(report.route);
        }
        // Routes of 63 bytes at most, of letters, digits and `_.-`: no character needs quoting.
        let not_on: BTreeSet<&str> = self.senders.busy().chain(self.pace.resting(now)).collect();
        let not_on = format!("{{{}}}", not_on.into_iter().collect::<Vec<_>>().join(","));
        let mut found = ToDo::default();
        let done = transaction(&mut |session, schema| {
            found = self.transact(session, schema, &not_on)?;
            Ok(())
        });
        if let Err(error) = done {
            // The transaction took and recorded nothing: retry after a pause.
            self.next_due = Some(now + Duration::from_secs(5));
            return Err(error);
        }
        self.requeued = true;
        self.reported.clear();
        for settlement in take(&mut self.settled) {
            self.attempts.remove(&settlement.id);
        }
        self.attempts.extend(found.attempts);
        let due = found.next_due.map(|wait| Instant::now() + wait);
        self.next_due = due.into_iter().chain(self.pace.next(now)).min();
        for batch in found.batches {
            self.senders.send(batch);
        }
        Ok(())
    }

    fn transact(&self, session: &Session, schema: &str, not_on: &str) -> Result<ToDo, Failure> {
        let nothing = |_: &Row<'_>| Ok(());
        if !self.requeued {
            session.change(&format!("SELECT {schema}.requeue_deliveries()"), &[], nothing)?;
        }
        let settle =
            format!("SELECT {schema}.settle_delivery($1, $2, NULLIF($3, ''), $4::pg_catalog.interval)");
        for settlement in &self.settled {
            let pause = format!("{} milliseconds", settlement.pause.as_millis());
            let parameters = [
                Parameter::Int8(settlement.id),
                Parameter::Text(settlement.outcome),
                Parameter::Text(&settlement.error),
                Parameter::Text(&pause),
            ];
            session.change(&settle, &parameters, nothing)?;
        }
        for route in &self.reported {
            let check = format!("SELECT {schema}.check_route($1)");
            session.change(&check, &[Parameter::Text(route)], nothing)?;
        }
        session.change(&format!("SELECT {schema}.escalate()"), &[], nothing)?;
        let mut found = ToDo::default();
        let room = i64::try_from(self.senders.room()).unwrap_or(0);
        session.change(
            &format!(
                "SELECT t.id, t.delivery_key::pg_catalog.text, t.route, t.kind, t.url_file, t.secret_file, t.ca_file, t.attempts::pg_catalog.int8, t.payload
                 FROM {schema}.take_deliveries($1::pg_catalog.text[], $2::pg_catalog.int4, $3::pg_catalog.int4) t"
            ),
            &[Parameter::Text(not_on), Parameter::Int8(room), Parameter::Int8(MOST_EACH)],
            |row| found.add(row),
        )?;
        // The deliveries just taken are under way: their reports wake the worker.
        let mut busy: Vec<&str> = found.batches.iter().map(|batch| batch.route.name.as_str()).collect();
        let before = not_on.trim_matches(['{', '}']);
        busy.extend((!before.is_empty()).then_some(before));
        let mut milliseconds = None;
        session.change(
            &format!(
                "SELECT (pg_catalog.date_part('epoch', {schema}.next_delivery($1::pg_catalog.text[]) - pg_catalog.clock_timestamp()) * 1000)::pg_catalog.int8"
            ),
            &[Parameter::Text(&format!("{{{}}}", busy.join(",")))],
            |row| {
                milliseconds = row.int8(0);
                Ok(())
            },
        )?;
        let no_room = found.batches.len() >= self.senders.room();
        found.next_due = milliseconds
            .filter(|_| !no_room)
            // A time in the past means now; NULL means that nothing is queued.
            .map(|milliseconds| Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0)));
        Ok(found)
    }
}

impl ToDo {
    /// Adds a delivery to its route's batch; rows come ordered by route.
    fn add(&mut self, row: &Row<'_>) -> Result<(), Failure> {
        let text = |n| Ok::<_, Failure>(row.text(n)?.unwrap_or_default());
        let (Some(id), name) = (row.int8(0), text(2)?) else { return Ok(()) };
        let attempts = row.int8(7).and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(0);
        self.attempts.push((id, attempts));
        let shipment = Shipment { id, key: text(1)?, body: text(8)? };
        match self.batches.last_mut() {
            Some(batch) if batch.route.name == name => batch.shipments.push(shipment),
            _ => self.batches.push(Batch {
                route: Route {
                    name,
                    // The table has no others.
                    kind: Kind::named(&text(3)?).unwrap_or(Kind::Webhook),
                    url_file: PathBuf::from(text(4)?),
                    secret_file: row.text(5)?.map(PathBuf::from),
                    ca_file: row.text(6)?.map(PathBuf::from),
                },
                shipments: vec![shipment],
            }),
        }
        Ok(())
    }
}

/// A random number from 0 to 1.
fn jitter() -> f64 {
    f64::from(u32::from_le_bytes(random::bytes())) / f64::from(u32::MAX)
}
