//! Counting: what a test program printed, and one number for everything that ran.

use std::fmt;
use std::ops::AddAssign;
use std::process::ExitCode;

/// How many checks and tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Tally {
    /// One check.
    pub(crate) fn one(passed: bool) -> Self {
        Self { passed: u64::from(passed), failed: u64::from(!passed), skipped: 0 }
    }

    /// One check that was not made.
    pub(crate) fn skipped() -> Self {
        Self { skipped: 1, ..Self::default() }
    }

    /// What one line of a Rust test program adds: nothing unless it is the one that sums up.
    pub(crate) fn of_line(line: &str) -> Self {
        let Some(counts) = line.strip_prefix("test result: ") else { return Self::default() };
        let count = |what: &str| {
            counts
                .split(['.', ';'])
                .filter_map(|part| part.trim().split_once(' '))
                .find(|(_, unit)| *unit == what)
                .and_then(|(number, _)| number.parse().ok())
                .unwrap_or(0)
        };
        Self { passed: count("passed"), failed: count("failed"), skipped: count("ignored") }
    }

    /// What this type prints, read back: None for any other line.
    pub(crate) fn of_closing_line(line: &str) -> Option<Self> {
        let mut tally = Self::default();
        for (index, part) in line.split(", ").enumerate() {
            let (number, what) = part.split_once(' ')?;
            let count = match (index, what) {
                (0, "passed") => &mut tally.passed,
                (1, "failed") => &mut tally.failed,
                (2, "skipped") => &mut tally.skipped,
                _ => return None,
            };
            *count = number.parse().ok()?;
        }
        line.contains(", ").then_some(tally)
    }

    /// What the process that counted ends with: nothing that passed is no success.
    pub(crate) fn exit_code(self) -> ExitCode {
        if self.failed == 0 && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// A failure that no test reports, such as one that does not compile or a program that died, counts as one.
    pub(crate) fn at_least_one_failed_unless(mut self, succeeded: bool) -> Self {
        if !succeeded && self.failed == 0 {
            self.failed = 1;
        }
        self
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_a_test_program_is_counted_and_nothing_else() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 7 filtered out; finished in 1.23s";
        assert_eq!(Tally::of_line(line), Tally { passed: 12, failed: 3, skipped: 1 });
        assert_eq!(
            Tally::of_line("test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured"),
            Tally { passed: 2, ..Tally::default() }
        );
        assert_eq!(Tally::of_line("test a::b ... ok"), Tally::default());
        assert_eq!(Tally::of_line("1 passed; 2 failed"), Tally::default());
    }

    #[test]
    fn the_closing_line_names_the_skipped_only_if_there_are_any() {
        let mut sum = Tally::one(true);
        assert_eq!(sum.to_string(), "1 passed, 0 failed");
        sum += Tally::one(false);
        sum += Tally::skipped();
        assert_eq!(sum.to_string(), "1 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn the_closing_line_of_another_run_is_read_back_and_no_other_line_is() {
        for tally in [Tally { passed: 12, failed: 3, skipped: 0 }, Tally { passed: 0, failed: 0, skipped: 7 }]
        {
            assert_eq!(Tally::of_closing_line(&tally.to_string()), Some(tally));
        }
        for other in [
            "",
            "12 passed",
            "test result: ok. 2 passed; 0 failed",
            "3 failed, 2 passed",
            "x passed, 1 failed",
        ] {
            assert_eq!(Tally::of_closing_line(other), None, "{other}");
        }
    }

    #[test]
    fn a_run_that_died_without_a_failed_test_has_failed() {
        assert_eq!(Tally::one(true).at_least_one_failed_unless(false).failed, 1);
        assert_eq!(Tally::one(false).at_least_one_failed_unless(false).failed, 1);
        assert_eq!(Tally::one(true).at_least_one_failed_unless(true).failed, 0);
    }
}
