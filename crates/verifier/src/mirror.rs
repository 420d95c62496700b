//! The registry of run files in the layout of C2SP tlog-tiles, for mirrors and for tools that know nothing of run files.
//!
//! Writes only what was verified before ([`crate::runs`]): tiles and entry bundles, the full ones once and for all, and the checkpoint last.
//! What is there and is something else is never replaced.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use zeroauth_audit_core::registry::Entry;
use zeroauth_audit_core::registry::run::{self, Reader};
use zeroauth_audit_core::tile::builder::Builder;
use zeroauth_audit_core::tile::{self, Tile, WIDTH};

use crate::runs::RunFile;
use crate::sealed;

/// Writes the registry of `files` below `out`. How many entries it has.
///
/// # Errors
/// What cannot be read or written, and what is there already and is something else, in words.
pub fn write(files: &[RunFile], out: &Path) -> Result<u64, String> {
    let mut builder = Builder::resume(0, []).map_err(|error| error.to_string())?;
    let mut entries = Entries::default();
    let mut checkpoint = String::new();
    for file in files {
        let bytes = sealed::read_file(&file.path, run::MAX_BYTES)
            .map_err(|what| format!("{:?} {what}", file.name()))?;
        let wrong = |error: run::Error| format!("{:?}: {error}", file.name());
        let mut reader = Reader::new(&bytes).map_err(wrong)?;
        while let Some(block) = reader.block().map_err(wrong)? {
            builder.push(Entry::leaf(block.text));
            entries.push(block.text, out)?;
        }
        builder.take_full().iter().try_for_each(|tile| write_tile(tile, out))?;
        checkpoint = reader.tail().map_err(wrong)?.checkpoint.into();
    }
    let grown = builder.finish();
    grown.tiles.iter().try_for_each(|tile| write_tile(tile, out))?;
    entries.finish(out)?;
    // Whoever sees it finds all that it is about.
    replace(&out.join("checkpoint"), checkpoint.as_bytes())?;
    Ok(grown.size)
}

/// The entries of the bundle that is not full yet.
#[derive(Default)]
struct Entries {
    index: u64,
    count: usize,
    bytes: Vec<u8>,
}

impl Entries {
    fn push(&mut self, text: &str, out: &Path) -> Result<(), String> {
        // An entry has at most 4096 bytes.
        let length = u16::try_from(text.len()).map_err(|error| error.to_string())?;
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
        self.count += 1;
        if self.count == usize::from(WIDTH) {
            self.write(out)?;
            *self = Self { index: self.index + 1, ..Self::default() };
        }
        Ok(())
    }

    fn finish(self, out: &Path) -> Result<(), String> {
        if self.count > 0 { self.write(out) } else { Ok(()) }
    }

    fn write(&self, out: &Path) -> Result<(), String> {
        write_once(&out.join(tile::bundle_path(self.index, self.count)), &self.bytes)
    }
}

fn write_tile(tile: &Tile, out: &Path) -> Result<(), String> {
    let bytes: Vec<u8> = tile.hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
    write_once(&out.join(tile.path()), &bytes)
}

/// Writes what never changes: a tile of this place and width has no other content.
fn write_once(path: &Path, bytes: &[u8]) -> Result<(), String> {
    match fs::read(path) {
        Ok(there) if there == bytes => Ok(()),
        Ok(_) => {
            Err(format!("{} is there, and has another content: it is of another registry", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => replace(path, bytes),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

/// Writes a file whole, or leaves the old one.
///
/// # Errors
/// Why it cannot be written, in words.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(cannot)?;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, bytes).map_err(cannot)?;
    fs::rename(&new, path).map_err(cannot)
}
