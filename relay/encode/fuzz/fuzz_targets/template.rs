//! Bytes from the fuzzer go through `fuzz_body::template`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| relay_encode::fuzz_body::template(bytes));
