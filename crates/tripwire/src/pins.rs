//! Pins: what the setting `zeroauth_audit.pinned_files` says, and the digest of a folder. Reading files is the caller's.
//!
//! The digest of a file is its SHA-256. The digest of a folder is what this pipeline prints, run inside of it:
//!
//! ```sh
//! find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum -z | sha256sum
//! ```

use std::fmt;

use crate::Hasher;

/// More are refused: their states must fit into one word of shared memory.
pub const MOST_PINS: usize = 64;

/// A file or folder, and the digest that it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Absolute.
    pub path: String,
    /// 64 lower-case hexadecimal digits.
    pub digest: String,
}

/// Why a setting is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// An item without `=`.
    NoDigest(String),
    /// What follows the `=` is no SHA-256 in hexadecimal.
    BadDigest(String),
    /// A relative path, or an empty one.
    RelativePath(String),
    /// A quote that is not closed, or one in the middle of a path.
    BadQuotes(String),
    /// A path that is pinned twice.
    Twice(String),
    /// More than [`MOST_PINS`].
    TooMany,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDigest(item) => write!(f, "\"{item}\" is not a path, =, and a digest"),
            Self::BadDigest(path) => write!(f, "the digest of \"{path}\" is not 64 hexadecimal digits"),
            Self::RelativePath(path) => write!(f, "\"{path}\" is not an absolute path"),
            Self::BadQuotes(item) => write!(f, "quotes that do not match in: {item}"),
            Self::Twice(path) => write!(f, "\"{path}\" is pinned twice"),
            Self::TooMany => write!(f, "more than {MOST_PINS} files are pinned"),
        }
    }
}

impl std::error::Error for Error {}

/// Reads the setting: `path=digest`, separated by commas. A path with a comma or a quote in it is put in double quotes, and a
/// quote inside doubled.
pub fn parse(setting: &str) -> Result<Vec<Pin>, Error> {
    let mut pins: Vec<Pin> = Vec::new();
    let mut rest = setting.trim();
    while !rest.is_empty() {
        let (path, after) = path(rest)?;
        let (digest, following) = match after.split_once(',') {
            Some((digest, following)) => (digest, Some(following.trim_start())),
            None => (after, None),
        };
        let digest = digest.trim().to_ascii_lowercase();
        if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::BadDigest(path));
        }
        if !path.starts_with('/') {
            return Err(Error::RelativePath(path));
        }
        if pins.iter().any(|pin| pin.path == path) {
            return Err(Error::Twice(path));
        }
        if pins.len() == MOST_PINS {
            return Err(Error::TooMany);
        }
        pins.push(Pin { path, digest });
        match following {
            Some("") => return Err(Error::NoDigest(String::new())),
            Some(following) => rest = following,
            None => break,
        }
    }
    Ok(pins)
}

/// The path at the start of `item`, and what follows its `=`.
fn path(item: &str) -> Result<(String, &str), Error> {
    let no_digest = || Error::NoDigest(item.split(',').next().unwrap_or(item).trim().to_owned());
    let Some(quoted) = item.strip_prefix('"') else {
        let end = item.find(',').unwrap_or(item.len());
        // The last one: a path may have others.
        let equals = item[..end].rfind('=').ok_or_else(no_digest)?;
        let path = item[..equals].trim();
        if path.contains('"') {
            return Err(Error::BadQuotes(item[..end].to_owned()));
        }
        return Ok((path.to_owned(), &item[equals + 1..]));
    };
    let mut path = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('"').ok_or_else(|| Error::BadQuotes(item.to_owned()))?;
        path.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                path.push('"');
                rest = after;
            }
            None => {
                let after = after.trim_start().strip_prefix('=').ok_or_else(no_digest)?;
                return Ok((path, after));
            }
        }
    }
}

/// The digest of a folder: of its files in the order of their names, byte by byte, each with its own digest. Names are relative
/// to the folder and begin with `./`. Nothing else counts: no modes, no times, no empty folders.
#[must_use]
pub fn folder_digest(mut files: Vec<(Vec<u8>, String)>) -> String {
    files.sort();
    let mut hasher = Hasher::default();
    for (name, digest) in &files {
        hasher.update(digest.as_bytes());
        hasher.update(b"  ");
        hasher.update(name);
        hasher.update(b"\0");
    }
    hasher.hex()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::process::Command;

    use super::*;
    use crate::sha256_hex;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "00000000000000000000000000000000000000000000000000000000000000BB";

    fn pin(path: &str, digest: &str) -> Pin {
        Pin { path: path.into(), digest: digest.to_ascii_lowercase() }
    }

    #[test]
    fn a_setting_is_a_list_of_paths_and_digests() {
        assert_eq!(parse(""), Ok(vec![]));
        assert_eq!(parse("  "), Ok(vec![]));
        assert_eq!(parse(&format!("/a/b c={A}")), Ok(vec![pin("/a/b c", A)]));
        assert_eq!(
            parse(&format!(" /a=b={A} ,\n\"/with, \"\"quotes\"\"\" = {B} ")),
            Ok(vec![pin("/a=b", A), pin("/with, \"quotes\"", B)])
        );
    }

    #[test]
    fn what_is_no_setting_is_refused_with_its_reason() {
        let bad = [
            ("/a".to_owned(), Error::NoDigest("/a".into())),
            (format!("/a={A},"), Error::NoDigest(String::new())),
            (format!("/a={A}, /b"), Error::NoDigest("/b".into())),
            (format!("\"/a\" {A}"), Error::NoDigest(format!("\"/a\" {A}"))),
            ("/a=12".to_owned(), Error::BadDigest("/a".into())),
            (format!("/a={}g", &A[1..]), Error::BadDigest("/a".into())),
            (format!("a={A}"), Error::RelativePath("a".into())),
            (format!("={A}"), Error::RelativePath(String::new())),
            (format!("\"/a={A}"), Error::BadQuotes(format!("\"/a={A}"))),
            (format!("/\"a\"={A}"), Error::BadQuotes(format!("/\"a\"={A}"))),
            (format!("/a={A},/a={B}"), Error::Twice("/a".into())),
        ];
        for (setting, error) in bad {
            assert_eq!(parse(&setting), Err(error), "{setting}");
        }
        let many: Vec<String> = (0..=MOST_PINS).map(|n| format!("/{n}={A}")).collect();
        assert_eq!(parse(&many.join(",")), Err(Error::TooMany));
        assert_eq!(parse(&many[1..].join(",")).unwrap().len(), MOST_PINS);
    }

    #[test]
    fn the_digest_of_a_folder_is_that_of_the_documented_pipeline() {
        let folder = tempfile::tempdir().unwrap();
        let names: [&[u8]; 7] =
            [b"./b", b"./a/b", b"./a b", b"./a\nb", b"./a\\b", b"./\xff", "./a/\u{e4}".as_bytes()];
        let mut files = Vec::new();
        for (n, name) in names.iter().enumerate() {
            let path = folder.path().join(OsStr::from_bytes(name));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let content = "x".repeat(n * 1000);
            std::fs::write(path, &content).unwrap();
            files.push((name.to_vec(), sha256_hex(content.as_bytes())));
        }
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        let pipeline = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum -z | sha256sum";
        let printed = |folder: &std::path::Path| {
            let output = Command::new("sh").args(["-c", pipeline]).current_dir(folder).output().unwrap();
            String::from_utf8(output.stdout).unwrap()[..64].to_owned()
        };
        assert_eq!(folder_digest(files), printed(folder.path()));
        assert_eq!(folder_digest(Vec::new()), printed(&folder.path().join("empty")));
    }
}
