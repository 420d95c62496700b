//! Signed notes (C2SP signed-note): a text and signatures on it, by keys that have names.
//!
//! [`Note::parse`] reads the text; only [`Note::verify`] says which signatures are valid, and by whom. Keys are in [`key`],
//! signing in [`signer`].

pub mod key;
pub mod signer;

use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use key::{Algorithm, VerifierKey};
pub use signer::SigningKey;

/// Bytes of a note at most: 16 signatures of the largest kind there is, and room.
pub const MAX_BYTES: usize = 256 * 1024;

/// Signatures of a note at most.
pub const MAX_SIGNATURES: usize = 64;

/// Why something is no note, or not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// More than [`MAX_BYTES`].
    #[error("the note has {0} bytes, and {MAX_BYTES} are the most")]
    TooLong(usize),
    /// Not UTF-8, from this byte on.
    #[error("the note is not UTF-8 at byte {0}")]
    NotUtf8(usize),
    /// A control character other than the newline, at this byte.
    #[error("the note has a control character at byte {0}")]
    Control(usize),
    /// There is no empty line between a text and signatures.
    #[error("the note has no empty line before its signatures")]
    NoSeparator,
    /// There is no signature line, or the last has no newline.
    #[error("the note ends within its signatures")]
    Truncated,
    /// A signature line, counted from 1, that is none.
    #[error("signature line {0} of the note is malformed")]
    SignatureLine(usize),
    /// More than [`MAX_SIGNATURES`].
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    /// A signature, counted from 1, of a known key that does not verify.
    #[error("signature {0} of the note, by a known key, is wrong")]
    WrongSignature(usize),
    /// No signature by a known key.
    #[error("the note is not signed by a known key")]
    NotSigned,
}

/// A text and what claims to be signatures on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    text: &'a str,
    signatures: Vec<Signature<'a>>,
}

/// What claims to be a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// Name of the key.
    pub name: &'a str,
    /// Id of the key.
    pub id: u32,
    /// What the key's algorithm made.
    pub bytes: Vec<u8>,
}

/// A signature that was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Which of the keys it is by.
    pub key: usize,
    /// When it was made, in seconds since 1970 in UTC: for cosignatures only.
    pub time: Option<u64>,
}

impl<'a> Note<'a> {
    /// Reads a note.
    ///
    /// # Errors
    /// Every variant but the last two.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLong(bytes.len()));
        }
        let whole = core::str::from_utf8(bytes).map_err(|e| Error::NotUtf8(e.valid_up_to()))?;
        if let Some(at) = whole.bytes().position(|byte| byte < b' ' && byte != b'\n') {
            return Err(Error::Control(at));
        }
        let separator = whole.rfind("\n\n").ok_or(Error::NoSeparator)?;
        let (text, lines) = (&whole[..=separator], &whole[separator + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(Error::Truncated)?;
        let mut signatures = Vec::new();
        for (number, line) in (1..).zip(lines.split('\n')) {
            if number > MAX_SIGNATURES {
                return Err(Error::TooManySignatures);
            }
            signatures.push(Signature::parse(line).ok_or(Error::SignatureLine(number))?);
        }
        Ok(Self { text, signatures })
    }

    /// The text, with its last newline. Nothing is known of it before [`Note::verify`].
    #[must_use]
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// The signatures, whosever they are.
    #[must_use]
    pub fn signatures(&self) -> &[Signature<'a>] {
        &self.signatures
    }

    /// Verifies the signatures that are by one of `keys`, and ignores all others.
    ///
    /// # Errors
    /// [`Error::WrongSignature`] when one of them is wrong, [`Error::NotSigned`] when there is none.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<Vec<Verified>, Error> {
        let mut verified = Vec::new();
        for (number, signature) in (1..).zip(&self.signatures) {
            for (at, key) in keys.iter().enumerate() {
                if key.name() == signature.name && key.id() == signature.id {
                    let time =
                        key.check(self.text, &signature.bytes).map_err(|_| Error::WrongSignature(number))?;
                    verified.push(Verified { key: at, time });
                }
            }
        }
        if verified.is_empty() { Err(Error::NotSigned) } else { Ok(verified) }
    }
}

impl<'a> Signature<'a> {
    /// A signature line without its newline.
    fn parse(line: &'a str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        if !key::is_name(name) {
            return None;
        }
        let decoded = STANDARD.decode(encoded).ok()?;
        let (id, bytes) = decoded.split_first_chunk::<4>()?;
        // A signature of no bytes is none.
        (!bytes.is_empty()).then(|| Self { name, id: u32::from_be_bytes(*id), bytes: bytes.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::{String, ToString};

    use super::*;

    /// The example of C2SP signed-note.
    const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    fn verified(note: &str, vkey: &str) -> Result<Vec<Verified>, Error> {
        Note::parse(note.as_bytes())?.verify(&[VerifierKey::parse(vkey).unwrap()])
    }

    #[test]
    fn the_example_of_the_specification_verifies() {
        assert_eq!(verified(NOTE, VKEY), Ok([Verified { key: 0, time: None }].to_vec()));
    }

    #[test]
    fn a_changed_text_is_not_signed_any_more() {
        assert_eq!(verified(&NOTE.replace("This", "this"), VKEY), Err(Error::WrongSignature(1)));
    }

    #[test]
    fn signatures_of_unknown_keys_are_ignored_even_with_a_known_name_or_id() {
        let other_name = NOTE.replace("\u{2014} example.com/foo", "\u{2014} example.com/bar");
        assert_eq!(verified(&other_name, VKEY), Err(Error::NotSigned));
        let other_id = NOTE.replace("Uw2QOkn8", "Uw2QO0n8").replace("Uw2Q", "Vw2Q");
        assert_eq!(verified(&other_id, VKEY), Err(Error::NotSigned));
        let both = format!("{NOTE}\u{2014} example.com/bar AAAAAAAA\n");
        assert_eq!(verified(&both, VKEY).unwrap().len(), 1);
    }

    #[test]
    fn a_wrong_signature_of_a_known_key_spoils_right_ones() {
        let line = NOTE.lines().last().unwrap();
        let wrong = line.replace("Uw2QOkn8", "Uw2QOkn9");
        assert_eq!(verified(&format!("{NOTE}{wrong}\n"), VKEY), Err(Error::WrongSignature(2)));
    }

    #[test]
    fn malformed_notes_are_refused_for_what_they_are() {
        let many = format!("{NOTE}{}", "\u{2014} x AAAAAAAA\n".repeat(MAX_SIGNATURES));
        let mut cases: Vec<(String, Error)> = [
            ("", Error::NoSeparator),
            ("text\n", Error::NoSeparator),
            ("text\n\n", Error::Truncated),
            ("text\n\n\u{2014} x AAAAAAAA", Error::Truncated),
            ("text\n\n\u{2014} x AAAAAAAA\n\n", Error::Truncated),
            ("text\n\n- x AAAAAAAA\n", Error::SignatureLine(1)),
            ("text\n\n\u{2014} x AAAAAAAA\n\u{2014} x\n", Error::SignatureLine(2)),
            ("text\n\n\u{2014}  AAAAAAAA\n", Error::SignatureLine(1)),
            ("text\n\n\u{2014} a+b AAAAAAAA\n", Error::SignatureLine(1)),
            ("text\n\n\u{2014} a\u{a0}b AAAAAAAA\n", Error::SignatureLine(1)),
            ("text\n\n\u{2014} x AAAAAA==\n", Error::SignatureLine(1)),
            ("text\n\n\u{2014} x AAAAAAB=\n", Error::SignatureLine(1)),
            ("text\n\n\u{2014} x AAAAAAA\n", Error::SignatureLine(1)),
            ("text\n\n\u{2014} x AAAAAAAA \n", Error::SignatureLine(1)),
            ("te\rxt\n\n\u{2014} x AAAAAAAA\n", Error::Control(2)),
            ("text\n\n\u{2014} x AAAAAAAA\r\n", Error::Control(20)),
        ]
        .map(|(note, error)| (note.to_string(), error))
        .to_vec();
        cases.push((many, Error::TooManySignatures));
        cases.push(("x".repeat(MAX_BYTES + 1), Error::TooLong(MAX_BYTES + 1)));
        for (note, error) in cases {
            assert_eq!(Note::parse(note.as_bytes()), Err(error), "{note:?}");
        }
        assert_eq!(Note::parse(b"a\xff\n\n"), Err(Error::NotUtf8(1)));
    }

    #[test]
    fn the_text_ends_at_the_last_empty_line() {
        let note = Note::parse("one\n\ntwo\n\n\u{2014} x AAAAAAAA\n".as_bytes()).unwrap();
        assert_eq!(note.text(), "one\n\ntwo\n");
        assert_eq!(note.signatures().len(), 1);
    }
}
