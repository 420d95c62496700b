//! Which routes pause, and until when: turns outcomes of attempts into pauses.
//!
//! Kept in memory only. After a restart every route is tried once, and the attempts that the database has counted for each delivery
//! make the pauses long again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::backoff;
use crate::outcome::Outcome;
use crate::senders::Report;

/// The record to make of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Its number.
    pub id: i64,
    /// `delivered`, `retry`, `refused` or `untried`.
    pub outcome: &'static str,
    /// Empty if there is none.
    pub error: String,
    /// Until it is tried again.
    pub pause: Duration,
}

/// The routes in trouble.
#[derive(Debug, Default)]
pub struct Pace {
    resting: HashMap<String, Rest>,
}

#[derive(Debug)]
struct Rest {
    failures: u32,
    until: Instant,
}

impl Pace {
    /// The routes that pause at `now`.
    pub fn resting(&self, now: Instant) -> impl Iterator<Item = &str> {
        self.resting.iter().filter(move |(_, rest)| rest.until > now).map(|(route, _)| route.as_str())
    }

    /// When the first of them is tried again.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<Instant> {
        self.resting.values().map(|rest| rest.until).filter(|until| *until > now).min()
    }

    /// Takes a report into account. `attempts` says how often a delivery was tried before; `jitter` is from 0 to 1.
    pub fn after(
        &mut self,
        report: &Report,
        now: Instant,
        jitter: f64,
        attempts: impl Fn(i64) -> u32,
    ) -> Vec<Settlement> {
        let mut settled = Vec::new();
        for (id, outcome) in &report.outcomes {
            let (word, error, pause) = match outcome {
                Outcome::Delivered => ("delivered", String::new(), Duration::ZERO),
                Outcome::Refused { error } => {
                    ("refused", error.clone(), backoff::pause_after_refusal(jitter))
                }
                Outcome::Retry { error, after } => {
                    let known = self.resting.get(&report.route).map_or(0, |rest| rest.failures);
                    let failures = known.max(attempts(*id)).saturating_add(1);
                    let pause = backoff::pause(failures, *after, jitter);
                    self.resting.insert(report.route.clone(), Rest { failures, until: now + pause });
                    ("retry", error.clone(), pause)
                }
            };
            if word != "retry" {
                // The server is there and answers.
                self.resting.remove(&report.route);
            }
            settled.push(Settlement { id: *id, outcome: word, error, pause });
        }
        let untried = |id: &i64| Settlement {
            id: *id,
            outcome: "untried",
            error: String::new(),
            pause: Duration::ZERO,
        };
        settled.extend(report.untried.iter().map(untried));
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcomes: Vec<(i64, Outcome)>, untried: Vec<i64>) -> Report {
        Report { route: "a".into(), outcomes, untried }
    }

    #[test]
    fn a_route_in_trouble_rests_longer_each_time_until_it_answers() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let down = report(vec![(1, Outcome::retry("no answer"))], vec![2, 3]);
        let first = pace.after(&down, now, 0.0, |_| 0);
        assert_eq!(
            first.iter().map(|s| (s.id, s.outcome)).collect::<Vec<_>>(),
            [(1, "retry"), (2, "untried"), (3, "untried")]
        );
        assert_eq!(first[0].pause, Duration::from_secs(2));
        assert_eq!(pace.resting(now).collect::<Vec<_>>(), ["a"]);
        assert_eq!(pace.next(now), Some(now + Duration::from_secs(2)));
        let later = now + Duration::from_secs(2);
        assert_eq!(pace.resting(later).count(), 0, "its time is over");
        assert_eq!(pace.next(later), None);
        assert_eq!(pace.after(&down, later, 0.0, |_| 0)[0].pause, Duration::from_secs(4));
        // Refused, but the server is there: others may try at once.
        let refused = pace.after(
            &report(vec![(1, Outcome::Refused { error: "404".into() })], vec![]),
            later,
            0.0,
            |_| 0,
        );
        assert_eq!((refused[0].outcome, refused[0].pause), ("refused", Duration::from_secs(900)));
        assert_eq!(pace.resting(later).count(), 0);
        assert_eq!(
            pace.after(&down, later, 0.0, |_| 0)[0].pause,
            Duration::from_secs(2),
            "and counting starts again"
        );
    }

    #[test]
    fn what_the_database_remembers_counts_after_a_restart() {
        let mut pace = Pace::default();
        let down = report(vec![(1, Outcome::retry("no answer"))], vec![]);
        assert_eq!(pace.after(&down, Instant::now(), 0.0, |_| 20)[0].pause, Duration::from_secs(900));
    }
}
