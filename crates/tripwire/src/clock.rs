//! Whether the wall clock was stepped, and whether the kernel thinks it is right.
//!
//! Slewing moves the wall clock and the clocks that count from the boot by the same amount, so their distance changes only
//! when the wall clock is set (or a leap second comes).

/// Microseconds of a millisecond.
const MILLISECOND: i64 = 1000;
/// A step is noted from this size on when the synchronisation is not looked at, in microseconds.
const LARGE_STEP: i64 = 1_000_000;
/// The kernel lets its bound of the error grow by 500 µs each second until the clock is disciplined again. The usual daemons ask
/// their servers at least every 2048 s: an error that grew until then is no sign of trouble.
const GROWTH_BETWEEN_POLLS: i64 = 2048 * 500;

/// Both clocks at one moment, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock, since 1970.
    pub wall: i64,
    /// Since the boot; setting the wall clock does not change it.
    pub since_boot: i64,
}

impl Reading {
    /// When the boot was by the wall clock: the same until the wall clock is set.
    #[must_use]
    pub const fn booted_at(self) -> i64 {
        self.wall.wrapping_sub(self.since_boot)
    }
}

/// How far the wall clock was set, in microseconds, since the boot was at `before` by it: `None` when by no more than
/// `max_error` milliseconds allow, or a second if that is negative.
#[must_use]
pub fn step(before: i64, now: Reading, max_error: i32) -> Option<i64> {
    let moved = now.booted_at().wrapping_sub(before);
    let allowed = if max_error < 0 { LARGE_STEP } else { i64::from(max_error) * MILLISECOND };
    (moved.unsigned_abs() > allowed.unsigned_abs()).then_some(moved)
}

/// The kernel's report of its clock, in microseconds: the answer of `adjtimex`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discipline {
    /// Whether it calls itself unsynchronised.
    pub unsynchronised: bool,
    /// The correction that is still to be made.
    pub offset: i64,
    /// The error as estimated.
    pub estimated_error: i64,
    /// The error at most.
    pub max_error: i64,
}

/// Why the clock does not count as synchronised to `max_error` milliseconds; `None` when it does, or when that is negative.
#[must_use]
pub fn unsynchronised(kernel: &Discipline, max_error: i32) -> Option<&'static str> {
    if max_error < 0 {
        return None;
    }
    let allowed = i64::from(max_error) * MILLISECOND;
    if kernel.unsynchronised {
        Some("nobody synchronises the clock")
    } else if kernel.offset.saturating_abs() > allowed {
        Some("the clock is being corrected by more than is allowed")
    } else if kernel.estimated_error > allowed {
        Some("the estimated error of the clock is more than is allowed")
    } else if kernel.max_error > allowed + GROWTH_BETWEEN_POLLS {
        Some("the clock was not corrected for too long")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn at(wall: i64, since_boot: i64) -> Reading {
        Reading { wall: wall * SECOND, since_boot: since_boot * SECOND }
    }

    #[test]
    fn time_that_passes_is_no_step_and_a_set_clock_is_one_in_either_direction() {
        let before = at(1_000_000, 500).booted_at();
        assert_eq!(step(before, at(1_000_060, 560), 100), None);
        assert_eq!(step(before, at(1_003_660, 560), 100), Some(3600 * SECOND));
        assert_eq!(step(before, at(996_460, 560), 100), Some(-3600 * SECOND));
        let small = Reading { wall: at(1_000_060, 560).wall + 100 * MILLISECOND, since_boot: 560 * SECOND };
        assert_eq!(step(before, small, 100), None);
        assert_eq!(step(before, Reading { wall: small.wall + 1, ..small }, 100), Some(100_001));
        assert_eq!(step(before, Reading { wall: small.wall + 1, ..small }, -1), None);
        assert_eq!(step(before, at(1_000_062, 560), -1), Some(2 * SECOND));
    }

    #[test]
    fn a_clock_that_nobody_corrects_or_that_is_wrong_is_unsynchronised() {
        let fine = Discipline {
            unsynchronised: false,
            offset: -90_000,
            estimated_error: 90_000,
            // What timesyncd leaves behind just before it asks again.
            max_error: 1_024_000,
        };
        assert_eq!(unsynchronised(&fine, 100), None);
        for wrong in [
            Discipline { unsynchronised: true, ..fine },
            Discipline { offset: -100_001, ..fine },
            Discipline { estimated_error: 100_001, ..fine },
            Discipline { max_error: 1_124_001, ..fine },
        ] {
            assert!(unsynchronised(&wrong, 100).is_some(), "{wrong:?}");
            assert_eq!(unsynchronised(&wrong, -1), None);
        }
    }
}
