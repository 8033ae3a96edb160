//! Reads a small compacted topic to its end, and the checkpoint records out of it.

use crate::ack::log;
use crate::config::Config;
use crate::error::Error;
use crate::limits::is_compacted;
use crate::native::{self, Refused};
use crate::security::Security;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Headers;
use rdkafka::{Message, Offset, TopicPartitionList};
use relay_core::checkpoint::{ReadCheckpoint, ReadError, Reading, Record};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Reads the checkpoint topic. Blocks; each reading uses a consumer of its own, made with secrets read anew.
#[derive(Debug)]
pub struct CheckpointReader {
    topic: TopicReader,
    /// The first part of every key.
    name: String,
}

/// Reads all that a compacted topic of one partition keeps.
#[derive(Debug)]
pub struct TopicReader {
    config: Config,
    topic: String,
    /// Whether the topic's settings have been looked at.
    is_checked: bool,
}

/// The newest record of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the topic.
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// The key; records without one are not kept.
    pub key: Vec<u8>,
    /// The value; tombstones are not kept.
    pub value: Vec<u8>,
    /// Names and values.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// How long a reading may take. The topic is small: compaction keeps a few records.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// A record that its writer looks for: what stands before it is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) key: String,
    pub(crate) id: String,
}

const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(3);

/// What a client without delivery reports needs: its log, its token, its last error.
pub(crate) struct Listener {
    security: Security,
    last_error: Mutex<Option<Error>>,
}

// === impl Listener ===

impl Listener {
    pub(crate) fn new(security: &Security) -> Self {
        Self { security: security.clone(), last_error: Mutex::default() }
    }

    pub(crate) fn last_error(&self) -> Option<Error> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Listener {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The group exists in name only: nothing is committed, nobody is assigned by it.
        if error.rdkafka_error_code() != Some(Code::GroupAuthorizationFailed) {
            let error = Error::global(error.rdkafka_error_code(), reason);
            let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
            if !last.as_ref().is_some_and(|known| known.explains(&error)) {
                *last = Some(error);
            }
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        Ok(self.security.oauth_token()?)
    }
}

impl ConsumerContext for Listener {}

// === impl CheckpointReader ===

impl CheckpointReader {
    pub(crate) fn new(config: Config) -> Self {
        let topic = config.checkpoint_topic.clone();
        Self { name: config.name.clone(), topic: TopicReader::new(config, &topic) }
    }

    /// Everything that stands before the marker.
    pub(crate) fn read_to(&mut self, marker: &Marker) -> Result<Reading, ReadError> {
        let stored = self.topic.read_until(Some(marker))?;
        self.reading(stored)
    }

    fn reading(&self, stored: Vec<Stored>) -> Result<Reading, ReadError> {
        let mut records = Vec::new();
        for stored in stored {
            // The marker's key is none of a record.
            if is_record_key(&stored.key, &self.name) {
                records.push(Record::from_json(&stored.value)?);
            }
        }
        Ok(Reading::of(records))
    }

    /// For those who only look: `relay checkpoint show` needs no producer.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self::new(config.clone())
    }
}

impl ReadCheckpoint for CheckpointReader {
    fn read(&mut self) -> Result<Reading, ReadError> {
        let stored = self.topic.read()?;
        self.reading(stored)
    }
}

/// Whether a key is `<name>/<epoch>/<instance>`.
fn is_record_key(key: &[u8], name: &str) -> bool {
    let mut parts = key.split(|&byte| byte == b'/');
    parts.next() == Some(name.as_bytes())
        && parts.next().is_some_and(|epoch| !epoch.is_empty() && epoch.iter().all(u8::is_ascii_digit))
        && parts.next().is_some()
        && parts.next().is_none()
}

// === impl TopicReader ===

impl TopicReader {
    /// A reader of that topic, with the connection settings of `config`.
    #[must_use]
    pub fn new(config: Config, topic: &str) -> Self {
        Self { config, topic: topic.to_owned(), is_checked: false }
    }

    /// The newest record of each key, in the order written, to the end as of now; nothing when the topic does not exist.
    ///
    /// # Errors
    /// `Unusable` when the topic is not compacted or has several partitions, else what kept it from being read.
    pub fn read(&mut self) -> Result<Vec<Stored>, ReadError> {
        self.read_until(None)
    }

    /// As [`TopicReader::read`], but to that marker where one is given: whatever was committed before it is seen.
    pub(crate) fn read_until(&mut self, marker: Option<&Marker>) -> Result<Vec<Stored>, ReadError> {
        let deadline = Instant::now() + READ_TIMEOUT;
        let consumer = self.consumer().map_err(refused)?;
        let Some(has_controller) = self.exists(&consumer)? else {
            return Ok(Vec::new());
        };
        self.check(&consumer, has_controller)?;
        let unreachable = |action: &str, error: KafkaError| self.fault(&consumer, action, &error);
        let end = self.end(&consumer)?;
        let mut newest = BTreeMap::new();
        if end > 0 || marker.is_some() {
            let mut partitions = TopicPartitionList::new();
            let assigned =
                partitions.add_partition_offset(&self.topic, 0, Offset::Beginning).and_then(|()| consumer.assign(&partitions));
            assigned.map_err(|error| unreachable("read", error))?;
            self.drain(&consumer, end, marker, deadline, &mut newest)?;
        }
        let mut records: Vec<Stored> = newest.into_values().collect();
        records.sort_unstable_by_key(|stored| stored.offset);
        Ok(records)
    }

    fn consumer(&self) -> Result<BaseConsumer<Listener>, Error> {
        let mut config = self.config.base()?;
        config
            // Asked for by librdkafka; nothing is committed to it.
            .set("group.id", format!("relay-{}", self.config.name))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "50");
        Ok(BaseConsumer::from_config_and_context(&config, Listener::new(&self.config.security))?)
    }

    /// Sees to it that the topic has one partition; whether the cluster can be asked about its settings, `None` when it does
    /// not exist.
    fn exists(&self, consumer: &BaseConsumer<Listener>) -> Result<Option<bool>, ReadError> {
        let topic = &self.topic;
        let deadline = Instant::now() + METADATA_TIMEOUT;
        loop {
            // Errors of authentication reach the context only when somebody polls.
            let _ = consumer.poll(Duration::ZERO);
            let metadata = match consumer.fetch_metadata(Some(topic), Duration::from_millis(500)) {
                Ok(metadata) => metadata,
                Err(error) => {
                    let fault = self.fault(consumer, "ask for", &error);
                    if Instant::now() > deadline || matches!(fault, ReadError::Denied(_)) {
                        return Err(fault);
                    }
                    continue;
                }
            };
            let found = metadata.topics().first();
            match found.and_then(|found| found.error()).map(Code::from) {
                None => match found.map_or(0, |found| found.partitions().len()) {
                    1 => return Ok(Some(native::has_controller(consumer.client(), &metadata))),
                    0 => {}
                    count => {
                        return Err(ReadError::Unusable(format!(
                            "topic {topic} has {count} partitions; it must have one, or order is lost"
                        )));
                    }
                },
                Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => return Ok(None),
                Some(code @ Code::TopicAuthorizationFailed) => return Err(ReadError::Denied(format!("topic {topic}: {code}"))),
                // Just created, or between two leaders.
                Some(code) if Instant::now() > deadline => return Err(ReadError::Unreachable(format!("topic {topic}: {code}"))),
                Some(_) => {}
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A topic that is not compacted forgets by age: a pipeline that slept longer would start from nowhere.
    fn check(&mut self, consumer: &BaseConsumer<Listener>, has_controller: bool) -> Result<(), ReadError> {
        if self.is_checked {
            return Ok(());
        }
        let topic = self.topic.as_str();
        let answers = if has_controller {
            native::describe_topics(consumer.client(), &[topic], DESCRIBE_TIMEOUT)
        } else {
            Err(native::no_controller())
        };
        let answer = answers.and_then(|mut answers| {
            answers.remove(topic).unwrap_or_else(|| Err(Refused { code: Code::Fail, message: "no answer".into() }))
        });
        match answer.as_ref().map(|settings| settings.get("cleanup.policy").map_or("delete", String::as_str)) {
            Ok(policy) if !is_compacted(policy) => {
                return Err(ReadError::Unusable(format!("topic {topic} has cleanup.policy = {policy}; it must be compact")));
            }
            Ok(_) => {}
            Err(refused) => tracing::warn!(
                event = "topic.cleanup_unknown",
                topic,
                message = refused.message,
                "whether a topic is compacted is unknown"
            ),
        }
        self.is_checked = true;
        Ok(())
    }

    /// Where the topic ends now.
    fn end(&self, consumer: &BaseConsumer<Listener>) -> Result<i64, ReadError> {
        let deadline = Instant::now() + METADATA_TIMEOUT;
        loop {
            match consumer.fetch_watermarks(&self.topic, 0, METADATA_TIMEOUT) {
                Ok((_, end)) => return Ok(end),
                // librdkafka's word for a partition without leader, after a single look: a broker that stood still is fenced a while.
                Err(error) if error.rdkafka_error_code() == Some(Code::UnknownPartition) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                    let _ = consumer.fetch_metadata(Some(&self.topic), Duration::from_millis(500));
                }
                Err(error) => return Err(self.fault(consumer, "ask for the end of", &error)),
            }
        }
    }

    fn drain(
        &self,
        consumer: &BaseConsumer<Listener>,
        end: i64,
        marker: Option<&Marker>,
        deadline: Instant,
        newest: &mut BTreeMap<Vec<u8>, Stored>,
    ) -> Result<(), ReadError> {
        loop {
            if Instant::now() > deadline {
                let text = format!("topic {} could not be read to its end within {} s", self.topic, READ_TIMEOUT.as_secs());
                return Err(ReadError::Unreachable(text));
            }
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let offset = message.offset();
                    keep(&message, newest);
                    let is_last = match marker {
                        Some(marker) => marker.is(&message),
                        None => offset + 1 >= end,
                    };
                    if is_last {
                        return Ok(());
                    }
                }
                // Behind the last record there may be markers of transactions, or nothing at all after compaction.
                Some(Err(KafkaError::PartitionEOF(_))) if marker.is_none() => return Ok(()),
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(Code::GroupAuthorizationFailed) => {}
                    Some(Code::TopicAuthorizationFailed | Code::Authentication) => {
                        return Err(self.fault(consumer, "read", &error));
                    }
                    _ => tracing::debug!(topic = self.topic, %error, "reading a topic goes on after an error"),
                },
                None => {}
            }
        }
    }

    fn fault(&self, consumer: &BaseConsumer<Listener>, action: &str, error: &KafkaError) -> ReadError {
        // "Timed out" alone helps nobody: what the client reported meanwhile is the cause.
        let cause = consumer.context().last_error();
        let text = format!("{action} topic {}: {error}", self.topic);
        match cause {
            Some(cause @ (Error::Auth(_) | Error::Denied(_))) => ReadError::Denied(format!("{text}: {cause}")),
            Some(cause) => ReadError::Unreachable(format!("{text}: {cause}")),
            None if error.rdkafka_error_code() == Some(Code::TopicAuthorizationFailed) => ReadError::Denied(text),
            None => ReadError::Unreachable(text),
        }
    }
}

impl Marker {
    fn is(&self, message: &impl Message) -> bool {
        message.key() == Some(self.key.as_bytes()) && message.payload() == Some(self.id.as_bytes())
    }
}

fn refused(error: Error) -> ReadError {
    match error {
        Error::Auth(_) | Error::Denied(_) | Error::File { .. } => ReadError::Denied(error.to_string()),
        other => ReadError::Unreachable(other.to_string()),
    }
}

fn keep(message: &rdkafka::message::BorrowedMessage<'_>, newest: &mut BTreeMap<Vec<u8>, Stored>) {
    let Some(key) = message.key() else { return };
    let Some(value) = message.payload() else {
        newest.remove(key);
        return;
    };
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    let stored = Stored {
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: key.to_vec(),
        value: value.to_vec(),
        headers,
    };
    newest.insert(key.to_vec(), stored);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_our_own_records_count() {
        for (key, expected) in [
            ("orders/7/9f3a61c2", true),
            ("orders/marker", false),
            ("orders2/7/9f3a61c2", false),
            ("orders/7/9f3a61c2/x", false),
            ("orders/x/9f3a61c2", false),
            ("orders//9f3a61c2", false),
        ] {
            assert_eq!(is_record_key(key.as_bytes(), "orders"), expected, "{key}");
        }
    }
}
