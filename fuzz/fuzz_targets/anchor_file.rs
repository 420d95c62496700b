//! libFuzzer program for one check of `fuzz/src/anchor.rs`.
#![no_main]

#[path = "../src/anchor.rs"]
#[allow(dead_code, reason = "the other targets use the rest")]
mod anchor;

libfuzzer_sys::fuzz_target!(|data: &[u8]| anchor::file(data));
