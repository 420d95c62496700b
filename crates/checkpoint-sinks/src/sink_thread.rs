//! The body of a sink's thread: see `zeroauth-audit-outside-threads`.

use std::path::PathBuf;

use zeroauth_audit_core::Digest;

use crate::directory::{Directory, ReadNote, RunFile, Unwritten};
use crate::witness::{Answer, Shown, Witness};

/// Work for the thread of a sink.
pub enum SinkWork {
    /// Read a directory.
    Open(PathBuf, Box<ReadNote>),
    /// The texts of the files of the directory that was opened before, from a number on, of about so many bytes.
    Read(u64, usize),
    /// Write these to it, in this order.
    Write(Vec<RunFile>),
    /// Show a checkpoint to a witness.
    Show {
        /// The file with its URL.
        url_file: PathBuf,
        /// The only authorities to trust.
        ca_file: Option<PathBuf>,
        /// The checkpoint.
        shown: Shown,
    },
}

/// The outcome of the work.
#[derive(Debug)]
pub enum SinkReport {
    /// Number and SHA-256 of each file from the last snapshot on.
    Opened(Result<Vec<(u64, Digest)>, String>),
    /// Numbers and texts of files.
    Read(Result<Vec<(u64, String)>, String>),
    /// The number of the last file that was written.
    Written(Result<u64, Unwritten>),
    /// The witness's answer.
    Shown(Result<Answer, String>),
}

/// The body of a new thread.
#[must_use]
pub fn begin() -> Box<dyn FnMut(SinkWork) -> SinkReport + Send> {
    const UNREAD: &str = "the directory was not read yet";
    let mut open: Option<Directory> = None;
    Box::new(move |work| match work {
        SinkWork::Open(path, read) => match Directory::open(&path, &*read) {
            Ok(directory) => {
                let files = directory.files().collect();
                open = Some(directory);
                SinkReport::Opened(Ok(files))
            }
            Err(error) => SinkReport::Opened(Err(error)),
        },
        SinkWork::Read(from, most) => SinkReport::Read(match &open {
            Some(directory) => directory.read(from, most),
            None => Err(UNREAD.into()),
        }),
        SinkWork::Write(files) => SinkReport::Written(match &mut open {
            Some(directory) => files.iter().try_fold(0, |_, file| directory.write(file)),
            None => Err(Unwritten::Failed(UNREAD.into())),
        }),
        SinkWork::Show { url_file, ca_file, shown } => {
            let witness = Witness::open(&url_file, ca_file.as_deref());
            SinkReport::Shown(witness.and_then(|witness| witness.add_checkpoint(&shown)))
        }
    })
}
