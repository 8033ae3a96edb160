//! Runs the decoder over what libFuzzer invents: `cargo fuzz run decode corpus` in `connectors/pgoutput`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| relay_pgoutput::fuzz::fuzz_body(bytes));
