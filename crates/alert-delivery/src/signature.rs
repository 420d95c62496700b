//! The signature of a webhook: HMAC-SHA256 (RFC 2104) over the time, a dot and the body, in hexadecimal.
//!
//! A receiver computes the same over the bytes it got and the header's time, compares in constant time, and refuses a
//! request older than [`REPLAY_WINDOW`]: a recorded request is useless later. Within the window the header
//! [`ID`] distinguishes a repeated request from a new one.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// `v1=` and 64 hexadecimal digits.
pub const SIGNATURE: &str = "Zeroauth-Audit-Signature";
/// Seconds since 1970, when this attempt was made.
pub const TIMESTAMP: &str = "Zeroauth-Audit-Timestamp";
/// Which delivery this is: the same in every attempt.
pub const ID: &str = "Zeroauth-Audit-Delivery";
/// How far a receiver's clock and ours may differ before it refuses.
pub const REPLAY_WINDOW: Duration = Duration::from_secs(5 * 60);

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Not made with this key over this body and time.
    Mismatch,
    /// Made too long ago, or in the future.
    OutsideWindow,
}

fn mac(key: &[u8], timestamp: u64, body: &[u8]) -> Hmac<Sha256> {
    // A key of any length is a key of HMAC; the empty one stands for a case that cannot be.
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

/// The value of the header [`SIGNATURE`].
#[must_use]
pub fn sign(key: &[u8], timestamp: u64, body: &[u8]) -> String {
    let mut text = String::from("v1=");
    for byte in mac(key, timestamp, body).finalize().into_bytes() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// What a receiver does with the two headers, at its own time `now`.
pub fn verify(key: &[u8], signature: &str, timestamp: u64, body: &[u8], now: u64) -> Result<(), Error> {
    let digits = signature.strip_prefix("v1=").ok_or(Error::Mismatch)?;
    let bytes = unhex(digits).ok_or(Error::Mismatch)?;
    mac(key, timestamp, body).verify_slice(&bytes).map_err(|_| Error::Mismatch)?;
    if now.abs_diff(timestamp) > REPLAY_WINDOW.as_secs() {
        return Err(Error::OutsideWindow);
    }
    Ok(())
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'a key of twenty bytes'
    const KNOWN: &str = "v1=52779fce36a4af95c62be00c978224908c8d2bc271962a86f01607dbf605c281";

    #[test]
    fn the_signature_is_what_openssl_computes() {
        assert_eq!(sign(b"a key of twenty bytes", 1_700_000_000, br#"{"a":1}"#), KNOWN);
    }

    #[test]
    fn a_changed_body_time_or_key_and_an_old_request_are_refused() {
        let (key, body, at) = (b"key".as_slice(), b"body".as_slice(), 1_700_000_000);
        let signed = sign(key, at, body);
        assert_eq!(verify(key, &signed, at, body, at + 300), Ok(()));
        assert_eq!(verify(key, &signed, at, body, at - 300), Ok(()));
        assert_eq!(verify(key, &signed, at, body, at + 301), Err(Error::OutsideWindow));
        assert_eq!(verify(key, &signed, at, body, at - 301), Err(Error::OutsideWindow));
        assert_eq!(verify(key, &signed, at, b"bodies", at), Err(Error::Mismatch));
        assert_eq!(verify(key, &signed, at + 1, body, at), Err(Error::Mismatch));
        assert_eq!(verify(b"kez", &signed, at, body, at), Err(Error::Mismatch));
        for wrong in ["", "v1=", "v2=00", "v1=zz", "v1=é1", &signed[3..], &signed[..60]] {
            assert_eq!(verify(key, wrong, at, body, at), Err(Error::Mismatch), "{wrong}");
        }
    }
}
