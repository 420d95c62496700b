//! Waiting for a condition with a deadline, never for a fixed time.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Polls `condition` until it holds; panics with `what` when `deadline` has passed, so that the test says what it
/// waited for.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let since = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if condition() {
            return;
        }
        assert!(since.elapsed() < deadline, "waited {deadline:?} in vain for: {what}");
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
