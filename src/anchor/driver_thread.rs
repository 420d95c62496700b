//! What the thread of a target does: one call of its driver at a time. Knows nothing of PostgreSQL.

use std::time::{Duration, Instant};

use serde_json::Value;
use zeroauth_audit_anchor::driver::{Driver, Inclusion, Place};
use zeroauth_audit_anchor::machine::{Action, Call, Event, State};
use zeroauth_audit_anchor::pursue::perform;
use zeroauth_audit_anchor::{Batch, Failure, Hash, Moment};
use zeroauth_audit_outside_threads::Perform;

use super::target::Config;

/// A driver older than this is opened anew, which reads its key and URL files again.
const DRIVER_AGE: Duration = Duration::from_secs(600);

/// A batch that was anchored, to be read again.
pub struct Anchored {
    /// What was anchored.
    pub batch: Batch,
    /// Where it was seen.
    pub inclusion: Inclusion,
}

/// Work for the thread.
pub enum Work {
    /// Make the call that the machine decided on.
    Act { batch: Batch, state: Box<State>, action: Action, now: Moment },
    /// Read anchors again.
    Check(Vec<Anchored>),
    /// Look for anchors that are unknown here: these epochs of a log, of which the last is above all others.
    Probe { log_id: Hash, epochs: Vec<u64>, above: u64 },
}

/// What the thread reports.
pub enum DriverReport {
    /// The outcome of an action, and the evidence if it was collected.
    Acted(Event, Option<Value>),
    /// The differences, by epoch; and why the rest could not be read.
    Checked(Vec<(u64, Option<String>)>, Option<String>),
}

/// The body of a new thread.
pub fn begin(config: Config) -> Perform<Work, DriverReport> {
    let mut thread = DriverThread { config, open: None };
    Box::new(move |work| thread.take(work))
}

struct DriverThread {
    config: Config,
    open: Option<(Box<dyn Driver>, Instant)>,
}

impl DriverThread {
    fn driver(&mut self) -> Result<&dyn Driver, Failure> {
        if self.open.as_ref().is_none_or(|(_, since)| since.elapsed() > DRIVER_AGE) {
            self.open = Some((self.config.open()?, Instant::now()));
        }
        match &self.open {
            Some((driver, _)) => Ok(&**driver),
            None => Err(Failure::Defect { what: "no driver".into() }),
        }
    }

    fn take(&mut self, work: Work) -> DriverReport {
        match work {
            Work::Act { batch, state, action, now } => {
                let (event, evidence) = self.act(&batch, &state, &action, now);
                if matches!(event, Event::Failed(..)) {
                    // Someone may correct a file in the meantime.
                    self.open = None;
                }
                DriverReport::Acted(event, evidence)
            }
            Work::Check(anchored) => {
                let keeps = self.config.keeps();
                self.each(anchored.iter().map(|one| (one.batch.epoch, one)), |driver, one| {
                    check(driver, one, keeps)
                })
            }
            Work::Probe { log_id, epochs, above } => self
                .each(epochs.iter().map(|epoch| (*epoch, *epoch)), |driver, epoch| {
                    probe(driver, log_id, epoch, above)
                }),
        }
    }

    fn act(&mut self, batch: &Batch, state: &State, action: &Action, now: Moment) -> (Event, Option<Value>) {
        let call = call_of(action);
        match self.driver() {
            Ok(driver) => {
                let nothing = || (Event::Failed(call, Failure::Defect { what: "no call".into() }), None);
                perform(driver, batch, state, action, now).unwrap_or_else(nothing)
            }
            Err(failure) => (Event::Failed(call, failure), None),
        }
    }

    /// Runs `look` for each, until one cannot be read: the others could not be read either, so the endpoint is left alone.
    fn each<T>(
        &mut self,
        all: impl Iterator<Item = (u64, T)>,
        look: impl Fn(&dyn Driver, T) -> Result<Option<String>, Failure>,
    ) -> DriverReport {
        let mut found = Vec::new();
        let driver = match self.driver() {
            Ok(driver) => driver,
            Err(failure) => return DriverReport::Checked(found, Some(failure.to_string())),
        };
        for (epoch, one) in all {
            match look(driver, one) {
                Ok(difference) => found.push((epoch, difference)),
                Err(failure) => {
                    self.open = None;
                    return DriverReport::Checked(found, Some(failure.to_string()));
                }
            }
        }
        DriverReport::Checked(found, None)
    }
}

/// The call that an action is.
pub fn call_of(action: &Action) -> Call {
    match action {
        Action::Prepare(_) => Call::Prepare,
        Action::Send => Call::Send,
        Action::Collect => Call::Collect,
        _ => Call::Look,
    }
}

/// How an anchor differs from its final state as stored; an error when it cannot be read.
fn check(driver: &dyn Driver, anchored: &Anchored, keeps: bool) -> Result<Option<String>, Failure> {
    let Anchored { batch, inclusion } = anchored;
    if !keeps {
        // All that exists of the anchor is the token, which must still verify.
        return match driver.evidence(batch, inclusion) {
            Err(Failure::Unverified { problem }) => Ok(Some(format!("its token does not hold: {problem}"))),
            other => other.map(|_| None),
        };
    }
    match driver.look(batch, &[]) {
        Ok(view) => match view.place {
            Place::Included(found) if !batch.is(&found.seal) => Ok(Some(format!(
                "the target has root {} there, of {} checkpoints",
                found.seal.root, found.seal.size
            ))),
            Place::Included(found) if found.id != inclusion.id => {
                Ok(Some(format!("the target has it as {}, not {}", found.id, inclusion.id)))
            }
            Place::Included(_) => Ok(None),
            Place::Free | Place::Passed { .. } => Ok(Some("the target does not have it any more".into())),
            Place::Unsettled => Err(Failure::Disagreement { about: "the newest blocks".into() }),
        },
        Err(Failure::Altered { problem }) => Ok(Some(problem)),
        Err(failure) => Err(failure),
    }
}

/// Looks for an anchor under an epoch that was never used here.
fn probe(driver: &dyn Driver, log_id: Hash, epoch: u64, above: u64) -> Result<Option<String>, Failure> {
    let nobody = Batch { log_id, epoch, root: Hash([0; 32]), size: 1, batch_time: Moment(0) };
    match driver.look(&nobody, &[]) {
        Ok(view) => match view.place {
            Place::Included(found) => Ok(Some(format!(
                "the target has root {} there, and nothing here knows of it",
                found.seal.root
            ))),
            Place::Passed { latest, .. } if epoch == above => {
                Ok(Some(format!("the target has epoch {latest}, and nothing here knows of it")))
            }
            Place::Unsettled => Err(Failure::Disagreement { about: "the newest blocks".into() }),
            _ => Ok(None),
        },
        Err(Failure::Altered { problem }) => Ok(Some(problem)),
        Err(failure) => Err(failure),
    }
}
