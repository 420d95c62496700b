//! Anchors leave the machine: the worker's part in it. What is known of a batch is stored in one short transaction; only then a thread
//! that knows nothing of PostgreSQL makes the call that it leads to, and what comes back is stored in the next one.
//!
//! The worker's loop owns an [`Anchoring`], as it owns a [`crate::log::publish::Publication`]: one lane for each target, and no transaction
//! open while one is asked. What to do is decided by [`zeroauth_audit_anchor::machine`]; nothing that it needs is kept in this
//! process. So the way after a crash is the way of every day: the state is read, and a look outside comes first.
//!
//! | file | what it does |
//! |---|---|
//! | `target`, `driver_thread` | configurations, and the thread that calls a driver |
//! | `batches`, `work` | batches as they are stored and one step of the machine; what a transaction found to do |
//! | `plan`, `continuity` | the job `anchor`: what is anchored, and whether it continues what was anchored before |
//! | `status` | missed days: `tenant_status` |
//! | `target_check`, `recompute` | the job `anchor_check`: what targets have, and what the events say |

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use zeroauth_audit_anchor::Failure as Trouble;
use zeroauth_audit_anchor::machine::{self, Action, Call, Event, Policy};
use zeroauth_audit_outside_threads::Lanes;

use super::batches::Open;
use super::clock::moment;
use super::driver_thread::{Told, Work};
use super::target::{Config, Target};
use super::target_check::Question;
use super::work::{Found, Given, Order, follow};
use super::{batches, driver_thread, target};
use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Session};

/// How often it is looked whether a day was missed, if nothing happens.
const STATUS_EVERY: Duration = Duration::from_secs(3600);
/// How long to leave something alone that went wrong, or that somebody else has locked.
const PAUSE: Duration = Duration::from_secs(5);
/// How long nothing is looked at while the database is empty or being restored.
const HELD: Duration = Duration::from_secs(60);

/// A target as the lane knows it.
struct Known {
    config: Config,
    given: Option<Given>,
    /// How far the answer to the job `anchor_check` is.
    question: Option<Question>,
}

/// Takes outside what `anchor_batches` holds.
pub struct Anchoring {
    lanes: Lanes<Work, Told>,
    targets: BTreeMap<String, Known>,
    /// What has come back and is not stored yet.
    told: Vec<(String, Option<Told>)>,
    next_due: Option<Instant>,
    status_due: Instant,
    /// Whether what the last worker left was looked after.
    resumed: bool,
}

impl Anchoring {
    /// Nothing under way yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            lanes: Lanes::new()?,
            targets: BTreeMap::new(),
            told: Vec::new(),
            next_due: Some(Instant::now()),
            status_due: Instant::now(),
            resumed: false,
        })
    }

    /// Whether to call [`Anchoring::tick`] now.
    pub fn is_due(&self) -> bool {
        self.lanes.has_report() || self.next_due().is_some_and(|due| due <= Instant::now())
    }

    /// Readable when something has come back.
    pub fn wake_fd(&self) -> RawFd {
        self.lanes.wake_fd().as_raw_fd()
    }

    /// When to call [`Anchoring::tick`] at the latest.
    pub fn next_due(&self) -> Option<Instant> {
        let status = self.told.is_empty().then_some(self.status_due);
        self.next_due.into_iter().chain(status).min()
    }

    /// There may be new batches, or other targets.
    pub fn look(&mut self) {
        self.next_due = Some(Instant::now());
    }

    /// Stores what has come back, and hands out what is to be done. `transaction` as in [`crate::alert::delivery::Delivery::tick`].
    pub fn tick<E>(
        &mut self,
        transaction: impl FnOnce(&mut dyn FnMut(&Session, &str) -> Result<(), Failure>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.told.extend(self.lanes.reports());
        let mut found = Found::default();
        let says = self.says_status();
        let done = transaction(&mut |session, schema| {
            found = self.step(session, schema)?;
            Ok(())
        });
        if let Err(error) = done {
            // Nothing was stored: the same again, after a while.
            self.next_due = Some(Instant::now() + PAUSE);
            let pause = if says { STATUS_EVERY / 12 } else { PAUSE };
            self.status_due = self.status_due.max(Instant::now() + pause);
            return Err(error);
        }
        self.resumed = true;
        self.settle(found);
        Ok(())
    }

    /// How tenants are is said in a transaction of its own, so that nothing waits for it and nothing fails with it.
    fn says_status(&self) -> bool {
        self.told.is_empty() && self.status_due <= Instant::now()
    }

    fn step(&self, session: &Session, schema: &str) -> Result<Found, Failure> {
        let mut found = Found::default();
        if !may_run(session, schema)? {
            // What a restore brings is not looked at before it is all there.
            found.held = true;
            return Ok(found);
        }
        if !self.resumed {
            session.change(&format!("SELECT {schema}.anchor_resume()"), &[], |_| Ok(()))?;
        }
        if self.says_status() {
            session.change(&format!("SELECT {schema}.anchor_status()"), &[], |_| Ok(()))?;
            found.said = true;
        }
        let targets = target::enabled(session, schema)?;
        for (name, report) in &self.told {
            self.hear(session, schema, (name, report.as_ref()), &targets, &mut found)?;
        }
        for (name, target) in &targets {
            let idle = |known: &Known| known.given.is_none() || found.heard.contains(name);
            let same = self.targets.get(name).filter(|known| known.config == target.config);
            if !found.is_busy(name) && same.is_none_or(idle) {
                self.next_of(session, schema, name, target, &mut found)?;
            }
        }
        found.targets = targets.into_iter().map(|(name, target)| (name, target.config)).collect();
        Ok(found)
    }

    /// Stores what a lane said.
    fn hear(
        &self,
        session: &Session,
        schema: &str,
        (name, report): (&String, Option<&Told>),
        targets: &BTreeMap<String, Target>,
        found: &mut Found,
    ) -> Result<(), Failure> {
        let known = self.targets.get(name);
        let same = |known: &&Known| targets.get(name).is_some_and(|target| target.config == known.config);
        let Some(known) = known.filter(same) else {
            // Said of a target as it was before: the next look tells.
            return Ok(());
        };
        match (known.given, report) {
            (Some(Given::Act(epoch, call)), report) => {
                let Some(Open { batch, state: Some(state) }) = batches::lock(session, schema, name, epoch)?
                else {
                    if batches::is_open(session, schema, name, epoch)? {
                        // Somebody has it locked: what was said is kept until they are done.
                        found.later = true;
                        return Ok(());
                    }
                    found.heard.insert(name.clone());
                    return Ok(());
                };
                let failed = || {
                    (Event::Failed(call, Trouble::Defect { what: "a call ended in a panic".into() }), None)
                };
                let (event, evidence) = match report {
                    Some(Told::Acted(event, evidence)) => {
                        (event.clone(), evidence.as_ref().map(ToString::to_string))
                    }
                    _ => failed(),
                };
                found.heard.insert(name.clone());
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
            (Some(Given::Ask), report) => {
                found.heard.insert(name.clone());
                let nothing = Told::Checked(Vec::new(), Some("a call ended in a panic".into()));
                let (Told::Checked(answers, error), Some(question)) =
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

    /// Finds out what a target that is idle has to do.
    fn next_of(
        &self,
        session: &Session,
        schema: &str,
        name: &str,
        target: &Target,
        found: &mut Found,
    ) -> Result<(), Failure> {
        for open in batches::open(session, schema, name)? {
            let Some(state) = &open.state else {
                unreadable(session, schema, name, open.batch.epoch)?;
                break;
            };
            // Woken too early it says until when to wait.
            if state.next <= moment() {
                let Some(Open { batch, state: Some(state) }) =
                    batches::lock(session, schema, name, open.batch.epoch)?
                else {
                    found.later = true;
                    break;
                };
                let goes_on = state.lets_the_next_start();
                let stepped =
                    batches::step(session, schema, name, (&batch, state), (Event::Resume, None), moment())?;
                follow(name, batch, stepped, found);
                if found.is_busy(name) {
                    return Ok(());
                }
                if !goes_on {
                    break;
                }
                continue;
            }
            found.at(state.next);
            // An epoch that overtook this one would make it impossible.
            if !state.lets_the_next_start() {
                break;
            }
        }
        let question = match found.questions.get(name) {
            Some(question) => question.clone(),
            None => self.targets.get(name).and_then(|known| known.question.clone()),
        };
        let Some(asked) = &target.asked else { return Ok(()) };
        let question =
            question.filter(|question| question.is_about(asked)).unwrap_or_else(|| Question::new(asked));
        let (question, work) = question.next(session, schema, name, target)?;
        found.questions.insert(name.to_owned(), question);
        if let Some(work) = work {
            found.orders.push(Order { target: name.to_owned(), given: Given::Ask, work });
        }
        Ok(())
    }

    /// What goes on in memory, once the transaction has committed.
    fn settle(&mut self, found: Found) {
        if found.held {
            self.next_due = Some(Instant::now() + HELD);
            self.status_due = self.status_due.max(Instant::now() + HELD);
            return;
        }
        self.told.retain(|(name, _)| {
            // Kept is only what could not be stored yet.
            found.later
                && !found.heard.contains(name)
                && self.targets.get(name).is_some_and(|known| found.targets.get(name) == Some(&known.config))
        });
        for name in &found.heard {
            if let Some(known) = self.targets.get_mut(name) {
                known.given = None;
            }
        }
        let gone =
            self.targets.iter().filter(|(name, known)| found.targets.get(*name) != Some(&known.config));
        for name in gone.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.targets.remove(&name);
            self.lanes.forget(&name);
        }
        for (name, config) in found.targets {
            self.targets.entry(name).or_insert(Known { config, given: None, question: None });
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
            // It is durable now: this is the point of no return.
            let step = machine::step(&Policy::default(), &batch, state.clone(), Event::Stored, moment());
            if step.state == state && step.notices.is_empty() && step.action == Action::Send {
                let given = Given::Act(batch.epoch, Call::Send);
                let work = Work::Act { batch, state: Box::new(state), action: Action::Send, now: moment() };
                later |= !self.give(Order { target, given, work });
            } else {
                later = true;
            }
        }
        if found.said {
            self.status_due = Instant::now() + STATUS_EVERY;
        }
        if found.turned {
            self.status_due = Instant::now();
        }
        let next = found.next.map(|next| Instant::now() + Duration::from_secs(next.since(moment()).max(1)));
        let again = found.again.then(Instant::now);
        self.next_due = next.into_iter().chain(again).chain(later.then(|| Instant::now() + PAUSE)).min();
    }

    /// Whether the lane took it.
    fn give(&mut self, order: Order) -> bool {
        let Some(known) = self.targets.get_mut(&order.target) else { return false };
        let config = known.config.clone();
        let taken = self.lanes.give(&order.target, order.work, || driver_thread::begin(config)).is_ok();
        if taken {
            known.given = Some(order.given);
        }
        taken
    }
}

/// Whether there are anchors in this database, and nobody is restoring it.
fn may_run(session: &Session, schema: &str) -> Result<bool, Failure> {
    let mut there = false;
    // A database whose extension is older has none.
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

/// A state that cannot be read is for a person.
fn unreadable(session: &Session, schema: &str, target: &str, epoch: u64) -> Result<(), Failure> {
    let sql = format!(
        "SELECT {schema}.anchor_notice($1, $2, 'anchor_failing', 1::pg_catalog.int2, $1, 'what is stored of batch ' || $2 || ' for target ' || $1 || ' cannot be read', NULL)"
    );
    session.change_again(&sql, &[Parameter::Text(target), Parameter::count(epoch)], |_| Ok(()))
}
