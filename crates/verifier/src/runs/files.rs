//! The run files below a directory, in the order of their numbers.

use std::path::{Path, PathBuf};

use zeroauth_audit_core::registry::run;

use crate::clock;
use crate::sealed;
use crate::verdict::Trouble;

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
    for path in sealed::below(folder, &|name| run::number(name).is_some())? {
        let number = path.file_name().and_then(|name| run::number(&name.to_string_lossy()));
        let length = path.metadata().map_err(|error| Trouble {
            file: path.display().to_string(),
            what: format!("cannot be read: {error}"),
            ..Trouble::default()
        })?;
        let day = path.parent().and_then(day);
        found.extend(number.map(|number| RunFile { path, number, day, length: length.len() }));
    }
    found.sort_by(|a, b| (a.number, &a.path).cmp(&(b.number, &b.path)));
    Ok(found)
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
