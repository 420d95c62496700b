//! Checkpoints from files.
//!
//! Only what is signed by a trusted key leaves this module. A signature that is wrong under a trusted key is a finding; a note by
//! somebody else could not be checked.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use zeroauth_audit_core::note;
use zeroauth_audit_core::trust::{self, Believed, Registry, Trust};

use crate::input;
use crate::verdict::{Finding, Sealed, Trouble, Verdict};

/// Folders in each other at most: year, month and day.
const MAX_DEPTH: usize = 3;

/// What a verdict says of a checkpoint.
#[must_use]
pub fn report(believed: &Believed, result: impl Into<String>) -> Sealed {
    Sealed {
        origin: believed.checkpoint.origin.clone(),
        tree_size: believed.checkpoint.size,
        of_registry: false,
        sealed_at: believed.sealed_at,
        witnesses: believed.witnesses.iter().map(|(name, _)| name.clone()).collect(),
        result: result.into(),
    }
}

/// That a log signed two roots for one size, if it did.
#[must_use]
pub fn two_roots(a: &Believed, b: &Believed) -> Option<Finding> {
    let (one, other) = (&a.checkpoint, &b.checkpoint);
    let contradict = one.origin == other.origin && one.size == other.size && one.root != other.root;
    let detail = format!("two different roots were signed for {} events", one.size);
    contradict.then(|| Finding::new("checkpoint_mismatch", &a.tenant, detail).hashes(&one.root, &other.root))
}

/// Why a note is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unbelieved {
    /// As the core says.
    Trust(trust::Error),
    /// The log's second signature, with the time, is not there: every checkpoint has it, so somebody took it away.
    NoTime,
}

impl std::fmt::Display for Unbelieved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unbelieved::Trust(error) => error.fmt(f),
            Unbelieved::NoTime => {
                f.write_str("the log's signature with the time of the checkpoint is not there")
            }
        }
    }
}

/// The checkpoint in a note, signed and with its time.
///
/// # Errors
/// [`Unbelieved`].
pub fn believed(note: &[u8], trust: &Trust) -> Result<Believed, Unbelieved> {
    let believed = trust.open(note).map_err(Unbelieved::Trust)?;
    if believed.sealed_at.is_some() { Ok(believed) } else { Err(Unbelieved::NoTime) }
}

/// The checkpoint of a registry in a file, signed by a trusted key; by witnesses or not.
///
/// # Errors
/// What is wrong, in words.
pub fn registry(path: &Path, trust: &Trust) -> Result<Registry, String> {
    let bytes = read_file(path, note::MAX_BYTES as u64)?;
    let note = input::text(&bytes)?;
    let mut trust = trust.clone();
    trust.require(0);
    trust.registry(note).map_err(|error| error.to_string())
}

/// A whole file of at most `most` bytes.
///
/// # Errors
/// What is wrong, in words.
pub fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(format!("cannot be read: {error}")),
        Ok(_) if bytes.len() as u64 > most => Err(format!("is longer than {most} bytes")),
        Ok(_) => Ok(bytes),
    }
}

/// The files below `folder`, in folders of years, months and days, whose names are `wanted`, in the order of their paths.
///
/// # Errors
/// A folder that cannot be read, and why.
pub fn below(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<PathBuf>, Trouble> {
    let mut found = Vec::new();
    collect(folder, 0, wanted, &mut found)?;
    Ok(found)
}

fn collect(
    folder: &Path,
    depth: usize,
    wanted: &dyn Fn(&str) -> bool,
    found: &mut Vec<PathBuf>,
) -> Result<(), Trouble> {
    let trouble = |what: String| Trouble { file: folder.display().to_string(), what, ..Trouble::default() };
    let cannot = |error: std::io::Error| trouble(format!("cannot be read: {error}"));
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        entries.push((entry.file_name(), entry.file_type().map_err(cannot)?));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in entries {
        let path = folder.join(&name);
        if kind.is_dir() && depth < MAX_DEPTH {
            collect(&path, depth + 1, wanted, found)?;
        } else if kind.is_file() && wanted(&name.to_string_lossy()) {
            found.push(path);
        }
    }
    Ok(())
}

/// The checkpoint in the file `path`, if it is believed; what is wrong with it otherwise is told.
pub fn open(path: &Path, trust: &Trust, verdict: &mut Verdict) -> Option<Believed> {
    let name = path.display().to_string();
    let bytes = match read_file(path, note::MAX_BYTES as u64 + 1) {
        Ok(bytes) => bytes,
        Err(what) => {
            verdict.trouble_with(name, what);
            return None;
        }
    };
    let note = match input::text(&bytes) {
        Ok(note) => note,
        Err(what) => {
            verdict.trouble_with(name, format!("no checkpoint: {what}"));
            return None;
        }
    };
    match believed(note, trust) {
        Ok(believed) => return Some(believed),
        Err(Unbelieved::Trust(error)) if error.is_forgery() => {
            let detail = format!("{name:?}: {error}");
            verdict.found(Finding { class: "checkpoint_mismatch", detail, ..Finding::default() });
        }
        Err(error) => verdict.trouble_with(name, error.to_string()),
    }
    None
}
