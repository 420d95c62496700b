//! The body of a sink's thread: see `zeroauth-audit-outside-threads`.

use std::path::PathBuf;

use crate::directory::{Directory, ReadNote, Stamp};
use crate::witness::{Answer, Shown, Witness};
use crate::{Conflict, Sealed};

/// Work for the thread of a sink.
pub enum SinkWork {
    /// Read a directory.
    Open(PathBuf, Box<ReadNote>),
    /// Write to the directory that was opened before.
    Write(Vec<Sealed>, Stamp),
    /// Show checkpoints to a witness, each with a number of the owner's.
    Show {
        /// The file with its URL.
        url_file: PathBuf,
        /// The only authorities to trust.
        ca_file: Option<PathBuf>,
        /// The checkpoints.
        shown: Vec<(usize, Shown)>,
    },
}

/// The outcome of the work.
#[derive(Debug)]
pub enum SinkReport {
    /// The newest checkpoint of each origin in the directory.
    Opened(Result<Vec<Sealed>, String>),
    /// The directory's checkpoints that contradict the given ones, which were not written.
    Written(Result<Vec<Conflict>, String>),
    /// The answers, and the error that ended them early.
    Shown(Vec<(usize, Answer)>, Option<String>),
}

/// The body of a new thread.
#[must_use]
pub fn begin() -> Box<dyn FnMut(SinkWork) -> SinkReport + Send> {
    let mut open: Option<Directory> = None;
    Box::new(move |work| match work {
        SinkWork::Open(path, read) => match Directory::open(&path, &*read) {
            Ok(directory) => {
                let newest = directory.newest().cloned().collect();
                open = Some(directory);
                SinkReport::Opened(Ok(newest))
            }
            Err(error) => SinkReport::Opened(Err(error)),
        },
        SinkWork::Write(signed, stamp) => SinkReport::Written(match &mut open {
            Some(directory) => directory.write(&signed, &stamp),
            None => Err("the directory was not read yet".into()),
        }),
        SinkWork::Show { url_file, ca_file, shown } => {
            let mut answers = Vec::new();
            let done = show(&url_file, ca_file.as_deref(), shown, &mut answers);
            SinkReport::Shown(answers, done.err())
        }
    })
}

fn show(
    url_file: &std::path::Path,
    ca_file: Option<&std::path::Path>,
    shown: Vec<(usize, Shown)>,
    answers: &mut Vec<(usize, Answer)>,
) -> Result<(), String> {
    let witness = Witness::open(url_file, ca_file)?;
    for (number, shown) in shown {
        answers.push((number, witness.add_checkpoint(&shown)?));
    }
    Ok(())
}
