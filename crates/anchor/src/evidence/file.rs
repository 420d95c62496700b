//! Evidence of an entry in an anchor file: the signed note. It shows that the key's holder anchored the root; reading
//! the file shows that the entry is in it, and the file whole ([`crate::file::entry::read`]).

use serde::{Deserialize, Serialize};
use zeroauth_audit_core::note::{self, Note, VerifierKey};

use super::{Error, RestsOn, Verdict};
use crate::batch::Hash;
use crate::file::entry::{self, Entry};

/// Evidence of an entry in an anchor file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Of this format.
    pub version: u32,
    /// The signed note.
    pub note: String,
}

impl Evidence {
    /// Of an entry.
    #[must_use]
    pub fn new(entry: &Entry) -> Self {
        Self { version: 1, note: entry.note.clone() }
    }

    /// Checks the note; `root` is the root that must be anchored, by one of `keys`.
    pub fn verify(&self, root: &Hash, keys: &[VerifierKey]) -> Result<Verdict, Error> {
        if self.version != 1 {
            return Err(Error::Unknown);
        }
        // Three different errors: another key's note, a note that was changed, and a note that is no entry at all.
        let note = Note::parse(self.note.as_bytes()).map_err(|_| Error::Malformed("the note"))?;
        match note.verify(keys) {
            Ok(_) => {}
            Err(note::Error::NotSigned) => return Err(Error::NotTrusted("no known key signed the entry")),
            Err(_) => return Err(Error::DoesNotHold("the signature of the entry")),
        }
        let (batch, signed_at, _, name) =
            entry::read_note(&self.note, keys).ok_or(Error::Malformed("the entry"))?;
        if batch.root != *root {
            return Err(Error::OtherRoot { found: batch.root });
        }
        Ok(Verdict {
            log_id: Some(batch.log_id),
            epoch: Some(batch.epoch),
            seal: batch.seal(),
            anchored_at: signed_at,
            rests_on: RestsOn::Key { name },
        })
    }
}
