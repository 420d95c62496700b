//! What came of one attempt, and how a failure is told: in fixed words, because what a library says may hold the URL, and
//! what a server says may hold anything.

use std::io;
use std::time::{Duration, SystemTime};

/// What came of one attempt.
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
        /// How long the server asked us to wait.
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
        Outcome::retry(told(error))
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

fn told(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => of_io(error),
        ureq::Error::Timeout(ureq::Timeout::Resolve) => {
            "the name of the host was not resolved in time".into()
        }
        ureq::Error::Timeout(_) => "no answer in time".into(),
        ureq::Error::HostNotFound => "the name of the host is not known".into(),
        ureq::Error::ConnectionFailed => "no connection".into(),
        ureq::Error::Protocol(_) | ureq::Error::Http(_) => "the answer is no HTTP".into(),
        ureq::Error::LargeResponseHeader(..) => "the head of the answer is too large".into(),
        ureq::Error::Rustls(error) => of_tls(error),
        ureq::Error::Tls(_) | ureq::Error::Pem(_) => "TLS failed".into(),
        _ => "the request failed".into(),
    }
}

fn of_io(error: &io::Error) -> String {
    // A failed handshake arrives as an I/O error around what TLS said.
    let mut cause: Option<&(dyn std::error::Error + 'static)> =
        error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
    while let Some(inner) = cause {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return of_tls(tls);
        }
        cause = inner.source();
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "the connection was refused".into(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer in time".into(),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => "the server closed the connection".into(),
        kind => match error.raw_os_error() {
            Some(code) => format!("the connection failed: {kind} (os error {code})"),
            None => format!("the connection failed: {kind}"),
        },
    }
}

fn of_tls(error: &rustls::Error) -> String {
    use rustls::{CertificateError as certificate, Error as tls};
    let what = match error {
        tls::InvalidCertificate(
            certificate::NotValidForName | certificate::NotValidForNameContext { .. },
        ) => "the certificate is for another name",
        tls::InvalidCertificate(certificate::Expired | certificate::ExpiredContext { .. }) => {
            "the certificate has expired"
        }
        tls::InvalidCertificate(certificate::UnknownIssuer) => {
            "the certificate is not from an authority that is trusted here"
        }
        tls::InvalidCertificate(_) => "the certificate is not valid",
        tls::InvalidMessage(_) | tls::InappropriateMessage { .. } => "the server speaks no TLS there",
        tls::PeerIncompatible(_) => "the server has no version or cipher of TLS in common with us",
        tls::AlertReceived(_) => "the server ended it with an alert",
        _ => return "TLS failed".into(),
    };
    format!("TLS failed: {what}")
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
        // A date that is past asks for nothing.
        let later = now + Duration::from_secs(3600);
        assert_eq!(patience(Some("Thu, 01 Jan 1970 00:01:00 GMT"), later), None);
    }
}
