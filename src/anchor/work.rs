//! What one transaction of the worker found for it to do, and what follows a step of a batch. The worker acts on it after the commit.

use std::collections::{BTreeMap, BTreeSet};

use zeroauth_audit_anchor::machine::{Action, Call, State};
use zeroauth_audit_anchor::{Batch, Moment};

use super::batches::Stepped;
use super::clock::moment;
use super::driver_thread::{self, Work};
use super::target::Config;
use super::target_check::Question;

/// The work that a target's thread has and has not reported on.
#[derive(Clone, Copy)]
pub enum Given {
    /// A call for the batch of this epoch.
    Act(u64, Call),
    /// Part of the answer to the job `anchor_check`.
    Query,
}

/// Work for one target, to be handed out once its cause is durable.
pub struct Order {
    /// The target whose thread gets it.
    pub target: String,
    /// What the worker remembers of it.
    pub given: Given,
    /// What the thread gets.
    pub work: Work,
}

/// What one transaction found for the worker to do.
#[derive(Default)]
pub struct ToDo {
    /// Every target that is enabled.
    pub targets: BTreeMap<String, Config>,
    /// Queries of the job `anchor_check`, with how far their answers are now.
    pub questions: BTreeMap<String, Option<Question>>,
    /// Targets whose report is stored.
    pub reported: BTreeSet<String>,
    /// Work to hand out.
    pub orders: Vec<Order>,
    /// States that must be durable before they are sent.
    pub stored: Vec<(String, Batch, State)>,
    /// Whether jobs are paused: nothing may be done now.
    pub paused: bool,
    /// Whether something was left for later.
    pub later: bool,
    /// Whether there is more to do at once.
    pub again: bool,
    /// The next moment at which a batch is due.
    pub next: Option<Moment>,
    /// Whether tenants may see a difference.
    pub turned: bool,
    /// Whether the status of tenants was updated.
    pub status_updated: bool,
}

impl ToDo {
    /// Notes that something is due at `moment`.
    pub fn at(&mut self, moment: Moment) {
        self.next = Some(self.next.map_or(moment, |known| known.min(moment)));
    }

    /// Whether the target has something to do already.
    pub fn is_busy(&self, target: &str) -> bool {
        self.orders.iter().any(|order| order.target == target)
            || self.stored.iter().any(|(name, ..)| name == target)
    }
}

/// Queues what follows a step of a batch.
pub fn follow(name: &str, batch: Batch, stepped: Stepped, found: &mut ToDo) {
    let Stepped { state, action, turned } = stepped;
    found.turned |= turned;
    match action {
        Action::Wait(next) => found.at(next),
        // The next one may begin, or the one that takes its place.
        Action::Replan { .. } | Action::Done => found.again = true,
        Action::Store => found.stored.push((name.to_owned(), batch, state)),
        action => {
            let given = Given::Act(batch.epoch, driver_thread::call_of(&action));
            let work = Work::Act { batch, state: Box::new(state), action, now: moment() };
            found.orders.push(Order { target: name.to_owned(), given, work });
        }
    }
}
