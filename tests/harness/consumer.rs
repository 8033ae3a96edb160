//! Turns a topic into the records it holds, as a consumer of either isolation level sees them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::wait::secs;

/// What a consumer sees of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Only what was committed, up to the last stable offset.
    Committed,
    /// Everything, aborted and open transactions too.
    Uncommitted,
}

/// A record as it lies in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rec {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

/// How to reach the topics: brokers and further librdkafka properties.
#[derive(Clone, Debug)]
pub struct Reader {
    config: ClientConfig,
}

/// A reader that follows topics as they grow.
pub struct Tail {
    consumer: BaseConsumer,
}

/// A full read of a healthy broker is a matter of seconds; this is for busy machines and long topics.
const READ_LIMIT: Duration = Duration::from_secs(120);

/// Reads whole topics from a broker without security.
#[track_caller]
pub fn read_all(brokers: &str, topics: &[&str], isolation: Isolation) -> Vec<Rec> {
    Reader::new(brokers).read_all(topics, isolation)
}

// === impl Rec ===

impl Rec {
    /// The key as text.
    #[track_caller]
    pub fn key_text(&self) -> Option<&str> {
        self.key.as_deref().map(|key| std::str::from_utf8(key).expect("the key is text"))
    }

    /// The value as text.
    #[track_caller]
    pub fn value_text(&self) -> Option<&str> {
        self.value.as_deref().map(|value| std::str::from_utf8(value).expect("the value is text"))
    }

    /// The value as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let value = self.value.as_deref().expect("the record is no tombstone");
        serde_json::from_slice(value).unwrap_or_else(|e| panic!("the value is no JSON: {e}\n{self:?}"))
    }

    /// The first header of a name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        value.as_deref().and_then(|value| std::str::from_utf8(value).ok())
    }

    fn of(message: &BorrowedMessage<'_>) -> Rec {
        let headers = message
            .headers()
            .map(|headers| headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect());
        Rec {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
            timestamp_ms: message.timestamp().to_millis(),
        }
    }
}

// === impl Reader ===

impl Reader {
    /// A reader of brokers without security.
    pub fn new(brokers: &str) -> Reader {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", "relay-tests").set("log_level", "0");
        config.set("enable.auto.commit", "false").set("enable.partition.eof", "true").set("auto.offset.reset", "earliest");
        // The end of a partition is told by an empty fetch, which waits this long.
        config.set("fetch.wait.max.ms", "20").set("reconnect.backoff.max.ms", "500");
        Reader { config }
    }

    /// A librdkafka property, such as `security.protocol`.
    pub fn property(mut self, name: &str, value: &str) -> Reader {
        self.config.set(name, value);
        self
    }

    /// All records of some topics, from the beginning to the end found on arrival there, partition by partition.
    #[track_caller]
    pub fn read_all(&self, topics: &[&str], isolation: Isolation) -> Vec<Rec> {
        // One topic at a time: librdkafka tells the end of a partition without its topic.
        topics.iter().flat_map(|topic| self.read_topic(topic, isolation)).collect()
    }

    /// The sum of the offsets at which the partitions of a topic end for such a consumer: an open transaction keeps that of committed
    /// records back.
    #[track_caller]
    pub fn end(&self, topic: &str, isolation: Isolation) -> i64 {
        let tail = self.tail(&[topic], isolation);
        let assigned = tail.consumer.assignment().expect("ask for the assignment");
        let end = |partition| {
            tail.consumer.fetch_watermarks(topic, partition, secs(30)).unwrap_or_else(|e| panic!("look at {topic}: {e}")).1
        };
        assigned.elements().iter().map(|element| end(element.partition())).sum()
    }

    #[track_caller]
    fn read_topic(&self, topic: &str, isolation: Isolation) -> Vec<Rec> {
        let tail = self.tail(&[topic], isolation);
        let assigned = tail.consumer.assignment().expect("ask for the assignment");
        let mut open: BTreeSet<i32> = assigned.elements().iter().map(|element| element.partition()).collect();
        let (mut records, start) = (Vec::new(), Instant::now());
        while !open.is_empty() {
            let read = records.len();
            assert!(start.elapsed() < READ_LIMIT, "{topic}: no end of partitions {open:?} after {READ_LIMIT:?}, {read} read");
            match tail.consumer.poll(Duration::from_millis(200)) {
                None => {}
                Some(Ok(message)) => records.push(Rec::of(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
                Some(Err(e)) => assert!(is_passing(&e), "read {topic}: {e}"),
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    /// A reader that starts at the beginning and follows.
    #[track_caller]
    pub fn tail(&self, topics: &[&str], isolation: Isolation) -> Tail {
        let level = if isolation == Isolation::Committed { "read_committed" } else { "read_uncommitted" };
        let consumer: BaseConsumer = self.config.clone().set("isolation.level", level).create().expect("create a Kafka consumer");
        let mut list = TopicPartitionList::new();
        for topic in topics {
            let metadata = consumer.fetch_metadata(Some(topic), secs(30)).unwrap_or_else(|e| panic!("look at {topic}: {e}"));
            let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
            assert!(partitions > 0, "there is no topic {topic}");
            for partition in 0..i32::try_from(partitions).expect("few partitions") {
                list.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition to read");
            }
        }
        consumer.assign(&list).expect("assign partitions");
        Tail { consumer }
    }
}

// === impl Tail ===

impl Tail {
    /// The next record, or `None` when none came in time.
    #[track_caller]
    pub fn next(&self, limit: Duration) -> Option<Rec> {
        let end = Instant::now() + limit;
        loop {
            match self.consumer.poll(end.saturating_duration_since(Instant::now())) {
                Some(Ok(message)) => return Some(Rec::of(&message)),
                Some(Err(e)) => assert!(is_passing(&e), "follow a topic: {e}"),
                None => {}
            }
            if Instant::now() >= end {
                return None;
            }
        }
    }

    /// The next `n` records; panics when they do not come in time.
    #[track_caller]
    pub fn take(&self, n: usize, limit: Duration) -> Vec<Rec> {
        let (end, mut records) = (Instant::now() + limit, Vec::with_capacity(n));
        while records.len() < n {
            let got = records.len();
            let next = self.next(end.saturating_duration_since(Instant::now()));
            records.push(next.unwrap_or_else(|| panic!("got {got} of {n} records within {limit:?}: {records:#?}")));
        }
        records
    }

    /// Follows until a record is as wanted, and answers it; panics when none is in time.
    #[track_caller]
    pub fn until(&self, what: &str, limit: Duration, mut is_wanted: impl FnMut(&Rec) -> bool) -> Rec {
        let end = Instant::now() + limit;
        loop {
            let next = self.next(end.saturating_duration_since(Instant::now()));
            let record = next.unwrap_or_else(|| panic!("waited {limit:?} in vain for {what}"));
            if is_wanted(&record) {
                return record;
            }
        }
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail").field("assignment", &self.consumer.assignment().ok()).finish()
    }
}

/// Errors that librdkafka gets over by itself, so that a reader may start before its broker is back.
fn is_passing(error: &KafkaError) -> bool {
    let passing = [
        RDKafkaErrorCode::BrokerTransportFailure,
        RDKafkaErrorCode::AllBrokersDown,
        RDKafkaErrorCode::OperationTimedOut,
        RDKafkaErrorCode::NotLeaderForPartition,
        RDKafkaErrorCode::LeaderNotAvailable,
        RDKafkaErrorCode::Resolve,
    ];
    let code = error.rdkafka_error_code();
    matches!(error, KafkaError::PartitionEOF(_)) || code.is_some_and(|code| passing.contains(&code))
}
