//! Run files: what one run adds to the registry, as it leaves the database.
//!
//! [`Writer`] makes the text, [`Reader`] reads it. Only the form is checked here, and that what a block must have is there; whether
//! logs grew is for [`super::replay`].

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::entry::{self, Entry};
use crate::checkpoint::{decimal, hash};
use crate::digest::Digest;
use crate::intervals::Interval;
use crate::note;

/// The first line.
pub const HEADER: &str = "zeroauth.audit/run/v1";

/// Bytes of a file at most.
pub const MAX_BYTES: u64 = 1 << 30;

/// Hashes of an edge, or of a growth, at most.
pub const MAX_HASHES: usize = 128;

/// Intervals of an entry at most.
pub const MAX_INTERVALS: usize = 65_536;

/// Bytes of the evidence of an anchor at most.
pub const MAX_EVIDENCE: usize = 1 << 20;

/// Digits of a file's number in its name.
const DIGITS: usize = 12;

/// How the name of a file ends.
pub const EXTENSION: &str = ".run";

/// The name of the file with this number; `None` for 0, and for one of more than twelve digits.
#[must_use]
pub fn name(number: u64) -> Option<String> {
    let name = format!("{number:0DIGITS$}{EXTENSION}");
    (number > 0 && name.len() == DIGITS + EXTENSION.len()).then_some(name)
}

/// The number in the name of a file.
#[must_use]
pub fn number(file: &str) -> Option<u64> {
    let number = file.strip_suffix(EXTENSION)?.parse().ok()?;
    (name(number)? == file).then_some(number)
}

/// What the next file says of this one.
#[must_use]
pub fn digest(file: &[u8]) -> Digest {
    Digest::new(Sha256::digest(file).into())
}

/// Which database wrote a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The server's system identifier.
    pub system: u64,
    /// The database's OID.
    pub database: u32,
}

/// What stands before the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Counted from 1.
    pub number: u64,
    /// SHA-256 of the file before; `None` in the first.
    pub after: Option<Digest>,
    /// Which database wrote it.
    pub written: Written,
    /// Entries of the registry before, and after.
    pub size: (u64, u64),
    /// The registry's compact range at the size before: where the first entry begins a snapshot.
    pub edge: Option<Vec<Digest>>,
}

/// An entry, and what shows that its log grew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// The text of the entry.
    pub text: &'a str,
    /// What it says.
    pub entry: Entry,
    /// The events that it adds, by chain.
    pub intervals: Vec<Interval>,
    /// The compact range of the tree that is stated again, or that a new epoch continues.
    pub edge: Option<Vec<Digest>>,
    /// The compact range of the new leaves: for an entry `log` outside a snapshot.
    pub growth: Option<Vec<Digest>>,
}

/// A checkpoint that is fixed outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchored<'a> {
    /// Which driver did.
    pub kind: &'a str,
    /// Entries of the anchored registry.
    pub size: u64,
    /// Its root.
    pub root: Digest,
    /// One line of JSON, with its newline.
    pub evidence: &'a str,
}

/// What stands behind the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail<'a> {
    /// The signed note of the registry's checkpoint after this run.
    pub checkpoint: &'a str,
    /// Signed notes of earlier checkpoints, with signatures of witnesses.
    pub cosigned: Vec<&'a str>,
    /// Anchors that came in.
    pub anchored: Vec<Anchored<'a>>,
}

/// Reads a run file from its beginning to its end.
pub struct Reader<'a> {
    lines: Lines<'a>,
    head: Head,
    /// Entries that have not been read.
    left: u64,
    in_snapshot: bool,
}

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File<'a> {
    /// What stands before the entries.
    pub head: Head,
    /// The entries.
    pub blocks: Vec<Block<'a>>,
    /// What stands behind them.
    pub tail: Tail<'a>,
}

impl<'a> File<'a> {
    /// Reads a file to its end. For a reader that needs one entry at a time there is [`Reader`].
    ///
    /// # Errors
    /// [`Error`] with the first line that is wrong.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes)?;
        let head = reader.head().clone();
        let mut blocks = Vec::new();
        while let Some(block) = reader.block()? {
            blocks.push(block);
        }
        Ok(Self { head, blocks, tail: reader.tail()? })
    }
}

/// The state of a log that the entry with this index says; `None` for one of another kind, and for one that is not in the file.
///
/// # Errors
/// [`Error`] with the first line that is wrong, up to that entry.
pub fn log_at(bytes: &[u8], index: u64) -> Result<Option<entry::Log>, Error> {
    let mut reader = Reader::new(bytes)?;
    let mut at = reader.head().size.0;
    while let Some(block) = reader.block()? {
        if at == index {
            return Ok(if let Entry::Log(log) = block.entry { Some(log) } else { None });
        }
        at += 1;
    }
    Ok(None)
}

/// Why a file is no run file: what is wrong, and in which line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} in line {line}")]
pub struct Error {
    /// Line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub what: What,
}

/// What is wrong with a line of a run file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum What {
    /// Not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// The first line is another one.
    #[error("another first line than {HEADER}")]
    Header,
    /// The file ends before its last line.
    #[error("the end of the file before its last line")]
    Truncated,
    /// Something follows the last line.
    #[error("something after the last line")]
    Trailing,
    /// Another line must be here.
    #[error("no {0}")]
    Missing(&'static str),
    /// There is an edge where none may be, or none where one must be.
    #[error("an edge that is missing, or has no place")]
    Edge,
    /// The length does not end at a line, or is beyond its limit.
    #[error("a length that is not that of the text")]
    Length,
    /// Not the entry that it must be.
    #[error(transparent)]
    Entry(#[from] entry::Error),
    /// More entries, or fewer, than the sizes say.
    #[error("another number of entries than the sizes say")]
    Entries,
}

impl<'a> Reader<'a> {
    /// Reads what stands before the entries.
    ///
    /// # Errors
    /// [`Error`] with the first line that is wrong.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let text = core::str::from_utf8(bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            Error { line: before.iter().filter(|byte| **byte == b'\n').count() + 1, what: What::NotUtf8 }
        })?;
        let mut lines = Lines { rest: text, line: 0 };
        if lines.next()? != HEADER {
            return Err(lines.wrong(What::Header));
        }
        let head = Head::parse(&mut lines)?;
        let left = head.size.1 - head.size.0;
        Ok(Self { lines, head, left, in_snapshot: false })
    }

    /// What stands before the entries.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The next entry; `None` after the last.
    ///
    /// # Errors
    /// [`Error`] with the first line that is wrong.
    pub fn block(&mut self) -> Result<Option<Block<'a>>, Error> {
        let is_first = self.left == self.head.size.1 - self.head.size.0;
        match (self.lines.begins("entry "), self.left) {
            (true, 0) | (false, 1..) => return Err(self.lines.wrong_after(What::Entries)),
            (false, 0) if is_first && self.head.edge.is_some() => {
                return Err(self.lines.wrong_after(What::Edge));
            }
            (false, 0) => return Ok(None),
            (true, _) => self.left -= 1,
        }
        let block = Block::parse(&mut self.lines, self.in_snapshot)?;
        if is_first && (block.entry == Entry::SnapshotBegin) != self.head.edge.is_some() {
            return Err(self.lines.wrong(What::Edge));
        }
        match block.entry {
            Entry::SnapshotBegin => self.in_snapshot = true,
            Entry::SnapshotEnd(_) => self.in_snapshot = false,
            _ => {}
        }
        Ok(Some(block))
    }

    /// What stands behind the entries. The caller must have read those.
    ///
    /// # Errors
    /// [`Error`] with the first line that is wrong.
    pub fn tail(mut self) -> Result<Tail<'a>, Error> {
        let lines = &mut self.lines;
        let length = lines.next()?.strip_prefix("checkpoint ");
        let checkpoint = lines.text(length, "checkpoint", note::MAX_BYTES)?;
        let mut tail = Tail { checkpoint, cosigned: Vec::new(), anchored: Vec::new() };
        loop {
            let line = lines.next()?;
            if let length @ Some(_) = line.strip_prefix("cosigned ") {
                tail.cosigned.push(lines.text(length, "length", note::MAX_BYTES)?);
            } else if let Some(anchored) = line.strip_prefix("anchored ") {
                tail.anchored.push(Anchored::parse(anchored, lines)?);
            } else if line == "end" {
                return if lines.rest.is_empty() { Ok(tail) } else { Err(lines.wrong(What::Trailing)) };
            } else {
                return Err(lines.wrong(What::Missing("end")));
            }
        }
    }
}

impl Head {
    fn parse(lines: &mut Lines<'_>) -> Result<Self, Error> {
        let number = lines
            .field("number ", "number of the file", |text| decimal(text).filter(|it| name(*it).is_some()))?;
        let after = lines.field("after ", "digest of the file before", |text| match text {
            "none" if number == 1 => Some(None),
            _ => hash(text).filter(|_| number > 1).map(Some),
        })?;
        let written = lines.field("writer ", "writer", |text| {
            let (system, database) = text.split_once(' ')?;
            let database = decimal(database).and_then(|oid| u32::try_from(oid).ok())?;
            Some(Written { system: decimal(system)?, database })
        })?;
        let size = lines.field("size ", "sizes", |text| {
            let (before, after) = text.split_once(' ')?;
            Some((super::number(before)?, super::number(after)?)).filter(|(before, after)| before <= after)
        })?;
        let edge = lines.hashes("edge ")?;
        Ok(Self { number, after, written, size, edge })
    }

    fn write(&self, out: &mut String) {
        let Self { number, after, written, size, edge } = self;
        let after = after.map_or_else(|| "none".into(), |digest| STANDARD.encode(digest.as_bytes()));
        out.push_str(&format!(
            "{HEADER}\nnumber {number}\nafter {after}\nwriter {} {}\nsize {} {}\n",
            written.system, written.database, size.0, size.1
        ));
        if let Some(edge) = edge {
            push_hashes(out, "edge", edge);
        }
    }
}

impl<'a> Block<'a> {
    fn parse(lines: &mut Lines<'a>, in_snapshot: bool) -> Result<Self, Error> {
        let length = lines.next()?.strip_prefix("entry ");
        let text = lines.text(length, "length of an entry", entry::MAX_BYTES)?;
        let entry = Entry::parse(text.as_bytes()).map_err(|error| lines.wrong(error.into()))?;
        let mut block = Self { text, entry, intervals: Vec::new(), edge: None, growth: None };
        match &block.entry {
            Entry::Log(_) if in_snapshot => {
                block.edge = Some(lines.hashes("edge ")?.ok_or(lines.wrong(What::Edge))?);
            }
            Entry::Log(log) => {
                if log.restored.is_some() {
                    block.edge = Some(lines.hashes("edge ")?.ok_or(lines.wrong(What::Edge))?);
                }
                while lines.begins("interval ") {
                    let last = block.intervals.last().map(|last: &Interval| last.chain);
                    let ascends =
                        |next: &Interval| next.from < next.to && last.is_none_or(|last| last < next.chain);
                    let next = lines.field("interval ", "interval", |text| interval(text).filter(ascends))?;
                    if block.intervals.len() == MAX_INTERVALS {
                        return Err(lines.wrong(What::Missing("growth")));
                    }
                    block.intervals.push(next);
                }
                block.growth = Some(lines.hashes("growth ")?.ok_or(lines.wrong(What::Missing("growth")))?);
            }
            _ => {}
        }
        Ok(block)
    }
}

impl<'a> Anchored<'a> {
    fn parse(said: &'a str, lines: &mut Lines<'a>) -> Result<Self, Error> {
        let mut parts = said.split(' ');
        let kind = parts.next().filter(|kind| is_kind(kind));
        let size = parts.next().and_then(super::number);
        let root = parts.next().and_then(hash);
        let length = parts.next().filter(|_| parts.next().is_none());
        let (Some(kind), Some(size), Some(root)) = (kind, size, root) else {
            return Err(lines.wrong(What::Missing("kind, size and root of an anchor")));
        };
        let evidence = lines.text(length, "length", MAX_EVIDENCE)?;
        if evidence.find('\n') != Some(evidence.len() - 1) {
            return Err(lines.wrong(What::Length));
        }
        Ok(Self { kind, size, root, evidence })
    }
}

fn is_kind(kind: &str) -> bool {
    !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn interval(text: &str) -> Option<Interval> {
    let mut parts = text.split(' ');
    let chain = i16::try_from(decimal(parts.next()?)?).ok()?;
    let mut seq = || i64::try_from(decimal(parts.next()?)?).ok();
    let (from, to) = (seq()?, seq()?);
    parts.next().is_none().then_some(Interval { chain, from, to })
}

fn push_hashes(out: &mut String, name: &str, hashes: &[Digest]) {
    out.push_str(&format!("{name} {}\n", hashes.len()));
    for hash in hashes {
        STANDARD.encode_string(hash.as_bytes(), out);
        out.push('\n');
    }
}

/// Writes a run file, block by block.
pub struct Writer {
    out: String,
}

impl Writer {
    /// The file with this beginning.
    #[must_use]
    pub fn new(head: &Head) -> Self {
        let mut out = String::new();
        head.write(&mut out);
        Self { out }
    }

    /// Adds an entry, in the order of the registry. The caller must give what its kind has: see `docs/format.md`.
    pub fn entry(
        &mut self,
        text: &str,
        edge: Option<&[Digest]>,
        intervals: &[Interval],
        growth: Option<&[Digest]>,
    ) {
        self.out.push_str(&format!("entry {}\n{text}", text.len()));
        if let Some(edge) = edge {
            push_hashes(&mut self.out, "edge", edge);
        }
        for Interval { chain, from, to } in intervals {
            self.out.push_str(&format!("interval {chain} {from} {to}\n"));
        }
        if let Some(growth) = growth {
            push_hashes(&mut self.out, "growth", growth);
        }
    }

    /// The whole file, with the checkpoint and what came in since the run before.
    #[must_use]
    pub fn finish(mut self, checkpoint: &str, cosigned: &[&str], anchored: &[Anchored<'_>]) -> String {
        self.out.push_str(&format!("checkpoint {}\n{checkpoint}", checkpoint.len()));
        for note in cosigned {
            self.out.push_str(&format!("cosigned {}\n{note}", note.len()));
        }
        for Anchored { kind, size, root, evidence } in anchored {
            let root = STANDARD.encode(root.as_bytes());
            self.out.push_str(&format!("anchored {kind} {size} {root} {}\n{evidence}", evidence.len()));
        }
        self.out.push_str("end\n");
        self.out
    }
}

/// The lines of a file, with the number of the newest one.
struct Lines<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a str, Error> {
        self.line += 1;
        let (line, rest) = self.rest.split_once('\n').ok_or(self.wrong(What::Truncated))?;
        self.rest = rest;
        Ok(line)
    }

    fn begins(&self, with: &str) -> bool {
        self.rest.starts_with(with)
    }

    /// The next line, which begins with `name`, as `read` reads the rest of it.
    fn field<T>(
        &mut self,
        name: &str,
        what: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Error> {
        let line = self.next()?;
        line.strip_prefix(name).and_then(read).ok_or(self.wrong(What::Missing(what)))
    }

    /// A number after `name`, and so many hashes, one a line; `None` when the next line begins otherwise.
    fn hashes(&mut self, name: &str) -> Result<Option<Vec<Digest>>, Error> {
        if !self.begins(name) {
            return Ok(None);
        }
        let number = |text: &str| decimal(text).and_then(|n| usize::try_from(n).ok());
        let count = self.field(name, "number of hashes", |text| number(text).filter(|n| *n <= MAX_HASHES))?;
        let mut hashes = Vec::with_capacity(count);
        for _ in 0..count {
            hashes.push(self.field("", "hash", hash)?);
        }
        Ok(Some(hashes))
    }

    /// A text of the length in `length`, which ends in a newline.
    fn text(&mut self, length: Option<&str>, what: &'static str, most: usize) -> Result<&'a str, Error> {
        let length = length.and_then(decimal).and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or(self.wrong(What::Missing(what)))?;
        if length > most {
            return Err(self.wrong(What::Length));
        }
        if length > self.rest.len() {
            return Err(self.wrong(What::Truncated));
        }
        let (text, rest) = self.rest.split_at_checked(length).ok_or(self.wrong(What::Length))?;
        if !text.ends_with('\n') {
            return Err(self.wrong(What::Length));
        }
        self.line += text.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
        Ok(text)
    }

    /// What is wrong with the newest line.
    fn wrong(&self, what: What) -> Error {
        Error { line: self.line, what }
    }

    /// What is wrong with the line behind it.
    fn wrong_after(&self, what: What) -> Error {
        Error { line: self.line + 1, what }
    }
}
