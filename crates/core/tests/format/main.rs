//! The hash format, version 1, held against what is not this crate: published vectors, the worked example of
//! `docs/format.md`, and an encoder and a decoder written from that document alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

mod any_event;
mod bits;
mod document;
mod encoding;
mod exported;
mod plain;
mod staging;
mod vectors;
