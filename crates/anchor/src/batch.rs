//! The unit of anchoring: one batch, named by its log and its epoch.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// 32 bytes, in JSON `0x` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// A text that is no [`Hash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 0x and 64 hexadecimal digits")]
pub struct NoHash;

impl FromStr for Hash {
    type Err = NoHash;

    fn from_str(text: &str) -> Result<Self, NoHash> {
        let mut bytes = [0; 32];
        let digits = text.strip_prefix("0x").ok_or(NoHash)?;
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| NoHash)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A point in time, in whole seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub i64);

impl Moment {
    /// The moment `seconds` later.
    #[must_use]
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)))
    }

    /// The seconds from `earlier` to this; 0 if a clock was set back meanwhile.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

/// One batch for one target. A batch never changes once it is planned: signatures and transactions are made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Whose anchors these are: [`Batch::log_id`] of the origin.
    pub log_id: Hash,
    /// Its number; in one log epochs only rise, and one is used once.
    pub epoch: u64,
    /// Root of the Merkle tree over the newest checkpoints of all tenants.
    pub root: Hash,
    /// Number of leaves of that tree; not 0.
    pub size: u64,
    /// When the batch was made.
    pub batch_time: Moment,
}

impl Batch {
    /// The id of the log with this origin: SHA-256 of its bytes.
    #[must_use]
    pub fn log_id(origin: &str) -> Hash {
        Hash::sha256(origin.as_bytes())
    }

    /// Whether `seal` is of this batch.
    #[must_use]
    pub fn is(&self, seal: &Seal) -> bool {
        *seal == self.seal()
    }

    /// The batch as text, for targets that sign or stamp bytes: one line each for the format, the log, the epoch, and the seal.
    #[must_use]
    pub fn statement(&self) -> String {
        format!(
            "zeroauth.audit/anchor/v1\nlog {}\nepoch {}\nroot {}\nsize {}\nbatch_time {}\n",
            self.log_id, self.epoch, self.root, self.size, self.batch_time.0
        )
    }

    /// Reads [`Batch::statement`], in the one form that it writes.
    #[must_use]
    pub fn from_statement(text: &str) -> Option<Self> {
        let mut lines = text.strip_prefix("zeroauth.audit/anchor/v1\n")?.lines();
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let batch = Self {
            log_id: value("log")?.parse().ok()?,
            epoch: value("epoch")?.parse().ok()?,
            root: value("root")?.parse().ok()?,
            size: value("size")?.parse().ok()?,
            batch_time: Moment(value("batch_time")?.parse().ok()?),
        };
        // Numbers can be written in several ways, and lines may be left over.
        (batch.statement() == text).then_some(batch)
    }

    /// The seal: what a target keeps of it.
    #[must_use]
    pub fn seal(&self) -> Seal {
        Seal { root: self.root, size: self.size, batch_time: self.batch_time }
    }
}

/// What a target keeps under a log and an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Root of the batch.
    pub root: Hash,
    /// Number of its leaves.
    pub size: u64,
    /// When it was made.
    pub batch_time: Moment,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_written_in_one_way_and_read_in_no_other() {
        let hash = Hash::sha256(b"example.org/audit");
        let text = hash.to_string();
        assert_eq!(text.len(), 66);
        assert_eq!(text.parse(), Ok(hash));
        assert_eq!(serde_json::from_str::<Hash>(&format!("\"{text}\"")).unwrap(), hash);
        for other in [&text[2..], &text[..65], &format!("{text}0"), "0x", ""] {
            assert_eq!(other.parse::<Hash>(), Err(NoHash), "{other}");
        }
    }

    #[test]
    fn a_statement_is_read_in_the_one_form_in_which_it_is_written() {
        let batch = Batch {
            log_id: Batch::log_id("example.org/audit"),
            epoch: 7,
            root: Hash::sha256(b"root"),
            size: 3,
            batch_time: Moment(-5),
        };
        let text = batch.statement();
        assert_eq!(Batch::from_statement(&text), Some(batch));
        for other in [
            text.replace("epoch 7", "epoch +7"),
            text.replace("epoch 7", "epoch 07"),
            text.replace("/v1", "/v2"),
            format!("{text}\n"),
            text.trim_end().to_owned(),
            text.replace('\n', "\r\n"),
            String::new(),
        ] {
            assert_eq!(Batch::from_statement(&other), None, "{other:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_negative_duration() {
        assert_eq!(Moment(10).since(Moment(20)), 0);
        assert_eq!(Moment(i64::MAX).plus(5), Moment(i64::MAX));
        assert_eq!(Moment(i64::MAX).since(Moment(i64::MIN)), i64::MAX as u64);
    }
}
