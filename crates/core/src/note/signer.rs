//! Private keys of notes: the string that Go's note package writes, and signature lines.
//!
//! A key file holds `PRIVATE+KEY+name+id+base64`, where name and id are those of the public key and the base64 is of the
//! type (1: Ed25519, 6: ML-DSA-44) and the 32 bytes of the seed. One key signs for every origin below its name, so a signature line is given
//! the name it is made under. Bytes come in as arguments: reading and guarding the file is the caller's.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use ml_dsa::{Keypair as _, MlDsa44};

use super::key::{
    Algorithm, Error, Public, VerifierKey, cosigned, cosigned_tree, is_name, material_of, written_id,
};

const PREFIX: &str = "PRIVATE+KEY+";

/// A private key and the name it has. Neither printed nor compared: only [`SigningKey::to_key_file`] gives it out.
pub struct SigningKey {
    name: String,
    secret: Secret,
}

enum Secret {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    // Both are large: they hold what follows from their seeds.
    MlDsa44(Box<ml_dsa::SigningKey<MlDsa44>>),
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
        Ok(Self {
            name: name.into(),
            secret: Secret::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(seed))),
        })
    }

    /// The ML-DSA-44 key that 32 bytes from a cryptographic random source make.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn ml_dsa_44(name: &str, seed: &[u8; 32]) -> Result<Self, Error> {
        if !is_name(name) {
            return Err(Error::Name);
        }
        let secret = ml_dsa::SigningKey::from_seed(&(*seed).into());
        Ok(Self { name: name.into(), secret: Secret::MlDsa44(Box::new(secret)) })
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
        let (algorithm, seed) = material_of(material)?;
        let seed = seed.try_into().map_err(|_| Error::Material)?;
        let key = match algorithm {
            Algorithm::Ed25519 => Self::from_seed(name, &seed)?,
            Algorithm::MlDsa44 => Self::ml_dsa_44(name, &seed)?,
            other => return Err(Error::Algorithm(other.byte())),
        };
        key.verifier_key().has_id(written)?;
        Ok(key)
    }

    /// What belongs into a key file, with a newline at its end.
    #[must_use]
    pub fn to_key_file(&self) -> String {
        let (algorithm, seed) = match &self.secret {
            Secret::Ed25519(secret) => (Algorithm::Ed25519, secret.as_bytes().as_slice()),
            Secret::MlDsa44(secret) => (Algorithm::MlDsa44, secret.as_seed().as_slice()),
        };
        let mut material = Vec::from([algorithm.byte()]);
        material.extend_from_slice(seed);
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
        self.public(&self.name, Algorithm::Ed25519)
    }

    fn public(&self, name: &str, algorithm: Algorithm) -> VerifierKey {
        let public = match &self.secret {
            Secret::Ed25519(secret) => Public::Ed25519(secret.verifying_key()),
            Secret::MlDsa44(secret) => Public::MlDsa44(Box::new(secret.verifying_key().encode().into())),
        };
        VerifierKey::new(name, algorithm, public)
    }

    /// The signature line of type 0x01 on `text`, with its newline, by this key under the name `name`; empty when it is an ML-DSA key,
    /// which makes cosignatures only.
    #[must_use]
    pub fn sign(&self, name: &str, text: &str) -> String {
        match &self.secret {
            Secret::Ed25519(secret) => {
                line(&self.public(name, Algorithm::Ed25519), &secret.sign(text.as_bytes()).to_bytes())
            }
            Secret::MlDsa44(_) => String::new(),
        }
    }

    /// The cosignature line (type 0x04, of an ML-DSA key 0x06) on a checkpoint's body, with its newline, by this key under the name `name`;
    /// `time` in seconds since 1970 in UTC. `None` when the time is 2^63 or more, and of an ML-DSA key when `body` is no checkpoint or a
    /// name has more than 255 bytes.
    #[must_use]
    pub fn cosign(&self, name: &str, time: u64, body: &str) -> Option<String> {
        let mut signature = Vec::from(time.to_be_bytes());
        match &self.secret {
            Secret::Ed25519(secret) => {
                signature.extend_from_slice(&secret.sign(&cosigned(time, body)?).to_bytes());
            }
            Secret::MlDsa44(secret) => {
                // The deterministic variant: there is no random source here, as for Ed25519.
                let message = cosigned_tree(name, time, body)?;
                let signed = secret.expanded_key().sign_deterministic(&message, &[]).ok()?;
                signature.extend_from_slice(&signed.encode());
            }
        }
        Some(line(&self.public(name, Algorithm::CosignatureV1), &signature))
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

    #[test]
    fn an_ml_dsa_key_cosigns_checkpoints_and_nothing_else() {
        let key = SigningKey::ml_dsa_44("log.example", &[7; 32]).unwrap();
        let body = "log.example\n7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
        let line = key.cosign("log.example", 1_795_253_400, body).unwrap();
        // Name, key id, time, 2420 bytes.
        assert_eq!(line.len(), "\u{2014} log.example \n".len() + (4 + 8 + 2420_usize).div_ceil(3) * 4);
        let public = key.verifier_key();
        assert_eq!((public.algorithm(), public.public().len()), (Algorithm::MlDsa44, 1312));
        assert_eq!(VerifierKey::parse(&alloc::string::ToString::to_string(&public)).unwrap(), public);
        assert_eq!(public.renamed("log.example", Algorithm::Ed25519), public);
        let verify =
            |note: &str| Note::parse(note.as_bytes()).unwrap().verify(core::slice::from_ref(&public));
        let note = alloc::format!("{body}\n{line}");
        let expected = Verified { key: 0, time: Some(1_795_253_400) };
        assert_eq!(verify(&note), Ok([expected].to_vec()));
        // Size, root, time and origin are all signed.
        let wrong = Err(crate::note::Error::WrongSignature(1));
        assert_eq!(verify(&note.replacen("\n7\n", "\n8\n", 1)), wrong);
        assert_eq!(verify(&note.replacen("\n47DE", "\n48DE", 1)), wrong);
        assert_eq!(verify(&note.replacen("log.example\n", "log.example/a\n", 1)), wrong);
        let later = key.cosign("log.example", 1_795_253_401, body).unwrap();
        assert_ne!(later, line);
        assert_eq!(key.sign("log.example", body), "");
        for (name, time, text) in [
            ("log.example", 1 << 63, body),
            ("log.example", 1, "no checkpoint\n"),
            (&*"x".repeat(256), 1, body),
        ] {
            assert_eq!(key.cosign(name, time, text), None);
        }
        let file = key.to_key_file();
        assert_eq!(SigningKey::parse(&file).unwrap().cosign("log.example", 1_795_253_400, body), Some(line));
    }
}
