//! Failures of a call in fixed words: a library's message may contain the URL, and a server's message may contain
//! anything.

use std::io;

/// What went wrong, in one line without any part of the URL.
#[must_use]
pub fn describe(error: &ureq::Error) -> String {
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
        ureq::Error::BodyExceedsLimit(_) => "the answer is too large".into(),
        ureq::Error::Rustls(error) => of_tls(error),
        ureq::Error::Tls(_) | ureq::Error::Pem(_) => "TLS failed".into(),
        _ => "the request failed".into(),
    }
}

fn of_io(error: &io::Error) -> String {
    // A failed handshake arrives as an I/O error around the error of TLS.
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
        io::ErrorKind::InvalidData => "the answer is no text".into(),
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
