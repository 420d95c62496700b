//! Seconds since 1970 as people read them; no clock is read.

/// RFC 3339 in UTC, for times up to the year 9999; beyond them the number.
#[must_use]
pub fn print(seconds: u64) -> String {
    if seconds > 253_402_300_799 {
        return seconds.to_string();
    }
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March, counted from 0000-03-01, in cycles of 400 years.
    let since = days + 719_468;
    let (cycle, of_cycle) = (since / 146_097, since % 146_097);
    let year = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = cycle * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Whether there is such a day.
#[must_use]
pub const fn is_day(year: u16, month: u8, day: u8) -> bool {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    1 <= day && day <= days
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::export::time::micros;

    #[test]
    fn the_ends_of_the_range_are_printed() {
        assert_eq!(print(0), "1970-01-01T00:00:00Z");
        assert_eq!(print(253_402_300_799), "9999-12-31T23:59:59Z");
        assert_eq!(print(u64::MAX), u64::MAX.to_string());
    }

    proptest! {
        #[test]
        fn every_time_is_read_back(seconds in 0..253_402_300_800_u64) {
            prop_assert_eq!(micros(print(seconds).as_bytes()), Some(seconds as i64 * 1_000_000));
        }
    }
}
