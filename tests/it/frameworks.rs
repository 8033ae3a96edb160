//! Real outbox frameworks, fetched from their registries, beside relay on the same rows: what they write and what they can read.

mod cloudevents;
mod debezium;
mod eventuate;
mod records;
mod watermill;
