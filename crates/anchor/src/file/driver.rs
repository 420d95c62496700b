//! The driver: writes the entry for a log and an epoch once, however often it is called.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroauth_audit_core::note::{SigningKey, VerifierKey};
use zeroauth_audit_transport::file;

use super::append::{self, Locked};
use super::entry::{self, Contents, Entry};
use crate::batch::{Batch, Hash, Moment};
use crate::driver::{Attempt, Driver, Inclusion, Need, Place, Sent, View};
use crate::evidence::file::Evidence;
use crate::failure::Failure;

/// How a file target is configured: read from JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The anchor file; made if it is not there.
    pub path: PathBuf,
    /// The key that signs: the checkpoint key, or one of its own. Of several in the file, one a line, the first signs.
    pub key_file: PathBuf,
    /// Public keys that signed earlier entries, from before a rotation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_keys: Vec<String>,
}

/// An anchor file.
pub struct FileDriver {
    path: PathBuf,
    key: SigningKey,
    keys: Vec<VerifierKey>,
}

fn unusable(reason: impl Into<String>) -> Failure {
    Failure::File { reason: reason.into() }
}

impl FileDriver {
    /// Reads the key, and not the anchor file.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        let secret = file::secret(&config.key_file, "key").map_err(unusable)?;
        // A file of checkpoint keys can have several: the first signs, the others did or will.
        let lines = secret.text().unwrap_or_default().lines().filter(|line| !line.trim().is_empty());
        let held = lines.map(SigningKey::parse).collect::<Result<Vec<_>, _>>().unwrap_or_default();
        let mut keys: Vec<_> = held.iter().map(SigningKey::verifier_key).collect();
        let key = held.into_iter().next().ok_or_else(|| unusable("the key file holds no signing key"))?;
        for earlier in &config.earlier_keys {
            let earlier = VerifierKey::parse(earlier);
            keys.push(earlier.map_err(|_| Failure::Configuration {
                problem: "names an earlier key that is none".into(),
            })?);
        }
        Ok(Self { path: config.path.clone(), key, keys })
    }

    /// Whether a file can be the anchor file. Makes and changes nothing.
    pub fn check(path: &Path) -> Result<(), String> {
        append::check(path)
    }

    fn read(&self) -> Result<(Locked, Contents), Failure> {
        let locked = append::open(&self.path).map_err(unusable)?;
        // The file can be read, but does not say what was written.
        let contents = entry::read(&locked.bytes, &self.keys)
            .map_err(|error| Failure::Altered { problem: error.to_string() })?;
        Ok((locked, contents))
    }
}

fn inclusion(entry: &Entry) -> Inclusion {
    Inclusion {
        seal: entry.batch.seal(),
        id: entry.link.to_string(),
        block_number: None,
        block_hash: None,
        anchored_at: entry.signed_at,
        // It was made durable before it was read.
        finalized: true,
        token: None,
    }
}

fn place(contents: &Contents, batch: &Batch) -> Place {
    match (contents.of(batch.log_id, batch.epoch), contents.latest(batch.log_id)) {
        (Some(entry), _) => Place::Included(inclusion(entry)),
        (None, Some(latest)) if latest > batch.epoch => Place::Passed { latest, finalized: true },
        _ => Place::Free,
    }
}

impl Driver for FileDriver {
    fn look(&self, batch: &Batch, _: &[&Attempt]) -> Result<View, Failure> {
        let (_, contents) = self.read()?;
        Ok(View { place: place(&contents, batch), waiting: false, nonces: None, reverted: false })
    }

    /// An entry names the line before it, which is known only when it is written: only the time can be stored beforehand.
    fn prepare(&self, batch: &Batch, _: &Need, now: Moment) -> Result<Attempt, Failure> {
        Ok(Attempt {
            id: Hash::sha256(batch.statement().as_bytes()).to_string(),
            bytes: String::new(),
            nonce: None,
            fees: None,
            prepared_at: now,
            sent_at: None,
            sends: 0,
            underpriced: false,
        })
    }

    fn send(&self, batch: &Batch, attempt: &Attempt) -> Result<Sent, Failure> {
        let (locked, contents) = self.read()?;
        match place(&contents, batch) {
            Place::Included(inclusion) => return Ok(Sent::Anchored(inclusion)),
            // The next look decides what it means.
            Place::Passed { .. } => return Ok(Sent::NonceUsed),
            _ => {}
        }
        let line = entry::line(batch, attempt.prepared_at, contents.link(), &self.key);
        locked.append(&line, contents.is_ended).map_err(unusable)?;
        // Only the file's present content counts.
        let (_, contents) = self.read()?;
        match place(&contents, batch) {
            Place::Included(inclusion) => Ok(Sent::Anchored(inclusion)),
            _ => Err(unusable("the anchor file does not keep what is written")),
        }
    }

    fn evidence(&self, batch: &Batch, _: &Inclusion) -> Result<Value, Failure> {
        let (_, contents) = self.read()?;
        let entry = contents.of(batch.log_id, batch.epoch);
        let entry = entry.ok_or_else(|| unusable("the anchor file does not have the entry any more"))?;
        let evidence = Evidence::new(entry);
        evidence
            .verify(&batch.root, &self.keys)
            .map_err(|error| Failure::Unverified { problem: error.to_string() })?;
        serde_json::to_value(&evidence).map_err(|_| Failure::Defect { what: "evidence is no JSON".into() })
    }
}
