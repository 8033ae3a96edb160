//! Bytes from the fuzzer go through `fuzz_body::types`: what the writers of JSON make of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| relay_encode::fuzz_body::types(bytes));
