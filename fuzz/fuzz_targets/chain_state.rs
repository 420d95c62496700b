//! libFuzzer program for one check of `fuzz/src/lib.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zeroauth_audit_fuzz::chain_state(data));
