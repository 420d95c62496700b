//! Checkpoints (C2SP tlog-checkpoint): the signed statement of a log's origin, size and root hash.
//!
//! The body is exactly three lines. C2SP allows more ("extension lines", not recommended); no checkpoint of ours has any, nothing
//! here reads the logs of others, and a line that nobody interprets is a place to hide something in: they are refused.
//!
//! A note has two signature lines of the log, by one key under the log's origin as its name: the plain one (type 0x01), and a
//! cosignature (type 0x04) that says when it was sealed. Silence is sealed by signing the same body again at a later time.
//! Lines of witnesses follow. [`crate::trust`] decides whether a note is to be believed.

use alloc::format;
use alloc::string::String;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::digest::Digest;
use crate::merkle::EMPTY_ROOT;
use crate::note::SigningKey;

/// Why a text is not the body of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It has another number of lines, or no newline at its end.
    #[error("a checkpoint has three lines")]
    Lines,
    /// The first line is empty.
    #[error("a checkpoint has an origin")]
    Origin,
    /// The second line is no number as it must be written.
    #[error("the size of a checkpoint is decimal, without leading zeros and less than 2^64")]
    Size,
    /// The third line is not the base64 of 32 bytes.
    #[error("the root of a checkpoint is the base64 of 32 bytes")]
    Root,
    /// A tree without leaves has only one root.
    #[error("a checkpoint of size 0 has another root than the empty tree")]
    EmptyRoot,
}

/// What a checkpoint states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Root hash.
    pub root: Digest,
}

impl Checkpoint {
    /// Reads a body (the text of the note, with its last newline).
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn parse(body: &str) -> Result<Self, Error> {
        let mut lines = body.strip_suffix('\n').ok_or(Error::Lines)?.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(Error::Lines);
        };
        if origin.is_empty() {
            return Err(Error::Origin);
        }
        let size = decimal(size).ok_or(Error::Size)?;
        let root = hash(root).ok_or(Error::Root)?;
        if size == 0 && root != EMPTY_ROOT {
            return Err(Error::EmptyRoot);
        }
        Ok(Self { origin: origin.into(), size, root })
    }

    /// The body: what is signed, witnessed and anchored.
    #[must_use]
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.as_bytes()))
    }

    /// The note of this checkpoint, sealed at `time` (seconds since 1970 in UTC), without witnesses; `None` when the time is 2^63
    /// or more. The same arguments give the same bytes.
    #[must_use]
    pub fn sign(&self, key: &SigningKey, time: u64) -> Option<String> {
        let body = self.body();
        let plain = key.sign(&self.origin, &body);
        let timed = key.cosign(&self.origin, time, &body)?;
        Some(format!("{body}\n{plain}{timed}"))
    }
}

/// A number in decimal digits, without leading zeros.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical)
}

/// A hash in base64.
pub(crate) fn hash(text: &str) -> Option<Digest> {
    // 32 bytes are 44 characters; nothing longer is decoded.
    if text.len() != 44 {
        return None;
    }
    Digest::from_slice(&STANDARD.decode(text).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf_hash;

    #[test]
    fn a_body_is_written_as_it_was_read() {
        let body = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        assert_eq!(Checkpoint::parse(body).unwrap().body(), body);
        let largest = Checkpoint { origin: "x".into(), size: u64::MAX, root: leaf_hash(b"") };
        assert_eq!(Checkpoint::parse(&largest.body()), Ok(largest));
    }

    #[test]
    fn another_way_to_write_the_same_is_refused() {
        let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
        for (body, error) in [
            ("", Error::Lines),
            ("o\n1\n", Error::Lines),
            (&format!("o\n1\n{root}"), Error::Lines),
            (&format!("o\n1\n{root}\n\n"), Error::Lines),
            (&format!("o\n1\n{root}\nextension\n"), Error::Lines),
            (&format!("\n1\n{root}\n"), Error::Origin),
            (&format!("o\n01\n{root}\n"), Error::Size),
            (&format!("o\n+1\n{root}\n"), Error::Size),
            (&format!("o\n\n{root}\n"), Error::Size),
            (&format!("o\n1 \n{root}\n"), Error::Size),
            (&format!("o\n18446744073709551616\n{root}\n"), Error::Size),
            (&format!("o\n1\n{}\n", root.replace("2I=", "2J=")), Error::Root),
            (&format!("o\n1\n{}\n", root.trim_end_matches('=')), Error::Root),
            ("o\n1\n\n", Error::Root),
            (&format!("o\n0\n{root}\n"), Error::EmptyRoot),
        ] {
            assert_eq!(Checkpoint::parse(body), Err(error), "{body:?}");
        }
    }
}
