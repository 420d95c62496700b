//! The entries of the registry, as texts.
//!
//! A text is read only as it would be written. What entries must be to each other is in [`super::replay`].

use alloc::format;
use alloc::string::String;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::label::Label;
use super::number;
use crate::checkpoint::hash;
use crate::digest::Digest;
use crate::merkle::leaf_hash;
use crate::note::VerifierKey;
use crate::origin::Base;

/// The first line of every entry.
pub const HEADER: &str = "zeroauth.audit/entry/v1";

/// Bytes of an entry at most.
pub const MAX_BYTES: usize = 4096;

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// How labels are made: the SHA-256 of the name key.
    Names(Digest),
    /// This registry continues another one, which ended with this checkpoint.
    After {
        /// Name of the other registry.
        origin: String,
        /// Its entries.
        size: u64,
        /// Its root.
        root: Digest,
    },
    /// The state of a tenant's log.
    Log(Log),
    /// The newest states of all logs follow.
    SnapshotBegin,
    /// They were all, so many.
    SnapshotEnd(u64),
    /// A key that signs, too, or from now on.
    Key(VerifierKey),
    /// Private parts of events are going to be destroyed.
    Erase {
        /// Whose.
        label: Label,
        /// Epoch of the log.
        epoch: u32,
        /// The leaf of the event that says which.
        leaf: u64,
        /// How many.
        events: u64,
    },
    /// The first leaves of a log are going to be deleted.
    Purge {
        /// Whose.
        label: Label,
        /// Epoch of the log.
        epoch: u32,
        /// The first leaf that stays.
        minimum: u64,
        /// Root of the tree of those that go.
        root: Digest,
    },
    /// The tenant is gone for good.
    Close(Label),
}

/// The state of a tenant's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Whose.
    pub label: Label,
    /// How many restores were acknowledged before.
    pub epoch: u32,
    /// Leaves, at least 1.
    pub size: u64,
    /// Root hash.
    pub root: Digest,
    /// The newest entry of the same label before this one.
    pub previous: Option<u64>,
    /// In the first entry of an epoch above 0: what its tree continues.
    pub restored: Option<Restored>,
}

/// What the tree of a new epoch continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The tree of this older entry of the same label.
    Entry(u64),
    /// The empty tree: all was lost.
    Nothing,
}

/// Why a text is no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// More than [`MAX_BYTES`].
    #[error("the entry has {0} bytes, and {MAX_BYTES} are the most")]
    TooLong(usize),
    /// Not UTF-8, or no newline at the end.
    #[error("the entry is no text of whole lines")]
    NoText,
    /// Of another version.
    #[error("the entry does not begin with the line {HEADER}")]
    Header,
    /// Of a kind that this version does not know.
    #[error("the entry is of a kind that is not known here: {0:?}")]
    Kind(String),
    /// Of a known kind, and not in its form.
    #[error("the entry is not in the form of its kind, {0}")]
    Form(&'static str),
}

impl Entry {
    /// The leaf hash of an entry with this text.
    #[must_use]
    pub fn leaf(text: &str) -> Digest {
        leaf_hash(text.as_bytes())
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLong(bytes.len()));
        }
        let text = core::str::from_utf8(bytes).ok().and_then(|text| text.strip_suffix('\n'));
        let mut lines = text.ok_or(Error::NoText)?.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(Error::Header);
        }
        let second = lines.next().unwrap_or_default();
        let (kind, said) = second.split_once(' ').unwrap_or((second, ""));
        let (kind, entry): (&'static str, _) = match kind {
            "names" => ("names", hash(said).map(Self::Names)),
            "after" => ("after", after(said)),
            "log" => ("log", log(said, &mut lines)),
            "snapshot" => ("snapshot", snapshot(said)),
            "key" => ("key", VerifierKey::parse(said).ok().map(Self::Key)),
            "erase" => ("erase", erase(said)),
            "purge" => ("purge", purge(said)),
            "close" => ("close", Label::parse(said).map(Self::Close)),
            // Quoted where it is printed: it may be anything.
            unknown => return Err(Error::Kind(unknown.chars().take(40).collect())),
        };
        // One spelling of each statement: what is read is what would be written.
        entry.filter(|entry| entry.text().as_bytes() == bytes).ok_or(Error::Form(kind))
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        let said = match self {
            Self::Names(digest) => format!("names {}", encoded(digest)),
            Self::After { origin, size, root } => format!("after {origin} {size} {}", encoded(root)),
            Self::Log(log) => log.text(),
            Self::SnapshotBegin => "snapshot begin".into(),
            Self::SnapshotEnd(count) => format!("snapshot end {count}"),
            Self::Key(key) => format!("key {key}"),
            Self::Erase { label, epoch, leaf, events } => format!("erase {label} {epoch} {leaf} {events}"),
            Self::Purge { label, epoch, minimum, root } => {
                format!("purge {label} {epoch} {minimum} {}", encoded(root))
            }
            Self::Close(label) => format!("close {label}"),
        };
        format!("{HEADER}\n{said}\n")
    }
}

impl Log {
    fn text(&self) -> String {
        let Self { label, epoch, size, root, previous, restored } = self;
        let mut text = format!("log {label} {epoch}\n{size}\n{}\n{}", encoded(root), index(*previous));
        if let Some(restored) = restored {
            let from = match restored {
                Restored::Entry(index) => Some(*index),
                Restored::Nothing => None,
            };
            text.push_str(&format!("\nrestored {}", index(from)));
        }
        text
    }
}

fn log<'a>(said: &str, lines: &mut impl Iterator<Item = &'a str>) -> Option<Entry> {
    let (label, epoch) = labelled(said)?;
    let size = number(lines.next()?).filter(|size| *size > 0)?;
    let root = hash(lines.next()?)?;
    let previous = index_or_none(lines.next()?)?;
    let restored = match lines.next() {
        None => None,
        Some(line) => Some(match index_or_none(line.strip_prefix("restored ")?)? {
            Some(index) => Restored::Entry(index),
            None => Restored::Nothing,
        }),
    };
    Some(Entry::Log(Log { label, epoch, size, root, previous, restored }))
}

fn after(said: &str) -> Option<Entry> {
    let [origin, size, root] = fields(said)?;
    let origin = Base::parse(origin).ok()?.as_str().into();
    Some(Entry::After { origin, size: number(size).filter(|size| *size > 0)?, root: hash(root)? })
}

fn snapshot(said: &str) -> Option<Entry> {
    match said.strip_prefix("end ") {
        Some(count) => number(count).map(Entry::SnapshotEnd),
        None => (said == "begin").then_some(Entry::SnapshotBegin),
    }
}

fn erase(said: &str) -> Option<Entry> {
    let [label, epoch, leaf, events] = fields(said)?;
    let (label, epoch) = (Label::parse(label)?, self::epoch(epoch)?);
    Some(Entry::Erase { label, epoch, leaf: number(leaf)?, events: number(events)? })
}

fn purge(said: &str) -> Option<Entry> {
    let [label, epoch, minimum, root] = fields(said)?;
    let (label, epoch) = (Label::parse(label)?, self::epoch(epoch)?);
    Some(Entry::Purge { label, epoch, minimum: number(minimum)?, root: hash(root)? })
}

fn labelled(said: &str) -> Option<(Label, u32)> {
    let [label, epoch] = fields(said)?;
    Some((Label::parse(label)?, self::epoch(epoch)?))
}

fn fields<const N: usize>(said: &str) -> Option<[&str; N]> {
    let mut parts = said.split(' ');
    let mut fields = [""; N];
    for field in &mut fields {
        *field = parts.next()?;
    }
    parts.next().is_none().then_some(fields)
}

fn epoch(text: &str) -> Option<u32> {
    number(text).and_then(|epoch| u32::try_from(epoch).ok())
}

fn index(index: Option<u64>) -> String {
    index.map_or_else(|| "none".into(), |index| format!("{index}"))
}

fn index_or_none(text: &str) -> Option<Option<u64>> {
    if text == "none" { Some(None) } else { number(text).map(Some) }
}

fn encoded(digest: &Digest) -> String {
    STANDARD.encode(digest.as_bytes())
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const LABEL: &str = "3q2+7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const ROOT: &str = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";

    fn every_kind() -> Vec<String> {
        let key = crate::note::SigningKey::from_seed("log.example", &[7; 32]).unwrap().verifier_key();
        [
            format!("names {ROOT}"),
            format!("after log.example/old 7 {ROOT}"),
            format!("log {LABEL} 0\n120\n{ROOT}\nnone"),
            format!("log {LABEL} 1\n120\n{ROOT}\n57\nrestored 12"),
            format!(
                "log {LABEL} 4294967295\n9223372036854775807\n{ROOT}\n9223372036854775807\nrestored none"
            ),
            "snapshot begin".into(),
            "snapshot end 0".into(),
            format!("key {key}"),
            format!("erase {LABEL} 0 7 1"),
            format!("purge {LABEL} 2 1 {ROOT}"),
            format!("close {LABEL}"),
        ]
        .map(|said| format!("{HEADER}\n{said}\n"))
        .to_vec()
    }

    #[test]
    fn every_kind_is_written_as_it_was_read() {
        for text in every_kind() {
            assert_eq!(Entry::parse(text.as_bytes()).unwrap().text(), text);
            assert!(text.len() <= MAX_BYTES);
        }
    }

    #[test]
    fn any_other_spelling_is_refused() {
        for text in every_kind() {
            let spellings = [
                text.replacen('\n', "\r\n", 1),
                text.trim_end().into(),
                format!("{text}\n"),
                format!("{text}more\n"),
                format!("\u{feff}{text}"),
                text.replace(' ', "  "),
                text.replace(" 0", " 00")
                    .replace(" 7", " +7")
                    .replace("\n120", "\n0120")
                    .replace("57", "057"),
                text.replace('=', ""),
                text.replace("2I=", "2J=").replace("AAA=", "AAB="),
                text.replace("\n120\n", "\n0\n").replace("9223372036854775807", "9223372036854775808"),
            ];
            for other in spellings.iter().filter(|other| **other != text) {
                let error = Entry::parse(other.as_bytes()).unwrap_err();
                assert!(
                    matches!(error, Error::Form(_) | Error::Header | Error::NoText),
                    "{other:?}: {error}"
                );
            }
        }
    }

    #[test]
    fn another_version_kind_or_length_is_named() {
        let error = |text: &str| Entry::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error("zeroauth.audit/entry/v2\nsnapshot begin\n"), Error::Header);
        assert_eq!(error(&format!("{HEADER}\nmerge x\n")), Error::Kind("merge".into()));
        assert_eq!(error(&format!("{HEADER}\n")), Error::Kind(String::new()));
        assert_eq!(error(&"x".repeat(MAX_BYTES + 1)), Error::TooLong(MAX_BYTES + 1));
        assert_eq!(Entry::parse(b"\xff\n"), Err(Error::NoText));
    }
}
