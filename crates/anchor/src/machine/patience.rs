//! When to try again, what is trouble, and when a person is called.

use super::Action;
use super::decide::Machine;
use super::notice::Notice;
use super::state::{Phase, Trouble};
use crate::batch::Moment;
use crate::failure::Failure;

impl Machine<'_> {
    /// Notes a failure; the call is retried after the pause, and its attempt is looked for earlier if it may be outside.
    pub(super) fn try_later(&mut self, failure: Failure) -> Action {
        self.trouble(failure, self.now);
        self.state.retry_at = self.now.plus(self.policy.retry_every);
        self.wait_to_try()
    }

    pub(super) fn may_try(&self) -> bool {
        self.now >= self.state.retry_at || self.state.retry_at.since(self.now) > self.policy.longest_wait()
    }

    pub(super) fn wait_to_try(&mut self) -> Action {
        let pause = self.state.retry_at.since(self.now);
        // Only an attempt that may be outside is worth looking for.
        let outside = self.state.attempt.is_some();
        self.wait(if outside { pause.min(self.policy.look_again) } else { pause })
    }

    pub(super) fn wait(&mut self, seconds: u64) -> Action {
        let mut next = self.now.plus(seconds.max(1));
        if let Some(trouble) = &self.state.trouble
            && !trouble.paged
        {
            // A person is called on time, however long the next wait is.
            let page_at = trouble.since.plus(self.policy.page_after);
            if page_at > self.now {
                next = next.min(page_at);
            }
        }
        self.state.next = next;
        Action::Wait(next)
    }

    /// Notes a failure in trouble that began at `since` if it is new.
    pub(super) fn trouble(&mut self, failure: Failure, since: Moment) {
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
    pub(super) fn trouble_once(&mut self, failure: Failure, since: Moment) {
        self.troubled = true;
        if self.state.trouble.is_none() {
            self.trouble(failure, since);
        }
    }

    pub(super) fn recovered(&mut self) {
        if let Some(trouble) = self.state.trouble.take()
            && trouble.paged
        {
            self.notices.push(Notice::Recovered { since: trouble.since, failures: trouble.failures });
        }
        self.state.retry_at = self.now;
    }

    pub(super) fn page_if_it_is_time(&mut self) {
        let (now, after) = (self.now, self.policy.page_after);
        if !self.troubled || self.state.phase == Phase::Failed {
            return; // Giving up has a notice of its own.
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
