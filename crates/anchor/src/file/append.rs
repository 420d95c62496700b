//! Adding a line to the anchor file. One writer at a time, by a lock on the file itself; earlier lines stay as they are, byte for
//! byte, so that the file may be on a medium that only appends.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};

/// Another writer is done long before.
const PATIENCE: Duration = Duration::from_secs(5);
/// Hundreds of years of daily anchors.
const MOST_BYTES: u64 = 256 << 20;

/// The file, open and locked. The lock ends with it.
pub(super) struct Locked {
    file: File,
    pub(super) bytes: Vec<u8>,
}

fn describe(what: &str, error: &std::io::Error) -> String {
    format!("cannot {what} the anchor file: {error}")
}

/// Whether a file can be the anchor file: one that nobody else can write to, or a new one in a folder that this process can
/// write to. Makes and changes nothing.
pub(super) fn check(path: &Path) -> Result<(), String> {
    use rustix::fs::Access;
    if !path.is_absolute() {
        return Err("the path of the anchor file is not absolute".into());
    }
    match std::fs::symlink_metadata(path) {
        Ok(meta) => judge(&meta),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)
                .map_err(|error| describe("make", &error.into()))
        }
        Err(error) => Err(describe("look at", &error)),
    }
}

/// Refuses what is no file, and one that others could write to.
fn judge(meta: &Metadata) -> Result<(), String> {
    if !meta.is_file() {
        return Err("the anchor file is not a regular file".into());
    }
    if meta.uid() != 0 && meta.uid() != rustix::process::geteuid().as_raw() {
        return Err("the anchor file belongs neither to the server's user nor to root".into());
    }
    if meta.mode() & 0o022 != 0 {
        return Err(format!(
            "the anchor file has mode {:04o}, not writable by its owner only",
            meta.mode() & 0o7777
        ));
    }
    Ok(())
}

/// Opens the file, makes it if need be, locks it and reads it. The content read is durable.
pub(super) fn open(path: &Path) -> Result<Locked, String> {
    if !path.is_absolute() {
        return Err("the path of the anchor file is not absolute".into());
    }
    // Not blocking: a pipe without a reader would hang the open. Not following links: another user's link would choose the file.
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let open = |flags| rustix::fs::open(path, flags, Mode::from_bits_truncate(0o644)).map(File::from);
    let mut file = match open(flags) {
        Err(rustix::io::Errno::NOENT) => {
            let file = open(flags | OFlags::CREATE).map_err(|error| describe("make", &error.into()))?;
            // Without this a crash of the machine could take the name away, and with it the entries.
            let folder = path.parent().unwrap_or(Path::new("/"));
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| describe("make durable", &error))?;
            file
        }
        opened => opened.map_err(|error| describe("open", &error.into()))?,
    };
    judge(&file.metadata().map_err(|error| describe("look at", &error))?)?;
    lock(&file)?;
    // An earlier writer may have died between writing and making it durable.
    file.sync_all().map_err(|error| describe("make durable", &error))?;
    let mut bytes = Vec::new();
    (&mut file).take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| describe("read", &error))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err("the anchor file is larger than 256 MiB".into());
    }
    Ok(Locked { file, bytes })
}

fn lock(file: &File) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(20))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Err("another process holds the anchor file".into()),
            Err(error) => return Err(describe("lock", &error.into())),
        }
    }
}

impl Locked {
    /// Adds a line; when this returns it is durable. `is_ended`: whether the file ends with a newline.
    pub(super) fn append(mut self, line: &str, is_ended: bool) -> Result<(), String> {
        // A line that a dead writer left is ended first. One write, so that nothing comes in between.
        let start = if is_ended { "" } else { "\n" };
        let bytes = format!("{start}{line}\n");
        self.file.write_all(bytes.as_bytes()).map_err(|error| match error.kind() {
            ErrorKind::StorageFull => "cannot write the anchor file: no space left".into(),
            _ => describe("write", &error),
        })?;
        self.file.sync_all().map_err(|error| describe("make durable", &error))
    }
}
