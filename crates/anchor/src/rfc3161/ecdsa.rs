//! ECDSA with SHA-512 on P-256 and P-384, which ring does not have: authorities with a P-384 key sign with SHA-512 (RFC 5754, 3.3
//! leaves curve and digest independent of each other).
//!
//! The digest is ring's; the crates of the curves verify it. A digest longer than the curve's order is cut on its right (SEC 1, 4.1.4, step 3).

use std::fmt;

use p384::ecdsa::signature::hazmat::PrehashVerifier as _;
use pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use ring::digest::{SHA512, digest};

/// P-256 with SHA-512.
pub(super) static P256_SHA512: &dyn SignatureVerificationAlgorithm =
    &WithSha512 { key: alg_id::ECDSA_P256, verify: p256 };

/// P-384 with SHA-512.
pub(super) static P384_SHA512: &dyn SignatureVerificationAlgorithm =
    &WithSha512 { key: alg_id::ECDSA_P384, verify: p384 };

/// Verifies a digest on a curve: key, digest, signature.
type Verify = fn(&[u8], &[u8], &[u8]) -> Option<()>;

/// A curve, by the algorithm of its keys.
struct WithSha512 {
    key: AlgorithmIdentifier,
    verify: Verify,
}

impl fmt::Debug for WithSha512 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithSha512").field("key", &self.key).finish_non_exhaustive()
    }
}

impl SignatureVerificationAlgorithm for WithSha512 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let hashed = digest(&SHA512, message);
        (self.verify)(public_key, hashed.as_ref(), signature).ok_or(InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.key
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA512
    }
}

fn p256(key: &[u8], hashed: &[u8], signature: &[u8]) -> Option<()> {
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(key).ok()?;
    let signature = p256::ecdsa::Signature::from_der(signature).ok()?;
    key.verify_prehash(hashed, &signature).ok()
}

fn p384(key: &[u8], hashed: &[u8], signature: &[u8]) -> Option<()> {
    let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(key).ok()?;
    let signature = p384::ecdsa::Signature::from_der(signature).ok()?;
    key.verify_prehash(hashed, &signature).ok()
}
