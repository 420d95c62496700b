//! The anchoring decisions: (stored state, what happened) -> (new state, what to do next, what to tell people).
//!
//! Pure: no clock, no randomness, no outside. The worker stores every state that [`step`] returns, together with its notices and in
//! one transaction, *before* it does what the action says; [`crate::pursue`] does it in this order. After a crash it loads the state
//! and goes on with [`Event::Resume`], which is the way of normal running, too.
//!
//! Why a batch is never anchored twice:
//! - bytes and nonce are stored before they are sent, so a crash sends the same bytes again ([`Action::Store`]);
//! - every attempt of a batch has the same nonce until a *final* block has used that nonce for something else;
//! - the contract takes an epoch once, and a batch never changes its epoch. A new epoch for the same root is only asked for
//!   ([`Action::Replan`]) when it is final that the old one is used up.
//!
//! Why none is lost: every state that is not over has a next moment, no further away than [`Policy::longest_wait`].
//!
//! Why `finalized` is never false: only a view that shows this very batch, final, leads there.

mod notice;
mod policy;
mod state;

pub use notice::Notice;
pub use policy::Policy;
pub use state::{MOST_REPLACED, Phase, State, Trouble, VERSION};

use crate::batch::{Batch, Moment};
use crate::driver::{Attempt, Inclusion, Need, Nonces, Place, Sent, View};
use crate::failure::{Failure, Refusal};

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
    /// Make the state durable, and only then go on with [`Event::Stored`].
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
    /// What people are told, stored with the state.
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

struct Machine<'a> {
    policy: &'a Policy,
    batch: &'a Batch,
    state: State,
    now: Moment,
    notices: Vec<Notice>,
    /// Whether this very step met trouble. Trouble that may just have ended calls nobody.
    troubled: bool,
}

impl Machine<'_> {
    fn take(&mut self, event: Event) -> Action {
        if self.state.is_over() {
            return self.over();
        }
        match event {
            Event::Resume => self.resume(),
            // What is final stays so: nothing seen later makes it less.
            _ if self.state.phase == Phase::Finalized => self.collect(event),
            Event::Viewed(view) => self.viewed(view),
            Event::Prepared(attempt) => self.prepared(attempt),
            Event::Stored if self.state.attempt.is_some() => Action::Send,
            Event::Sent(sent) => self.sent(sent),
            Event::Failed(Call::Look, failure) => {
                self.trouble(failure, self.now);
                // With nothing outside, a look is but the first part of the next try.
                let outside = self.state.attempt.is_some();
                self.wait(if outside { self.policy.look_again } else { self.policy.retry_every })
            }
            Event::Failed(Call::Prepare, failure) => {
                if let (Some(Need::Replace { .. }), Some(attempt)) =
                    (self.state.need.take(), &mut self.state.attempt)
                {
                    // No higher fees to be had: the same bytes get another chance meanwhile.
                    attempt.underpriced = false;
                    attempt.sends = 0;
                }
                self.try_later(failure)
            }
            Event::Failed(Call::Send, failure) => {
                self.count_send();
                self.try_later(failure)
            }
            // Out of turn: nothing is concluded from it.
            Event::Stored | Event::Collected | Event::Failed(Call::Collect, _) => Action::Look,
        }
    }

    fn over(&self) -> Action {
        if self.state.phase != Phase::Failed {
            return Action::Done;
        }
        let above = match self.state.trouble.as_ref().map(|trouble| &trouble.last) {
            Some(Failure::Refused { refusal: Refusal::EpochNotRising { latest } }) => *latest,
            _ => self.batch.epoch,
        };
        Action::Replan { above }
    }

    /// The way of every start: look first, whatever was under way.
    fn resume(&mut self) -> Action {
        self.state.need = None;
        let (now, next) = (self.now, self.state.next);
        // A clock that was set back must not put the next moment out of reach.
        if now < next && next.since(now) <= self.policy.longest_wait() {
            return Action::Wait(next);
        }
        self.state.next = next.min(now);
        if self.state.phase == Phase::Finalized {
            return Action::Collect;
        }
        Action::Look
    }

    fn collect(&mut self, event: Event) -> Action {
        match event {
            Event::Collected => {
                self.state.evidence = true;
                self.recovered();
                Action::Done
            }
            Event::Failed(_, failure) => {
                self.trouble(failure, self.now);
                self.wait(self.policy.retry_every)
            }
            _ => Action::Collect,
        }
    }

    fn viewed(&mut self, view: View) -> Action {
        match view.place {
            Place::Included(inclusion) if !self.batch.is(&inclusion.seal) => self.taken(&inclusion),
            Place::Included(inclusion) if inclusion.finalized => self.finalized(inclusion),
            Place::Included(inclusion) => self.included(inclusion),
            Place::Unsettled => {
                // For a moment it is only that one of them lags.
                self.trouble_once(Failure::Disagreement { about: "the newest blocks".into() }, self.now);
                self.wait(self.policy.look_every)
            }
            Place::Passed { latest, finalized: true } => {
                self.notices.push(Notice::EpochPassed { epoch: self.batch.epoch, latest });
                self.failed(latest)
            }
            // Not final: what has passed us may still be undone, and then our own attempt counts again.
            Place::Passed { .. } => {
                self.orphaned_if_included();
                self.wait_for_final()
            }
            Place::Free => {
                self.orphaned_if_included();
                self.free(view.waiting, view.nonces, view.reverted)
            }
        }
    }

    /// Our epoch holds something else.
    fn taken(&mut self, other: &Inclusion) -> Action {
        self.orphaned_if_included();
        if !other.finalized {
            return self.wait_for_final();
        }
        self.notices.push(Notice::EpochTaken {
            epoch: self.batch.epoch,
            seal: other.seal,
            id: other.id.clone(),
        });
        self.failed(self.batch.epoch)
    }

    /// What is there is not ours, and could still be undone.
    fn wait_for_final(&mut self) -> Action {
        self.trouble_once(Failure::NotFinal, self.now);
        self.wait(self.policy.look_every)
    }

    fn failed(&mut self, latest: u64) -> Action {
        let refusal = Refusal::EpochNotRising { latest };
        self.trouble(Failure::Refused { refusal }, self.now);
        self.state.phase = Phase::Failed;
        self.state.next = self.now;
        Action::Replan { above: latest }
    }

    fn finalized(&mut self, inclusion: Inclusion) -> Action {
        self.state.phase = Phase::Finalized;
        self.state.included_since.get_or_insert(self.now);
        self.state.inclusion = Some(inclusion);
        self.state.next = self.now;
        self.recovered();
        Action::Collect
    }

    fn included(&mut self, inclusion: Inclusion) -> Action {
        // In another block than before is another inclusion: what confirmed the first one confirms nothing any more.
        let moved =
            self.state.inclusion.as_ref().is_some_and(|known| known.block_hash != inclusion.block_hash);
        if moved {
            self.orphaned_if_included();
        }
        self.state.phase = Phase::Included;
        let since = *self.state.included_since.get_or_insert(self.now);
        self.state.inclusion = Some(inclusion);
        if self.now.since(since) >= self.policy.final_within {
            self.trouble(Failure::NotFinal, since.plus(self.policy.final_within));
        } else {
            self.recovered();
        }
        self.wait(self.policy.look_final_every)
    }

    fn orphaned_if_included(&mut self) {
        if self.state.phase != Phase::Included {
            return;
        }
        self.state.phase = Phase::Orphaned;
        self.state.orphaned = self.state.orphaned.saturating_add(1);
        self.state.included_since = None;
        if let Some(attempt) = &mut self.state.attempt {
            // It waits anew from now on.
            attempt.sent_at = Some(self.now);
            attempt.sends = 0;
        }
        if let Some(inclusion) = self.state.inclusion.take() {
            self.notices.push(Notice::Orphaned { id: inclusion.id, block_number: inclusion.block_number });
        }
    }

    /// Nothing is under our epoch, and we may still use it.
    fn free(&mut self, waiting: bool, nonces: Option<Nonces>, reverted: bool) -> Action {
        let Some(attempt) = self.state.attempt.clone() else {
            return self.prepare(Need::Fresh { behind_pending: true });
        };
        let stuck = attempt.sent_at.filter(|sent_at| self.now.since(*sent_at) >= self.policy.replace_after);
        if let (Some(nonce), Some(nonces)) = (attempt.nonce, nonces) {
            if nonces.finalized > nonce {
                return self.nonce_is_gone(nonce, reverted);
            }
            if nonces.latest > nonce {
                // Used in a block that may still be undone: then these bytes could be included after all.
                return self.wait_for_final();
            }
            if let Some(since) = stuck {
                self.trouble_once(Failure::Stuck, since);
                if nonces.latest < nonce {
                    return self.behind_others(since);
                }
            }
            if let Some(fees) = attempt.fees
                && (attempt.underpriced || (stuck.is_some() && (waiting || attempt.sends >= 3)))
                && self.state.replaced.len() < MOST_REPLACED
            {
                return self.prepare(Need::Replace { nonce, above: fees });
            }
        }
        if waiting {
            return self.wait(self.policy.look_every);
        }
        self.send()
    }

    /// The account has an unused nonce before ours: a transaction that is not ours to send again. Fees do not help; if it does not come
    /// in a while, we take its nonce. Our attempt after it can then do nothing but fail: its epoch is used.
    fn behind_others(&mut self, since: Moment) -> Action {
        if self.now.since(since) < self.policy.retry_every {
            return self.wait(self.policy.look_every);
        }
        self.prepare_instead(Need::Fresh { behind_pending: false })
    }

    /// A final block has used our nonce, and not for our anchor.
    fn nonce_is_gone(&mut self, nonce: u64, reverted: bool) -> Action {
        if reverted {
            // What made it fail has to go away first; a new attempt at once could burn fees again and again.
            self.retire();
            return self.try_later(Failure::Reverted);
        }
        self.notices.push(Notice::NonceTaken { nonce });
        self.prepare_instead(Need::Fresh { behind_pending: true })
    }

    /// Drops the newest attempt, which can never be included, and prepares another.
    fn prepare_instead(&mut self, need: Need) -> Action {
        self.retire();
        self.prepare(need)
    }

    fn retire(&mut self) {
        if let Some(mut attempt) = self.state.attempt.take() {
            attempt.bytes.clear();
            if self.state.replaced.len() >= MOST_REPLACED {
                self.state.replaced.remove(0);
            }
            self.state.replaced.push(attempt);
        }
        if self.state.phase == Phase::Submitted {
            self.state.phase = Phase::Planned;
        }
    }

    fn prepare(&mut self, need: Need) -> Action {
        if !self.may_try() {
            return self.wait_to_try();
        }
        self.state.need = Some(need.clone());
        self.state.next = self.now;
        Action::Prepare(need)
    }

    fn prepared(&mut self, attempt: Attempt) -> Action {
        match self.state.need.take() {
            None => return Action::Look,
            Some(Need::Replace { nonce, .. }) => {
                if attempt.nonce != Some(nonce) {
                    let what = "a replacement was made for another nonce".into();
                    return self.try_later(Failure::Defect { what });
                }
                let before = self.state.attempt.as_ref().and_then(|attempt| attempt.fees);
                self.notices.push(Notice::Replaced { nonce, before, after: attempt.fees });
                self.retire();
            }
            Some(Need::Fresh { .. }) if self.state.attempt.is_some() => {
                let what = "a fresh attempt was made beside another one".into();
                return self.try_later(Failure::Defect { what });
            }
            Some(Need::Fresh { .. }) => {}
        }
        self.state.attempt = Some(attempt);
        self.state.next = self.now;
        Action::Store
    }

    fn send(&mut self) -> Action {
        if !self.may_try() {
            return self.wait_to_try();
        }
        self.state.next = self.now;
        Action::Send
    }

    fn sent(&mut self, sent: Sent) -> Action {
        if self.state.attempt.is_none() {
            return Action::Look;
        }
        self.count_send();
        match sent {
            Sent::Accepted => {
                if matches!(self.state.phase, Phase::Planned | Phase::Orphaned) {
                    self.state.phase = Phase::Submitted;
                }
                self.wait(self.policy.look_every)
            }
            Sent::NonceUsed => self.wait(self.policy.look_every),
            Sent::Underpriced => {
                if let Some(attempt) = &mut self.state.attempt {
                    attempt.underpriced = true;
                }
                self.wait(self.policy.look_every)
            }
            Sent::Anchored(inclusion) if !self.batch.is(&inclusion.seal) => self.taken(&inclusion),
            Sent::Anchored(inclusion) if inclusion.finalized => self.finalized(inclusion),
            Sent::Anchored(inclusion) => self.included(inclusion),
        }
    }

    fn count_send(&mut self) {
        let now = self.now;
        if let Some(attempt) = &mut self.state.attempt {
            attempt.sent_at.get_or_insert(now);
            attempt.sends = attempt.sends.saturating_add(1);
        }
    }

    /// Notes a failure; what was under way is tried again after the pause, and looked for earlier if it may be outside.
    fn try_later(&mut self, failure: Failure) -> Action {
        self.trouble(failure, self.now);
        self.state.retry_at = self.now.plus(self.policy.retry_every);
        self.wait_to_try()
    }

    fn may_try(&self) -> bool {
        self.now >= self.state.retry_at || self.state.retry_at.since(self.now) > self.policy.longest_wait()
    }

    fn wait_to_try(&mut self) -> Action {
        let pause = self.state.retry_at.since(self.now);
        // Only what may be outside is worth looking for.
        let outside = self.state.attempt.is_some();
        self.wait(if outside { pause.min(self.policy.look_again) } else { pause })
    }

    fn wait(&mut self, seconds: u64) -> Action {
        let mut next = self.now.plus(seconds.max(1));
        if let Some(trouble) = &self.state.trouble
            && !trouble.paged
        {
            // A person is called on time, whatever we wait for.
            let page_at = trouble.since.plus(self.policy.page_after);
            if page_at > self.now {
                next = next.min(page_at);
            }
        }
        self.state.next = next;
        Action::Wait(next)
    }

    /// Notes a failure in trouble that began at `since` if it is new.
    fn trouble(&mut self, failure: Failure, since: Moment) {
        self.troubled = true;
        match &mut self.state.trouble {
            Some(trouble) => {
                trouble.failures = trouble.failures.saturating_add(1);
                trouble.last = failure;
            }
            none => *none = Some(Trouble { since, failures: 1, last: failure, paged: false }),
        }
    }

    /// Notes a condition that is seen again and again without being another failure.
    fn trouble_once(&mut self, failure: Failure, since: Moment) {
        self.troubled = true;
        if self.state.trouble.is_none() {
            self.trouble(failure, since);
        }
    }

    fn recovered(&mut self) {
        if let Some(trouble) = self.state.trouble.take()
            && trouble.paged
        {
            self.notices.push(Notice::Recovered { since: trouble.since, failures: trouble.failures });
        }
        self.state.retry_at = self.now;
    }

    fn page_if_it_is_time(&mut self) {
        let (now, after) = (self.now, self.policy.page_after);
        if !self.troubled || self.state.phase == Phase::Failed {
            return; // What is given up is told by a notice of its own.
        }
        let Some(trouble) = &mut self.state.trouble else { return };
        // A clock that was set back must not put the page off.
        trouble.since = trouble.since.min(now);
        if !trouble.paged && now.since(trouble.since) >= after {
            trouble.paged = true;
            self.notices.push(Notice::Page {
                since: trouble.since,
                failures: trouble.failures,
                last: trouble.last.clone(),
            });
        }
    }
}
