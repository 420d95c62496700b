//! Private keys of notes: the string that Go's note package writes, and signature lines.
//!
//! A key file holds `PRIVATE+KEY+name+id+base64`, where name and id are those of the public key and the base64 is of the
//! type (1) and the 32 bytes of an Ed25519 seed. One key signs for every origin below its name, so a signature line is given
//! the name it is made under. Bytes come in as arguments: reading and guarding the file is the caller's.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;

use super::key::{Algorithm, Error, VerifierKey, cosigned, is_name, material_of, written_id};

const PREFIX: &str = "PRIVATE+KEY+";

/// A private key and the name it has. Neither printed nor compared: only [`SigningKey::to_key_file`] gives it out.
pub struct SigningKey {
    name: String,
    secret: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// The key that 32 bytes from a cryptographic random source make.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, Error> {
        if !is_name(name) {
            return Err(Error::Name);
        }
        Ok(Self { name: name.into(), secret: ed25519_dalek::SigningKey::from_bytes(seed) })
    }

    /// Reads a key file, with or without a newline at its end.
    ///
    /// # Errors
    /// Any [`Error`] but [`Error::Point`]; none of them shows the secret.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let rest = text.trim_ascii().strip_prefix(PREFIX).ok_or(Error::Form)?;
        let mut parts = rest.splitn(3, '+');
        let (Some(name), Some(id), Some(material)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Error::Form);
        };
        let written = written_id(id)?;
        match material_of(material)? {
            (Algorithm::Ed25519, seed) => {
                let key = Self::from_seed(name, &seed)?;
                key.verifier_key().has_id(written)?;
                Ok(key)
            }
            (other, _) => Err(Error::Algorithm(other.byte())),
        }
    }

    /// What belongs into a key file, with a newline at its end.
    #[must_use]
    pub fn to_key_file(&self) -> String {
        let mut material = Vec::from([Algorithm::Ed25519.byte()]);
        material.extend_from_slice(self.secret.as_bytes());
        format!("{PREFIX}{}+{:08x}+{}\n", self.name, self.verifier_key().id(), STANDARD.encode(material))
    }

    /// Name: the base origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key.
    #[must_use]
    pub fn verifier_key(&self) -> VerifierKey {
        VerifierKey::new(&self.name, Algorithm::Ed25519, self.secret.verifying_key())
    }

    /// The signature line of type 0x01 on `text`, with its newline, by this key under the name `name`.
    #[must_use]
    pub fn sign(&self, name: &str, text: &str) -> String {
        let key = VerifierKey::new(name, Algorithm::Ed25519, self.secret.verifying_key());
        line(&key, &self.secret.sign(text.as_bytes()).to_bytes())
    }

    /// The cosignature line (type 0x04) on a checkpoint's body, with its newline, by this key under the name `name`; `time` in
    /// seconds since 1970 in UTC. `None` when the time is 2^63 or more.
    #[must_use]
    pub fn cosign(&self, name: &str, time: u64, body: &str) -> Option<String> {
        let key = VerifierKey::new(name, Algorithm::CosignatureV1, self.secret.verifying_key());
        let mut signature = Vec::from(time.to_be_bytes());
        signature.extend_from_slice(&self.secret.sign(&cosigned(time, body)?).to_bytes());
        Some(line(&key, &signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.name)
    }
}

fn line(key: &VerifierKey, signature: &[u8]) -> String {
    let mut bytes = Vec::from(key.id().to_be_bytes());
    bytes.extend_from_slice(signature);
    format!("\u{2014} {} {}\n", key.name(), STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::{Note, Verified};

    /// The keys of the tests of Go's package golang.org/x/mod/sumdb/note.
    const GO_SKEY: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const GO_VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn the_keys_and_the_signature_of_the_go_package_come_out_the_same() {
        let key = SigningKey::parse(GO_SKEY).unwrap();
        assert_eq!(alloc::string::ToString::to_string(&key.verifier_key()), GO_VKEY);
        assert_eq!(key.to_key_file(), alloc::format!("{GO_SKEY}\n"));
        let text = &GO_NOTE[..=GO_NOTE.rfind("\n\n").unwrap()];
        assert_eq!(alloc::format!("{text}\n{}", key.sign(key.name(), text)), GO_NOTE);
    }

    #[test]
    fn the_secret_is_not_shown() {
        let key = SigningKey::parse(GO_SKEY).unwrap();
        assert_eq!(alloc::format!("{key:?}"), "SigningKey(PeterNeumann)");
    }

    #[test]
    fn a_changed_key_file_is_refused() {
        for (text, error) in [
            (GO_SKEY.replace("PRIVATE+KEY+", ""), Error::Form),
            (GO_SKEY.replace("c74f20a3", "c74f20a"), Error::Form),
            (GO_SKEY.replace("AYEK", "BIEK"), Error::Algorithm(4)),
            (GO_SKEY.replace("AYEK", "AYEKAAAA"), Error::Material),
            (GO_SKEY.replace("PeterNeumann", "Peter Neumann"), Error::Name),
        ] {
            assert_eq!(SigningKey::parse(&text).err(), Some(error), "{text}");
        }
        let other = SigningKey::parse(&GO_SKEY.replace("AYEKFA", "AYEKFB")).err();
        assert!(matches!(other, Some(Error::Id { written: 0xc74f_20a3, .. })));
    }

    #[test]
    fn a_cosignature_tells_its_time_and_is_no_signature_of_the_text_alone() {
        let key = SigningKey::from_seed("log.example", &[7; 32]).unwrap();
        let body = "log.example/acme\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
        let note = alloc::format!("{body}\n{}", key.cosign("log.example/acme", 1_795_253_400, body).unwrap());
        let note = Note::parse(note.as_bytes()).unwrap();
        let cosigner = key.verifier_key().renamed("log.example/acme", Algorithm::CosignatureV1);
        let expected = Verified { key: 0, time: Some(1_795_253_400) };
        assert_eq!(note.verify(&[cosigner]), Ok([expected].to_vec()));
        assert_eq!(note.verify(&[key.verifier_key()]), Err(crate::note::Error::NotSigned));
        assert_eq!(key.cosign("x", 1 << 63, body), None);
    }
}
