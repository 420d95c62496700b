//! The loop around the machine: store, then act, then step again, until there is nothing to do for now.
//!
//! The only place where decisions and outside meet. It keeps the order that the promises of [`crate::machine`] rest on: no action
//! is taken before the state that calls for it is stored.

use serde_json::Value;

use crate::batch::{Batch, Moment};
use crate::driver::Driver;
use crate::machine::{Action, Call, Event, Notice, Policy, State, step};

/// Where states are kept. The worker's is a table.
pub trait Store {
    /// Why nothing could be stored.
    type Error;

    /// Makes the state and its notices durable, in one transaction.
    fn state(&mut self, state: &State, notices: &[Notice]) -> Result<(), Self::Error>;

    /// Makes the evidence durable.
    fn evidence(&mut self, evidence: &Value) -> Result<(), Self::Error>;
}

/// Makes the call of `action`, if it is a call to the outside; returns its outcome.
///
/// The evidence comes beside [`Event::Collected`], and must be stored before the step with that event.
pub fn perform(
    driver: &dyn Driver,
    batch: &Batch,
    state: &State,
    action: &Action,
    now: Moment,
) -> Option<(Event, Option<Value>)> {
    let event = match action {
        Action::Look => match driver.look(batch, &state.attempts()) {
            Ok(view) => Event::Viewed(view),
            Err(failure) => Event::Failed(Call::Look, failure),
        },
        Action::Prepare(need) => match driver.prepare(batch, need, now) {
            Ok(attempt) => Event::Prepared(attempt),
            Err(failure) => Event::Failed(Call::Prepare, failure),
        },
        Action::Send => match driver.send(batch, state.attempt.as_ref()?) {
            Ok(sent) => Event::Sent(sent),
            Err(failure) => Event::Failed(Call::Send, failure),
        },
        Action::Collect => match driver.evidence(batch, state.inclusion.as_ref()?) {
            Ok(evidence) => return Some((Event::Collected, Some(evidence))),
            Err(failure) => Event::Failed(Call::Collect, failure),
        },
        Action::Store | Action::Wait(_) | Action::Replan { .. } | Action::Done => return None,
    };
    Some((event, None))
}

/// Continues a batch until there is nothing to do for now. Returns the newest state, which is stored, and the action that is left:
/// [`Action::Wait`], [`Action::Replan`] or [`Action::Done`].
///
/// `clock` is read before every step. An error of the store ends the loop at once; continue later from the stored state.
pub fn pursue<S: Store>(
    policy: &Policy,
    batch: &Batch,
    driver: &dyn Driver,
    mut state: State,
    store: &mut S,
    mut clock: impl FnMut() -> Moment,
) -> Result<(State, Action), S::Error> {
    let mut event = Event::Resume;
    loop {
        let before = state.clone();
        let next = step(policy, batch, state, event, clock());
        state = next.state;
        if state != before || !next.notices.is_empty() {
            store.state(&state, &next.notices)?;
        }
        event = match &next.action {
            Action::Store => Event::Stored,
            action => match perform(driver, batch, &state, action, clock()) {
                None => return Ok((state, next.action)),
                Some((event, evidence)) => {
                    if let Some(evidence) = evidence {
                        store.evidence(&evidence)?;
                    }
                    event
                }
            },
        };
    }
}
