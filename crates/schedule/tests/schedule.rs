//! When jobs run: across changes of summer time, after downtime, and when the clock is set.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use chrono::{DateTime, TimeZone as _};
use chrono_tz::Tz;
use proptest::prelude::*;
use zeroauth_audit_schedule::{Error, Inexpressible, Schedule};

/// Seconds of a time written as RFC 3339.
fn at(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp()
}

/// The runs between two times, as local times with their offset.
fn runs(expression: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
    let schedule = Schedule::new(expression, zone).unwrap();
    let zone: Tz = zone.parse().unwrap();
    let mut time = at(from);
    std::iter::from_fn(|| {
        time = schedule.next_after(time)?;
        Some(time)
    })
    .take_while(|time| *time < at(until))
    .map(|time| zone.timestamp_opt(time, 0).unwrap().format("%d %H:%M%:z").to_string())
    .collect()
}

#[test]
fn a_time_in_the_gap_runs_once_at_its_end() {
    assert_eq!(
        runs("30 2 * * *", "Europe/Berlin", "2025-03-28T12:00:00Z", "2025-03-31T12:00:00Z"),
        ["29 02:30+01:00", "30 03:00+02:00", "31 02:30+02:00"]
    );
    assert_eq!(
        runs("30 2 * * *", "America/New_York", "2025-03-08T12:00:00Z", "2025-03-10T12:00:00Z"),
        ["09 03:00-04:00", "10 02:30-04:00"]
    );
    // Two times in one gap are one run, and a list of hours does not lose the one in the gap.
    assert_eq!(
        runs("15,45 2,14 * * *", "Europe/Berlin", "2025-03-29T22:00:00Z", "2025-03-30T20:00:00Z"),
        ["30 03:00+02:00", "30 14:15+02:00", "30 14:45+02:00"]
    );
}

#[test]
fn a_time_that_comes_twice_runs_the_first_time_only() {
    assert_eq!(
        runs("30 2 * * *", "Europe/Berlin", "2025-10-25T12:00:00Z", "2025-10-27T12:00:00Z"),
        ["26 02:30+02:00", "27 02:30+01:00"]
    );
    assert_eq!(
        runs("30 1,13 * * *", "America/New_York", "2025-11-01T20:00:00Z", "2025-11-03T00:00:00Z"),
        ["02 01:30-04:00", "02 13:30-05:00"]
    );
}

#[test]
fn an_hourly_job_runs_every_real_hour_through_both_changes() {
    for (from, until) in
        [("2025-03-29T12:00:00Z", "2025-03-31T12:00:00Z"), ("2025-10-25T12:00:00Z", "2025-10-27T12:00:00Z")]
    {
        let schedule = Schedule::new("0 * * * *", "Europe/Berlin").unwrap();
        let mut time = at(from);
        while time < at(until) {
            let next = schedule.next_after(time).unwrap();
            assert_eq!(next - time, 3600);
            time = next;
        }
    }
    assert_eq!(
        runs("0 * * * *", "America/New_York", "2025-11-02T04:30:00Z", "2025-11-02T07:30:00Z"),
        ["02 01:00-04:00", "02 01:00-05:00", "02 02:00-05:00"]
    );
}

#[test]
fn half_hours_are_right_in_kolkata_and_on_lord_howe() {
    assert_eq!(
        runs("0 6 * * *", "Asia/Kolkata", "2025-06-01T00:00:00Z", "2025-06-02T12:00:00Z"),
        ["01 06:00+05:30", "02 06:00+05:30"]
    );
    // Lord Howe moves its clock by half an hour: 02:00 becomes 02:30 on 5 October, 02:00 becomes 01:30 on 6 April.
    assert_eq!(
        runs("15 2 * * *", "Australia/Lord_Howe", "2025-10-03T20:00:00Z", "2025-10-05T20:00:00Z"),
        ["05 02:30+11:00", "06 02:15+11:00"]
    );
    assert_eq!(
        runs("45 1 * * *", "Australia/Lord_Howe", "2025-04-05T00:00:00Z", "2025-04-06T20:00:00Z"),
        ["06 01:45+11:00", "07 01:45+10:30"]
    );
    assert_eq!(
        runs("*/30 * * * *", "Australia/Lord_Howe", "2025-04-05T14:00:00Z", "2025-04-05T16:01:00Z"),
        ["06 01:30+11:00", "06 01:30+10:30", "06 02:00+10:30", "06 02:30+10:30"]
    );
}

#[test]
fn what_was_missed_is_made_up_by_one_run() {
    let hourly = Schedule::new("0 * * * *", "UTC").unwrap();
    // Down, or the clock jumped, from before 10:00 until 17:20: one run, and the next is at 18:00.
    let due = at("2025-06-01T10:00:00Z");
    assert_eq!(hourly.following(due, at("2025-06-01T17:20:00Z")), Some(at("2025-06-01T18:00:00Z")));
}

#[test]
fn a_clock_set_back_repeats_no_run() {
    let hourly = Schedule::new("0 * * * *", "UTC").unwrap();
    let due = at("2025-06-01T10:00:00Z");
    // It ran at 10:00; the clock now says 08:30 again.
    assert_eq!(hourly.following(due, at("2025-06-01T08:30:00Z")), Some(at("2025-06-01T11:00:00Z")));
    assert_eq!(hourly.corrected(at("2025-06-01T11:00:00Z"), at("2025-06-01T08:30:00Z")), None);
    // A day and more: the time before was the wrong one, and waiting for it would stop the job for as long.
    assert_eq!(
        hourly.corrected(at("2026-06-01T11:00:00Z"), at("2025-06-01T08:30:00Z")),
        Some(at("2025-06-01T09:00:00Z"))
    );
    let monthly = Schedule::new("0 0 1 * *", "UTC").unwrap();
    assert_eq!(monthly.corrected(at("2025-07-01T00:00:00Z"), at("2025-06-02T00:00:00Z")), None);
}

#[test]
fn a_job_is_overdue_after_its_second_run_without_success() {
    let hourly = Schedule::new("0 * * * *", "UTC").unwrap();
    assert_eq!(hourly.overdue_after(at("2025-06-01T10:00:05Z")), Some(at("2025-06-01T12:00:00Z")));
}

#[test]
fn what_is_no_schedule_is_refused() {
    for expression in [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "x * * * *",
        "5-1/0 * * * *",
        "@reboot",
        "@never",
    ] {
        let refused = Schedule::new(expression, "UTC");
        assert!(
            matches!(refused, Err(Error::FieldCount { .. } | Error::Expression { .. })),
            "{expression}: {refused:?}"
        );
    }
    for zone in ["", "Mars/Olympus", "europe/berlin", "+02:00"] {
        assert_eq!(Schedule::new("* * * * *", zone).unwrap_err(), Error::UnknownZone(zone.to_owned()));
    }
    assert!(Schedule::new(&format!("{} * * * *", vec!["1"; 200].join(",")), "UTC").is_err());
    // Readable, and yet it never comes.
    assert_eq!(Schedule::new("0 0 30 2 *", "UTC").unwrap().next_after(at("2025-01-01T00:00:00Z")), None);
}

#[test]
fn a_zone_without_summer_time_is_said_exactly_in_gmt() {
    let now = at("2025-06-01T00:00:00Z");
    let gmt = |expression: &str, zone: &str| Schedule::new(expression, zone).unwrap().in_zone("UTC", now);
    for (expression, zone, expected) in [
        ("*/5 * * * *", "UTC", "*/5 * * * *"),
        ("@hourly", "Etc/UTC", "0 * * * *"),
        ("30 6 * * *", "Asia/Kolkata", "0 1 * * *"),
        ("30 6 1 * *", "Asia/Kolkata", "0 1 1 * *"),
        ("0 3 * * *", "Asia/Kolkata", "30 21 * * *"),
        ("0 3 * * MON", "Asia/Kolkata", "30 21 * * 0"),
        ("0 3 * * 0,6", "Asia/Kolkata", "30 21 * * 5,6"),
        ("0 * * * *", "Asia/Kolkata", "30 * * * *"),
        ("*/15 * * * *", "Asia/Kathmandu", "0,15,30,45 * * * *"),
        ("0 20 * * 6", "America/Phoenix", "0 3 * * 0"),
    ] {
        assert_eq!(gmt(expression, zone).as_deref(), Ok(expected), "{expression} in {zone}");
    }
    for (expression, zone, reason) in [
        ("0 3 * * *", "Europe/Berlin", Inexpressible::OffsetChanges),
        ("0 3 * * *", "Africa/Casablanca", Inexpressible::OffsetChanges),
        ("0 3 1 * *", "Asia/Kolkata", Inexpressible::DayChanges),
        ("0 3 * 6 *", "Asia/Kolkata", Inexpressible::DayChanges),
        ("0,45 6 * * *", "Asia/Kolkata", Inexpressible::NoProduct),
        ("0 * * * 1", "Asia/Kolkata", Inexpressible::NoProduct),
        ("0 0 L * *", "UTC", Inexpressible::Modifier),
        ("0 0 * * 5#2", "UTC", Inexpressible::Modifier),
    ] {
        assert_eq!(gmt(expression, zone), Err(reason), "{expression} in {zone}");
    }
}

proptest! {
    #[test]
    fn a_converted_schedule_has_the_same_runs(minute in 0u32..60, hour in 0u32..24, weekday in 0u32..7, any in any::<bool>(), zone in 0usize..5, day in 0i64..700) {
        let zone = ["Asia/Kolkata", "Asia/Kathmandu", "America/Phoenix", "Pacific/Kiritimati", "Pacific/Pago_Pago"][zone];
        let weekday = if any { "*".to_owned() } else { weekday.to_string() };
        let schedule = Schedule::new(&format!("{minute} {hour} * * {weekday}"), zone).unwrap();
        let now = 1_750_000_000 + day * 86_400;
        let converted = Schedule::new(&schedule.in_zone("UTC", now).unwrap(), "UTC").unwrap();
        let (mut one, mut other) = (now, now);
        for _ in 0..10 {
            one = schedule.next_after(one).unwrap();
            other = converted.next_after(other).unwrap();
            prop_assert_eq!(one, other);
        }
    }

    #[test]
    fn the_next_run_is_always_later(minute in 0u32..60, step in 1u32..30, time in 1_600_000_000i64..1_900_000_000, zone in 0usize..4) {
        let zone = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"][zone];
        for expression in [format!("{minute} 2 * * *"), format!("*/{step} * * * *"), format!("{minute} 1-3 * * *")] {
            let next = Schedule::new(&expression, zone).unwrap().next_after(time).unwrap();
            prop_assert!(next > time, "{expression} in {zone}: {next} after {time}");
            prop_assert!(next - time <= 26 * 3600);
        }
    }
}
