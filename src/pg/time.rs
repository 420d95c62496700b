//! PostgreSQL's time: microseconds since 2000, and how they become Unix time.

use std::time::Duration;

use pgrx::pg_sys;

/// Microseconds of a second: PostgreSQL's unit of time.
pub const SECOND: i64 = 1_000_000;

/// Seconds from 1970 to PostgreSQL's epoch, 2000.
pub const EPOCH_SECONDS: i64 = 946_684_800;
/// The same in microseconds.
pub const EPOCH: i64 = EPOCH_SECONDS * SECOND;

/// The clock, microseconds since 2000.
pub fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// A stored time in microseconds since 1970; infinite times stay infinite.
pub const fn unix_micros(stored: i64) -> i64 {
    match stored {
        i64::MIN | i64::MAX => stored,
        finite => finite + EPOCH,
    }
}

/// How long it is until `time`; nothing when that has passed.
pub fn until(time: i64) -> Duration {
    Duration::from_micros(u64::try_from(time - now()).unwrap_or(0))
}
