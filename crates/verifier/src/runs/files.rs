//! The run files below a directory, in the order of their numbers.

use std::fs;
use std::path::{Path, PathBuf};

use zeroauth_audit_core::registry::run;

use crate::clock;
use crate::verdict::Trouble;

/// Folders in each other at most: year, month and day.
const MAX_DEPTH: usize = 3;

/// A run file that is there.
#[derive(Clone)]
pub struct RunFile {
    /// Where.
    pub path: PathBuf,
    /// The number in its name.
    pub number: u64,
    /// Year, month and day of the folder that it is in, if that is one of a day.
    pub day: Option<(u16, u8, u8)>,
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
            found.push(RunFile { path, number, day: day(folder), length });
        }
    }
    Ok(())
}

/// `YYYY/MM/DD` at the end of a path, if there is such a day.
fn day(folder: &Path) -> Option<(u16, u8, u8)> {
    let mut names = folder.iter().rev().map(|name| name.to_str().unwrap_or_default());
    let mut number = |digits: usize| {
        let name = names.next()?;
        let fits = name.len() == digits && name.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| name.parse::<u16>().ok()).flatten()
    };
    let (day, month, year) = (number(2)?, number(2)?, number(4)?);
    let (day, month) = (u8::try_from(day).ok()?, u8::try_from(month).ok()?);
    clock::is_day(year, month, day).then_some((year, month, day))
}
