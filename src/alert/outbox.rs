//! Events about alerts on their way to the trail. An alert is raised and sent whatever becomes of its event: the row in `alert_events`
//! is committed with the alert, and the worker appends it afterwards, one event in a transaction of its own, with a limit of seconds.
//! So nobody's lock, trigger or open transaction delays the next alert.
//!
//! Where no worker runs, whoever raises the alert appends the event at once (`announce_alert`).

use std::time::{Duration, Instant};

use crate::trail::owner_transaction::{self, WorkerError};

/// The time limit of an event's transaction.
const LIMIT: Duration = Duration::from_secs(5);
/// Events that are appended before other work gets its turn.
const MOST: usize = 20;
/// How long to wait after an error that no event is to blame for.
const PAUSE: Duration = Duration::from_secs(10);

/// Appends what the table `alert_events` holds.
#[derive(Debug)]
pub struct Outbox {
    next_due: Option<Instant>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { next_due: Some(Instant::now()) }
    }
}

impl Outbox {
    /// Whether to call [`Outbox::tick`] now.
    pub fn is_due(&self) -> bool {
        self.next_due.is_some_and(|due| due <= Instant::now())
    }

    /// There may be another event.
    pub fn look(&mut self) {
        self.next_due = Some(Instant::now());
    }

    /// When to call [`Outbox::tick`] at the latest; `None`: not before the worker is woken.
    pub fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// Appends the events that are due. To be called outside of any transaction.
    pub fn tick(&mut self) -> Result<(), WorkerError> {
        for _ in 0..MOST {
            let wait = match call("append_alert_event()") {
                Ok(wait) => wait,
                Err(WorkerError::Gone) => return Err(WorkerError::Gone),
                Err(WorkerError::Error(_)) => {
                    // Not an error of the INSERT, which is caught there: cancelled at its limit, or the commit failed.
                    self.next_due = Some(Instant::now() + PAUSE);
                    call("alert_event_failed()")?
                }
            };
            self.next_due = wait.map(|wait| Instant::now() + wait);
            if wait != Some(Duration::ZERO) {
                break;
            }
        }
        Ok(())
    }
}

/// Calls a function that returns in how many milliseconds the next event is due, NULL for none.
fn call(function: &str) -> Result<Option<Duration>, WorkerError> {
    owner_transaction::run(Some(LIMIT), |open| {
        let mut wait = None;
        open.session.change(&format!("SELECT {}.{function}", open.schema), &[], |row| {
            wait = row.int8(0).map(|wait| Duration::from_millis(u64::try_from(wait).unwrap_or(0)));
            Ok(())
        })?;
        Ok(wait)
    })
}
