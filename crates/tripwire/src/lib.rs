//! What the tripwires of zeroauth_audit decide: whether definitions are those of the version, what the pins say, whether the
//! clock was stepped. No Postgres, no I/O, no clock: the caller brings what is to be judged.
#![forbid(unsafe_code)]

pub mod clock;
pub mod definitions;
pub mod pins;

use sha2::{Digest as _, Sha256};

/// A SHA-256 in progress.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest, in lower-case hexadecimal.
    #[must_use]
    pub fn hex(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The SHA-256 of `bytes`, in lower-case hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.hex()
}
