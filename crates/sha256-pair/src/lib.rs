//! SHA-256 of messages made of many short pieces, and of two messages at once.
//!
//! An event has two hashes, and all but the end of the second message is known before the first hash is. The SHA
//! instructions of x86 wait for their own results most of the time: two messages side by side take hardly longer than one.
//! `sha2` compresses what has no partner, and everything on other machines.
//!
//! Knows nothing of events. No `std`, no allocation. The `unsafe` is in two files: `message.rs` writes to a buffer that is not
//! zeroed first, `x86.rs` has the instructions.
#![no_std]

mod message;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use message::{Buffer, Message, Writer};
