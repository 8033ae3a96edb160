//! Kill and fault suites against the real binary and real servers; each prints its seed and what it injected.
//!
//! `RELAY_TEST_SEED` repeats a run, `RELAY_CRASH_SECONDS` lengthens it (time budget a suite).

mod capture;
mod cluster;
mod housekeeping;
mod identity;
mod kills;
mod large;
mod matrix;
mod network;
mod poll;
mod requests;
mod servers;
mod snapshot;
mod story;
mod takeover;
