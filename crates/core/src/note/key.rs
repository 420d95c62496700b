//! Public keys of notes: C2SP verifier keys (`name+id+base64`), for Ed25519 signatures and for cosignatures.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use ml_dsa::MlDsa44;
use sha2::{Digest as _, Sha256};

use crate::checkpoint::Checkpoint;

/// What a key signs and how: the signature types of C2SP signed-note that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519 over the text: type 0x01.
    Ed25519,
    /// Ed25519 over a time and a checkpoint: type 0x04 (C2SP tlog-cosignature).
    CosignatureV1,
    /// ML-DSA-44 over a time and a checkpoint: type 0x06 (C2SP tlog-cosignature).
    MlDsa44,
}

/// Bytes of an ML-DSA-44 public key.
pub const ML_DSA_44_BYTES: usize = 1312;

impl Algorithm {
    /// The signature type identifier.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Algorithm::Ed25519 => 1,
            Algorithm::CosignatureV1 => 4,
            Algorithm::MlDsa44 => 6,
        }
    }

    const fn of_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Algorithm::Ed25519),
            4 => Some(Algorithm::CosignatureV1),
            6 => Some(Algorithm::MlDsa44),
            _ => None,
        }
    }
}

/// Why something is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It has not the parts of a key.
    #[error("a key has a name, an id and base64, joined by plus signs")]
    Form,
    /// The name is empty, or has a space or a plus sign.
    #[error("the name of a key is not empty and has neither spaces nor plus signs")]
    Name,
    /// The key material is not base64, or has the wrong length.
    #[error("the key material is not base64 of a type and a key of its length")]
    Material,
    /// A type of signature that is not supported.
    #[error("keys of signature type {0} are not supported here")]
    Algorithm(u8),
    /// No point of the curve, or one of the few that accept every signature.
    #[error("the public key is not a usable point of the curve")]
    Point,
    /// The id is that of another key or name.
    #[error("the key has id {computed:08x}, not {written:08x}")]
    Id {
        /// As it is written in the key.
        written: u32,
        /// What it must be.
        computed: u32,
    },
}

/// A signature is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is wrong")]
pub struct Wrong;

/// A public key, its name and what it signs.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: u32,
    algorithm: Algorithm,
    public: Public,
}

/// A public key without its name.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Public {
    /// Of 32 bytes.
    Ed25519(VerifyingKey),
    /// Encoded, as it is written: every string of this length is one.
    MlDsa44(Box<[u8; ML_DSA_44_BYTES]>),
}

impl Public {
    fn bytes(&self) -> &[u8] {
        match self {
            Public::Ed25519(key) => key.as_bytes(),
            Public::MlDsa44(key) => key.as_slice(),
        }
    }
}

impl VerifierKey {
    pub(crate) fn new(name: &str, algorithm: Algorithm, public: Public) -> Self {
        // An ML-DSA key makes no other kind of signature.
        let algorithm = match public {
            Public::Ed25519(_) => algorithm,
            Public::MlDsa44(_) => Algorithm::MlDsa44,
        };
        let id = key_id(name, algorithm, public.bytes());
        Self { name: name.into(), id, algorithm, public }
    }

    /// Reads a verifier key, with or without white space around it.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = text.trim_ascii().splitn(3, '+');
        let (Some(name), Some(id), Some(material)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Error::Form);
        };
        let (algorithm, bytes) = material_of(material)?;
        let public = match algorithm {
            Algorithm::Ed25519 | Algorithm::CosignatureV1 => {
                let bytes = bytes.try_into().map_err(|_| Error::Material)?;
                let public = VerifyingKey::from_bytes(&bytes).map_err(|_| Error::Point)?;
                if public.is_weak() {
                    return Err(Error::Point);
                }
                Public::Ed25519(public)
            }
            Algorithm::MlDsa44 => {
                Public::MlDsa44(bytes.into_boxed_slice().try_into().map_err(|_| Error::Material)?)
            }
        };
        let written = written_id(id)?;
        if !is_name(name) {
            return Err(Error::Name);
        }
        let key = Self::new(name, algorithm, public);
        key.has_id(written)?;
        Ok(key)
    }

    /// Name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Key id: the first four bytes of SHA-256 of name, newline, type and public key.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// What it signs.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public key: 32 bytes of Ed25519, 1312 of ML-DSA-44.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        self.public.bytes()
    }

    /// The same public key under another name or, of Ed25519, for another type of signature; it has another id.
    #[must_use]
    pub fn renamed(&self, name: &str, algorithm: Algorithm) -> Self {
        Self::new(name, algorithm, self.public.clone())
    }

    pub(crate) fn has_id(&self, written: u32) -> Result<(), Error> {
        if written == self.id { Ok(()) } else { Err(Error::Id { written, computed: self.id }) }
    }

    /// Checks a signature (what follows the key id on its line) on `text`; the time of a cosignature.
    ///
    /// # Errors
    /// [`Wrong`].
    pub fn check(&self, text: &str, signature: &[u8]) -> Result<Option<u64>, Wrong> {
        let timed = || {
            let (time, signature) = signature.split_first_chunk::<8>().ok_or(Wrong)?;
            Ok((u64::from_be_bytes(*time), signature))
        };
        match (&self.public, self.algorithm) {
            (Public::Ed25519(key), Algorithm::CosignatureV1) => {
                let (time, signature) = timed()?;
                strictly(key, &cosigned(time, text).ok_or(Wrong)?, signature).map(|()| Some(time))
            }
            (Public::Ed25519(key), _) => strictly(key, text.as_bytes(), signature).map(|()| None),
            (Public::MlDsa44(key), _) => {
                let (time, signature) = timed()?;
                let message = cosigned_tree(&self.name, time, text).ok_or(Wrong)?;
                let key = ml_dsa::VerifyingKey::<MlDsa44>::decode(&(**key).into());
                let signature = ml_dsa::Signature::<MlDsa44>::try_from(signature).map_err(|_| Wrong)?;
                if key.verify_with_context(&message, &[], &signature) { Ok(Some(time)) } else { Err(Wrong) }
            }
        }
    }
}

fn strictly(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> Result<(), Wrong> {
    let signature = Signature::from_slice(signature).map_err(|_| Wrong)?;
    key.verify_strict(message, &signature).map_err(|_| Wrong)
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut material = Vec::from([self.algorithm.byte()]);
        material.extend_from_slice(self.public.bytes());
        write!(f, "{}+{:08x}+{}", self.name, self.id, STANDARD.encode(material))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

/// What a cosignature of a time signs; `None` when the time is out of range.
pub(crate) fn cosigned(time: u64, text: &str) -> Option<Vec<u8>> {
    i64::try_from(time).ok().map(|_| format!("cosignature/v1\ntime {time}\n{text}").into_bytes())
}

/// What an ML-DSA-44 cosignature of a checkpoint signs: the structure `cosigned_message`. `None` when the time is out of range, the text no
/// checkpoint, or a name too long for it.
pub(crate) fn cosigned_tree(cosigner: &str, time: u64, text: &str) -> Option<Vec<u8>> {
    i64::try_from(time).ok()?;
    let checkpoint = Checkpoint::parse(text).ok()?;
    let mut message = Vec::from(*b"subtree/v1\n\0");
    let mut name = |text: &str, number: u64| {
        message.push(u8::try_from(text.len()).ok().filter(|length| *length > 0)?);
        message.extend_from_slice(text.as_bytes());
        message.extend_from_slice(&number.to_be_bytes());
        Some(())
    };
    name(cosigner, time)?;
    // The first leaf.
    name(&checkpoint.origin, 0)?;
    message.extend_from_slice(&checkpoint.size.to_be_bytes());
    message.extend_from_slice(checkpoint.root.as_bytes());
    Some(message)
}

/// Whether a key may be named so.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

pub(crate) fn written_id(text: &str) -> Result<u32, Error> {
    let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() == 8 && digits {
        u32::from_str_radix(text, 16).map_err(|_| Error::Form)
    } else {
        Err(Error::Form)
    }
}

/// A type, and the bytes behind it.
pub(crate) fn material_of(text: &str) -> Result<(Algorithm, Vec<u8>), Error> {
    let bytes = STANDARD.decode(text).map_err(|_| Error::Material)?;
    let (byte, key) = bytes.split_first().ok_or(Error::Material)?;
    let algorithm = Algorithm::of_byte(*byte).ok_or(Error::Algorithm(*byte))?;
    Ok((algorithm, key.into()))
}

fn key_id(name: &str, algorithm: Algorithm, public: &[u8]) -> u32 {
    let mut hasher = Sha256::new();
    hasher.update(name);
    hasher.update([b'\n', algorithm.byte()]);
    hasher.update(public);
    let hash: [u8; 32] = hasher.finalize().into();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

    #[test]
    fn a_key_is_written_as_it_was_read() {
        let key = VerifierKey::parse(&format!(" {VKEY}\n")).unwrap();
        assert_eq!(key.to_string(), VKEY);
        assert_eq!((key.name(), key.id()), ("example.com/foo", 0x530d_903a));
    }

    #[test]
    fn what_is_no_key_is_refused_for_what_it_is() {
        let material = VKEY.rsplit('+').next().unwrap();
        for (text, error) in [
            ("", Error::Form),
            ("example.com/foo+530d903a", Error::Form),
            (&format!("example.com/foo+530D903A+{material}"), Error::Form),
            (&format!("example.com/foo+530d903+{material}"), Error::Form),
            (&format!("+530d903a+{material}"), Error::Name),
            (&format!("a b+530d903a+{material}"), Error::Name),
            (&format!("{VKEY}+{material}"), Error::Material),
            ("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U0=", Error::Material),
            ("example.com/foo+530d903a+", Error::Material),
            (&format!("x+530d903a+{}", STANDARD.encode([5; 33])), Error::Algorithm(5)),
            (&format!("x+530d903a+{}", STANDARD.encode([6; 33])), Error::Material),
            (&format!("x+530d903a+{}", STANDARD.encode([1; ML_DSA_44_BYTES + 1])), Error::Material),
            (&format!("x+530d903a+{}", STANDARD.encode([[1].as_slice(), &[2; 32]].concat())), Error::Point),
            (&format!("x+530d903a+{}", STANDARD.encode([[1].as_slice(), &[0; 32]].concat())), Error::Point),
        ] {
            assert_eq!(VerifierKey::parse(text), Err(error), "{text}");
        }
        let renamed = VKEY.replace("foo", "bar");
        assert!(matches!(VerifierKey::parse(&renamed), Err(Error::Id { written: 0x530d_903a, .. })));
    }

    #[test]
    fn a_time_beyond_the_range_is_not_signed() {
        assert_eq!(cosigned(1 << 63, "x"), None);
        assert!(cosigned((1 << 63) - 1, "x").is_some());
    }
}
