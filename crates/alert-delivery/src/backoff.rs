//! When to retry: a pure function of the number of failures.

use std::time::Duration;

/// The pause after the first failure.
pub const FIRST: Duration = Duration::from_secs(2);
/// The longest pause, before jitter.
pub const LONGEST: Duration = Duration::from_secs(15 * 60);
/// The longest pause that a server may ask for: it is tried again after this one.
pub const MOST_PATIENCE: Duration = Duration::from_secs(60 * 60);

/// The pause after `failures` failures in a row: doubled each time up to [`LONGEST`], or what the server asked for within
/// one second and [`MOST_PATIENCE`], if that is longer. `jitter`, a random number from 0 to 1, shortens it by at most a
/// fifth, so that not every sender returns at once.
#[must_use]
pub fn pause(failures: u32, requested: Option<Duration>, jitter: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    let shortened = doubled.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 5.0);
    shortened.max(
        requested.map_or(Duration::ZERO, |requested| requested.clamp(Duration::from_secs(1), MOST_PATIENCE)),
    )
}

/// The pause after a refusal, which repeating the same request hardly changes: the longest.
#[must_use]
pub fn pause_after_refusal(jitter: f64) -> Duration {
    pause(u32::MAX, None, jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(failures: u32, jitter: f64) -> f64 {
        pause(failures, None, jitter).as_secs_f64()
    }

    #[test]
    fn the_pause_doubles_up_to_a_quarter_of_an_hour() {
        let pauses: Vec<f64> = (0..12).map(|n| seconds(n, 0.0)).collect();
        assert_eq!(pauses, [2.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 900.0, 900.0]);
        assert_eq!(seconds(u32::MAX, 0.0), 900.0);
        assert_eq!(pause_after_refusal(0.0), LONGEST);
    }

    #[test]
    fn jitter_shortens_by_at_most_a_fifth_whatever_is_given() {
        assert_eq!(seconds(3, 1.0), 6.4);
        assert_eq!(seconds(3, 0.5), 7.2);
        assert_eq!(seconds(3, 7.0), 6.4);
        assert_eq!(seconds(3, -7.0), 8.0);
        assert_eq!(seconds(3, f64::NEG_INFINITY), 8.0);
    }

    #[test]
    fn a_server_that_asks_for_patience_gets_it_within_bounds() {
        let requested = |seconds| pause(1, Some(Duration::from_secs(seconds)), 0.0);
        assert_eq!(requested(30), Duration::from_secs(30));
        assert_eq!(requested(u64::MAX), MOST_PATIENCE);
        // If the server asks for less than our own pause, ours applies.
        assert_eq!(requested(0), FIRST);
    }
}
