//! Arbitrary bytes as if a PostgreSQL server had sent them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| relay_pgwire::fuzz_body(bytes));
