//! The worker's part in sending anchors. One short transaction stores the state of a batch; only then does a thread that knows nothing
//! of PostgreSQL make the call that follows from it, and the next transaction stores the outcome.
//!
//! The worker's loop owns an [`Anchoring`], as it owns a [`crate::log::publish::Publication`]: one thread for each target, and no
//! transaction open during a call. [`zeroauth_audit_anchor::machine`] decides what to do, and nothing that it needs is kept in this
//! process. So recovery after a crash is normal running: read the state, and look at the target first.
//!
//! | file | what it does |
//! |---|---|
//! | `target`, `driver_thread` | configurations, and the thread that calls a driver |
//! | `batches`, `work` | batches as they are stored and one step of the machine; what a transaction found to do |
//! | `plan` | the job `anchor`: what is anchored, if it continues what was anchored before |
//! | `status` | missed days: `tenant_status` |
//! | `target_check`, `recompute` | the job `anchor_check`: what targets have, and what the events say |

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use zeroauth_audit_anchor::Failure as DriverFailure;
use zeroauth_audit_anchor::machine::{self, Action, Call, Event, Policy};
use zeroauth_audit_outside_threads::PartyThreads;

use super::batches::Open;
use super::clock::moment;
use super::driver_thread::{DriverReport, Work};
use super::target::{Config, Target};
use super::target_check::Question;
use super::work::{Given, Order, ToDo, follow};
use super::{batches, driver_thread, target};
use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Session};

/// How often the worker checks for missed days, if nothing happens.
const STATUS_EVERY: Duration = Duration::from_secs(3600);
/// How long to wait after an error, or for a batch that another session has locked.
const PAUSE: Duration = Duration::from_secs(5);
/// How long to wait while jobs are paused: the database is empty or being restored.
const WHILE_PAUSED: Duration = Duration::from_secs(60);

/// What the worker knows of a target and its thread.
struct TargetState {
    config: Config,
    given: Option<Given>,
    /// The query of the job `anchor_check`, and how far its answer is.
    question: Option<Question>,
}

/// Sends the batches in `anchor_batches`.
pub struct Anchoring {
    threads: PartyThreads<Work, DriverReport>,
    targets: BTreeMap<String, TargetState>,
    /// Reports that are not stored yet.
    reports: Vec<(String, Option<DriverReport>)>,
    next_due: Option<Instant>,
    status_due: Instant,
    /// Whether the batches that the previous worker left are resumed.
    resumed: bool,
}

impl Anchoring {
    /// Nothing under way yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            threads: PartyThreads::new()?,
            targets: BTreeMap::new(),
            reports: Vec::new(),
            next_due: Some(Instant::now()),
            status_due: Instant::now(),
            resumed: false,
        })
    }

    /// Whether to call [`Anchoring::tick`] now.
    pub fn is_due(&self) -> bool {
        self.threads.has_report() || self.next_due().is_some_and(|due| due <= Instant::now())
    }

    /// Readable when something has come back.
    pub fn wake_fd(&self) -> RawFd {
        self.threads.wake_fd().as_raw_fd()
    }

    /// When to call [`Anchoring::tick`] at the latest.
    pub fn next_due(&self) -> Option<Instant> {
        let status = self.reports.is_empty().then_some(self.status_due);
        self.next_due.into_iter().chain(status).min()
    }

    /// There may be new batches, or other targets.
    pub fn look(&mut self) {
        self.next_due = Some(Instant::now());
    }

    /// Stores reports, and hands out new work. `transaction` as in [`crate::alert::delivery::Delivery::tick`].
    pub fn tick<E>(
        &mut self,
        transaction: impl FnOnce(&mut dyn FnMut(&Session, &str) -> Result<(), Failure>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.reports.extend(self.threads.reports());
        let mut found = ToDo::default();
        let says = self.is_status_due();
        let done = transaction(&mut |session, schema| {
            found = self.transact(session, schema)?;
            Ok(())
        });
        if let Err(error) = done {
            // Nothing was stored: retry after a pause.
            self.next_due = Some(Instant::now() + PAUSE);
            let pause = if says { STATUS_EVERY / 12 } else { PAUSE };
            self.status_due = self.status_due.max(Instant::now() + pause);
            return Err(error);
        }
        self.resumed = true;
        self.settle(found);
        Ok(())
    }

    /// The status of tenants is updated in a transaction of its own, so that nothing waits for it and nothing fails with it.
    fn is_status_due(&self) -> bool {
        self.reports.is_empty() && self.status_due <= Instant::now()
    }

    fn transact(&self, session: &Session, schema: &str) -> Result<ToDo, Failure> {
        let mut found = ToDo::default();
        if !may_run(session, schema)? {
            // A restore must be complete before its batches are read.
            found.paused = true;
            return Ok(found);
        }
        if !self.resumed {
            session.change(&format!("SELECT {schema}.anchor_resume()"), &[], |_| Ok(()))?;
        }
        if self.is_status_due() {
            session.change(&format!("SELECT {schema}.anchor_status()"), &[], |_| Ok(()))?;
            found.status_updated = true;
        }
        let targets = target::enabled(session, schema)?;
        for (name, report) in &self.reports {
            self.record_report(session, schema, (name, report.as_ref()), &targets, &mut found)?;
        }
        for (name, target) in &targets {
            let idle = |known: &TargetState| known.given.is_none() || found.reported.contains(name);
            let same = self.targets.get(name).filter(|known| known.config == target.config);
            if !found.is_busy(name) && same.is_none_or(idle) {
                self.next_of(session, schema, name, target, &mut found)?;
            }
        }
        found.targets = targets.into_iter().map(|(name, target)| (name, target.config)).collect();
        Ok(found)
    }

    /// Stores the report of a thread.
    fn record_report(
        &self,
        session: &Session,
        schema: &str,
        (name, report): (&String, Option<&DriverReport>),
        targets: &BTreeMap<String, Target>,
        found: &mut ToDo,
    ) -> Result<(), Failure> {
        let known = self.targets.get(name);
        let same =
            |known: &&TargetState| targets.get(name).is_some_and(|target| target.config == known.config);
        let Some(known) = known.filter(same) else {
            // The report is about the target's previous configuration: the next look replaces it.
            return Ok(());
        };
        match (known.given, report) {
            (Some(Given::Act(epoch, call)), report) => {
                let Some(Open { batch, state: Some(state) }) = batches::lock(session, schema, name, epoch)?
                else {
                    if batches::is_open(session, schema, name, epoch)? {
                        // Another session has the batch locked: keep the report until it is done.
                        found.later = true;
                        return Ok(());
                    }
                    found.reported.insert(name.clone());
                    return Ok(());
                };
                let failed = || {
                    (
                        Event::Failed(call, DriverFailure::Defect { what: "a call ended in a panic".into() }),
                        None,
                    )
                };
                let (event, evidence) = match report {
                    Some(DriverReport::Acted(event, evidence)) => {
                        (event.clone(), evidence.as_ref().map(ToString::to_string))
                    }
                    _ => failed(),
                };
                found.reported.insert(name.clone());
                let stepped = batches::step(
                    session,
                    schema,
                    name,
                    (&batch, state),
                    (event, evidence.as_deref()),
                    moment(),
                )?;
                follow(name, batch, stepped, found);
            }
            (Some(Given::Query), report) => {
                found.reported.insert(name.clone());
                let nothing = DriverReport::Checked(Vec::new(), Some("a call ended in a panic".into()));
                let (DriverReport::Checked(answers, error), Some(question)) =
                    (report.unwrap_or(&nothing), &known.question)
                else {
                    return Ok(());
                };
                let question = question.answered(session, schema, name, answers, error.as_deref())?;
                found.questions.insert(name.clone(), question);
            }
            (None, _) => {}
        }
        Ok(())
    }

    /// Finds the next work for an idle target.
    fn next_of(
        &self,
        session: &Session,
        schema: &str,
        name: &str,
        target: &Target,
        found: &mut ToDo,
    ) -> Result<(), Failure> {
        for open in batches::open(session, schema, name)? {
            let Some(state) = &open.state else {
                unreadable(session, schema, name, open.batch.epoch)?;
                break;
            };
            // Resumed too early, the machine says until when to wait.
            if state.next <= moment() {
                let Some(Open { batch, state: Some(state) }) =
                    batches::lock(session, schema, name, open.batch.epoch)?
                else {
                    found.later = true;
                    break;
                };
                let continues = state.lets_the_next_start();
                let stepped =
                    batches::step(session, schema, name, (&batch, state), (Event::Resume, None), moment())?;
                follow(name, batch, stepped, found);
                if found.is_busy(name) {
                    return Ok(());
                }
                if !continues {
                    break;
                }
                continue;
            }
            found.at(state.next);
            // A later epoch that overtook this one would make it impossible.
            if !state.lets_the_next_start() {
                break;
            }
        }
        let question = match found.questions.get(name) {
            Some(question) => question.clone(),
            None => self.targets.get(name).and_then(|known| known.question.clone()),
        };
        let Some(queried_at) = &target.queried_at else { return Ok(()) };
        let question = question
            .filter(|question| question.is_about(queried_at))
            .unwrap_or_else(|| Question::new(queried_at));
        let (question, work) = question.next(session, schema, name, target)?;
        found.questions.insert(name.to_owned(), question);
        if let Some(work) = work {
            found.orders.push(Order { target: name.to_owned(), given: Given::Query, work });
        }
        Ok(())
    }

    /// Updates this process's memory, once the transaction has committed.
    fn settle(&mut self, found: ToDo) {
        if found.paused {
            self.next_due = Some(Instant::now() + WHILE_PAUSED);
            self.status_due = self.status_due.max(Instant::now() + WHILE_PAUSED);
            return;
        }
        self.reports.retain(|(name, _)| {
            // Keep only reports that could not be stored yet.
            found.later
                && !found.reported.contains(name)
                && self.targets.get(name).is_some_and(|known| found.targets.get(name) == Some(&known.config))
        });
        for name in &found.reported {
            if let Some(known) = self.targets.get_mut(name) {
                known.given = None;
            }
        }
        let gone =
            self.targets.iter().filter(|(name, known)| found.targets.get(*name) != Some(&known.config));
        for name in gone.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.targets.remove(&name);
            self.threads.release(&name);
        }
        for (name, config) in found.targets {
            self.targets.entry(name).or_insert(TargetState { config, given: None, question: None });
        }
        for (name, question) in found.questions {
            if let Some(known) = self.targets.get_mut(&name) {
                known.question = question;
            }
        }
        let mut later = found.later;
        for order in found.orders {
            later |= !self.give(order);
        }
        for (target, batch, state) in found.stored {
            // The state is durable now. Sending is the point of no return.
            let step = machine::step(&Policy::default(), &batch, state.clone(), Event::Stored, moment());
            if step.state == state && step.notices.is_empty() && step.action == Action::Send {
                let given = Given::Act(batch.epoch, Call::Send);
                let work = Work::Act { batch, state: Box::new(state), action: Action::Send, now: moment() };
                later |= !self.give(Order { target, given, work });
            } else {
                later = true;
            }
        }
        if found.status_updated {
            self.status_due = Instant::now() + STATUS_EVERY;
        }
        if found.turned {
            self.status_due = Instant::now();
        }
        let next = found.next.map(|next| Instant::now() + Duration::from_secs(next.since(moment()).max(1)));
        let again = found.again.then(Instant::now);
        self.next_due = next.into_iter().chain(again).chain(later.then(|| Instant::now() + PAUSE)).min();
    }

    /// Hands an order to its thread; whether the thread took it.
    fn give(&mut self, order: Order) -> bool {
        let Some(known) = self.targets.get_mut(&order.target) else { return false };
        let config = known.config.clone();
        let taken = self.threads.give(&order.target, order.work, || driver_thread::begin(config)).is_ok();
        if taken {
            known.given = Some(order.given);
        }
        taken
    }
}

/// Whether this database has tables of anchors, and jobs are not paused.
fn may_run(session: &Session, schema: &str) -> Result<bool, Failure> {
    let mut there = false;
    // An older version of the extension has no such table.
    session.all(
        "SELECT pg_catalog.to_regclass($1) IS NOT NULL",
        &[Parameter::Text(&format!("{schema}.anchor_batches"))],
        |row| {
            there = row.bool(0);
            Ok(())
        },
    )?;
    if there {
        session.all(&format!("SELECT {schema}.jobs_held() IS NULL"), &[], |row| {
            there = row.bool(0);
            Ok(())
        })?;
    }
    Ok(there)
}

/// Raises an alert for a state that cannot be read: only a person can repair it.
fn unreadable(session: &Session, schema: &str, target: &str, epoch: u64) -> Result<(), Failure> {
    let sql = format!(
        "SELECT {schema}.anchor_notice($1, $2, 'anchor_failing', 1::pg_catalog.int2, $1, 'what is stored of batch ' || $2 || ' for target ' || $1 || ' cannot be read', NULL)"
    );
    session.change_again(&sql, &[Parameter::Text(target), Parameter::count(epoch)], |_| Ok(()))
}
