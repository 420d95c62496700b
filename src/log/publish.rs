//! The worker's part in publishing checkpoints. One short transaction reads what is to be published, threads that know nothing of
//! PostgreSQL ([`zeroauth_audit_checkpoint_sinks`]) write or send it, and the next transaction records the outcome.
//!
//! The worker's loop owns a [`Publication`], as it owns a [`crate::alert::delivery::Delivery`]. A checkpoint is published only after the
//! events it covers are flushed, here and on every synchronous standby: nobody outside may know more than what survives a crash.
//! A sink is trusted more than this database. What a directory has and this database lacks is taken over by the job checkpoint before
//! anything is signed ([`crate::log::take_over`]); while a sink contradicts what was signed here, nothing is.

mod reports;
mod standbys;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use zeroauth_audit_checkpoint_sinks::{self as outside, RunFile, Shown, SinkReport, SinkWork};
use zeroauth_audit_core::registry::entry::Entry;
use zeroauth_audit_outside_threads::PartyThreads;

use crate::log::keys;
use crate::log::registry_rows::origin;
use crate::log::run_file;
use crate::log::store::Tiles;
use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Row, Session};
use reports::{Exhibit, Given};

/// Run files that are written at once, and about as many bytes of them.
const MOST_WRITTEN: i64 = 100;
const MOST_BYTES: usize = 32 << 20;
/// A failed attempt is repeated after this pause, which doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often the positions of synchronous standbys are queried.
const STANDBY_PAUSE: Duration = Duration::from_secs(1);

/// A sink as its row says.
#[derive(Clone, PartialEq, Eq)]
struct Settings {
    kind: String,
    directory: Option<String>,
    url_file: Option<String>,
    ca_file: Option<String>,
    vkey: Option<String>,
}

#[derive(Default)]
struct Sink {
    settings: Option<Settings>,
    given: Option<Given>,
    /// Whether the thread has read the directory.
    opened: bool,
    /// The number of the first of its files that is to be taken over.
    lacking: Option<u64>,
    /// Whether it was tried.
    tried: bool,
    failures: u32,
    retry_at: Option<Instant>,
    /// How many entries of which registry the witness said that it saw last, where that differs from what is recorded.
    saw: Option<(String, u64)>,
}

/// Publishes checkpoints to the enabled sinks.
pub struct Publication {
    threads: PartyThreads<SinkWork, SinkReport>,
    sinks: BTreeMap<String, Sink>,
    /// Reports that are not recorded yet.
    reports: Vec<(String, Option<SinkReport>)>,
    /// Orders that may go out once every synchronous standby has flushed up to this position.
    waiting: Option<(u64, Vec<Order>)>,
    next_due: Option<Instant>,
}

/// Work for one sink.
struct Order {
    sink: String,
    work: SinkWork,
    given: Given,
}

/// What one transaction found for the worker to do.
#[derive(Default)]
struct ToDo {
    settings: BTreeMap<String, Settings>,
    open: Vec<Order>,
    publish: Vec<Order>,
    /// The outcome of recording each sink's report.
    recorded: Vec<(String, reports::Outcome)>,
    standbys: standbys::Standbys,
}

impl Publication {
    /// Nothing under way yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            threads: PartyThreads::new()?,
            sinks: BTreeMap::new(),
            reports: Vec::new(),
            waiting: None,
            next_due: Some(Instant::now()),
        })
    }

    /// Whether to call [`Publication::tick`] now.
    pub fn is_due(&self) -> bool {
        self.threads.has_report() || self.next_due.is_some_and(|due| due <= Instant::now())
    }

    /// Readable when something has come back.
    pub fn wake_fd(&self) -> RawFd {
        self.threads.wake_fd().as_raw_fd()
    }

    /// When to call [`Publication::tick`] at the latest.
    pub fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// There may be new checkpoints, or other sinks.
    pub fn look(&mut self) {
        self.next_due = Some(Instant::now());
    }

    /// Whether checkpoints may be signed: every directory was read, or could not be. A restored database is so compared with
    /// what was published before it signs.
    pub fn is_ready(&self) -> bool {
        self.next_due.is_none_or(|due| due > Instant::now())
            && self.sinks.values().all(|sink| {
                sink.settings.as_ref().is_none_or(|settings| settings.kind != "directory")
                    || sink.opened
                    || sink.tried && sink.lacking.is_none()
            })
    }

    /// Records reports, and hands out what is to be published. `transaction` as in [`crate::alert::delivery::Delivery::tick`].
    pub fn tick<E>(
        &mut self,
        transaction: impl FnOnce(&mut dyn FnMut(&Session, &str) -> Result<(), Failure>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.reports.extend(self.threads.reports());
        let mut found = ToDo::default();
        let done = transaction(&mut |session, schema| {
            found = self.transact(session, schema)?;
            Ok(())
        });
        if let Err(error) = done {
            // Nothing was recorded: retry after a pause.
            self.next_due = Some(Instant::now() + Duration::from_secs(5));
            return Err(error);
        }
        self.reports.clear();
        self.settle(found);
        Ok(())
    }

    fn transact(&self, session: &Session, schema: &str) -> Result<ToDo, Failure> {
        let mut found = ToDo { standbys: standbys::look(session)?, ..ToDo::default() };
        // Locked, so that none is pointed elsewhere before what is recorded of it is committed.
        let rows = settings(session, schema, !self.reports.is_empty())?;
        let directories: Vec<bool> = rows
            .iter()
            .filter(|(_, (settings, enabled))| *enabled && settings.kind == "directory")
            .map(|(name, (settings, _))| {
                self.known(name, settings).is_some_and(|sink| sink.opened && sink.lacking.is_none())
            })
            .collect();
        let all_read = directories.iter().all(|read| *read);
        for (sink, report) in &self.reports {
            let Some(known) = self.sinks.get(sink) else { continue };
            // What it was given before it was pointed elsewhere says nothing about where it leads now.
            if rows.get(sink).is_some_and(|(row, _)| known.settings.as_ref() != Some(row)) {
                continue;
            }
            if let Some(given) = known.given.as_ref() {
                let vkey = known.settings.as_ref().and_then(|settings| settings.vkey.as_deref());
                let outcome = reports::record(session, schema, sink, given, report.as_ref(), vkey, all_read)?;
                found.recorded.push((sink.clone(), outcome));
            }
        }
        let enabled = rows.into_iter().filter(|(_, (_, enabled))| *enabled);
        found.settings = enabled.map(|(name, (settings, _))| (name, settings)).collect();
        for (name, settings) in &found.settings {
            let fresh = Sink::default();
            let known = self.known(name, settings).unwrap_or(&fresh);
            // What was reported of where it led before is over: it begins anew, at once.
            let reported = found.recorded.iter().any(|(sink, _)| sink == name);
            let resting = known.retry_at.is_some_and(|at| at > Instant::now());
            if known.given.is_some() || reported || resting || self.is_waiting(name) {
                continue;
            }
            if settings.kind == "witness" {
                // What a directory has that was not read yet is to be taken over first.
                if all_read || directories.contains(&true) {
                    found.publish.extend(exhibit(session, schema, (name, settings), known)?);
                }
            } else if let Some(from) = known.lacking {
                let work = SinkWork::Read(from, MOST_BYTES);
                found.open.push(Order { sink: name.clone(), work, given: Given::Read });
            } else if known.opened && !has_more(session, schema, name)? {
                found.publish.extend(written(session, schema, name)?);
            } else if let Some(directory) = &settings.directory {
                let read = keys::reader(session, schema)?;
                let work = SinkWork::Open(PathBuf::from(directory), Box::new(read));
                found.open.push(Order { sink: name.clone(), work, given: Given::Open });
            }
        }
        if !found.publish.is_empty() {
            // The commit of this transaction flushes every commit that it saw.
            session.change(
                "SELECT pg_catalog.pg_logical_emit_message(true, 'zeroauth_audit', '')",
                &[],
                |_| Ok(()),
            )?;
        }
        Ok(found)
    }

    /// What is known of a sink that leads where it did before.
    fn known(&self, name: &str, settings: &Settings) -> Option<&Sink> {
        self.sinks.get(name).filter(|known| known.settings.as_ref() == Some(settings))
    }

    fn is_waiting(&self, sink: &str) -> bool {
        self.waiting.as_ref().is_some_and(|(_, orders)| orders.iter().any(|order| order.sink == sink))
    }

    /// Updates this process's memory, once the transaction has committed.
    fn settle(&mut self, found: ToDo) {
        let mut again = false;
        for (name, outcome) in found.recorded {
            let Some(sink) = self.sinks.get_mut(&name) else { continue };
            let given = sink.given.take();
            sink.tried = true;
            sink.saw = outcome.saw.or(sink.saw.take());
            if outcome.failed {
                sink.failures = sink.failures.saturating_add(1);
                let pause = FIRST_PAUSE.saturating_mul(1 << sink.failures.min(10)).min(LONGEST_PAUSE);
                sink.retry_at = Some(Instant::now() + pause);
                // The directory is read anew before anything is written.
                (sink.opened, sink.lacking) = (false, None);
            } else {
                (sink.failures, sink.retry_at) = (0, None);
                sink.lacking = outcome.lacking;
                sink.opened |= matches!(given, Some(Given::Open | Given::Read)) && sink.lacking.is_none();
                again = true;
            }
        }
        for name in self.sinks.keys().cloned().collect::<Vec<_>>() {
            let settings = found.settings.get(&name);
            if settings != self.sinks.get(&name).and_then(|sink| sink.settings.as_ref()) {
                self.sinks.remove(&name);
                self.threads.release(&name);
            }
        }
        for (name, settings) in found.settings {
            self.sinks.entry(name).or_default().settings = Some(settings);
        }
        for order in found.open {
            self.give(order);
        }
        let lsn = standbys::last_commit();
        if found.standbys.none() {
            found.publish.into_iter().for_each(|order| self.give(order));
        } else if !found.publish.is_empty() {
            let (at, orders) = self.waiting.get_or_insert((lsn, Vec::new()));
            *at = (*at).max(lsn);
            orders.extend(found.publish);
        }
        if let Some((_, orders)) = self.waiting.take_if(|(at, _)| found.standbys.have(*at)) {
            orders.into_iter().for_each(|order| self.give(order));
        }
        let waits = self.waiting.is_some().then(|| Instant::now() + STANDBY_PAUSE);
        // One whose time has come was tried, or has nothing to be tried with.
        let now = Instant::now();
        let retries = self.sinks.values().filter_map(|sink| sink.retry_at).filter(|at| *at > now);
        let at_once = again.then_some(now);
        self.next_due = retries.chain(waits).chain(at_once).min();
    }

    fn give(&mut self, order: Order) {
        let Order { sink: name, work, given } = order;
        let Some(sink) = self.sinks.get_mut(&name) else { return };
        if self.threads.give(&name, work, outside::begin).is_ok() {
            sink.given = Some(given);
        } else {
            sink.tried = true;
            sink.retry_at = Some(Instant::now() + FIRST_PAUSE);
        }
    }
}

/// The newest checkpoint that a witness may see and has not signed.
fn exhibit(
    session: &Session,
    schema: &str,
    (name, settings): (&str, &Settings),
    known: &Sink,
) -> Result<Option<Order>, Failure> {
    let sql = include_str!("../../sql/queries/run_for_witness.sql");
    let mut exhibit = None;
    session.all(sql, &[Parameter::Text(name)], |row| {
        let note = row.text(2)?.unwrap_or_default();
        let origin = origin(&note).to_owned();
        let saw = known.saw.as_ref().filter(|(of, _)| *of == origin).map(|(_, size)| *size);
        exhibit = Some(Exhibit {
            run: row.count(0).unwrap_or(0),
            old_size: saw.unwrap_or_else(|| row.count(3).unwrap_or(0)),
            origin,
            size: row.count(1).unwrap_or(0),
            note,
        });
        Ok(())
    })?;
    let Some(exhibit) = exhibit else { return Ok(None) };
    // If the tiles give no proof, the job checkpoint reports it; the witness is shown the checkpoint once they do.
    let Ok(proof) = Tiles::registry(session, schema).consistency(exhibit.old_size, exhibit.size)? else {
        return Ok(None);
    };
    let proof = proof.iter().map(|hash| *hash.as_bytes()).collect();
    let shown = Shown { old_size: exhibit.old_size, proof, note: exhibit.note.clone() };
    let work = SinkWork::Show {
        url_file: PathBuf::from(settings.url_file.clone().unwrap_or_default()),
        ca_file: settings.ca_file.clone().map(PathBuf::from),
        shown,
    };
    Ok(Some(Order { sink: name.to_owned(), work, given: Given::Show(exhibit) }))
}

/// Every sink, and whether it is enabled; locked, so that all of it stays so until the end of the transaction, or not.
fn settings(
    session: &Session,
    schema: &str,
    locked: bool,
) -> Result<BTreeMap<String, (Settings, bool)>, Failure> {
    let mut found = BTreeMap::new();
    let sql = format!("SELECT name, kind, directory, url_file, ca_file, vkey, enabled FROM {schema}.sinks");
    let mut add = |row: &Row<'_>| {
        let settings = Settings {
            kind: row.text(1)?.unwrap_or_default(),
            directory: row.text(2)?,
            url_file: row.text(3)?,
            ca_file: row.text(4)?,
            vkey: row.text(5)?,
        };
        found.insert(row.text(0)?.unwrap_or_default(), (settings, row.bool(6)));
        Ok(())
    };
    if locked {
        session.change(&format!("{sql} ORDER BY name FOR NO KEY UPDATE"), &[], &mut add)?;
    } else {
        session.all(&sql, &[], &mut add)?;
    }
    Ok(found)
}

/// Whether a directory is said to have more runs than there are: then it is read anew, and compared.
fn has_more(session: &Session, schema: &str, name: &str) -> Result<bool, Failure> {
    let sql = format!(
        "SELECT 1 FROM {schema}.sinks s WHERE s.name = $1
         AND s.published_to > COALESCE((SELECT r.number FROM {schema}.registry_runs r ORDER BY r.number DESC LIMIT 1), 0)"
    );
    let mut more = false;
    session.all(&sql, &[Parameter::Text(name)], |_| {
        more = true;
        Ok(())
    })?;
    Ok(more)
}

/// Files of runs that a directory does not have yet.
fn written(session: &Session, schema: &str, name: &str) -> Result<Option<Order>, Failure> {
    let sql = include_str!("../../sql/queries/runs_for_directory.sql");
    let mut runs = Vec::new();
    let snapshot = Entry::SnapshotBegin.text();
    let parameters = [Parameter::Text(name), Parameter::Int8(MOST_WRITTEN), Parameter::Text(&snapshot)];
    session.all(sql, &parameters, |row| {
        runs.push((row.count(0).unwrap_or(0), row.text(1)?.unwrap_or_default()));
        Ok(())
    })?;
    let (mut files, mut bytes) = (Vec::new(), 0);
    for (number, day) in runs {
        match run_file::signed(session, schema, number)? {
            Ok(text) => {
                bytes += text.len();
                files.push(RunFile { day, text });
            }
            Err(why) => {
                let sql = format!("SELECT {schema}.sink_reported($1, $2, 0)");
                let why = format!("the file of run {number} cannot be made: {why}");
                session.change_again(&sql, &[Parameter::Text(name), Parameter::Text(&why)], |_| Ok(()))?;
                break;
            }
        }
        if bytes >= MOST_BYTES {
            break;
        }
    }
    let order = || Order {
        sink: name.to_owned(),
        work: SinkWork::Write(std::mem::take(&mut files)),
        given: Given::Write,
    };
    Ok((bytes > 0).then(order))
}
