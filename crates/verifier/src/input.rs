//! Texts that nobody vouches for: lines in bounded memory, with their numbers and bytes; and a text that is a whole file.
//!
//! A line ends in a newline, the last one too: a file without it was cut off. What is in a line is for the reader of the format.

use std::io::{self, Read};

use memchr::memchr;

/// Bytes read at once.
const CHUNK: usize = 1 << 17;

/// Where in a file something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, counted from 1.
    pub line: u64,
    /// Byte in the file, counted from 0.
    pub byte: u64,
}

/// Why lines cannot be read on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The system says.
    Io(io::Error),
    /// A line is longer than allowed.
    TooLong(Place, usize),
    /// The file ends within a line.
    Truncated(Place),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Io(error) => write!(f, "cannot be read: {error}"),
            Error::TooLong(place, most) => {
                write!(f, "line {} (byte {}) is longer than {most} bytes", place.line, place.byte)
            }
            Error::Truncated(place) => {
                write!(f, "ends within line {} (byte {}), which has no newline", place.line, place.byte)
            }
        }
    }
}

/// Reads lines of at most a given length; the memory is that of the longest, and a chunk.
pub struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    /// What is read and not given out: `buffer[begin..end]`.
    begin: usize,
    end: usize,
    most: usize,
    /// Of the next line.
    place: Place,
}

impl<R: Read> Lines<R> {
    /// Lines of at most `most` bytes.
    pub fn new(source: R, most: usize) -> Self {
        let place = Place { line: 1, byte: 0 };
        Self { source, buffer: vec![0; CHUNK], begin: 0, end: 0, most, place }
    }

    /// The next line without its newline; `None` at the end of the file.
    ///
    /// # Errors
    /// Any [`Error`]; nothing can be read after it.
    pub fn next_line(&mut self) -> Result<Option<(Place, &[u8])>, Error> {
        let mut searched = 0;
        let length = loop {
            let waiting = &self.buffer[self.begin..self.end];
            if let Some(at) = memchr(b'\n', &waiting[searched..]) {
                break searched + at;
            }
            searched = waiting.len();
            if searched > self.most {
                return Err(Error::TooLong(self.place, self.most));
            }
            if self.fill()? == 0 {
                return if searched == 0 { Ok(None) } else { Err(Error::Truncated(self.place)) };
            }
        };
        if length > self.most {
            return Err(Error::TooLong(self.place, self.most));
        }
        let (place, begin) = (self.place, self.begin);
        self.begin += length + 1;
        self.place = Place { line: place.line + 1, byte: place.byte + length as u64 + 1 };
        Ok(Some((place, &self.buffer[begin..begin + length])))
    }

    /// Bytes that were given out.
    pub const fn position(&self) -> u64 {
        self.place.byte
    }

    /// Reads more behind what is waiting.
    fn fill(&mut self) -> Result<usize, Error> {
        self.buffer.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.begin = 0;
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Io(error)),
                Ok(read) => {
                    self.end += read;
                    return Ok(read);
                }
            }
        }
    }
}

/// The text in a file: a bundle, a checkpoint or a proof, each of which ends in a newline. psql ends a value with a newline of its own,
/// so one empty line may follow, and is left out; it is outside of what is signed.
///
/// # Errors
/// What was done to the file, in words: more or fewer ends of lines than psql writes, those of another system, psql's table.
pub fn text(bytes: &[u8]) -> Result<&[u8], String> {
    // psql centres the name of the column, and draws a line below it.
    let psql_s_table = || {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        lines.next().is_some_and(|name| name.starts_with(b" "))
            && lines.next().is_some_and(|rule| rule.len() > 2 && rule.iter().all(|byte| *byte == b'-'))
    };
    if bytes.is_empty() || bytes == b"\n" {
        return Err("the file is empty".into());
    }
    if psql_s_table() {
        return Err("it is a table as psql draws it; psql -AtX -o writes the value alone".into());
    }
    if let Some(at) = bytes.windows(2).position(|two| two == b"\r\n") {
        let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        return Err(format!(
            "line {line} ends in a carriage return: the file was written or changed as text of another system"
        ));
    }
    let Some(rest) = bytes.strip_suffix(b"\n") else {
        return Err("the last line has no newline: the file was cut off, or its end was taken away".into());
    };
    let text = if rest.ends_with(b"\n") { rest } else { bytes };
    match text.ends_with(b"\n\n") {
        true => Err("more than one empty line is at the end of the file".into()),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Slowly<'a>(&'a [u8]);

    impl Read for Slowly<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(into.len()).min(3);
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn red_team_u1_public_report_d2_one_empty_line_may_follow_a_text_and_whatever_else_was_done_to_its_end_is_named()
     {
        assert_eq!(text(b"one\n\ntwo\n"), Ok(&b"one\n\ntwo\n"[..]));
        assert_eq!(text(b"one\n\ntwo\n\n"), Ok(&b"one\n\ntwo\n"[..]));
        for (bytes, words) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"one", "no newline"),
            (b"one\ntwo ", "no newline"),
            (b"one\n\n\n", "more than one empty line"),
            (b"one\n\n\n\n", "more than one empty line"),
            (b"one\ntwo\r\n", "line 2 ends in a carriage return"),
            (b" audit_prove \n-------------\n one+\n two\n(1 row)\n\n", "psql -AtX -o"),
        ] {
            assert!(text(bytes).unwrap_err().contains(words), "{bytes:?}");
        }
    }

    type Numbered = (u64, u64, Vec<u8>);

    fn read(text: &[u8], most: usize) -> (Vec<Numbered>, Option<String>) {
        let mut lines = Lines::new(Slowly(text), most);
        let mut found = Vec::new();
        loop {
            match lines.next_line() {
                Ok(Some((place, line))) => found.push((place.line, place.byte, line.to_vec())),
                Ok(None) => return (found, None),
                Err(error) => return (found, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn lines_have_their_numbers_and_bytes() {
        let (lines, error) = read(b"one\n\nthree\n", 10);
        let expected = [(1, 0, b"one".to_vec()), (2, 4, b"".to_vec()), (3, 5, b"three".to_vec())];
        assert_eq!((lines.as_slice(), error), (&expected[..], None));
    }

    #[test]
    fn a_file_that_ends_within_a_line_is_told_from_a_whole_one() {
        let (lines, error) = read(b"one\ntw", 10);
        assert_eq!(lines.len(), 1);
        assert_eq!(error.unwrap(), "ends within line 2 (byte 4), which has no newline");
        assert_eq!(read(b"", 10), (vec![], None));
    }

    #[test]
    fn a_line_of_any_length_takes_no_more_memory_than_the_limit() {
        let endless = io::repeat(b'x');
        let mut lines = Lines::new(endless, 3 * CHUNK);
        assert!(matches!(lines.next_line(), Err(Error::TooLong(Place { line: 1, byte: 0 }, _))));
        assert!(lines.buffer.len() <= 8 * CHUNK);
        let long = "y".repeat(3 * CHUNK) + "\n";
        assert_eq!(read(long.as_bytes(), 3 * CHUNK).0[0].2.len(), 3 * CHUNK);
        assert!(read(b"12345\n", 4).1.unwrap().contains("longer than 4 bytes"));
    }
}
