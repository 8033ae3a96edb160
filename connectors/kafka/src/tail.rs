//! Turns a topic as it grows into arrivals: every partition, no group, nothing committed.

use crate::config::Config;
use crate::error::Error;
use crate::reader::Listener;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::{Message, Offset, TopicPartitionList};
use std::time::{Duration, Instant};

/// A reader that stays at the end of one topic.
pub struct Tail {
    consumer: BaseConsumer<Listener>,
    topic: String,
    /// When to look for the topic again; `None` once it is being read.
    look_at: Option<Instant>,
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its partition.
    pub partition: i32,
    /// Its place in the partition.
    pub offset: i64,
    /// The key, where there is one.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a topic that does not exist yet is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

// === impl Tail ===

impl Tail {
    /// Starts with what is written after this call; a topic that does not exist yet is read from its beginning once it does.
    ///
    /// # Errors
    /// When no broker answers, or the configuration cannot be used.
    pub fn from_now(config: &Config, topic: &str) -> Result<Self, Error> {
        let mut client = config.base()?;
        client
            // Asked for by librdkafka; nothing is committed to it.
            .set("group.id", format!("relay-{}-tail", config.name))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            // The mock cluster answers an empty fetch only when this has passed, whatever was written meanwhile.
            .set("fetch.wait.max.ms", "10");
        let consumer = BaseConsumer::from_config_and_context(&client, Listener::new(&config.security))?;
        let mut tail = Self { consumer, topic: topic.to_owned(), look_at: None };
        let partitions = tail.partitions(METADATA_TIMEOUT)?;
        let mut starts = Vec::new();
        for partition in partitions {
            let (_, end) = tail.consumer.fetch_watermarks(topic, partition, METADATA_TIMEOUT)?;
            starts.push((partition, Offset::Offset(end)));
        }
        tail.assign(&starts)?;
        Ok(tail)
    }

    /// The next record, if one comes within `wait`.
    ///
    /// # Errors
    /// What the client reports; it goes on by itself, and so may the caller.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Arrival>, Error> {
        if self.look_at.is_some_and(|at| at <= Instant::now()) {
            let partitions = self.partitions(Duration::from_secs(1)).unwrap_or_default();
            let starts: Vec<_> = partitions.into_iter().map(|partition| (partition, Offset::Beginning)).collect();
            self.assign(&starts)?;
        }
        let message = match self.consumer.poll(wait) {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(error.into()),
            None => return Ok(None),
        };
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        Ok(Some(Arrival {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        }))
    }

    /// The partitions of the topic; none while it does not exist.
    fn partitions(&self, limit: Duration) -> Result<Vec<i32>, Error> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), limit).map_err(|error| {
            // "Timed out" alone helps nobody: what the client reported meanwhile is the cause.
            let _ = self.consumer.poll(Duration::ZERO);
            self.consumer.context().last_error().unwrap_or_else(|| Error::Unreachable(error.to_string()))
        })?;
        let topic = metadata.topics().first().filter(|topic| topic.error().is_none());
        Ok(topic.map_or_else(Vec::new, |topic| topic.partitions().iter().map(|partition| partition.id()).collect()))
    }

    fn assign(&mut self, starts: &[(i32, Offset)]) -> Result<(), Error> {
        if starts.is_empty() {
            self.look_at = Some(Instant::now() + LOOK_EVERY);
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for (partition, start) in starts {
            list.add_partition_offset(&self.topic, *partition, *start)?;
        }
        self.consumer.assign(&list)?;
        self.look_at = None;
        Ok(())
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail").field("topic", &self.topic).finish_non_exhaustive()
    }
}

// === impl Arrival ===

impl Arrival {
    /// The text of the first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }
}
