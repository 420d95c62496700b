//! Which checkpoints to believe: keys of logs by their base origin, witnesses, and how many of those it takes.
//!
//! A key of a log is a verifier key whose name is a base origin; it is good for every origin below it. So several keys of one
//! base are a rotation: old checkpoints verify with the old one.

use alloc::string::String;
use alloc::vec::Vec;

use crate::checkpoint::{self, Checkpoint};
use crate::note::{self, Algorithm, Note, VerifierKey};
use crate::origin::{self, Base};

/// Why a note is not a checkpoint to believe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is no note, or a signature on it is wrong.
    #[error(transparent)]
    Note(#[from] note::Error),
    /// Its text is no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// No key is for this origin.
    #[error("no key is given for the origin {0}")]
    UnknownOrigin(String),
    /// Below the base of a key, but no origin as this project writes them.
    #[error("{origin}: {error}")]
    Origin {
        /// The first line.
        origin: String,
        /// What is wrong with it.
        error: origin::Error,
    },
    /// No key for this origin has signed it.
    #[error("no key that is given for the origin {0} has signed the checkpoint")]
    NotSigned(String),
    /// An ML-DSA key for this origin is given, and none has signed it.
    #[error("no ML-DSA-44 key that is given for the origin {0} has signed the checkpoint")]
    NotSignedTwice(String),
    /// Too few witnesses.
    #[error("{found} of the given witnesses have signed the checkpoint of {origin}, and {quorum} must have")]
    Quorum {
        /// Which log.
        origin: String,
        /// Witnesses that have.
        found: usize,
        /// Witnesses that must have.
        quorum: usize,
    },
}

impl Error {
    /// Whether the note contradicts itself under a key that is trusted: it was changed, or signed with a key that is not
    /// theirs. Everything else may be another log's, another key's, or not a checkpoint at all.
    #[must_use]
    pub const fn is_forgery(&self) -> bool {
        matches!(self, Error::Note(note::Error::WrongSignature(_)))
    }
}

/// Why a key cannot be used so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Keys of logs sign with plain Ed25519, and those of registries with ML-DSA-44 beside it.
    #[error("the key of a log is of signature type 1 or 6")]
    NotOfALog,
    /// Witnesses make cosignatures.
    #[error("the key of a witness is of signature type 4 or 6")]
    NotOfAWitness,
    /// The name is no base origin.
    #[error(transparent)]
    Base(#[from] origin::Error),
}

/// Keys, witnesses and their quorum.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    logs: Vec<(Base, VerifierKey)>,
    witnesses: Vec<VerifierKey>,
    quorum: usize,
    monitors: Vec<VerifierKey>,
}

/// A checkpoint of a registry that is to be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// What it states.
    pub checkpoint: Checkpoint,
    /// The keys of the log that signed.
    pub keys: Vec<VerifierKey>,
    /// When the log says it was sealed, in seconds since 1970 in UTC: the latest cosignature of its own.
    pub sealed_at: Option<u64>,
    /// The witnesses that signed, each once, with their times.
    pub witnesses: Vec<(String, u64)>,
    /// The monitors that signed, with their times: every log only grew.
    pub monitors: Vec<(String, u64)>,
}

/// A checkpoint that is to be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Believed {
    /// What it states.
    pub checkpoint: Checkpoint,
    /// Whose log it is.
    pub tenant: String,
    /// How many restores of the tenant were acknowledged before.
    pub epoch: u64,
    /// The name of the key that signed: the base origin.
    pub base: Base,
    /// When the log says it was sealed, in seconds since 1970 in UTC: the latest cosignature of its own.
    pub sealed_at: Option<u64>,
    /// The witnesses that signed, each once, with their times.
    pub witnesses: Vec<(String, u64)>,
}

impl Trust {
    /// Trusts no key.
    #[must_use]
    pub const fn new() -> Self {
        Self { logs: Vec::new(), witnesses: Vec::new(), quorum: 0, monitors: Vec::new() }
    }

    /// Adds the key of a log. An ML-DSA key is good for the registry of its name alone: whose checkpoints must be signed by one of those
    /// that are given, and by one of the others that are.
    ///
    /// # Errors
    /// [`KeyError::NotOfALog`] or [`KeyError::Base`].
    pub fn add_log(&mut self, key: VerifierKey) -> Result<(), KeyError> {
        if key.algorithm() == Algorithm::CosignatureV1 {
            return Err(KeyError::NotOfALog);
        }
        self.logs.push((Base::parse(key.name())?, key));
        Ok(())
    }

    /// Adds the key of a witness.
    ///
    /// # Errors
    /// [`KeyError::NotOfAWitness`].
    pub fn add_witness(&mut self, key: VerifierKey) -> Result<(), KeyError> {
        if key.algorithm() == Algorithm::Ed25519 {
            return Err(KeyError::NotOfAWitness);
        }
        self.witnesses.push(key);
        Ok(())
    }

    /// Adds the key of a monitor: who signs only when every log of a registry only grew.
    ///
    /// # Errors
    /// [`KeyError::NotOfAWitness`].
    pub fn add_monitor(&mut self, key: VerifierKey) -> Result<(), KeyError> {
        if key.algorithm() == Algorithm::Ed25519 {
            return Err(KeyError::NotOfAWitness);
        }
        self.monitors.push(key);
        Ok(())
    }

    /// Whether a key of a monitor was added.
    #[must_use]
    pub const fn has_monitors(&self) -> bool {
        !self.monitors.is_empty()
    }

    /// How many different witnesses must have signed; 0 unless set.
    pub const fn require(&mut self, quorum: usize) {
        self.quorum = quorum;
    }

    /// How many different witnesses must have signed.
    #[must_use]
    pub const fn quorum(&self) -> usize {
        self.quorum
    }

    /// Whether a key of a log was added.
    #[must_use]
    pub const fn has_keys(&self) -> bool {
        !self.logs.is_empty()
    }

    /// The base origins of the keys of logs, each once.
    #[must_use]
    pub fn bases(&self) -> Vec<String> {
        let mut bases: Vec<String> = self.logs.iter().map(|(base, _)| base.as_str().into()).collect();
        bases.sort();
        bases.dedup();
        bases
    }

    /// Different witnesses, by their public keys.
    #[must_use]
    pub fn witnesses(&self) -> usize {
        let is_first =
            |at: usize| self.witnesses[..at].iter().all(|w| w.public() != self.witnesses[at].public());
        (0..self.witnesses.len()).filter(|at| is_first(*at)).count()
    }

    /// Reads a note and returns its statement, if it is a checkpoint signed by the key of its log and by enough witnesses.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn open(&self, note: &[u8]) -> Result<Believed, Error> {
        let note = Note::parse(note)?;
        let checkpoint = Checkpoint::parse(note.text())?;
        let origin = &checkpoint.origin;
        let (mut read, mut refused) = (None, None);
        let mut keys = Vec::new();
        let of_logs = self.logs.iter().filter(|(_, key)| key.algorithm() == Algorithm::Ed25519);
        for (base, key) in of_logs.filter(|(base, _)| base.is_above(origin)) {
            match base.read(origin) {
                Ok((tenant, epoch)) => {
                    for algorithm in [Algorithm::Ed25519, Algorithm::CosignatureV1] {
                        keys.push(key.renamed(origin, algorithm));
                    }
                    read.get_or_insert((base.clone(), tenant, epoch));
                }
                Err(error) => refused = Some(error),
            }
        }
        let Some((base, tenant, epoch)) = read else {
            let origin = origin.clone();
            return Err(match refused {
                Some(error) => Error::Origin { origin, error },
                None => Error::UnknownOrigin(origin),
            });
        };
        let Signers { sealed_at, witnesses, .. } = self.signers(&note, origin, &keys)?;
        Ok(Believed { checkpoint, tenant, epoch, base, sealed_at, witnesses })
    }

    /// Reads a note and returns its statement, if it is a checkpoint of a registry, signed by a key of its name and by enough
    /// witnesses.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn registry(&self, note: &[u8]) -> Result<Registry, Error> {
        let note = Note::parse(note)?;
        let checkpoint = Checkpoint::parse(note.text())?;
        let origin = &checkpoint.origin;
        let of_origin: Vec<&VerifierKey> =
            self.logs.iter().filter(|(base, _)| base.as_str() == origin).map(|(_, key)| key).collect();
        if of_origin.is_empty() {
            return Err(Error::UnknownOrigin(origin.clone()));
        }
        let (mut keys, mut whose) = (Vec::new(), Vec::new());
        for key in &of_origin {
            let signs: &[Algorithm] = match key.algorithm() {
                Algorithm::MlDsa44 => &[Algorithm::MlDsa44],
                _ => &[Algorithm::Ed25519, Algorithm::CosignatureV1],
            };
            keys.extend(signs.iter().map(|algorithm| key.renamed(origin, *algorithm)));
            whose.extend(signs.iter().map(|_| *key));
        }
        let Signers { of_log, sealed_at, witnesses, monitors } = self.signers(&note, origin, &keys)?;
        let keys = of_log.into_iter().map(|at| whose[at].clone()).collect();
        Ok(Registry { checkpoint, keys, sealed_at, witnesses, monitors })
    }

    /// Whose signatures are on a note of the log with these keys; an error unless the log and enough witnesses have signed.
    fn signers(&self, note: &Note<'_>, origin: &str, of_log: &[VerifierKey]) -> Result<Signers, Error> {
        let mut keys = of_log.to_vec();
        keys.extend(self.witnesses.iter().chain(&self.monitors).cloned());
        let verified = match note.verify(&keys) {
            Ok(verified) => verified,
            Err(note::Error::NotSigned) => return Err(Error::NotSigned(origin.into())),
            Err(error) => return Err(error.into()),
        };
        // The plain signature is the one that every log makes; a time alone is not enough. An ML-DSA key makes no other.
        let signed = |algorithm| {
            let by =
                move |v: &&note::Verified| of_log.get(v.key).is_some_and(|key| key.algorithm() == algorithm);
            verified.iter().filter(by).map(|v| v.key)
        };
        let is_missing = |algorithm| {
            of_log.iter().any(|key| key.algorithm() == algorithm) && signed(algorithm).next().is_none()
        };
        if is_missing(Algorithm::Ed25519) {
            return Err(Error::NotSigned(origin.into()));
        }
        if is_missing(Algorithm::MlDsa44) {
            return Err(Error::NotSignedTwice(origin.into()));
        }
        let signers = signed(Algorithm::Ed25519).chain(signed(Algorithm::MlDsa44)).collect();
        let of_log = of_log.len();
        let sealed_at = verified.iter().filter(|v| v.key < of_log).filter_map(|v| v.time).max();
        let mut witnesses: Vec<(usize, u64)> = Vec::new();
        let mut monitors = Vec::new();
        for (key, time) in verified.iter().filter_map(|v| Some((v.key.checked_sub(of_log)?, v.time?))) {
            if let Some(monitor) = key.checked_sub(self.witnesses.len()) {
                monitors.push((self.monitors[monitor].name().into(), time));
                continue;
            }
            let same =
                |seen: &&mut (usize, u64)| self.witnesses[seen.0].public() == self.witnesses[key].public();
            match witnesses.iter_mut().find(same) {
                Some(seen) => seen.1 = seen.1.max(time),
                None => witnesses.push((key, time)),
            }
        }
        if witnesses.len() < self.quorum {
            let (origin, quorum) = (origin.into(), self.quorum);
            return Err(Error::Quorum { origin, found: witnesses.len(), quorum });
        }
        let name = |(key, time): (usize, u64)| (self.witnesses[key].name().into(), time);
        Ok(Signers {
            of_log: signers,
            sealed_at,
            witnesses: witnesses.into_iter().map(name).collect(),
            monitors,
        })
    }
}

/// Whose signatures are on a note.
struct Signers {
    /// Keys of the log that made the plain signature, or one of ML-DSA, by their place in those given.
    of_log: Vec<usize>,
    sealed_at: Option<u64>,
    witnesses: Vec<(String, u64)>,
    monitors: Vec<(String, u64)>,
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::merkle::leaf_hash;
    use crate::note::SigningKey;

    fn key(name: &str, seed: u8) -> SigningKey {
        SigningKey::from_seed(name, &[seed; 32]).unwrap()
    }

    fn checkpoint(origin: &str) -> Checkpoint {
        Checkpoint { origin: origin.into(), size: 7, root: leaf_hash(b"x") }
    }

    fn trusting(keys: &[&SigningKey]) -> Trust {
        let mut trust = Trust::new();
        keys.iter().for_each(|key| trust.add_log(key.verifier_key()).unwrap());
        trust
    }

    fn witness(seed: u8) -> (SigningKey, VerifierKey) {
        let name = format!("witness.example/{seed}");
        let key = key(&name, seed);
        let public = key.verifier_key().renamed(&name, Algorithm::CosignatureV1);
        (key, public)
    }

    #[test]
    fn the_key_of_a_base_is_good_for_every_tenant_and_epoch_below_it() {
        let log = key("log.example", 1);
        let note = checkpoint("log.example/a%20b/2").sign(&log, 99).unwrap();
        let believed = trusting(&[&log]).open(note.as_bytes()).unwrap();
        assert_eq!((believed.tenant.as_str(), believed.epoch, believed.sealed_at), ("a b", 2, Some(99)));
    }

    #[test]
    fn the_key_of_a_registry_has_its_name_and_all_that_signed_are_told() {
        let (old, new) = (key("log.example", 1), key("log.example", 2));
        let body = checkpoint("log.example").body();
        let note = checkpoint("log.example").sign(&old, 99).unwrap() + &new.sign("log.example", &body);
        let registry = trusting(&[&old, &new]).registry(note.as_bytes()).unwrap();
        assert_eq!((registry.checkpoint.size, registry.sealed_at), (7, Some(99)));
        assert_eq!(registry.keys, [old.verifier_key(), new.verifier_key()]);
        let unknown = trusting(&[&new]).registry(checkpoint("log.example").sign(&old, 1).unwrap().as_bytes());
        assert_eq!(unknown, Err(Error::NotSigned("log.example".into())));
        // The log of a tenant is another one.
        let of_tenant = checkpoint("log.example/a").sign(&old, 1).unwrap();
        let error = Error::UnknownOrigin("log.example/a".into());
        assert_eq!(trusting(&[&old]).registry(of_tenant.as_bytes()), Err(error));
    }

    #[test]
    fn after_a_rotation_both_keys_are_good() {
        let (old, new) = (key("log.example", 1), key("log.example", 2));
        let trust = trusting(&[&old, &new]);
        for signer in [&old, &new] {
            let note = checkpoint("log.example/a").sign(signer, 1).unwrap();
            assert!(trust.open(note.as_bytes()).is_ok());
        }
    }

    #[test]
    fn the_key_of_another_base_or_another_key_is_not_good() {
        let (log, other) = (key("log.example", 1), key("log.example", 2));
        let note = checkpoint("log.example/a").sign(&other, 1).unwrap();
        let error = trusting(&[&log]).open(note.as_bytes()).unwrap_err();
        assert_eq!(error, Error::NotSigned("log.example/a".into()));
        assert!(!error.is_forgery());
        let error = trusting(&[&key("log", 1)]).open(note.as_bytes()).unwrap_err();
        assert_eq!(error, Error::UnknownOrigin("log.example/a".into()));
    }

    #[test]
    fn a_changed_checkpoint_is_a_forgery() {
        let log = key("log.example", 1);
        let note = checkpoint("log.example/a").sign(&log, 1).unwrap().replacen("\n7\n", "\n6\n", 1);
        let error = trusting(&[&log]).open(note.as_bytes()).unwrap_err();
        assert_eq!(error, Error::Note(note::Error::WrongSignature(1)));
        assert!(error.is_forgery());
    }

    #[test]
    fn a_time_alone_is_no_signature_of_a_log() {
        let log = key("log.example", 1);
        let body = checkpoint("log.example/a").body();
        let note = format!("{body}\n{}", log.cosign("log.example/a", 1, &body).unwrap());
        assert_eq!(trusting(&[&log]).open(note.as_bytes()), Err(Error::NotSigned("log.example/a".into())));
    }

    #[test]
    fn an_origin_that_this_project_does_not_write_is_named() {
        let log = key("log.example", 1);
        let note = checkpoint("log.example/%61").sign(&log, 1).unwrap();
        let error = origin::Error::NotCanonical;
        assert_eq!(
            trusting(&[&log]).open(note.as_bytes()),
            Err(Error::Origin { origin: "log.example/%61".into(), error })
        );
    }

    #[test]
    fn a_witness_counts_once_however_often_it_signed_and_under_whatever_name() {
        let log = key("log.example", 1);
        let (one, one_public) = witness(3);
        let (two, two_public) = witness(4);
        let mut trust = trusting(&[&log]);
        trust.add_witness(one_public.clone()).unwrap();
        trust.add_witness(one_public.renamed("again", Algorithm::CosignatureV1)).unwrap();
        trust.add_witness(two_public).unwrap();
        trust.require(2);
        assert_eq!(trust.witnesses(), 2);
        let body = checkpoint("log.example/a").body();
        let mut note = checkpoint("log.example/a").sign(&log, 1).unwrap();
        for (name, time) in [(one.name(), 5), (one.name(), 6), ("again", 7)] {
            note += &one.cosign(name, time, &body).unwrap();
        }
        let origin = String::from("log.example/a");
        assert_eq!(trust.open(note.as_bytes()), Err(Error::Quorum { origin, found: 1, quorum: 2 }));
        note += &two.cosign(two.name(), 8, &body).unwrap();
        let believed = trust.open(note.as_bytes()).unwrap();
        assert_eq!(believed.witnesses, [("witness.example/3".into(), 7), ("witness.example/4".into(), 8)]);
    }

    #[test]
    fn keys_are_taken_only_for_what_they_sign() {
        let log = key("log.example", 1).verifier_key();
        let (_, cosigner) = witness(3);
        assert_eq!(Trust::new().add_witness(log), Err(KeyError::NotOfAWitness));
        assert_eq!(Trust::new().add_log(cosigner), Err(KeyError::NotOfALog));
        let reserved = key("cosignature/v1", 1).verifier_key();
        assert_eq!(Trust::new().add_log(reserved), Err(KeyError::Base(origin::Error::BaseReserved)));
    }

    #[test]
    fn who_is_given_both_keys_of_a_registry_wants_both_signatures() {
        let plain = key("log.example", 1);
        let (second, other) = (
            SigningKey::ml_dsa_44("log.example", &[2; 32]).unwrap(),
            SigningKey::ml_dsa_44("log.example", &[3; 32]).unwrap(),
        );
        let once = checkpoint("log.example").sign(&plain, 99).unwrap();
        let body = checkpoint("log.example").body();
        let line = second.cosign("log.example", 98, &body).unwrap();
        let twice = format!("{once}{line}");
        let both = trusting(&[&plain, &second]);
        let registry = both.registry(twice.as_bytes()).unwrap();
        assert_eq!(registry.keys, [plain.verifier_key(), second.verifier_key()]);
        assert_eq!(registry.sealed_at, Some(99));
        let error = Error::NotSignedTwice("log.example".into());
        assert_eq!(both.registry(once.as_bytes()), Err(error.clone()));
        assert_eq!(trusting(&[&plain, &other]).registry(twice.as_bytes()), Err(error));
        // Either alone is enough for whoever is given that one; of several of a kind, one.
        assert!(trusting(&[&plain]).registry(twice.as_bytes()).is_ok());
        assert!(trusting(&[&second]).registry(twice.as_bytes()).is_ok());
        assert!(trusting(&[&plain, &other, &second]).registry(twice.as_bytes()).is_ok());
        assert_eq!(
            both.registry(format!("{body}\n{line}").as_bytes()),
            Err(Error::NotSigned("log.example".into()))
        );
        let mut forged = once;
        forged += &second.cosign("log.example", 98, &body.replacen("\n7\n", "\n6\n", 1)).unwrap();
        assert!(both.registry(forged.as_bytes()).unwrap_err().is_forgery());
        // Logs of tenants are signed once.
        let of_tenant = checkpoint("log.example/a").sign(&plain, 1).unwrap();
        assert!(both.open(of_tenant.as_bytes()).is_ok());
    }
}
