//! New files: whole or not at all, their owner's alone, and never in the place of another.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes the file `out` with mode 0600; what it holds survives a crash of the machine.
///
/// # Errors
/// What is wrong, in words: that the file is there already, for example.
pub fn new_file(out: &Path, content: &[u8]) -> Result<(), String> {
    place(out, content).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!("{} is there already and was not touched", out.display()),
        _ => format!("{} cannot be written: {error}", out.display()),
    })
}

/// Puts a new file in its place as a whole: after a crash there is all of it or nothing.
fn place(out: &Path, content: &[u8]) -> io::Result<()> {
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = out.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    let unfinished = folder.join(format!(".{name}.{}.unfinished", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        // Whatever the umask is.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        file.sync_all()?;
        // A link never replaces what is there; a rename would.
        fs::hard_link(&unfinished, out)
    })();
    let removed = fs::remove_file(&unfinished);
    written?;
    removed?;
    File::open(folder)?.sync_all()
}
