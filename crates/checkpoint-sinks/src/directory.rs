//! A directory as a sink: one file for each run of the registry, never written to again. Best on storage that cannot be changed.
//!
//! `DIRECTORY/2026/11/24/000000000042.run` is run 42 (`docs/format.md`, section 21). A file appears whole, under its own name, or not at
//! all. Of two writers one gets a number: it is claimed by a file of its own, `DIRECTORY/numbers/000000000042`, which says what the run is,
//! because the two may be in the folders of different days.
//!
//! The directory is trusted more than the database: what it holds is read, and compared there, before anything is written. A file is written
//! only if every log in it goes on from what the directory has of it: nothing that was rewritten, and be it signed, gets in.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::note::Note;
use zeroauth_audit_core::registry::entry::{Entry, Log};
use zeroauth_audit_core::registry::replay::Replay;
use zeroauth_audit_core::registry::run::{self, Head};

/// The folder of claimed numbers.
const NUMBERS: &str = "numbers";

/// Whether a signed note of the registry is by a known key, or why not.
pub type ReadNote = dyn Fn(&str) -> Result<(), String> + Send;

/// The file of a run, to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFile {
    /// When it was signed, in UTC: `2026/11/24`.
    pub day: String,
    /// Its text.
    pub text: String,
}

/// A file that is there.
struct Kept {
    day: String,
    digest: Digest,
    /// Entries of the registry before it.
    begins: u64,
}

/// Why a file was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// It could not be, for now.
    Failed(String),
    /// A log in it, or the registry, does not go on from what the directory has.
    Contradicts {
        /// The number of the run.
        number: u64,
        /// Whose log, as the file names it.
        label: Option<String>,
        /// What does not follow.
        why: String,
    },
}

impl From<String> for Unwritten {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// The directory, and what it holds from its last snapshot on.
pub struct Directory {
    path: PathBuf,
    kept: BTreeMap<u64, Kept>,
    /// What is known of each log after the last of them.
    replay: Option<Replay>,
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

    /// Reads the directory back to its last snapshot, or to its first file: each must follow the one before, and every log in it.
    pub fn open(path: &Path, read: &ReadNote) -> Result<Self, String> {
        judge(path)?;
        let mut directory = Self { path: path.to_path_buf(), kept: BTreeMap::new(), replay: None };
        let mut days = BTreeMap::new();
        for day in days_in(path)? {
            for name in names(&path.join(&day), |name| run::number(name).is_some())? {
                let number = run::number(&name).unwrap_or(0);
                if let Some(other) = days.insert(number, day.clone()) {
                    return Err(format!("{name} is there twice: in {other} and in {day}"));
                }
            }
        }
        // What the file above says of the one before it: its number, and its digest.
        let mut before: Option<(u64, Digest)> = None;
        for (number, day) in days.into_iter().rev() {
            let name = file_name(number)?;
            if let Some((missing, _)) = before.filter(|(expected, _)| *expected != number) {
                return Err(format!("{} is not there", file_name(missing)?));
            }
            let text = directory.text(&day, &name)?;
            let run::File { head, tail, .. } = parse(&text).map_err(|why| format!("{day}/{name}: {why}"))?;
            let digest = run::digest(text.as_bytes());
            if head.number != number {
                return Err(format!("{day}/{name} says that it is number {}", head.number));
            }
            match before {
                // The others follow from this one.
                None => read(tail.checkpoint).map_err(|why| format!("{day}/{name}: {why}"))?,
                Some((_, after)) if after != digest => {
                    return Err(format!("{} does not follow {day}/{name}", file_name(number + 1)?));
                }
                Some(_) => {}
            }
            let above = directory.kept.first_key_value();
            if above.is_some_and(|(_, above)| above.day < day) {
                return Err(format!("{} is in the folder of an earlier day", file_name(number + 1)?));
            }
            directory.kept.insert(number, Kept { day, digest, begins: head.size.0 });
            before = head.after.map(|after| (number - 1, after)).filter(|_| head.edge.is_none());
            if head.edge.is_some() {
                break;
            }
        }
        if let Some((missing, _)) = before {
            return Err(format!("{} is not there", file_name(missing)?));
        }
        for number in directory.kept.keys().copied().collect::<Vec<_>>() {
            let kept = &directory.kept[&number];
            let (day, name) = (kept.day.clone(), file_name(number)?);
            let text = directory.text(&day, &name)?;
            let followed = parse(&text).map_err(Unwritten::Failed).and_then(|file| directory.follow(&file));
            followed.map_err(|unwritten| match unwritten {
                Unwritten::Failed(why) | Unwritten::Contradicts { why, .. } => format!("{day}/{name}: {why}"),
            })?;
        }
        Ok(directory)
    }

    /// Takes a file into account that follows those before: every log must only have grown. After an error the directory is to be read anew.
    fn follow(&mut self, file: &run::File<'_>) -> Result<(), Unwritten> {
        let Head { number, size, edge, .. } = file.head.clone();
        let contradicts = |label: Option<String>, why: String| Unwritten::Contradicts { number, label, why };
        let note = Note::parse(file.tail.checkpoint.as_bytes()).map_err(|error| error.to_string())?;
        let checkpoint = Checkpoint::parse(note.text()).map_err(|error| error.to_string())?;
        let mut replay = match (self.replay.take(), edge) {
            (Some(replay), None) => replay,
            (Some(mut replay), Some(edge)) => {
                replay.repeated(&edge).map_err(|problem| contradicts(None, problem.to_string()))?;
                replay
            }
            (None, None) => Replay::new(&checkpoint.origin),
            (None, Some(edge)) => match Replay::at_snapshot(&checkpoint.origin, size.0, edge) {
                (replay, None) => replay,
                (_, Some(problem)) => return Err(contradicts(None, problem.to_string())),
            },
        };
        if size.0 != replay.size() {
            let why = format!("it begins behind {} entries, and there are {}", size.0, replay.size());
            return Err(contradicts(None, why));
        }
        for block in &file.blocks {
            let index = replay.size();
            let older = match Replay::needs(&block.entry).filter(|older| *older < index) {
                Some(older) => self.entry(older, file)?,
                None => None,
            };
            if let Err(problem) = replay.add(block, older.as_ref()) {
                let label = if let Entry::Log(log) = &block.entry { Some(log.label.text()) } else { None };
                return Err(contradicts(label, format!("entry {index}: {problem}")));
            }
            if let Some(label) = replay.missing().first() {
                let why = format!("entry {index}: the snapshot leaves out the log with the label {label}");
                return Err(contradicts(Some(label.text()), why));
            }
        }
        let fits = replay.checkpoint(checkpoint.size, &checkpoint.root);
        fits.map_err(|problem| contradicts(None, problem.to_string()))?;
        self.replay = Some(replay);
        Ok(())
    }

    /// The state of a log that an older entry says, which may be in the file that is being read.
    fn entry(&self, index: u64, here: &run::File<'_>) -> Result<Option<Log>, String> {
        if let Some(within) = index.checked_sub(here.head.size.0) {
            let block = usize::try_from(within).ok().and_then(|within| here.blocks.get(within));
            return Ok(match block.map(|block| &block.entry) {
                Some(Entry::Log(log)) => Some(*log),
                _ => None,
            });
        }
        match self.kept.iter().rev().find(|(_, kept)| kept.begins <= index) {
            Some((number, kept)) => {
                let text = self.text(&kept.day, &file_name(*number)?)?;
                run::log_at(text.as_bytes(), index).map_err(|error| error.to_string())
            }
            // Before what is read.
            None => Ok(None),
        }
    }

    /// Number and SHA-256 of each file, ascending.
    pub fn files(&self) -> impl Iterator<Item = (u64, Digest)> {
        self.kept.iter().map(|(number, kept)| (*number, kept.digest))
    }

    /// The texts of the files from a number on, of about `most` bytes at most, but of one at least.
    pub fn read(&self, from: u64, most: usize) -> Result<Vec<(u64, String)>, String> {
        let (mut texts, mut bytes) = (Vec::new(), 0);
        for (number, kept) in self.kept.range(from..) {
            let text = self.text(&kept.day, &file_name(*number)?)?;
            if run::digest(text.as_bytes()) != kept.digest {
                return Err(format!("{} is not what it was", file_name(*number)?));
            }
            bytes += text.len();
            if bytes > most && !texts.is_empty() {
                break;
            }
            texts.push((*number, text));
        }
        Ok(texts)
    }

    /// Writes the file of the next run. One that is there already, as it is, was written by a call that failed later.
    pub fn write(&mut self, file: &RunFile) -> Result<u64, Unwritten> {
        let parsed = parse(&file.text)?;
        let head = &parsed.head;
        let digest = run::digest(file.text.as_bytes());
        let (number, name) = (head.number, file_name(head.number)?);
        let mut day = file.day.clone();
        if let Some((newest, kept)) = self.kept.last_key_value() {
            if let Some(known) = self.kept.get(&number) {
                return if known.digest == digest {
                    Ok(number)
                } else {
                    Err(format!("another {name} is there").into())
                };
            }
            let newest_name = file_name(*newest)?;
            if run::digest(self.text(&kept.day, &newest_name)?.as_bytes()) != kept.digest {
                return Err(format!("{newest_name} is not what it was").into());
            }
            if number != newest + 1 || head.after != Some(kept.digest) {
                return Err(format!("{name} does not follow {newest_name}").into());
            }
            // A clock that was set back.
            day = day.max(kept.day.clone());
        }
        if self.replay.is_none() && !self.kept.is_empty() {
            return Err("after an error the directory is to be read anew".to_owned().into());
        }
        if let Err(unwritten) =
            self.follow(&parsed).and_then(|()| self.put(number, &digest, &day, &file.text))
        {
            // The replay may be ahead of the files.
            self.replay = None;
            return Err(unwritten);
        }
        self.kept.insert(number, Kept { day, digest, begins: head.size.0 });
        Ok(number)
    }

    fn put(&self, number: u64, digest: &Digest, day: &str, text: &str) -> Result<(), Unwritten> {
        let name = file_name(number)?;
        let cannot = |error: io::Error| format!("cannot write: {error}");
        if !self.claim(number, digest).map_err(cannot)? {
            return Err(format!("another writer has claimed {name}").into());
        }
        Ok(self.publish(day, &name, text).map_err(cannot)?)
    }

    /// Takes a number, unless another writer has.
    fn claim(&self, number: u64, digest: &Digest) -> io::Result<bool> {
        make_durably(&self.path, NUMBERS)?;
        let folder = self.path.join(NUMBERS);
        let said = format!("{digest}\n");
        let name = folder.join(format!("{number:012}"));
        let unfinished = self.unfinished(&folder, &said)?;
        match take_name(&unfinished, &name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&unfinished)?;
                Ok(fs::read_to_string(&name)? == said)
            }
            done => {
                done?;
                File::open(&folder)?.sync_all()?;
                Ok(true)
            }
        }
    }

    fn publish(&self, day: &str, name: &str, content: &str) -> io::Result<()> {
        make_durably(&self.path, day)?;
        let folder = self.path.join(day);
        let unfinished = self.unfinished(&folder, content)?;
        take_name(&unfinished, &folder.join(name))?;
        File::open(&folder)?.sync_all()
    }

    /// A file that has no name yet; another writer, on another machine perhaps, never has the same.
    fn unfinished(&self, folder: &Path, content: &str) -> io::Result<PathBuf> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let path = folder.join(format!(".unfinished-{}-{since}", std::process::id()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
        let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // Of a full disk nothing is to be left behind at each attempt.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(path)
    }

    fn text(&self, day: &str, name: &str) -> Result<String, String> {
        let path = self.path.join(day).join(name);
        let cannot = |error: io::Error| format!("{day}/{name} cannot be read: {error}");
        if fs::metadata(&path).map_err(cannot)?.len() > run::MAX_BYTES {
            return Err(format!("{day}/{name} is too large"));
        }
        fs::read_to_string(&path).map_err(cannot)
    }
}

/// A file, whole.
fn parse(text: &str) -> Result<run::File<'_>, String> {
    run::File::read(text.as_bytes()).map_err(|error| error.to_string())
}

fn file_name(number: u64) -> Result<String, String> {
    run::name(number).ok_or_else(|| format!("{number} is no number of a run"))
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
fn days_in(path: &Path) -> Result<Vec<String>, String> {
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
