//! The Kafka sink: events become records, delivery reports become acknowledgements, the frontier becomes a checkpoint record.
//!
//! [`Config::build`] starts one producer and gives out its parts: a [`KafkaSink`] and a [`CheckpointTopic`] for the thread
//! that reads the source, a [`CheckpointReader`] for whoever prepares a start, and a [`Health`] that any thread may ask.
//! Threads of its own:
//!
//! * `relay-kafka-ack` serves delivery reports and turns them into acknowledgements,
//! * `relay-kafka-flush` sends what is queued at once while relay is caught up (see [`flush`]),
//! * `relay-kafka-admin` looks topics up, creates them and keeps their limits fresh,
//! * `relay-kafka-txn`, for exactly-once only, fences, commits and aborts (see [`transactions`]).

mod ack;
mod checkpoint;
mod config;
pub mod doctor;
mod error;
mod flush;
mod health;
mod limits;
mod lookup;
pub mod mock;
mod native;
mod producer;
mod properties;
mod reader;
mod room;
mod security;
mod sink;
mod tail;
#[cfg(test)]
mod tests;
mod topics;
mod transactions;

pub use checkpoint::CheckpointTopic;
pub use config::{Config, Deps, Finding, Kafka, SOCKET_TIMEOUT_MS, TRANSACTION_TIMEOUT_MS};
pub use error::Error;
pub use health::{Health, Statistics};
pub use reader::{CheckpointReader, Stored, TopicReader};
pub use security::{Secret, SecretSource, Security};
pub use sink::KafkaSink;
pub use tail::{Arrival, Tail};
pub use transactions::Transactions;

/// The version of the linked librdkafka, such as `2.12.1`.
#[must_use]
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}
