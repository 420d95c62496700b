//! Checks what `zeroauth_audit` gives to outsiders: exports, proof bundles and checkpoints. No database; and no network, unless
//! somebody asks for it (feature `network`).
//!
//! | module | what it does |
//! |---|---|
//! | [`export`] | every event of an export, and whether checkpoints cover just these events |
//! | [`bundle`], [`anchor`] | one event and its proof, and anchors of it |
//! | [`outside`] | evidence of anchors, held against what is trusted |
//! | `endpoints` | whether a block is on a chain (feature `network`) |
//! | `deploy` | the anchor contract's way onto a chain (feature `network`) |
//! | [`runs`], [`monitor`], [`mirror`] | the run files of a directory: whether every log only grew |
//! | [`sealed`], [`intervals`] | checkpoints and intervals that an export is held against |
//! | [`keys`] | keys that are trusted, and making one |
//! | [`verdict`] | what a check came to |
//! | [`placed`] | new files, whole or not at all |
//! | [`input`], [`progress`], [`clock`] | lines of files, how far a check is, times in words |
//!
//! The formats are those of `docs/format.md`; hashes, trees and signatures are those of the core. Nothing here trusts a file:
//! what is malformed is "could not check", with its place, and takes no more memory than section 17 of that document allows.
#![forbid(unsafe_code)]

pub mod anchor;
pub mod bundle;
pub mod clock;
#[cfg(feature = "network")]
pub mod deploy;
#[cfg(feature = "network")]
pub mod endpoints;
pub mod export;
pub mod input;
pub mod intervals;
pub mod keys;
pub mod mirror;
pub mod monitor;
pub mod outside;
pub mod placed;
pub mod progress;
pub mod runs;
pub mod sealed;
pub mod verdict;
