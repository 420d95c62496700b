//! The anchoring decisions: (stored state, what happened) -> (new state, what to do next, notices for people).
//!
//! Pure: no clock, no randomness, no outside. The worker stores every state that [`step`] returns, together with its notices and in
//! one transaction, *before* it does what the action says; [`crate::pursue`] does it in this order. After a crash it loads the state
//! and continues with [`Event::Resume`], as in normal running.
//!
//! Why a batch is never anchored twice:
//! - bytes and nonce are stored before they are sent, so a crash sends the same bytes again ([`Action::Store`]);
//! - every attempt of a batch has the same nonce until a *final* block has used that nonce for something else;
//! - the contract takes an epoch once, and a batch never changes its epoch. A new epoch for the same root is requested
//!   ([`Action::Replan`]) only when it is final that the old one is used up.
//!
//! Why none is lost: every state that is not over has a next moment, no further away than [`Policy::longest_wait`].
//!
//! Why `finalized` is never false: only a view that shows this very batch, final, leads there.

mod decide;
mod notice;
mod patience;
mod policy;
mod state;

use decide::Machine;

pub use notice::Notice;
pub use policy::Policy;
pub use state::{MOST_REPLACED, Phase, State, Trouble, VERSION};

use crate::batch::{Batch, Moment};
use crate::driver::{Attempt, Need, Sent, View};
use crate::failure::Failure;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The state was loaded, or its next moment has come.
    Resume,
    /// [`Action::Look`] was done.
    Viewed(View),
    /// [`Action::Prepare`] was done.
    Prepared(Attempt),
    /// [`Action::Store`] was done: the state survives a crash.
    Stored,
    /// [`Action::Send`] was done.
    Sent(Sent),
    /// [`Action::Collect`] was done, and the evidence is stored.
    Collected,
    /// A call failed, or no answer came in time. It may have been done all the same.
    Failed(Call, Failure),
}

/// Which call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Action::Look`]
    Look,
    /// [`Action::Prepare`]
    Prepare,
    /// [`Action::Send`]
    Send,
    /// [`Action::Collect`]
    Collect,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// See what the target has of the batch.
    Look,
    /// Make an attempt.
    Prepare(Need),
    /// Make the state durable, and only then continue with [`Event::Stored`].
    Store,
    /// Send the newest attempt of the state.
    Send,
    /// Fetch the evidence and store it.
    Collect,
    /// Nothing until this moment, then [`Event::Resume`].
    Wait(Moment),
    /// Plan the same root again, under an epoch above this one. This batch is over.
    Replan {
        /// The newest epoch of the log, as far as is known.
        above: u64,
    },
    /// Nothing, ever again.
    Done,
}

/// What [`step`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// To be stored first.
    pub state: State,
    /// Notices for people, stored with the state.
    pub notices: Vec<Notice>,
    /// To be done then.
    pub action: Action,
}

/// Takes one step.
#[must_use]
pub fn step(policy: &Policy, batch: &Batch, state: State, event: Event, now: Moment) -> Step {
    let mut machine = Machine { policy, batch, state, now, notices: Vec::new(), troubled: false };
    let action = machine.take(event);
    machine.page_if_it_is_time();
    Step { state: machine.state, notices: machine.notices, action }
}
