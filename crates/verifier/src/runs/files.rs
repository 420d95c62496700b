//! The run files below a directory, in the order of their numbers.

use std::fs;
use std::path::{Path, PathBuf};

use zeroauth_audit_core::registry::run;

use crate::verdict::Trouble;

/// Folders in each other at most: year, month and day.
const MAX_DEPTH: usize = 3;

/// A run file that is there.
pub struct RunFile {
    /// Where.
    pub path: PathBuf,
    /// The number in its name.
    pub number: u64,
    /// The folder that it is in.
    pub day: PathBuf,
    /// Bytes.
    pub length: u64,
}

impl RunFile {
    /// For people.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// The run files below `folder`. What has another name is ignored.
///
/// # Errors
/// A folder that cannot be read, and why.
pub fn files(folder: &Path) -> Result<Vec<RunFile>, Trouble> {
    let mut found = Vec::new();
    collect(folder, 0, &mut found)?;
    found.sort_by(|a, b| (a.number, &a.path).cmp(&(b.number, &b.path)));
    Ok(found)
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<RunFile>) -> Result<(), Trouble> {
    let cannot = |error: std::io::Error| Trouble {
        file: folder.display().to_string(),
        what: format!("cannot be read: {error}"),
        ..Trouble::default()
    };
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(cannot)?);
        if kind.is_dir() && depth < MAX_DEPTH {
            collect(&path, depth + 1, found)?;
        } else if kind.is_file()
            && let Some(number) = run::number(&entry.file_name().to_string_lossy())
        {
            let length = entry.metadata().map_err(cannot)?.len();
            found.push(RunFile { path, number, day: folder.to_owned(), length });
        }
    }
    Ok(())
}
