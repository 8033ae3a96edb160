//! Stores checkpoint records in their topic, through the producer that carries the events.

use crate::ack::{FORGOTTEN, Stores, store_opaque};
use crate::error::classify;
use crate::lookup::Ask;
use crate::native::{Parcel, TopicHandle};
use crate::producer::{Current, Producer};
use crate::topics::{State, Topic};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::Producer as _;
use relay_core::checkpoint::{Checkpoint, Record};
use relay_core::window::{Failure, FailureKind};
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// The checkpoint topic, for writing. Used by the thread that has the sink.
#[derive(Debug)]
pub struct CheckpointTopic {
    current: Arc<Current>,
    topic: Arc<Topic>,
    stores: Arc<Stores>,
    asks: Sender<Ask>,
    link: Option<Link>,
    /// Number of the record under way or the last one.
    number: usize,
    store: Store,
}

/// A client and the topic's handle in it.
#[derive(Debug)]
struct Link {
    generation: u64,
    handle: TopicHandle,
    producer: Arc<Producer>,
}

#[derive(Debug)]
enum Store {
    Idle,
    /// Not with the client yet: the topic is being looked up, or the queue is full.
    Waiting {
        key: String,
        value: String,
    },
    UnderWay,
}

// === impl CheckpointTopic ===

impl CheckpointTopic {
    pub(crate) fn new(current: Arc<Current>, topic: Arc<Topic>, stores: Arc<Stores>, asks: Sender<Ask>) -> Self {
        Self { current, topic, stores, asks, link: None, number: 0, store: Store::Idle }
    }

    /// Hands one record to the client.
    fn produce(&mut self, key: &str, value: Option<&str>, opaque: usize) -> Result<(), Failure> {
        let failure =
            |kind, message: String| Failure { kind, message: format!("checkpoint topic {}: {message}", self.topic.name) };
        match self.topic.state() {
            State::Ready => {}
            State::Lookup => return Err(failure(FailureKind::Transient, String::new())),
            State::Missing => return Err(failure(FailureKind::UnknownTopic, self.topic.message())),
            State::Denied => return Err(failure(FailureKind::Denied, self.topic.message())),
        }
        let generation = self.current.generation();
        if self.link.as_ref().is_none_or(|link| link.generation != generation) {
            let producer = self.current.get();
            let handle = TopicHandle::new(&producer.client, &self.topic.name)
                .map_err(|code| failure(FailureKind::Transient, code.to_string()))?;
            if let Some(old) = self.link.replace(Link { generation, handle, producer }) {
                let _ = self.asks.send(Ask::Retire(Box::new(old)));
            }
        }
        let Some(link) = &self.link else { return Ok(()) };
        let parcel =
            Parcel { key: Some(key.as_bytes()), value: value.map(str::as_bytes), timestamp_ms: 0, partition: Some(0), opaque };
        let sent = link.handle.produce(&parcel, std::iter::empty());
        link.producer.nudge.ask(0);
        sent.map_err(|code| match (code, link.producer.client.client().fatal_error()) {
            (Code::QueueFull, _) | (_, None) => failure(FailureKind::Transient, code.to_string()),
            (_, Some((cause, reason))) if classify(cause) == FailureKind::Fenced => failure(FailureKind::Fenced, reason),
            (_, Some((_, reason))) => failure(FailureKind::Fatal, reason),
        })
    }
}

impl Checkpoint for CheckpointTopic {
    fn begin_store(&mut self, record: &Record) {
        debug_assert!(matches!(self.store, Store::Idle), "one store at a time");
        self.number += 1;
        self.store = Store::Waiting { key: record.key(), value: record.to_json() };
        self.try_send();
    }

    fn outcome(&mut self) -> Option<Result<(), Failure>> {
        if let Some(failure) = self.try_send() {
            self.store = Store::Idle;
            return Some(Err(failure));
        }
        if !matches!(self.store, Store::UnderWay) {
            return None;
        }
        let outcome = self.stores.take(store_opaque(self.number))?;
        self.store = Store::Idle;
        Some(outcome)
    }

    fn retire(&mut self, keys: &[String]) {
        for key in keys {
            if let Err(failure) = self.produce(key, None, FORGOTTEN) {
                // The next start finds them again.
                tracing::debug!(message = failure.message, "records of older epochs are left for later");
                return;
            }
        }
    }
}

impl CheckpointTopic {
    /// Gives a waiting record to the client if it takes it; why it never will.
    fn try_send(&mut self) -> Option<Failure> {
        let (key, value) = match std::mem::replace(&mut self.store, Store::Idle) {
            Store::Waiting { key, value } => (key, value),
            other => {
                self.store = other;
                return None;
            }
        };
        match self.produce(&key, Some(&value), store_opaque(self.number)) {
            Ok(()) => self.store = Store::UnderWay,
            Err(failure) if failure.kind == FailureKind::Transient => self.store = Store::Waiting { key, value },
            Err(failure) => {
                self.store = Store::Waiting { key, value };
                return Some(failure);
            }
        }
        None
    }
}
