//! The decisions themselves: what follows from each event.

use super::notice::Notice;
use super::policy::Policy;
use super::state::{MOST_REPLACED, Phase, State};
use super::{Action, Call, Event};
use crate::batch::{Batch, Moment};
use crate::driver::{Attempt, Inclusion, Need, Nonces, Place, Sent, View};
use crate::failure::{Failure, Refusal};

/// One step under way: owns the new state until it is returned.
pub(super) struct Machine<'a> {
    pub(super) policy: &'a Policy,
    pub(super) batch: &'a Batch,
    pub(super) state: State,
    pub(super) now: Moment,
    pub(super) notices: Vec<Notice>,
    /// Whether this very step met trouble. Nobody is called for trouble that may just have ended.
    pub(super) troubled: bool,
}

impl Machine<'_> {
    pub(super) fn take(&mut self, event: Event) -> Action {
        if self.state.is_over() {
            return self.over();
        }
        match event {
            Event::Resume => self.resume(),
            // A final inclusion stays final: no later view takes that back.
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
            // The event comes out of turn: conclude nothing from it.
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

    /// Every start looks first, whatever was under way.
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
                // At first this only means that an endpoint lags.
                self.trouble_once(Failure::Disagreement { about: "the newest blocks".into() }, self.now);
                self.wait(self.policy.look_every)
            }
            Place::Passed { latest, finalized: true } => {
                self.notices.push(Notice::EpochPassed { epoch: self.batch.epoch, latest });
                self.failed(latest)
            }
            // Not final: the later epoch may still be undone, and then our own attempt counts again.
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

    /// The anchor there is not ours, and could still be undone.
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
        // An inclusion in another block is a new one: confirmations of the first no longer count.
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
        if waiting {
            self.waits_outside();
        }
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

    /// An attempt that is seen waiting was sent, also when a crash came before that could be stored. Without a time of sending it would
    /// never count as stuck, and never be replaced.
    fn waits_outside(&mut self) {
        let now = self.now;
        let Some(attempt) = &mut self.state.attempt else { return };
        attempt.sent_at.get_or_insert(now);
        if self.state.phase == Phase::Planned {
            self.state.phase = Phase::Submitted;
        }
    }

    /// The account has an unused nonce before ours: a transaction that is not ours to send again. Fees do not help; if it is not included
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
            // The cause of the failure must go away first; a new attempt at once could burn fees again and again.
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
}
