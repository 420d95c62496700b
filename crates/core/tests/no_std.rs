//! The crate builds without `std`.
//!
//! A build for a target without it would be the better proof, but none is installed everywhere; what is written in the sources
//! is what remains. `#![no_std]` makes the compiler refuse `std`; it could only come back through an `extern crate`, of which
//! there is one, for `alloc`. What an insert goes through does not allocate either.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn the_sources_ask_for_neither_std_nor_unsafe() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let root = fs::read_to_string(folder.join("lib.rs"))?;
    for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
        assert!(root.lines().any(|line| line == attribute), "lib.rs lacks {attribute}");
    }
    let mut files = Vec::new();
    sources(&folder, &mut files)?;
    for path in files {
        let text = fs::read_to_string(&path)?;
        let crates: Vec<&str> = text.lines().filter(|line| line.contains("extern crate")).collect();
        let expected: &[&str] = if path.ends_with("src/lib.rs") { &["extern crate alloc;"] } else { &[] };
        assert_eq!(crates, expected, "{} brings in a crate of its own", path.display());
    }
    Ok(())
}

#[test]
fn what_hashes_and_replays_events_does_not_allocate() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for name in ["digest", "encode", "event", "hash", "merkle", "multiset", "replay"] {
        let text = fs::read_to_string(folder.join(name).with_extension("rs"))?;
        assert!(!text.contains("alloc::"), "{name} allocates");
    }
    Ok(())
}
