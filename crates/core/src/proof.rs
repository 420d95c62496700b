//! Proof bundles: what an auditor needs to check one event, as one text.
//!
//! First a C2SP tlog-proof (index, inclusion path, signed checkpoint), as it is. Then sections, each of which begins with a line
//! `--- name`; no line of a tlog-proof begins so. Section `log`, where the tlog-proof is of an entry of the registry: the place of the
//! event in the log that the entry is about. Section `event`: one line, the event as `audit_export()` gives it. Sections
//! `anchor kind`: that the registry was fixed outside at some size ([`anchor`]). This module reads and writes; a verifier
//! decides what a bundle proves.

pub mod anchor;
pub mod consistency;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use anchor::Anchor;
pub use consistency::Consistency;

use crate::checkpoint::{decimal, hash};
use crate::digest::Digest;
use crate::note;
use crate::registry::label::NameKey;

/// The first line.
pub const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Bytes of a bundle at most. An event can be as large as the texts in it.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Hashes of a path at most: no tree of less than 2^64 leaves needs more.
pub const MAX_PATH: usize = 64;

/// Anchors of a bundle at most.
pub const MAX_ANCHORS: usize = 64;

/// Bytes of the extra data of a tlog-proof at most.
pub const MAX_EXTRA: usize = 64 * 1024;

/// Why a text is no bundle: what is wrong, and in which line, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} in line {line}")]
pub struct Error {
    /// Line, counted from 1.
    pub line: usize,
    /// The byte that the line begins at, counted from 0.
    pub offset: usize,
    /// What is wrong.
    pub what: What,
}

/// What is wrong with a line of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum What {
    /// The text is longer than [`MAX_BYTES`].
    #[error("too many bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// A control character other than the newline.
    #[error("a control character")]
    Control,
    /// The first line is another one.
    #[error("another first line than {HEADER}")]
    Header,
    /// The text ends without a newline, or before what must come.
    #[error("the end of the text before the end of the bundle")]
    Truncated,
    /// The extra data are not base64, or too long.
    #[error("malformed extra data")]
    Extra,
    /// There is no `index` and number.
    #[error("no index of a leaf")]
    Index,
    /// There is no `names` and key.
    #[error("no key of names")]
    Names,
    /// There is no `old` and number.
    #[error("no size of the older tree")]
    OldSize,
    /// Neither the base64 of a hash, nor the end of the path; or the path is too long.
    #[error("no hash of a path")]
    Path,
    /// The checkpoint is longer than a note can be.
    #[error("a checkpoint that is too long")]
    Checkpoint,
    /// A section that is not known, or not in its place, or there too often.
    #[error("an unexpected section")]
    Section,
    /// The event is not one line.
    #[error("an event that is not one line")]
    Event,
    /// Not what an anchor has in this place.
    #[error("a malformed anchor")]
    Anchor,
}

/// Where an event is in its tenant's log, and what makes the tenant's label: beside a proof of the registry, whose entry is the extra data.
#[derive(Clone, PartialEq, Eq)]
pub struct InLog {
    /// The key of names; whoever has it can find the labels of other tenants.
    pub names: NameKey,
    /// Leaf index of the event.
    pub index: u64,
    /// Inclusion path, from the leaf's sibling up.
    pub path: Vec<Digest>,
}

impl core::fmt::Debug for InLog {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("InLog").field("index", &self.index).field("path", &self.path).finish_non_exhaustive()
    }
}

/// A proof bundle. Only its form was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Leaf index of the event, or of the entry of the registry.
    pub index: u64,
    /// Inclusion path, from the leaf's sibling up.
    pub path: Vec<Digest>,
    /// Data of the tlog-proof: the entry, where it is one of the registry; otherwise ours have none.
    pub extra: Option<Vec<u8>>,
    /// The signed note of the checkpoint.
    pub checkpoint: String,
    /// In a proof of the registry: where the event is in the log that the entry is about.
    pub log: Option<InLog>,
    /// The event as one line of JSON, without a newline; `None` in a tlog-proof alone.
    pub event: Option<String>,
    /// Anchors of the same registry.
    pub anchors: Vec<Anchor>,
}

impl Bundle {
    /// The tlog-proof alone, which every tool for that format reads.
    #[must_use]
    pub fn tlog_proof(&self) -> String {
        let mut out = format!("{HEADER}\n");
        if let Some(extra) = &self.extra {
            out.push_str(&format!("extra {}\n", STANDARD.encode(extra)));
        }
        out.push_str(&format!("index {}\n", self.index));
        push_hashes(&mut out, &self.path);
        out.push('\n');
        out.push_str(&self.checkpoint);
        out
    }

    /// The whole text. The caller must avoid what [`Bundle::parse`] would refuse (an event of two lines, a path that is
    /// too long).
    #[must_use]
    pub fn format(&self) -> String {
        let mut out = self.tlog_proof();
        if let Some(InLog { names, index, path }) = &self.log {
            let names = STANDARD.encode(names.as_bytes());
            out.push_str(&format!("--- log\nnames {names}\nindex {index}\n"));
            push_hashes(&mut out, path);
        }
        if let Some(event) = &self.event {
            out.push_str(&format!("--- event\n{event}\n"));
        }
        self.anchors.iter().for_each(|anchor| anchor.write(&mut out));
        out
    }

    /// Reads a bundle, or a tlog-proof alone.
    ///
    /// # Errors
    /// [`Error`] with the first line that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut lines = Lines::new(bytes)?;
        if lines.next()? != HEADER {
            return Err(lines.wrong(What::Header));
        }
        let mut extra = None;
        let mut line = lines.next()?;
        if let Some(encoded) = line.strip_prefix("extra ") {
            // Four characters are three bytes.
            let fits = encoded.len() <= MAX_EXTRA.div_ceil(3) * 4;
            let decoded = fits.then(|| STANDARD.decode(encoded).ok()).flatten();
            extra = Some(decoded.ok_or(lines.wrong(What::Extra))?);
            line = lines.next()?;
        }
        let index = line.strip_prefix("index ").and_then(decimal).ok_or(lines.wrong(What::Index))?;
        let path = lines.path("")?;
        let checkpoint = checkpoint(&mut lines)?;
        let mut bundle = Self { index, path, extra, checkpoint, log: None, event: None, anchors: Vec::new() };
        while let Some(line) = lines.next_or_end()? {
            match line.strip_prefix("--- ") {
                Some("log") if bundle.log.is_none() && bundle.event.is_none() && bundle.extra.is_some() => {
                    bundle.log = Some(InLog::parse(&mut lines)?);
                }
                Some("event") if bundle.event.is_none() && bundle.anchors.is_empty() => {
                    let event = lines.next()?;
                    if event.is_empty() || event.starts_with("--- ") {
                        return Err(lines.wrong(What::Event));
                    }
                    bundle.event = Some(event.into());
                }
                Some(name) if bundle.event.is_some() && bundle.anchors.len() < MAX_ANCHORS => {
                    let kind = name.strip_prefix("anchor ").filter(|kind| anchor::is_kind(kind));
                    let kind = kind.ok_or(lines.wrong(What::Section))?;
                    bundle.anchors.push(Anchor::parse(kind, &mut lines)?);
                }
                _ => return Err(lines.wrong(What::Section)),
            }
        }
        Ok(bundle)
    }
}

impl InLog {
    /// Reads what follows the line `--- log`.
    fn parse(lines: &mut Lines<'_>) -> Result<Self, Error> {
        let names = lines.next()?.strip_prefix("names ").and_then(hash).ok_or(lines.wrong(What::Names))?;
        let index = lines.next()?.strip_prefix("index ").and_then(decimal).ok_or(lines.wrong(What::Index))?;
        let mut path = Vec::new();
        while let Some(line) = lines.peek()?.filter(|line| !line.starts_with("--- ")) {
            lines.next()?;
            path.push(hash(line).filter(|_| path.len() < MAX_PATH).ok_or(lines.wrong(What::Path))?);
        }
        Ok(Self { names: NameKey::new(*names.as_bytes()), index, path })
    }
}

/// Everything up to the first section or the end: the note, which is not read here.
fn checkpoint(lines: &mut Lines<'_>) -> Result<String, Error> {
    let mut note = String::new();
    while let Some(line) = lines.peek()? {
        if line.starts_with("--- ") {
            break;
        }
        note.push_str(line);
        note.push('\n');
        lines.next()?;
        if note.len() > note::MAX_BYTES {
            return Err(lines.wrong(What::Checkpoint));
        }
    }
    if note.is_empty() { Err(lines.wrong(What::Truncated)) } else { Ok(note) }
}

fn push_hashes(out: &mut String, hashes: &[Digest]) {
    for hash in hashes {
        STANDARD.encode_string(hash.as_bytes(), out);
        out.push('\n');
    }
}

/// The lines of a text, with the place of the newest one.
struct Lines<'a> {
    rest: &'a str,
    line: usize,
    offset: usize,
    next_offset: usize,
}

impl<'a> Lines<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_BYTES {
            return Err(Error { line: 1, offset: 0, what: What::TooLong });
        }
        let at = |offset: usize, what| {
            let before = &bytes[..offset];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            Error { line, offset, what }
        };
        let rest = core::str::from_utf8(bytes).map_err(|e| at(e.valid_up_to(), What::NotUtf8))?;
        match bytes.iter().position(|byte| *byte < b' ' && *byte != b'\n') {
            Some(offset) => Err(at(offset, What::Control)),
            None => Ok(Self { rest, line: 0, offset: 0, next_offset: 0 }),
        }
    }

    /// The next line without its newline, `None` at the end of the text.
    fn peek(&self) -> Result<Option<&'a str>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let truncated = Error { line: self.line + 1, offset: self.next_offset, what: What::Truncated };
        self.rest.split_once('\n').map(|(line, _)| Some(line)).ok_or(truncated)
    }

    fn next_or_end(&mut self) -> Result<Option<&'a str>, Error> {
        let line = self.peek()?;
        if let Some(line) = line {
            self.rest = &self.rest[line.len() + 1..];
            self.line += 1;
            self.offset = self.next_offset;
            self.next_offset += line.len() + 1;
        }
        Ok(line)
    }

    fn next(&mut self) -> Result<&'a str, Error> {
        let end = Error { line: self.line + 1, offset: self.next_offset, what: What::Truncated };
        self.next_or_end()?.ok_or(end)
    }

    /// Hashes, one a line, up to the line `end`, which is read too.
    fn path(&mut self, end: &str) -> Result<Vec<Digest>, Error> {
        self.path_to(|line| (line == end).then_some(())).map(|(path, ())| path)
    }

    /// Hashes, one a line, up to the first line that `end` takes.
    fn path_to<T>(&mut self, end: impl Fn(&str) -> Option<T>) -> Result<(Vec<Digest>, T), Error> {
        let mut path = Vec::new();
        loop {
            let line = self.next()?;
            if let Some(end) = end(line) {
                return Ok((path, end));
            }
            let hash = hash(line).filter(|_| path.len() < MAX_PATH).ok_or(self.wrong(What::Path))?;
            path.push(hash);
        }
    }

    /// What is wrong with the newest line.
    const fn wrong(&self, what: What) -> Error {
        Error { line: self.line, offset: self.offset, what }
    }
}

#[cfg(test)]
mod tests;
