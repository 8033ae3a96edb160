//! What real Debezium wrote over a file of statements, kept in golden files, and relay held to them.

mod cloudevent;
mod coverage;
mod decode;
mod differences;
mod golden;
mod leaves;
mod parity;
mod reasons;
mod record;
mod relay;
mod roundtrip;
mod sets;
