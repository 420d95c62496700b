//! A directory as a sink: one file for each run of the worker, never written to again. Best on storage that cannot be changed.
//!
//! `DIRECTORY/2026/11/24/160900-000001.checkpoints` holds the checkpoints signed in one run. The first file of a day, named
//! `..-full.checkpoints`, holds the newest checkpoint of every origin that was ever published here as well: a reader of
//! the newest full file and of those after it knows them all. A file appears whole, under its own name, or not at all.
//!
//! The directory is trusted more than the database: a checkpoint that contradicts it is not written.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::{Conflict, Sealed};

const EXTENSION: &str = ".checkpoints";
const FULL: &str = "-full.checkpoints";
/// Far more than a run of 100,000 tenants.
const MOST_BYTES: u64 = 1 << 30;

/// When a file is written: parts of its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// `2026/11/24`, in UTC.
    pub day: String,
    /// `160900`, in UTC.
    pub time: String,
}

/// How a stored note is read: the sealed checkpoint in it, signed by a known key.
pub type ReadNote = dyn Fn(&str) -> Result<Sealed, String> + Send;

/// The directory, and its content. It has one writer: full files would not repeat the checkpoints of another.
pub struct Directory {
    path: PathBuf,
    /// The newest checkpoint of each origin.
    newest: BTreeMap<String, Sealed>,
    /// The last day that has a full file.
    full_day: Option<String>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Directory {
    /// Whether a path can be a sink: a directory that this process can write to, and that nobody but its user or root can change.
    /// Reads nothing in it.
    pub fn check(path: &Path) -> Result<(), String> {
        use rustix::fs::Access;
        judge(path)?;
        rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| format!("cannot write to the directory: {}", io::Error::from(error)))
    }

    /// Reads the directory: the newest full file, and all files after it.
    pub fn open(path: &Path, read: &ReadNote) -> Result<Self, String> {
        judge(path)?;
        let mut directory = Self { path: path.to_path_buf(), newest: BTreeMap::new(), full_day: None };
        directory.load(read)?;
        Ok(directory)
    }

    /// The newest checkpoint of each origin.
    pub fn newest(&self) -> impl Iterator<Item = &Sealed> {
        self.newest.values()
    }

    fn load(&mut self, read: &ReadNote) -> Result<(), String> {
        for day in days(&self.path)?.into_iter().rev() {
            let mut files = names(&self.path.join(&day), |name| name.ends_with(EXTENSION))?;
            files.sort();
            for name in files.iter().rev() {
                let path = self.path.join(&day).join(name);
                let shown = format!("{day}/{name}");
                for sealed in notes(&path, read).map_err(|why| format!("{shown}: {why}"))? {
                    let known = self.newest.get(&sealed.origin);
                    if known.is_none_or(|known| known.size < sealed.size) {
                        self.newest.insert(sealed.origin.clone(), sealed);
                    }
                }
                if name.ends_with(FULL) {
                    self.full_day.get_or_insert(day);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Writes the checkpoints signed in one run to a file. Leaves out, and returns, those that contradict the directory.
    ///
    /// A failed write may have left the file: a retry writes another file with the same content.
    pub fn write(&mut self, signed: &[Sealed], stamp: &Stamp) -> Result<Vec<Conflict>, String> {
        let mut conflicts = Vec::new();
        let mut newest = self.newest.clone();
        let mut accepted = Vec::new();
        for sealed in signed {
            match newest.get(&sealed.origin) {
                Some(known)
                    if known.size > sealed.size || known.size == sealed.size && known.root != sealed.root =>
                {
                    conflicts.push(Conflict {
                        origin: sealed.origin.clone(),
                        size: known.size,
                        root: Some(known.root),
                    });
                }
                _ => {
                    newest.insert(sealed.origin.clone(), sealed.clone());
                    accepted.push(sealed.note.as_str());
                }
            }
        }
        let full = self.full_day.as_deref() != Some(stamp.day.as_str());
        if full {
            // Superseded ones of this very run stay in it: each checkpoint is published.
            let kept = newest.values().map(|sealed| sealed.note.as_str());
            let kept: Vec<&str> = kept.filter(|note| !accepted.contains(note)).collect();
            accepted.extend(kept);
        }
        if !accepted.is_empty() {
            let content = zeroauth_audit_core::batch::write(accepted.iter().copied());
            self.publish(&content, stamp, full).map_err(|error| format!("cannot write: {error}"))?;
            if full {
                self.full_day = Some(stamp.day.clone());
            }
        }
        self.newest = newest;
        Ok(conflicts)
    }

    fn publish(&self, content: &[u8], stamp: &Stamp, full: bool) -> io::Result<()> {
        let day = self.path.join(&stamp.day);
        make_durably(&self.path, &stamp.day)?;
        let unfinished = day.join(format!(".unfinished-{}", std::process::id()));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        drop(file);
        for number in 1..=999_999 {
            let name = format!("{}-{number:06}{}", stamp.time, if full { FULL } else { EXTENSION });
            match take_name(&unfinished, &day.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => {
                    done?;
                    return File::open(&day)?.sync_all();
                }
            }
        }
        Err(io::Error::other("a million files within a second"))
    }
}

/// Refuses what is no directory, and one that others could put files into.
fn judge(path: &Path) -> Result<(), String> {
    if !path.is_absolute() {
        return Err("the path of the directory is not absolute".into());
    }
    let meta = fs::metadata(path).map_err(|error| format!("cannot look at the directory: {error}"))?;
    if !meta.is_dir() {
        return Err("it is no directory".into());
    }
    if meta.uid() != 0 && meta.uid() != rustix::process::geteuid().as_raw() {
        return Err("the directory belongs neither to the server's user nor to root".into());
    }
    if meta.mode() & 0o022 != 0 {
        return Err(format!("the directory has mode {:04o}: others can write to it", meta.mode() & 0o7777));
    }
    Ok(())
}

/// Gives a finished file its name, unless the name is taken.
fn take_name(unfinished: &Path, name: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, unfinished, CWD, name, RenameFlags::NOREPLACE) {
        // A file system that cannot do it can still link.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(unfinished, name)?;
            fs::remove_file(unfinished)
        }
        done => done.map_err(io::Error::from),
    }
}

/// Makes the folders of a day below `path`, each known to its parent before anything is put in it.
fn make_durably(path: &Path, day: &str) -> io::Result<()> {
    let mut at = path.to_path_buf();
    for part in day.split('/') {
        let parent = at.clone();
        at.push(part);
        match fs::create_dir(&at) {
            Ok(()) => File::open(parent)?.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The days that have a folder, ascending, as `2026/11/24`.
fn days(path: &Path) -> Result<Vec<String>, String> {
    let digits =
        |count: usize| move |name: &str| name.len() == count && name.bytes().all(|b| b.is_ascii_digit());
    let mut days = Vec::new();
    for year in names(path, digits(4))? {
        for month in names(&path.join(&year), digits(2))? {
            for day in names(&path.join(&year).join(&month), digits(2))? {
                days.push(format!("{year}/{month}/{day}"));
            }
        }
    }
    days.sort();
    Ok(days)
}

fn names(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("cannot read the directory: {error}"))?;
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| format!("cannot read the directory: {error}"))?.file_name();
        found.extend(name.to_str().filter(|name| wanted(name)).map(str::to_owned));
    }
    Ok(found)
}

/// The checkpoints in one file, from the last to the first.
fn notes(path: &Path, read: &ReadNote) -> Result<Vec<Sealed>, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MOST_BYTES {
        return Err("it is too large".into());
    }
    let content = fs::read(path).map_err(|error| error.to_string())?;
    let notes = zeroauth_audit_core::batch::read_all(&content).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for note in notes.into_iter().rev() {
        let note = std::str::from_utf8(note).map_err(|error| error.to_string())?;
        found.push(read(note)?);
    }
    Ok(found)
}
