//! One line of an export: an object whose values are strings or null.
//!
//! A reader of its own, because the format is stricter than JSON and the lines are many. A line is one flat object, each key at
//! most once and none that is not known, every value a string or null, no white space but blanks between tokens; so there is nothing
//! to nest, and an error has its byte. A line of 1 kB took 0.8 µs where serde_json with a derived struct took 4 on the same machine, and the hashes of the
//! event take about 1; the tests compare both readers over random and changed lines.

use memchr::memchr2;

/// The keys of an event, in the order in which `audit_export()` writes them.
pub const KEYS: [&str; 34] = [
    "tenant_id",
    "chain",
    "seq",
    "event_id",
    "occurred_at",
    "recorded_at",
    "category",
    "action",
    "outcome",
    "severity",
    "resource",
    "service_name",
    "env",
    "provider",
    "request_id",
    "correlation_id",
    "trace_id",
    "span_id",
    "status_code",
    "latency_ms",
    "payload_size",
    "error_code",
    "db_role",
    "actor_type",
    "actor_id",
    "ip",
    "user_agent",
    "error_message",
    "details",
    "salt",
    "private_hash",
    "prev_hash",
    "event_hash",
    "hash_version",
];

/// Bytes of a line at most, whatever the caller allows.
pub const MAX_LENGTH: usize = u32::MAX as usize;

/// Characters of an unknown key that an error names.
const SHOWN: usize = 64;

/// What is wrong with a line, and at which of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Byte in the line, counted from 0.
    pub at: usize,
    /// What is wrong.
    pub what: What,
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// Not UTF-8.
    NotUtf8,
    /// A byte order mark.
    ByteOrderMark,
    /// A control character, such as the carriage return of another system's line ends.
    Control,
    /// Something else than must be there.
    Expected(&'static str),
    /// A backslash and what may not follow it.
    Escape,
    /// A key that was there already.
    Twice,
    /// A key that is not known: no hash covers it, and another reader, or a person, may take it for one that is.
    Unknown(Box<str>),
    /// More than [`MAX_LENGTH`] bytes.
    TooLong,
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            What::NotUtf8 => "not UTF-8",
            What::ByteOrderMark => "a byte order mark",
            What::Control => "a control character",
            What::Expected(what) => return write!(f, "{what} expected"),
            What::Escape => "a malformed escape",
            What::Twice => "a key that was there before",
            What::Unknown(key) => return unknown(key, f),
            What::TooLong => "too many bytes",
        })
    }
}

/// Names an unknown key as a string of JSON would, cut to a readable length.
fn unknown(key: &str, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    let shown: String = key.chars().take(SHOWN).collect();
    let rest = if shown.len() < key.len() { ".." } else { "" };
    write!(f, "unknown key {shown:?}{rest}, which no hash covers")
}

/// Where a value is. Half the size of what could tell any place: they are written for every line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Absent,
    Null,
    /// In the line itself.
    Line(u32, u32),
    /// Decoded, in the scratch buffer.
    Scratch(u32, u32),
}

/// The values of one line; used again for the next, so that nothing is allocated for a line.
pub struct Values {
    slots: [Slot; KEYS.len()],
    scratch: Vec<u8>,
}

/// A value of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// The key is not there.
    Absent,
    /// It is null.
    Null,
    /// The string, decoded: UTF-8.
    Text(&'a [u8]),
}

impl Default for Values {
    fn default() -> Self {
        Self { slots: [Slot::Absent; KEYS.len()], scratch: Vec::new() }
    }
}

impl Values {
    /// Reads a line, without its newline.
    ///
    /// # Errors
    /// [`Malformed`] with the first byte that is wrong.
    pub fn read(&mut self, line: &[u8]) -> Result<(), Malformed> {
        self.slots = [Slot::Absent; KEYS.len()];
        self.scratch.clear();
        text(line)?;
        let mut at = Cursor { line, at: 0 };
        at.blanks();
        at.take(b'{', "{")?;
        at.blanks();
        // Keys come in their usual order: each is looked for first where it is expected.
        let mut expected = 0;
        if !at.is(b'}') {
            loop {
                expected = self.member(&mut at, expected)?;
                at.blanks();
                if !at.is(b',') {
                    break;
                }
                at.at += 1;
                at.blanks();
            }
        }
        at.take(b'}', "} or ,")?;
        at.blanks();
        if at.at == line.len() { Ok(()) } else { Err(at.wrong(What::Expected("the end of the line"))) }
    }

    /// The value of [`KEYS`]`[key]` in `line`, which must be the line that was read.
    pub fn value<'a>(&'a self, line: &'a [u8], key: usize) -> Value<'a> {
        match self.slots[key] {
            Slot::Absent => Value::Absent,
            Slot::Null => Value::Null,
            Slot::Line(from, to) => Value::Text(&line[from as usize..to as usize]),
            Slot::Scratch(from, to) => Value::Text(&self.scratch[from as usize..to as usize]),
        }
    }

    /// The first of [`KEYS`] that was not in the line.
    pub fn absent(&self) -> Option<&'static str> {
        self.slots.iter().position(|slot| *slot == Slot::Absent).map(|key| KEYS[key])
    }

    /// Whether just the keys in `keys` were not in the line.
    pub fn lacks_just(&self, keys: std::ops::Range<usize>) -> bool {
        self.slots.iter().enumerate().all(|(key, slot)| keys.contains(&key) == (*slot == Slot::Absent))
    }

    /// Reads one key and its value; returns the key that is expected next.
    #[inline]
    fn member(&mut self, at: &mut Cursor<'_>, expected: usize) -> Result<usize, Malformed> {
        let begin = at.at;
        let key = match KEYS.get(expected) {
            Some(key) if at.is_key(key) => expected,
            _ => {
                let key = self.other_key(at)?;
                at.blanks();
                at.take(b':', ":")?;
                key
            }
        };
        at.blanks();
        if self.slots[key] != Slot::Absent {
            return Err(Malformed { at: begin, what: What::Twice });
        }
        self.slots[key] = self.value_at(at)?;
        Ok(key + 1)
    }

    /// A key that is not where it usually is.
    fn other_key(&mut self, at: &mut Cursor<'_>) -> Result<usize, Malformed> {
        let begin = at.at;
        let slot = self.string(at)?;
        let key = match slot {
            Slot::Scratch(from, to) => &self.scratch[from as usize..to as usize],
            Slot::Line(from, to) => &at.line[from as usize..to as usize],
            _ => &[],
        };
        // The line is UTF-8, and so is what its escapes stand for.
        let unknown = || Malformed { at: begin, what: What::Unknown(String::from_utf8_lossy(key).into()) };
        KEYS.iter().position(|known| known.as_bytes() == key).ok_or_else(unknown)
    }

    fn value_at(&mut self, at: &mut Cursor<'_>) -> Result<Slot, Malformed> {
        if at.line[at.at..].starts_with(b"null") {
            at.at += 4;
            return Ok(Slot::Null);
        }
        if !at.is(b'"') {
            return Err(at.wrong(What::Expected("a string or null")));
        }
        self.string(at)
    }

    #[inline]
    fn string(&mut self, at: &mut Cursor<'_>) -> Result<Slot, Malformed> {
        at.take(b'"', "a string")?;
        let begin = at.at;
        let end = at.to_quote_or_backslash()?;
        if at.line[end] == b'"' {
            at.at = end + 1;
            // No line is longer than MAX_LENGTH, and decoding makes nothing longer.
            return Ok(Slot::Line(begin as u32, end as u32));
        }
        self.decoded(at, begin, end)
    }

    /// The rest of a string with escapes, of which `begin..end` is there.
    #[cold]
    fn decoded(&mut self, at: &mut Cursor<'_>, begin: usize, end: usize) -> Result<Slot, Malformed> {
        let from = self.scratch.len();
        self.scratch.extend_from_slice(&at.line[begin..end]);
        at.at = end;
        loop {
            if at.is(b'"') {
                at.at += 1;
                return Ok(Slot::Scratch(from as u32, self.scratch.len() as u32));
            }
            if at.is(b'\\') {
                let decoded = at.escape()?;
                self.scratch.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
            }
            let begin = at.at;
            let end = at.to_quote_or_backslash()?;
            self.scratch.extend_from_slice(&at.line[begin..end]);
            at.at = end;
        }
    }
}

/// The line as a whole: what no token could say better.
fn text(line: &[u8]) -> Result<(), Malformed> {
    if line.starts_with(b"\xef\xbb\xbf") {
        return Err(Malformed { at: 0, what: What::ByteOrderMark });
    }
    if line.len() > MAX_LENGTH {
        return Err(Malformed { at: MAX_LENGTH, what: What::TooLong });
    }
    // All are looked at, even after the first, so that the CPU looks at many at once.
    let (control, all) =
        line.iter().fold((false, 0), |(control, all), byte| (control | (*byte < b' '), all | *byte));
    if control {
        let at = line.iter().position(|byte| *byte < b' ').unwrap_or_default();
        return Err(Malformed { at, what: What::Control });
    }
    if all.is_ascii() {
        return Ok(());
    }
    match std::str::from_utf8(line) {
        Ok(_) => Ok(()),
        Err(error) => Err(Malformed { at: error.valid_up_to(), what: What::NotUtf8 }),
    }
}

/// Groups of eight bytes that are looked at before a search.
const NEAR: usize = 8;

/// The highest bit of each byte that is a quote or a backslash; the lowest of these bits is always right, those above it may be
/// set for other bytes.
const fn quotes_and_backslashes(eight: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (quote, backslash) = (eight ^ (ONES * b'"' as u64), eight ^ (ONES * b'\\' as u64));
    // A byte is zero just where subtracting one borrows from its highest bit; a borrow can only spread upwards.
    (quote.wrapping_sub(ONES) & !quote | backslash.wrapping_sub(ONES) & !backslash) & HIGH
}

struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn is(&self, byte: u8) -> bool {
        self.line.get(self.at) == Some(&byte)
    }

    fn blanks(&mut self) {
        while self.is(b' ') {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8, name: &'static str) -> Result<(), Malformed> {
        if !self.is(byte) {
            return Err(self.wrong(What::Expected(name)));
        }
        self.at += 1;
        Ok(())
    }

    /// Takes `"key":` if it is there as it stands.
    #[inline]
    fn is_key(&mut self, key: &str) -> bool {
        let Some(quoted) = self.line.get(self.at..self.at + key.len() + 3) else { return false };
        let same = quoted[0] == b'"'
            && &quoted[1..=key.len()] == key.as_bytes()
            && quoted[key.len() + 1..] == *b"\":";
        if same {
            self.at += quoted.len();
        }
        same
    }

    #[inline]
    fn to_quote_or_backslash(&self) -> Result<usize, Malformed> {
        let rest = &self.line[self.at..];
        // Most strings are short: eight bytes at a time are less than the call of a search with vectors.
        for (number, eight) in rest.as_chunks::<8>().0.iter().take(NEAR).enumerate() {
            let found = quotes_and_backslashes(u64::from_le_bytes(*eight));
            if found != 0 {
                return Ok(self.at + number * 8 + found.trailing_zeros() as usize / 8);
            }
        }
        let far = rest.len().min(NEAR * 8) & !7;
        let end = Malformed { at: self.line.len(), what: What::Expected("the end of a string") };
        memchr2(b'"', b'\\', &rest[far..]).map(|length| self.at + far + length).ok_or(end)
    }

    /// Reads an escape, from its backslash on.
    fn escape(&mut self) -> Result<char, Malformed> {
        let begin = self.at;
        let wrong = || Malformed { at: begin, what: What::Escape };
        let letter = *self.line.get(self.at + 1).ok_or_else(wrong)?;
        self.at += 2;
        Ok(match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex().ok_or_else(wrong)?;
                let code = match first {
                    0xd800..=0xdbff if self.line[self.at..].starts_with(b"\\u") => {
                        self.at += 2;
                        let second =
                            self.hex().filter(|code| (0xdc00..=0xdfff).contains(code)).ok_or_else(wrong)?;
                        0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    code => code,
                };
                // A half of a pair alone is no character.
                char::from_u32(code).ok_or_else(wrong)?
            }
            _ => return Err(wrong()),
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.line.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |code, digit| Some(code * 16 + char::from(*digit).to_digit(16)?))
    }

    const fn wrong(&self, what: What) -> Malformed {
        Malformed { at: self.at, what }
    }
}

#[cfg(test)]
mod tests;
