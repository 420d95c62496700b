//! A schedule of one time zone as an expression in another, exact or not at all.
//!
//! Every (hour, minute) is shifted by the offset between the zones. What results must again be a product of minutes and
//! hours, all on the same day as before or all on the next or the one before, in which case weekdays move along.

use std::collections::BTreeSet;

use chrono::{DateTime, Offset as _, TimeZone as _};
use chrono_tz::Tz;

use crate::Schedule;
use crate::error::Inexpressible;

const DAY_MINUTES: i32 = 24 * 60;
/// Days for which the offset is looked at: two years have every change there is, Ramadan's too.
const DAYS: i64 = 2 * 366;

pub(crate) fn convert(schedule: &Schedule, target: Tz, now: i64) -> Result<String, Inexpressible> {
    let pattern = &schedule.whole.pattern;
    let fields = [&pattern.minutes, &pattern.hours, &pattern.days, &pattern.months, &pattern.days_of_week];
    // croner reads these two as a star and as another rule for days.
    let foreign = |field: &String| field.contains(['?', '+']);
    if fields.iter().any(|field| field.has_modifiers()) || schedule.fields.iter().any(foreign) {
        return Err(Inexpressible::Modifier);
    }
    let shift = constant_shift(schedule.zone, target, now)?;
    if shift == 0 {
        return Ok(schedule.fields.join(" "));
    }
    let mut times = BTreeSet::new();
    let mut days = BTreeSet::new();
    for hour in pattern.hours.values() {
        for minute in pattern.minutes.values() {
            let shifted = i32::from(hour) * 60 + i32::from(minute) + shift;
            times.insert(shifted.rem_euclid(DAY_MINUTES));
            days.insert(shifted.div_euclid(DAY_MINUTES));
        }
    }
    let any_day_of_month = pattern.is_dom_wildcard() && schedule.fields[3] == "*";
    let mut weekdays = schedule.fields[4].clone();
    if !(any_day_of_month && pattern.is_dow_wildcard()) {
        let mut days = days.into_iter();
        let (Some(carry), None) = (days.next(), days.next()) else {
            return Err(Inexpressible::NoProduct);
        };
        if carry != 0 && !any_day_of_month {
            return Err(Inexpressible::DayChanges);
        }
        if carry != 0 {
            let moved: BTreeSet<i32> = pattern
                .days_of_week
                .values()
                .into_iter()
                .map(|day| (i32::from(day) + carry).rem_euclid(7))
                .collect();
            weekdays = list(&moved);
        }
    }
    let minutes: BTreeSet<i32> = times.iter().map(|time| time % 60).collect();
    let hours: BTreeSet<i32> = times.iter().map(|time| time / 60).collect();
    if minutes.len() * hours.len() != times.len() {
        return Err(Inexpressible::NoProduct);
    }
    let (minutes, hours) = (shown(&minutes, 60), shown(&hours, 24));
    Ok(format!("{minutes} {hours} {} {} {weekdays}", schedule.fields[2], schedule.fields[3]))
}

/// Minutes to add to a time in `from` to have it in `to`, when that never changes.
fn constant_shift(from: Tz, to: Tz, now: i64) -> Result<i32, Inexpressible> {
    let mut shift = None;
    for day in 0..DAYS {
        let Some(time) = DateTime::from_timestamp(now + day * 86_400, 0) else { continue };
        let seconds = |zone: Tz| zone.offset_from_utc_datetime(&time.naive_utc()).fix().local_minus_utc();
        let here = seconds(to) - seconds(from);
        if *shift.get_or_insert(here) != here {
            return Err(Inexpressible::OffsetChanges);
        }
    }
    let shift = shift.unwrap_or(0);
    if shift % 60 == 0 { Ok(shift / 60) } else { Err(Inexpressible::OddOffset) }
}

fn list(values: &BTreeSet<i32>) -> String {
    values.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

fn shown(values: &BTreeSet<i32>, all: usize) -> String {
    if values.len() == all { "*".to_owned() } else { list(values) }
}
