//! The anchor file as bytes: one entry a line, each a signed note that names the line before it. Pure; hostile input gives an error,
//! never a panic.
//!
//! A line is a JSON object with one member, `note`: a C2SP signed note whose text is the batch's statement, then `signed_at` and
//! `previous`, the SHA-256 of the line before (without its newline; zeros for the first). A writer that died left the beginning
//! of a line; the next writer ends it with a newline and appends its own. Such a fragment is only counted: the entry after it names
//! the last whole line.

use serde::{Deserialize, Serialize};
use zeroauth_audit_core::note::{Note, SigningKey, VerifierKey};

use crate::batch::{Batch, Hash, Moment};

/// What the entry that comes first names as the line before it.
pub const NOTHING: Hash = Hash([0; 32]);
/// More than any honest line.
const MOST_LINE_BYTES: usize = 16 << 10;

/// Why a file is no anchor file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An entry that no trusted key signed.
    #[error("line {line} of the anchor file is not signed by a known key")]
    NotSigned {
        /// From 1.
        line: usize,
    },
    /// An entry that does not follow the one before it: something between was changed, removed or added.
    #[error("line {line} of the anchor file does not follow the entry before it")]
    NotLinked {
        /// From 1.
        line: usize,
    },
    /// A second entry for one epoch of one log, or one below another.
    #[error("line {line} of the anchor file repeats or goes below an epoch")]
    EpochNotRising {
        /// From 1.
        line: usize,
    },
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The anchored batch.
    pub batch: Batch,
    /// When it was signed, by the clock of the signer.
    pub signed_at: Moment,
    /// SHA-256 of the line before.
    pub previous: Hash,
    /// SHA-256 of this line: what the next one names.
    pub link: Hash,
    /// The signed note.
    pub note: String,
    /// Name of the key.
    pub signer: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    note: String,
}

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Every entry, in order.
    pub entries: Vec<Entry>,
    /// Beginnings of lines that a writer did not finish.
    pub fragments: usize,
    /// Whether the file ends with a newline, or is empty.
    pub is_ended: bool,
}

impl Contents {
    /// The entry of an epoch.
    #[must_use]
    pub fn of(&self, log_id: Hash, epoch: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.batch.log_id == log_id && entry.batch.epoch == epoch)
    }

    /// The newest epoch of a log.
    #[must_use]
    pub fn latest(&self, log_id: Hash) -> Option<u64> {
        self.entries.iter().rev().find(|entry| entry.batch.log_id == log_id).map(|entry| entry.batch.epoch)
    }

    /// What the next entry names.
    #[must_use]
    pub fn link(&self) -> Hash {
        self.entries.last().map_or(NOTHING, |entry| entry.link)
    }
}

/// The text that is signed.
fn text(batch: &Batch, signed_at: Moment, previous: Hash) -> String {
    format!("{}signed_at {}\nprevious {previous}\n", batch.statement(), signed_at.0)
}

/// A new line, without its newline.
#[must_use]
pub fn line(batch: &Batch, signed_at: Moment, previous: Hash, key: &SigningKey) -> String {
    let text = text(batch, signed_at, previous);
    let note = format!("{text}\n{}", key.sign(key.name(), &text));
    // A string is written as JSON in one way only.
    serde_json::json!({ "note": note }).to_string()
}

/// Reads a signed note of an entry: (batch, signed_at, previous, name of the key). None if it is no entry, or no key in `keys` signed it.
#[must_use]
pub fn read_note(note: &str, keys: &[VerifierKey]) -> Option<(Batch, Moment, Hash, String)> {
    let parsed = Note::parse(note.as_bytes()).ok()?;
    let verified = parsed.verify(keys).ok()?;
    let signer = keys.get(verified.first()?.key)?.name().to_owned();
    let (rest, previous) = parsed.text().strip_suffix('\n')?.rsplit_once("\nprevious ")?;
    let (statement, signed_at) = rest.rsplit_once("\nsigned_at ")?;
    let batch = Batch::from_statement(&format!("{statement}\n"))?;
    let (signed_at, previous) = (Moment(signed_at.parse().ok()?), previous.parse().ok()?);
    // Numbers can be written in several ways.
    (text(&batch, signed_at, previous) == parsed.text()).then_some((batch, signed_at, previous, signer))
}

/// Reads a whole file, and checks that it is one chain of entries by `keys`, with epochs that rise.
pub fn read(bytes: &[u8], keys: &[VerifierKey]) -> Result<Contents, Error> {
    let mut contents =
        Contents { is_ended: bytes.last().is_none_or(|byte| *byte == b'\n'), ..Contents::default() };
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    // What follows the last newline; nothing if the file is ended.
    if lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    for (number, line) in (1..).zip(lines) {
        let Some(Line { note }) = whole_line(line) else {
            contents.fragments += 1;
            continue;
        };
        let (batch, signed_at, previous, signer) =
            read_note(&note, keys).ok_or(Error::NotSigned { line: number })?;
        if previous != contents.link() {
            return Err(Error::NotLinked { line: number });
        }
        if contents.latest(batch.log_id).is_some_and(|latest| latest >= batch.epoch) {
            return Err(Error::EpochNotRising { line: number });
        }
        let link = Hash::sha256(line);
        contents.entries.push(Entry { batch, signed_at, previous, link, note, signer });
    }
    Ok(contents)
}

/// A line that was written to its end. Invalid JSON is the beginning of a line.
fn whole_line(line: &[u8]) -> Option<Line> {
    if line.len() > MOST_LINE_BYTES {
        return None;
    }
    serde_json::from_slice(line).ok()
}
