//! Files that hold a URL, a key, a password or certificates.
//!
//! A file that others can read is no secret, and one that others can write is not ours: neither is used.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// More than any URL or key; certificates may be many.
const MOST_BYTES: u64 = 1 << 20;

/// Content of a file that nobody else may see: no `Debug`, no `Display` of it.
pub struct Secret(Vec<u8>);

impl Secret {
    /// The content, as it is.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The content, if it is UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Reads a secret: a regular file of mode 0600 or 0400 (or stricter) that belongs to this process's user or to root. The end of its last
/// line is not part of it. `what` names it in errors.
pub fn secret(path: &Path, what: &str) -> Result<Secret, String> {
    let mut bytes = read(path, what, 0o177)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(Secret(bytes))
}

/// Reads a public file: anyone may read it, only its owner may change it.
pub fn public(path: &Path, what: &str) -> Result<Vec<u8>, String> {
    read(path, what, 0o022)
}

/// The file's content, unless its mode has one of the bits `forbidden`.
fn read(path: &Path, what: &str, forbidden: u32) -> Result<Vec<u8>, String> {
    if !path.is_absolute() {
        return Err(format!("the path of the {what} file is not absolute"));
    }
    // Not blocking: a pipe without a writer would hang the open.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
    let file: File = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
        .map(File::from)
        .map_err(|error| format!("cannot open the {what} file: {}", std::io::Error::from(error)))?;
    // Read from the open file, not from the path: nobody can put another file there in between.
    let meta = file.metadata().map_err(|error| format!("cannot look at the {what} file: {error}"))?;
    if !meta.is_file() {
        return Err(format!("the {what} file is not a regular file"));
    }
    if meta.uid() != 0 && meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!("the {what} file belongs neither to the server's user nor to root"));
    }
    let mode = meta.mode() & 0o7777;
    if mode & forbidden != 0 {
        let wanted = if forbidden == 0o177 { "0600 or 0400" } else { "writable by its owner only" };
        return Err(format!("the {what} file has mode {mode:04o}, not {wanted}"));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read the {what} file: {error}"))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("the {what} file is larger than 1 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn a_secret_is_only_used_when_nobody_else_can_read_or_write_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "words\n").unwrap();
        let with = |mode| {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            secret(&path, "URL").map(|s| s.text().map(str::to_owned))
        };
        assert_eq!(with(0o600), Ok(Some("words".into())));
        assert_eq!(with(0o400), Ok(Some("words".into())));
        for mode in [0o644, 0o640, 0o604, 0o660, 0o602, 0o700, 0o610, 0o601] {
            assert_eq!(with(mode), Err(format!("the URL file has mode {mode:04o}, not 0600 or 0400")));
        }
        assert_eq!(
            secret(Path::new("secret"), "URL").unwrap_err(),
            "the path of the URL file is not absolute"
        );
        assert_eq!(secret(folder.path(), "URL").unwrap_err(), "the URL file is not a regular file");
        assert!(
            secret(&folder.path().join("none"), "URL").unwrap_err().starts_with("cannot open the URL file: ")
        );
        // A link, as some systems mount secrets, is followed; only its target counts.
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(secret(&link, "URL").is_ok());
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(12345), None).unwrap();
            assert_eq!(
                secret(&path, "URL").unwrap_err(),
                "the URL file belongs neither to the server's user nor to root"
            );
        }
    }

    #[test]
    fn a_pipe_without_a_writer_does_not_hang_and_a_huge_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert_eq!(secret(&pipe, "URL").unwrap_err(), "the URL file is not a regular file");
        let huge = folder.path().join("huge");
        File::create(&huge).unwrap().set_len(1 << 40).unwrap();
        fs::set_permissions(&huge, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(secret(&huge, "key").unwrap_err(), "the key file is larger than 1 MiB");
    }

    #[test]
    fn only_the_end_of_the_last_line_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for (stored, read) in
            [("a\n", "a"), ("a\r\n", "a"), ("a", "a"), ("a\n\n", "a\n"), (" a ", " a "), ("\n", "")]
        {
            fs::write(&path, stored).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            assert_eq!(secret(&path, "key").unwrap().bytes(), read.as_bytes(), "{stored:?}");
        }
    }

    #[test]
    fn debug_does_not_show_a_secret() {
        assert_eq!(format!("{:?}", Secret(b"hush".to_vec())), "Secret(..)");
    }

    #[test]
    fn certificates_may_be_read_by_all_and_written_by_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(public(&path, "CA").is_ok());
        fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        assert_eq!(
            public(&path, "CA").unwrap_err(),
            "the CA file has mode 0664, not writable by its owner only"
        );
    }
}
