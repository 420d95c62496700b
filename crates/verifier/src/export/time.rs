//! Times of an export: RFC 3339 in UTC with up to six fractional digits, years 1 to 9999, or an infinity.

/// Microseconds since 1970-01-01T00:00:00Z in the proleptic Gregorian calendar, the ends of the range for infinities; `None`
/// when it is no time of an export.
pub fn micros(text: &[u8]) -> Option<i64> {
    match text {
        b"infinity" => return Some(i64::MAX),
        b"-infinity" => return Some(i64::MIN),
        _ => {}
    }
    // 2026-11-21T09:30:00.250000+00:00
    let rest = text.strip_suffix(b"+00:00").or_else(|| text.strip_suffix(b"Z"))?;
    let (whole, fraction) = rest.split_at_checked(19)?;
    let separated =
        whole[4] == b'-' && whole[7] == b'-' && whole[10] == b'T' && whole[13] == b':' && whole[16] == b':';
    if !separated {
        return None;
    }
    let year = number(&whole[..4])?;
    let month = number(&whole[5..7])?;
    let day = number(&whole[8..10])?;
    let (hour, minute, second) = (number(&whole[11..13])?, number(&whole[14..16])?, number(&whole[17..])?);
    let fits = year >= 1 && (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    if !fits || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1_000_000 + micros_of(fraction)?)
}

fn micros_of(fraction: &[u8]) -> Option<i64> {
    let Some((dot, digits)) = fraction.split_first() else { return Some(0) };
    if *dot != b'.' || !(1..=6).contains(&digits.len()) {
        return None;
    }
    Some(number(digits)? * 10_i64.pow(6 - digits.len() as u32))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01, of a year from 1 on.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March end with the day that leap years add.
    let shifted = (month + 9) % 12;
    let years = year - shifted / 10;
    let leap_days = years / 4 - years / 100 + years / 400;
    years * 365 + leap_days + (shifted * 306 + 5) / 10 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::OffsetDateTime;
    use time::macros::format_description;

    use super::*;

    #[test]
    fn times_of_the_format_are_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:00.000000+00:00", 0),
            ("2026-11-21T09:30:00.250000+00:00", 1_795_253_400_250_000),
            ("2026-11-21T09:30:00.25+00:00", 1_795_253_400_250_000),
            ("2026-11-21T09:30:00+00:00", 1_795_253_400_000_000),
            ("2026-11-21T09:30:00Z", 1_795_253_400_000_000),
            ("0001-01-01T00:00:00.000000+00:00", -62_135_596_800_000_000),
            ("9999-12-31T23:59:59.999999+00:00", 253_402_300_799_999_999),
            ("infinity", i64::MAX),
            ("-infinity", i64::MIN),
        ] {
            assert_eq!(micros(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "now",
            "2026-11-21",
            "2026-11-21 09:30:00+00:00",
            "2026-11-21T09:30:00",
            "2026-11-21T09:30:00+01:00",
            "2026-11-21T09:30:00.+00:00",
            "2026-11-21T09:30:00.1234567+00:00",
            "2026-11-21T09:30:00,1+00:00",
            "2026-02-29T00:00:00+00:00",
            "1900-02-29T00:00:00+00:00",
            "2026-13-01T00:00:00+00:00",
            "2026-00-01T00:00:00+00:00",
            "2026-01-00T00:00:00+00:00",
            "2026-01-01T24:00:00+00:00",
            "2026-01-01T00:60:00+00:00",
            "2026-01-01T00:00:60+00:00",
            "0000-01-01T00:00:00+00:00",
            "+026-01-01T00:00:00+00:00",
            "2026-1-001T00:00:00+00:00",
            "Infinity",
        ] {
            assert_eq!(micros(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_time_is_that_of_the_time_crate(micros_since in -62_135_596_800_000_000_i64..=253_402_300_799_999_999) {
            let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros_since) * 1000).unwrap();
            let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]+00:00");
            prop_assert_eq!(micros(time.format(format).unwrap().as_bytes()), Some(micros_since));
        }
    }
}
