//! Days without an anchor: when a tenant's anchors are late, when they are `anchor-degraded`, and what ends these states.
//!
//! Pure: the times of the schedule come in as arguments, and so do the anchors.

use serde::{Deserialize, Serialize};

use crate::batch::Moment;

/// This many missed days in a row make a tenant `anchor-degraded`.
pub const DEGRADED_AFTER: usize = 2;

/// An anchor of a tenant that is included or final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchored {
    /// When its batch was made: it covers every time of the schedule up to then.
    pub batch_time: Moment,
    /// When it was first seen included.
    pub included_at: Moment,
    /// Whether it is final. Only that ends `anchor-degraded`.
    pub finalized: bool,
}

/// How a tenant's anchors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Health {
    /// Every day that is over has its anchor.
    Ok,
    /// The newest day that is over has none.
    Late {
        /// The time of the schedule that was missed.
        missed: Moment,
    },
    /// Days in a row have none, and none has covered them since.
    Degraded {
        /// The first time of the schedule that was missed.
        since: Moment,
        /// How many were.
        missed: usize,
    },
}

impl Health {
    /// One line for people; None when there is nothing to say. `at` writes a moment as the tenant reads it.
    #[must_use]
    pub fn banner(&self, at: impl Fn(Moment) -> String) -> Option<String> {
        match self {
            Self::Ok => None,
            Self::Late { missed } => Some(format!("the anchor of {} is late", at(*missed))),
            Self::Degraded { since, missed } => Some(format!(
                "anchor-degraded: {missed} days in a row without an anchor since {}; what was written since is not proven outside",
                at(*since)
            )),
        }
    }
}

/// How the anchors of a tenant are at `now`.
///
/// `due`: the times of the schedule since the tenant had anything to anchor, ascending, as far back as anchors are known. A day is
/// over when the next time of the schedule has come, and missed when no anchor that covers it was included by then. A run of
/// missed days that made the tenant degraded ends with a final anchor that covers the last of them.
#[must_use]
pub fn health(due: &[Moment], anchors: &[Anchored], now: Moment) -> Health {
    let over = || due.windows(2).map(|pair| (pair[0], pair[1])).take_while(|(_, over_at)| *over_at <= now);
    let covers = |anchor: &Anchored, day: Moment| anchor.batch_time >= day && anchor.included_at <= now;
    let mut run: Vec<Moment> = Vec::new();
    let mut runs: Vec<Vec<Moment>> = Vec::new();
    for (day, over_at) in over() {
        if anchors.iter().any(|anchor| covers(anchor, day) && anchor.included_at < over_at) {
            runs.push(std::mem::take(&mut run));
        } else {
            run.push(day);
        }
    }
    runs.push(run);
    for run in runs.iter().filter(|run| run.len() >= DEGRADED_AFTER) {
        let last = run[run.len() - 1];
        if !anchors.iter().any(|anchor| anchor.finalized && covers(anchor, last)) {
            return Health::Degraded { since: run[0], missed: run.len() };
        }
    }
    match over().last() {
        Some((day, _)) if !anchors.iter().any(|anchor| covers(anchor, day)) => Health::Late { missed: day },
        _ => Health::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn due(days: i64) -> Vec<Moment> {
        (0..days).map(|day| Moment(day * DAY)).collect()
    }

    /// Of the batch of `day`, included `hours` after it was made.
    fn anchored(day: i64, hours: i64) -> Anchored {
        Anchored {
            batch_time: Moment(day * DAY),
            included_at: Moment(day * DAY + hours * 3600),
            finalized: true,
        }
    }

    fn at(day: i64, hours: i64) -> Moment {
        Moment(day * DAY + hours * 3600)
    }

    #[test]
    fn a_day_is_missed_when_the_next_one_has_come_and_not_before() {
        let anchors = [anchored(0, 1)];
        assert_eq!(health(&due(9), &anchors, at(1, 23)), Health::Ok);
        assert_eq!(health(&due(9), &anchors, at(2, 0)), Health::Late { missed: at(1, 0) });
        // Late is no longer late when it is there.
        assert_eq!(health(&due(9), &[anchored(0, 1), anchored(1, 25)], at(2, 2)), Health::Ok);
    }

    #[test]
    fn the_second_missed_day_in_a_row_degrades_and_not_two_missed_days_apart() {
        let degraded = Health::Degraded { since: at(1, 0), missed: 2 };
        assert_eq!(health(&due(9), &[anchored(0, 1)], at(2, 23)), Health::Late { missed: at(1, 0) });
        assert_eq!(health(&due(9), &[anchored(0, 1)], at(3, 0)), degraded);
        // Never anchored at all.
        assert_eq!(health(&due(9), &[], at(2, 0)), Health::Degraded { since: at(0, 0), missed: 2 });
        let apart = [anchored(0, 1), anchored(2, 1), anchored(4, 1)];
        assert_eq!(health(&due(9), &apart, at(5, 1)), Health::Ok);
        assert_eq!(health(&due(9), &apart, at(6, 1)), Health::Late { missed: at(5, 0) });
    }

    #[test]
    fn only_a_final_anchor_that_covers_the_whole_gap_ends_it() {
        let degraded = Health::Degraded { since: at(1, 0), missed: 2 };
        let with = |anchor| health(&due(9), &[anchored(0, 1), anchor], at(3, 5));
        // Made on the first missed day, it leaves the second one open.
        assert_eq!(with(anchored(1, 50)), degraded);
        assert_eq!(with(anchored(2, 26)), Health::Ok);
        assert_eq!(with(anchored(3, 1)), Health::Ok);
        assert_eq!(with(Anchored { finalized: false, ..anchored(3, 1) }), degraded);
        // Not there yet.
        assert_eq!(with(anchored(3, 6)), degraded);
    }

    #[test]
    fn days_that_come_after_do_not_hide_a_gap_that_nothing_final_covers() {
        let after: Vec<_> = (3..6)
            .map(|day| Anchored { finalized: false, ..anchored(day, 1) })
            .chain([anchored(0, 1)])
            .collect();
        assert_eq!(health(&due(9), &after, at(6, 0)), Health::Degraded { since: at(1, 0), missed: 2 });
    }

    #[test]
    fn nothing_due_is_nothing_missed() {
        assert_eq!(health(&[], &[], at(5, 0)), Health::Ok);
        assert_eq!(health(&due(1), &[], at(5, 0)), Health::Ok);
        assert_eq!(Health::Ok.banner(|_| String::new()), None);
        let banner = Health::Degraded { since: at(1, 0), missed: 2 }.banner(|moment| moment.0.to_string());
        assert!(
            banner.unwrap().starts_with("anchor-degraded: 2 days in a row without an anchor since 86400;")
        );
    }
}
