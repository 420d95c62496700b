//! Labels: what a tenant is called outside the database, and the key that makes them.

use core::fmt;

use alloc::string::String;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::checkpoint;
use crate::digest::Digest;
use crate::encode::{Sink, length_prefixed};

const DOMAIN: &[u8] = b"zeroauth.audit/tenant/v1";

/// The 32 random bytes that labels are made with. Whoever has them can try names: not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct NameKey([u8; 32]);

/// A tenant in the registry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Digest);

impl NameKey {
    /// Wraps 32 bytes, which the caller took from a cryptographic random source.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the entry `names` says of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::new(Sha256::digest(self.0).into())
    }

    /// The label of a tenant.
    #[must_use]
    pub fn label(&self, tenant: &str) -> Label {
        let mut hashed = Hashed(Sha256::new());
        for part in [DOMAIN, &self.0, tenant.as_bytes()] {
            length_prefixed(&mut hashed, part);
        }
        Label(Digest::new(hashed.0.finalize().into()))
    }
}

impl Label {
    /// Wraps the 32 bytes of a label.
    #[must_use]
    pub const fn new(digest: Digest) -> Self {
        Self(digest)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.0
    }

    /// Reads 44 characters of base64.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        checkpoint::hash(text).map(Self)
    }

    /// In base64, as entries have it.
    #[must_use]
    pub fn text(&self) -> String {
        STANDARD.encode(self.0.as_bytes())
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Label({self})")
    }
}

struct Hashed(Sha256);

impl Sink for Hashed {
    fn put(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}
