//! Proof that a checkpoint continues an older one, as one text: the `add-checkpoint` request of C2SP tlog-witness.
//!
//! The worker sends it to witnesses; a file of it shows an auditor the same.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Error, Lines, MAX_PATH, What, push_hashes};
use crate::checkpoint::decimal;
use crate::digest::Digest;

/// A consistency proof and the newer checkpoint. Only its form was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consistency {
    /// Leaves of the older tree.
    pub old_size: u64,
    /// RFC 9162 consistency path, at most [`MAX_PATH`] less one hashes.
    pub path: Vec<Digest>,
    /// The signed note of the newer checkpoint.
    pub checkpoint: String,
}

impl Consistency {
    /// The text.
    #[must_use]
    pub fn format(&self) -> String {
        let mut out = format!("old {}\n", self.old_size);
        push_hashes(&mut out, &self.path);
        out.push('\n');
        out.push_str(&self.checkpoint);
        out
    }

    /// Reads the text.
    ///
    /// # Errors
    /// [`Error`] with the first line that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut lines = Lines::new(bytes)?;
        let old_size = lines.next()?.strip_prefix("old ").and_then(decimal);
        let old_size = old_size.ok_or(lines.wrong(What::OldSize))?;
        let path = lines.path("")?;
        if path.len() == MAX_PATH {
            return Err(lines.wrong(What::Path));
        }
        let checkpoint = super::checkpoint(&mut lines)?;
        match lines.next_or_end()? {
            None => Ok(Self { old_size, path, checkpoint }),
            Some(_) => Err(lines.wrong(What::Section)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf_hash;

    /// The example of C2SP tlog-witness.
    const REQUEST: &str = "old 20852014\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\njrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\nexample.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";

    #[test]
    fn the_example_of_the_specification_is_read_and_written() {
        let read = Consistency::parse(REQUEST.as_bytes()).unwrap();
        assert_eq!((read.old_size, read.path.len()), (20_852_014, 4));
        assert_eq!(read.format(), REQUEST);
    }

    #[test]
    fn what_is_no_request_is_named() {
        let error = |text: &str| Consistency::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error(&REQUEST.replace("old 2", "old 02")).what, What::OldSize);
        assert_eq!(error(&REQUEST.replace("old", "new")).what, What::OldSize);
        assert_eq!(error("old 1\n").what, What::Truncated);
        assert_eq!(error("old 1\n\n").what, What::Truncated);
        assert_eq!(error(&format!("{REQUEST}--- event\n")).what, What::Section);
        let long = Consistency {
            path: alloc::vec![leaf_hash(b""); 64],
            ..Consistency::parse(REQUEST.as_bytes()).unwrap()
        };
        assert_eq!(error(&long.format()).what, What::Path);
    }
}
