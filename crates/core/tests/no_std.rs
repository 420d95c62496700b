//! The crate builds without `std` and without an allocator.
//!
//! A build for a target that has neither would be the better proof, but none is installed everywhere; what is
//! written in the sources is what remains. `#![no_std]` makes the compiler refuse `std`; `alloc` and `std` could
//! only come back through an `extern crate`.

use std::fs;
use std::path::Path;

#[test]
fn the_sources_ask_for_neither_std_nor_alloc_nor_unsafe() -> std::io::Result<()> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let root = fs::read_to_string(sources.join("lib.rs"))?;
    for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
        assert!(root.lines().any(|line| line == attribute), "lib.rs lacks {attribute}");
    }
    for file in fs::read_dir(&sources)? {
        let path = file?.path();
        let text = fs::read_to_string(&path)?;
        assert!(!text.contains("extern crate"), "{} brings in a crate of its own", path.display());
    }
    Ok(())
}
