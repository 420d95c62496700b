//! When a job runs: a cron expression in a time zone.
//!
//! Pure: the time is an argument, in seconds since 1970-01-01 UTC. [`Schedule`] computes when a job is due next, also after the
//! server was down or its clock was set; [`portable`] expresses the same schedule in another, fixed zone, for a scheduler
//! that knows only that zone.
//!
//! Summer time, as in Vixie cron: a schedule that names its minutes and hours one by one runs once for each local time, at
//! the end of the gap when that time does not exist, and the first time when it comes twice. A schedule with `*` or a step
//! in its minutes or hours follows the clock on the wall: nothing in the gap, and both halves of the hour that comes twice.
#![forbid(unsafe_code)]

mod error;
mod portable;

use chrono::{DateTime, TimeZone as _};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

pub use error::{Error, Inexpressible};

/// A clock that was set back by more than this was wrong before: see [`Schedule::corrected`].
pub const LARGEST_STEP_BACK: i64 = 24 * 60 * 60;

/// This many times are treated one by one; a schedule that lists more is taken as following the wall clock.
const MOST_SINGLE_TIMES: usize = 144;

/// When a job runs.
#[derive(Clone, Debug)]
pub struct Schedule {
    whole: Cron,
    /// Each (hour, minute) as a schedule of its own, when they are listed one by one: so each follows the rule for one time.
    single: Vec<Cron>,
    zone: Tz,
    fields: [String; 5],
}

impl Schedule {
    /// Reads a crontab expression of five fields (or a nickname such as `@daily`) and the IANA name of a time zone.
    pub fn new(expression: &str, zone: &str) -> Result<Self, Error> {
        let zone: Tz = zone.parse().map_err(|_| Error::UnknownZone(zone.to_owned()))?;
        let expanded = nickname(expression.trim());
        let fields: Vec<&str> = expanded.split_ascii_whitespace().collect();
        let fields: [&str; 5] = fields.try_into().map_err(|fields: Vec<&str>| Error::FieldCount {
            expression: expression.to_owned(),
            fields: fields.len(),
        })?;
        let invalid = |error: croner::errors::CronError| Error::Expression {
            expression: expression.to_owned(),
            reason: error.to_string(),
        };
        // More than an expression needs, and less than what makes the parser slow.
        if expanded.len() > 256 {
            return Err(Error::FieldCount { expression: expression.to_owned(), fields: 5 });
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parse = |fields: &[&str; 5]| parser.parse(&fields.join(" "));
        let whole = parse(&fields).map_err(invalid)?;
        let listed = |field: &str| !field.contains(['*', '/']);
        let (minutes, hours) = (whole.pattern.minutes.values(), whole.pattern.hours.values());
        let mut single = Vec::new();
        if listed(fields[0]) && listed(fields[1]) && minutes.len() * hours.len() <= MOST_SINGLE_TIMES {
            for hour in &hours {
                for minute in &minutes {
                    let (minute, hour) = (minute.to_string(), hour.to_string());
                    single.push(parse(&[&minute, &hour, fields[2], fields[3], fields[4]]).map_err(invalid)?);
                }
            }
        }
        Ok(Self { whole, single, zone, fields: fields.map(str::to_owned) })
    }

    /// The first time after `time` that the job runs, `None` when it never does.
    #[must_use]
    pub fn next_after(&self, time: i64) -> Option<i64> {
        let start = DateTime::from_timestamp(time, 0)?;
        let start = self.zone.from_utc_datetime(&start.naive_utc());
        let next = |cron: &Cron| cron.find_next_occurrence(&start, false).ok().map(|found| found.timestamp());
        if self.single.is_empty() { next(&self.whole) } else { self.single.iter().filter_map(next).min() }
    }

    /// When the job runs after the run that was due at `scheduled` and begins `now`: runs missed in between were made
    /// up by that one run, and nothing that was scheduled up to `scheduled` is due again, also when the clock was set back.
    #[must_use]
    pub fn following(&self, scheduled: i64, now: i64) -> Option<i64> {
        self.next_after(scheduled.max(now))
    }

    /// The next run of a job that waits for `next_run`, when the clock was set back by so much that waiting is wrong: the time
    /// before was no real time. `None`: leave it.
    #[must_use]
    pub fn corrected(&self, next_run: i64, now: i64) -> Option<i64> {
        self.next_after(now)
            .filter(|first| next_run - first > LARGEST_STEP_BACK && next_run > *first)
            // A weekly job that is due next week is not late by a week: its own next run is what counts.
            .filter(|first| self.next_after(*first).is_some_and(|second| next_run >= second))
    }

    /// When a job that succeeded at `time` is overdue: after the second run from then on has not succeeded either.
    #[must_use]
    pub fn overdue_after(&self, time: i64) -> Option<i64> {
        self.next_after(self.next_after(time)?)
    }

    /// The same runs as an expression for a scheduler that knows only `zone`, for as long as two years from `now`.
    pub fn in_zone(&self, zone: &str, now: i64) -> Result<String, Inexpressible> {
        let target: Tz = zone.parse().map_err(|_| Inexpressible::UnknownZone(zone.to_owned()))?;
        portable::convert(self, target, now)
    }
}

/// Cron's nicknames, as their five fields.
fn nickname(expression: &str) -> &str {
    match expression {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => other,
    }
}
