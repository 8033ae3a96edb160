//! What real Debezium wrote over a file of statements, kept in golden files, and relay held to them.

mod golden;
mod record;
mod sets;
