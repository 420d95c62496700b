//! How far a check is: a bar on the terminal, for files that take more than a second.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Checks this short have no bar.
const QUIET: Duration = Duration::from_secs(1);

/// Bytes between two looks at the clock.
const STEP: u64 = 4 << 20;

/// A bar that shows itself after a second.
pub struct Progress {
    started: Instant,
    total: u64,
    next: u64,
    bar: Option<ProgressBar>,
    wanted: bool,
}

impl Progress {
    /// For `total` bytes; 0 when nobody knows how many there are, and then there is no bar.
    #[must_use]
    pub fn new(total: u64) -> Self {
        let wanted = total > 0 && std::io::stderr().is_terminal();
        Self { started: Instant::now(), total, next: STEP, bar: None, wanted }
    }

    /// For nobody.
    #[must_use]
    pub fn none() -> Self {
        Self { started: Instant::now(), total: 0, next: u64::MAX, bar: None, wanted: false }
    }

    /// So many bytes are done.
    pub fn at(&mut self, bytes: u64) {
        if bytes >= self.next {
            self.next = bytes.saturating_add(STEP);
            self.show(bytes);
        }
    }

    #[cold]
    fn show(&mut self, bytes: u64) {
        if !self.wanted || self.started.elapsed() < QUIET {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let template =
                "{wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(self.total).with_style(style)
        });
        bar.set_position(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
