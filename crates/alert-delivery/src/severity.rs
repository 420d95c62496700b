//! The four severities, in the words of each receiver. One table: an alert must not be critical in one place and high in another.

/// A severity: 1 is the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Severity(u8);

impl Severity {
    /// From the number of an alert; one that cannot be counts as the highest.
    pub(crate) fn new(priority: u64) -> Self {
        Self(u8::try_from(priority).ok().filter(|number| (1..=4).contains(number)).unwrap_or(1))
    }

    /// 1 to 4.
    pub(crate) const fn priority(self) -> u8 {
        self.0
    }

    /// In every payload, and the label of Alertmanager.
    pub(crate) const fn word(self) -> &'static str {
        match self.0 {
            1 => "critical",
            2 => "high",
            3 => "warning",
            _ => "info",
        }
    }

    /// Of PagerDuty's Events API v2, which has four words of its own.
    pub(crate) const fn pagerduty(self) -> &'static str {
        match self.0 {
            1 => "critical",
            2 => "error",
            3 => "warning",
            _ => "info",
        }
    }

    /// Of Opsgenie, which has five.
    pub(crate) const fn opsgenie(self) -> &'static str {
        match self.0 {
            1 => "P1",
            2 => "P2",
            3 => "P3",
            _ => "P4",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_one_word_and_what_is_none_counts_as_the_highest() {
        let words = |n| {
            let severity = Severity::new(n);
            (severity.priority(), severity.word(), severity.pagerduty(), severity.opsgenie())
        };
        assert_eq!(words(1), (1, "critical", "critical", "P1"));
        assert_eq!(words(2), (2, "high", "error", "P2"));
        assert_eq!(words(3), (3, "warning", "warning", "P3"));
        assert_eq!(words(4), (4, "info", "info", "P4"));
        for wrong in [0, 5, u64::MAX] {
            assert_eq!(Severity::new(wrong), Severity::new(1));
        }
    }
}
