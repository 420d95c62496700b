//! Keys of checkpoints: the private ones are read from their file when something is to be signed, and kept nowhere; the public ones
//! are in the table `keys`.
//!
//! The file `zeroauth_audit.checkpoint_key_file` holds one key a line, all of one name, which is the base origin. The first one is the
//! key; a second one is its successor or its predecessor: while both are there, both sign, so that a verifier that trusts either
//! one accepts every checkpoint.

use std::path::Path;

use pgrx::pg_sys;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::note::{Algorithm, Note, SigningKey, VerifierKey};
use zeroauth_audit_core::origin::Base;
use zeroauth_audit_core::trust::Trust;
use zeroauth_audit_transport::file;

use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::{Failure, Kind};
use crate::pg::random;
use crate::pg::settings;
use crate::pg::spi::{Parameter, Session};
use crate::pg::time;
use crate::shared::databases;

/// Keys that sign at once, at most.
const MOST_KEYS: usize = 4;

/// Signs checkpoints.
pub struct Signer {
    base: Base,
    keys: Vec<SigningKey>,
}

impl Signer {
    /// Reads the key file; the error is one line and shows nothing of a key.
    fn read(path: &str) -> Result<Self, String> {
        if is_in_data_directory(Path::new(path)) {
            return Err(
                "the key file is in the data directory, where every backup would take it along".into()
            );
        }
        let secret = file::secret(Path::new(path), "checkpoint key")?;
        let text = secret.text().ok_or("the checkpoint key file is not UTF-8")?;
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        if lines.is_empty() || lines.len() > MOST_KEYS {
            return Err(format!("the checkpoint key file has {} keys, not 1 to {MOST_KEYS}", lines.len()));
        }
        let keys = lines.into_iter().map(SigningKey::parse).collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|error| format!("the checkpoint key file does not hold a key: {error}"))?;
        let base = Base::parse(keys[0].name()).map_err(|error| format!("the key's name: {error}"))?;
        if keys.iter().any(|key| key.name() != base.as_str()) {
            return Err("the keys in the checkpoint key file have different names".into());
        }
        if keys[0].verifier_key().algorithm() == Algorithm::MlDsa44 {
            return Err(
                "the first key in the checkpoint key file is of ML-DSA-44, which signs beside an Ed25519 key"
                    .into(),
            );
        }
        Ok(Self { base, keys })
    }

    /// A key that nobody else ever has, and that is dropped with this value.
    pub fn ephemeral(base: &str) -> Result<Self, Failure> {
        let no_name = |why: String| Failure::new(Kind::InvalidArgument, why).hint("It is no base origin.");
        let base = Base::parse(base).map_err(|error| no_name(error.to_string()))?;
        let key = SigningKey::from_seed(base.as_str(), &random::bytes());
        let keys = vec![key.map_err(|error| no_name(error.to_string()))?];
        Ok(Self { base, keys })
    }

    /// The origin of the registry: the first line of its checkpoints.
    pub fn base(&self) -> &str {
        self.base.as_str()
    }

    /// The signed checkpoint of the registry, as of now: every key signs it.
    pub fn sign(&self, size: u64, root: &Digest) -> String {
        let seconds = u64::try_from(time::unix_micros(time::now()).div_euclid(1_000_000)).unwrap_or(0);
        let checkpoint = Checkpoint { origin: self.base().to_owned(), size, root: *root };
        let body = checkpoint.body();
        let mut note = format!("{body}\n");
        for key in &self.keys {
            note.push_str(&key.sign(self.base(), &body));
            note.push_str(&key.cosign(self.base(), seconds, &body).unwrap_or_default());
        }
        note
    }

    /// The public keys.
    pub fn public(&self) -> impl Iterator<Item = VerifierKey> {
        self.keys.iter().map(SigningKey::verifier_key)
    }
}

fn is_in_data_directory(path: &Path) -> bool {
    // SAFETY: set at server start, NUL-terminated.
    let data = unsafe { std::ffi::CStr::from_ptr(pg_sys::DataDir) };
    let data = Path::new(data.to_str().unwrap_or_default());
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    real(path).starts_with(real(data))
}

/// `names_key()`: whether `zeroauth_audit.checkpoint_key_file` names a file. Which one is for superusers.
fn names_key(_: &Arguments) -> Result<pg_sys::Datum, Failure> {
    Ok(pg_sys::Datum::from(!settings::checkpoint_key_file().is_empty()))
}

/// The current signer: `None` when no file is named, or when it cannot be used, which raises an alert.
pub fn signer(session: &Session, schema: &str) -> Result<Option<Signer>, Failure> {
    let path = settings::checkpoint_key_file();
    if path.is_empty() {
        return Ok(None);
    }
    let read = Signer::read(&path).and_then(|signer| {
        // SAFETY: set when the process connected.
        let here = unsafe { pg_sys::MyDatabaseId }.to_u32();
        let mine = databases::signing_keys::claim(here, signer.keys[0].verifier_key().public());
        if mine { Ok(signer) } else { Err("another database of this server signs with this key".into()) }
    });
    let (signer, why) = match read {
        Ok(signer) => (Some(signer), String::new()),
        Err(why) => (None, why),
    };
    let sql = format!("SELECT {schema}.key_usable(NULLIF($1, ''))");
    session.change_again(&sql, &[Parameter::Text(&why)], |_| Ok(()))?;
    if let Some(signer) = &signer {
        remember(session, schema, signer)?;
    }
    Ok(signer)
}

/// Keeps the public keys of `signer`, and tells of one that is new.
fn remember(session: &Session, schema: &str, signer: &Signer) -> Result<(), Failure> {
    keep(session, signer, &format!("SELECT {schema}.key_signs($1, $2)"))
}

/// Keeps the public keys of a drill's `signer`, of which nobody is told.
pub fn remember_quietly(session: &Session, schema: &str, signer: &Signer) -> Result<(), Failure> {
    keep(
        session,
        signer,
        &format!("INSERT INTO {schema}.keys (public_key, vkey) VALUES ($1, $2) ON CONFLICT DO NOTHING"),
    )
}

fn keep(session: &Session, signer: &Signer, sql: &str) -> Result<(), Failure> {
    for key in signer.public() {
        let parameters = [Parameter::Bytes(key.public()), Parameter::Text(&key.to_string())];
        session.change_again(sql, &parameters, |_| Ok(()))?;
    }
    Ok(())
}

/// The keys to trust: every key that signed here. Those of ML-DSA are for readers outside: here a checkpoint from before there was one is as good.
pub fn trust(session: &Session, schema: &str) -> Result<Trust, Failure> {
    let mut trust = Trust::new();
    session.all(&format!("SELECT vkey FROM {schema}.keys"), &[], |row| {
        // A line that is no key of a log never signed here.
        if let Some(key) = row.text(0)?.and_then(|vkey| VerifierKey::parse(&vkey).ok()) {
            add(&mut trust, key);
        }
        Ok(())
    })?;
    Ok(trust)
}

fn add(trust: &mut Trust, key: VerifierKey) {
    if key.algorithm() != Algorithm::MlDsa44 {
        let _ = trust.add_log(key);
    }
}

/// Whether a checkpoint of the registry that was published is ours, or why not.
pub fn reader(
    session: &Session,
    schema: &str,
) -> Result<impl Fn(&str) -> Result<(), String> + Send + use<>, Failure> {
    use zeroauth_audit_core::trust::Error;
    let mut trust = trust(session, schema)?;
    let mut base = None;
    // A restored database may be older than its key.
    if let Ok(signer) = Signer::read(&settings::checkpoint_key_file()) {
        signer.public().for_each(|key| add(&mut trust, key));
        base = Some(signer.base().to_owned());
    }
    let other = |origin: &str| {
        format!("a checkpoint of {origin} is there: each database needs a directory of its own")
    };
    Ok(move |note: &str| match trust.registry(note.as_bytes()) {
        Ok(signed) if base.as_ref().is_some_and(|base| *base != signed.checkpoint.origin) => {
            Err(other(&signed.checkpoint.origin))
        }
        Ok(_) => Ok(()),
        Err(Error::UnknownOrigin(origin)) => Err(other(&origin)),
        Err(error) => Err(error.to_string()),
    })
}

/// The line among `lines` by which the witness with the key `vkey` signed `note`, and when.
pub fn cosignature(note: &str, lines: &str, vkey: &str) -> Result<(String, u64), String> {
    let key = VerifierKey::parse(vkey).map_err(|error| format!("the witness's key: {error}"))?;
    let body = note.split_inclusive("\n\n").next().unwrap_or_default();
    for line in lines.lines() {
        let signed = format!("{body}{line}\n");
        let verified =
            Note::parse(signed.as_bytes()).ok().and_then(|note| note.verify(std::slice::from_ref(&key)).ok());
        if let Some(time) = verified.and_then(|verified| verified.first().and_then(|v| v.time)) {
            return Ok((line.to_owned(), time));
        }
    }
    Err("the witness's answer has no valid signature of its key".into())
}

sql_function!(zeroauth_audit_names_key, pg_finfo_zeroauth_audit_names_key, names_key);
