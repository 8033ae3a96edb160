//! Bytes from the fuzzer go through `fuzz_body::properties`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| relay_encode::fuzz_body::properties(bytes));
