//! What is being done, and how long it usually takes: on standard error, because standard output belongs to results.
//!
//! On a terminal a step is a line that moves, with a bar once it is known how much there is to do; several run side by side.
//! Elsewhere it is a plain line when it begins, and another when it took long.

use std::io::{IsTerminal, stderr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// A step that took no longer is not worth a line at its end.
const SHORT: Duration = Duration::from_secs(2);

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Says something, above the bars if there are any.
pub(crate) fn say(text: &str) {
    let line = format!("xtask: {text}");
    if !stderr().is_terminal() || BARS.println(&line).is_err() {
        eprintln!("{line}");
    }
}

/// Something that takes time. It ends with [`Step::done`]; dropped before that, it failed, and its line goes away.
pub(crate) struct Step {
    what: String,
    begun: Instant,
    bar: ProgressBar,
}

impl Step {
    /// Begins to do `what`, which usually takes `usually`, such as "a minute".
    pub(crate) fn begin(what: &str, usually: &str) -> Self {
        let bar = if stderr().is_terminal() {
            let bar = BARS.add(ProgressBar::new_spinner());
            bar.set_style(style("{spinner} {prefix} ({elapsed}) {wide_msg}"));
            bar.set_prefix(format!("{what}, usually {usually}"));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        } else {
            say(&format!("{what}, usually {usually}"));
            ProgressBar::hidden()
        };
        Self { what: what.to_owned(), begun: Instant::now(), bar }
    }

    /// `done` of `of` parts are done.
    pub(crate) fn at(&self, done: u64, of: u64) {
        if self.bar.length() != Some(of) {
            self.bar.set_style(style("{spinner} {prefix} ({elapsed}) [{bar:15}] {pos}/{len} {wide_msg}"));
            self.bar.set_length(of);
        }
        self.bar.set_position(done);
    }

    /// What is being done at the moment.
    pub(crate) fn now(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// It is done.
    pub(crate) fn done(self) {
        let took = self.begun.elapsed();
        self.bar.finish_and_clear();
        if took > SHORT {
            say(&format!("{}: done in {} s", self.what, took.as_secs()));
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A style of ours; the templates here are all valid, and another would only look different.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .progress_chars("=> ")
}
