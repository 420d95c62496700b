//! libFuzzer program for one check of `fuzz/src/formats.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zeroauth_audit_fuzz::formats::run_file(data));
