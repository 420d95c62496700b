//! libFuzzer program for one check of `fuzz/src/readers.rs`.
#![no_main]

#[path = "../src/readers.rs"]
#[allow(dead_code, reason = "each program is for one check")]
mod readers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| readers::anchored_bundle(data));
