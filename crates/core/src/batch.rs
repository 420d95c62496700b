//! The files of the directory sink: the signed checkpoints of one run, one after the other.
//!
//! ```text
//! zeroauth.audit/checkpoints/v1
//! note 412
//! <412 bytes: a signed note, ending in a newline>
//! note 398
//! <398 bytes>
//! end 2
//! ```
//!
//! The lengths make it unambiguous whatever the notes contain; the last line distinguishes a truncated file from a short
//! one. The content of the notes is not read here. Names of files and their order are in `docs/format.md`.

use alloc::format;
use alloc::vec::Vec;

use crate::checkpoint::decimal;
use crate::note;

/// The first line.
pub const HEADER: &str = "zeroauth.audit/checkpoints/v1";

/// Digits of a number in a file, and more than any needs.
const MAX_LINE: usize = 32;

/// Why a file is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The first line is another one.
    #[error("the file does not begin with the line {HEADER}")]
    Header,
    /// It ends too early.
    #[error("the file ends at byte {at}, before its last line")]
    Truncated {
        /// Its length.
        at: usize,
    },
    /// At this byte there is neither `note` and a length nor `end` and a number.
    #[error("at byte {at} there is no line with a note's length or the number of notes")]
    Line {
        /// Where.
        at: usize,
    },
    /// A note of this length is none.
    #[error("the note at byte {at} is said to have {length} bytes, which no note has")]
    Length {
        /// Where.
        at: usize,
        /// The length in the file.
        length: u64,
    },
    /// The last line has another number.
    #[error("there are {found} notes in the file, which says {said}")]
    Count {
        /// Notes read.
        found: u64,
        /// What the last line says.
        said: u64,
    },
    /// Something follows the last line.
    #[error("something follows the last line at byte {at}")]
    Trailing {
        /// Where.
        at: usize,
    },
}

/// The file of these notes.
#[must_use]
pub fn write<'a>(notes: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut out = format!("{HEADER}\n").into_bytes();
    let mut count: u64 = 0;
    for note in notes {
        out.extend_from_slice(format!("note {}\n", note.len()).as_bytes());
        out.extend_from_slice(note.as_bytes());
        count += 1;
    }
    out.extend_from_slice(format!("end {count}\n").as_bytes());
    out
}

/// The notes of a file, each with the byte it begins at. The last item is the error, if there is one: notes before it are
/// whole, and yet the file is not the published one.
pub fn read(file: &[u8]) -> impl Iterator<Item = Result<(usize, &[u8]), Error>> {
    let mut reader = Reader { file, at: 0, notes: 0, state: State::Header };
    core::iter::from_fn(move || reader.next())
}

/// Every note of a file that is whole.
///
/// # Errors
/// Any [`Error`].
pub fn read_all(file: &[u8]) -> Result<Vec<&[u8]>, Error> {
    read(file).map(|note| note.map(|(_, note)| note)).collect()
}

enum State {
    Header,
    Notes,
    Done,
}

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
    notes: u64,
    state: State,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<Result<(usize, &'a [u8]), Error>> {
        if let State::Done = self.state {
            return None;
        }
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.state = State::Done;
        }
        step.transpose()
    }

    fn step(&mut self) -> Result<Option<(usize, &'a [u8])>, Error> {
        if let State::Header = self.state {
            let line = self.line().map_err(|error| match error {
                Error::Truncated { .. } if HEADER.as_bytes().starts_with(self.file) => error,
                _ => Error::Header,
            })?;
            if line != HEADER.as_bytes() {
                return Err(Error::Header);
            }
            self.state = State::Notes;
        }
        let at = self.at;
        let line = core::str::from_utf8(self.line()?).map_err(|_| Error::Line { at })?;
        let (word, number) = line.split_once(' ').ok_or(Error::Line { at })?;
        let number = decimal(number).ok_or(Error::Line { at })?;
        match word {
            "note" => self.note(number).map(Some),
            "end" if number != self.notes => Err(Error::Count { found: self.notes, said: number }),
            "end" if self.at < self.file.len() => Err(Error::Trailing { at: self.at }),
            "end" => Ok(None),
            _ => Err(Error::Line { at }),
        }
    }

    fn note(&mut self, length: u64) -> Result<(usize, &'a [u8]), Error> {
        let at = self.at;
        let fits = usize::try_from(length).ok().filter(|length| (1..=note::MAX_BYTES).contains(length));
        let length = fits.ok_or(Error::Length { at, length })?;
        let note = self.file.get(at..at + length).ok_or(Error::Truncated { at: self.file.len() })?;
        self.at += length;
        self.notes += 1;
        Ok((at, note))
    }

    /// The next line without its newline; its end is not looked for far away.
    fn line(&mut self) -> Result<&'a [u8], Error> {
        let rest = &self.file[self.at..];
        match rest.iter().take(MAX_LINE).position(|byte| *byte == b'\n') {
            Some(length) => {
                self.at += length + 1;
                Ok(&rest[..length])
            }
            None if rest.len() < MAX_LINE => Err(Error::Truncated { at: self.file.len() }),
            None => Err(Error::Line { at: self.at }),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use proptest::collection::vec as any_vec;
    use proptest::prelude::*;

    use super::*;

    fn error(file: &[u8]) -> Error {
        read_all(file).unwrap_err()
    }

    #[test]
    fn a_file_has_the_form_that_is_documented() {
        let file = write(["one\n", "\n\n"]);
        assert_eq!(file, b"zeroauth.audit/checkpoints/v1\nnote 4\none\nnote 2\n\n\nend 2\n");
        assert_eq!(read_all(&file).unwrap(), [&b"one\n"[..], b"\n\n"]);
        assert_eq!(read_all(&write([])).unwrap(), Vec::<&[u8]>::new());
    }

    #[test]
    fn a_file_that_was_cut_off_anywhere_is_distinguished_from_a_short_one() {
        let file = write(["one\n", "end 1\n"]);
        for length in 0..file.len() {
            assert_eq!(error(&file[..length]), Error::Truncated { at: length }, "{length}");
        }
    }

    #[test]
    fn what_is_no_such_file_is_refused_where_it_is_none() {
        let with = |rest: &str| format!("{HEADER}\n{rest}").into_bytes();
        for (file, expected) in [
            (b"something else that is long enough\n".to_vec(), Error::Header),
            (b"x".to_vec(), Error::Header),
            (with("note x\n"), Error::Line { at: 30 }),
            (with("note 01\n"), Error::Line { at: 30 }),
            (with("note\n"), Error::Line { at: 30 }),
            (with("\n"), Error::Line { at: 30 }),
            (with("note 4\r\none\n"), Error::Line { at: 30 }),
            (with(&"9".repeat(100)), Error::Line { at: 30 }),
            (with("note 0\nend 1\n"), Error::Length { at: 37, length: 0 }),
            (with("note 18446744073709551615\n"), Error::Length { at: 56, length: u64::MAX }),
            (with("note 1\nxend 2\n"), Error::Count { found: 1, said: 2 }),
            (with("end 0\nend 0\n"), Error::Trailing { at: 36 }),
        ] {
            assert_eq!(error(&file), expected, "{}", String::from_utf8_lossy(&file));
        }
    }

    #[test]
    fn notes_before_an_error_are_given_with_their_places() {
        let file = b"zeroauth.audit/checkpoints/v1\nnote 3\nabcnote 9\n";
        let read: Vec<_> = read(file).collect();
        assert_eq!(read, vec![Ok((37, &b"abc"[..])), Err(Error::Truncated { at: file.len() })]);
    }

    proptest! {
        #[test]
        fn every_list_of_texts_is_read_back(notes in any_vec("[^\0]{1,20}", 0..8)) {
            let file = write(notes.iter().map(String::as_str));
            let expected: Vec<&[u8]> = notes.iter().map(String::as_bytes).collect();
            prop_assert_eq!(read_all(&file).unwrap(), expected);
        }
    }
}
