//! The outcome of one attempt.

use std::time::{Duration, SystemTime};

use zeroauth_audit_transport::failure;

/// The outcome of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The server accepted it (2xx).
    Delivered,
    /// Not this time: no connection, no answer, or an answer that says so (3xx, 408, 425, 429, 5xx), or a file of the route
    /// that cannot be used. Nothing else on this route will do better now.
    Retry {
        /// What happened, without any part of the URL.
        error: String,
        /// The pause that the server asked for.
        after: Option<Duration>,
    },
    /// The server refused this very request (another 4xx): tried again, but slowly.
    Refused {
        /// What happened.
        error: String,
    },
}

impl Outcome {
    pub(crate) fn retry(error: impl Into<String>) -> Self {
        Outcome::Retry { error: error.into(), after: None }
    }

    /// Of a refusal: with what the server said.
    #[must_use]
    pub(crate) fn because(self, said: Option<String>) -> Self {
        match (self, said) {
            (Outcome::Refused { error }, Some(said)) => {
                Outcome::Refused { error: format!("{error}: {said}") }
            }
            (outcome, _) => outcome,
        }
    }

    /// By the status of an answer, and its Retry-After at the time `now`.
    pub(crate) fn of_status(status: u16, retry_after: Option<&str>, now: SystemTime) -> Self {
        let error = format!("the server answered {status}");
        match status {
            200..=299 => Outcome::Delivered,
            300..=399 => Outcome::retry(format!("{error}: redirects are not followed")),
            408 | 425 | 429 => Outcome::Retry { error, after: patience(retry_after, now) },
            400..=499 => Outcome::Refused { error },
            _ => Outcome::Retry { error, after: patience(retry_after, now) },
        }
    }

    pub(crate) fn of_error(error: &ureq::Error) -> Self {
        Outcome::retry(failure::describe(error))
    }
}

/// Retry-After: seconds, or a date (RFC 9110, 10.2.3).
fn patience(header: Option<&str>, now: SystemTime) -> Option<Duration> {
    let header = header?.trim();
    match header.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(header).ok()?.duration_since(now).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16) -> Outcome {
        Outcome::of_status(status, None, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn only_a_2xx_is_a_delivery_and_only_a_4xx_of_this_request_a_refusal() {
        assert_eq!(of(200), Outcome::Delivered);
        assert_eq!(of(204), Outcome::Delivered);
        for status in [301, 302, 307, 408, 425, 429, 500, 502, 503, 599, 100, 999] {
            assert!(matches!(of(status), Outcome::Retry { .. }), "{status}");
        }
        for status in [400, 401, 403, 404, 410, 422, 451] {
            assert!(matches!(of(status), Outcome::Refused { .. }), "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date_and_nonsense_is_nothing() {
        let now = SystemTime::UNIX_EPOCH;
        let seconds = |header| patience(Some(header), now).map(|d| d.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 7 "), Some(7));
        assert_eq!(seconds("Thu, 01 Jan 1970 00:01:00 GMT"), Some(60));
        assert_eq!(seconds("-1"), None);
        assert_eq!(seconds("99999999999999999999999"), None);
        assert_eq!(seconds("soon"), None);
        // A date in the past asks for no pause.
        let later = now + Duration::from_secs(3600);
        assert_eq!(patience(Some("Thu, 01 Jan 1970 00:01:00 GMT"), later), None);
    }
}
