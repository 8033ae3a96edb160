//! The settings of `[sink.kafka]`, and how they become a running sink.

use crate::ack::{Context, Stores};
use crate::checkpoint::CheckpointTopic;
use crate::error::Error;
use crate::health::{Health, Statistics};
use crate::lookup::{Ask, Creation, Lookup};
use crate::producer::{Current, Producer, spawn};
use crate::properties;
use crate::reader::CheckpointReader;
use crate::security::Security;
use crate::sink::KafkaSink;
use crate::topics::{Gate, Role, Topic, illegal};
use crate::transactions::Transactions;
use crate::transactions::life::{Bounds, Life};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use relay_core::window::Acks;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// What the Kafka side of one pipeline needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The pipeline's name.
    pub name: String,
    /// `host:port`, at least one.
    pub brokers: Vec<String>,
    /// What brokers log and meter; `relay-<name>` when empty.
    pub client_name: String,
    /// `if-missing` or `never`.
    pub create_topics: String,
    /// For topics that relay creates; -1 = the broker's default.
    pub partitions: i32,
    /// For topics that relay creates; -1 = the broker's default.
    pub replication_factor: i32,
    /// Where keys live: `murmur2_random`, `consistent_random`, `fnv1a_random` and librdkafka's others.
    pub partitioner: String,
    /// Globs that a topic chosen by a row must match; empty = any.
    pub allowed_topics: Vec<String>,
    /// Distinct target topics at most.
    pub max_topics: usize,
    /// Topics that the configuration itself names: looked up at once, and free of `allowed_topics`.
    pub configured_topics: Vec<String>,
    /// The checkpoint topic's name; `{name}.checkpoint` by default.
    pub checkpoint_topic: String,
    /// The dlq topic's name, when there is one.
    pub dlq_topic: Option<String>,
    /// Who relay is to the brokers.
    pub security: Security,
    /// librdkafka properties to pass through.
    pub properties: BTreeMap<String, String>,
    /// Lifts the refusal of properties.
    pub allow_unsafe: bool,
    /// `delivery.in_flight`: the client's own queue is sized after it.
    pub in_flight_bytes: u64,
    /// `delivery.guarantee` is `exactly-once`: events and checkpoint records are committed together.
    pub is_exactly_once: bool,
}

/// What [`Config::build`] needs from outside.
#[derive(Debug)]
pub struct Deps {
    /// Where deliveries are reported.
    pub acks: Arc<Acks>,
}

/// Something that configuration alone proves wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The setting, as it stands in the file.
    pub key: String,
    /// What is wrong.
    pub text: String,
    /// The cure.
    pub hint: String,
}

/// The parts of a running Kafka side.
#[derive(Debug)]
pub struct Kafka {
    /// For the thread that reads the source.
    pub sink: KafkaSink,
    /// For the same thread; writes through the same producer. Not to be used where there are transactions.
    pub checkpoint: CheckpointTopic,
    /// For the same thread, in place of `checkpoint`, where the configuration asks for exactly-once.
    pub transactions: Option<Transactions>,
    /// For any thread that may block.
    pub reader: CheckpointReader,
    /// For everyone.
    pub health: Arc<Health>,
}

/// What it takes to start a producer, again and again.
#[derive(Debug)]
pub(crate) struct Plan {
    config: Config,
    pub(crate) configured_topics: Vec<String>,
    pub(crate) message_max_bytes: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) linger_ms: f64,
    /// `None` where there are no transactions.
    bounds: Option<Bounds>,
}

const PARTITIONERS: [&str; 7] =
    ["murmur2_random", "murmur2", "consistent_random", "consistent", "fnv1a_random", "fnv1a", "random"];

// === impl Config ===

impl Config {
    /// The documented defaults for a pipeline of that name.
    #[must_use]
    pub fn new(name: &str, brokers: &str) -> Self {
        Self {
            name: name.to_owned(),
            brokers: brokers.split(',').map(|broker| broker.trim().to_owned()).collect(),
            client_name: String::new(),
            create_topics: "if-missing".to_owned(),
            partitions: -1,
            replication_factor: -1,
            partitioner: "murmur2_random".to_owned(),
            allowed_topics: Vec::new(),
            max_topics: 2000,
            configured_topics: Vec::new(),
            checkpoint_topic: format!("{name}.checkpoint"),
            dlq_topic: None,
            security: Security::default(),
            properties: BTreeMap::new(),
            allow_unsafe: false,
            in_flight_bytes: 64 << 20,
            is_exactly_once: false,
        }
    }

    /// What is wrong with the settings, as far as no broker is needed to see it. Empty when they can be used.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut add = |key: &str, text: String, hint: &str| findings.push(Finding::new(format!("sink.kafka.{key}"), text, hint));
        if self.brokers.iter().all(String::is_empty) {
            add("brokers", "no broker is named".to_owned(), "set it to host:port of one broker or more");
        }
        if !["if-missing", "never"].contains(&self.create_topics.as_str()) {
            add("create_topics", format!("`{}` is not a choice", self.create_topics), "use \"if-missing\" or \"never\"");
        }
        if !PARTITIONERS.contains(&self.partitioner.as_str()) {
            add(
                "partitioner",
                format!("`{}` is not a partitioner", self.partitioner),
                "murmur2_random places keys as Java clients do",
            );
        }
        if self.partitions == 0 || self.partitions < -1 {
            add(
                "partitions",
                format!("{} is no number of partitions", self.partitions),
                "use 1 or more, or -1 for the broker's default",
            );
        }
        if self.replication_factor == 0 || !(-1..=i32::from(i16::MAX)).contains(&self.replication_factor) {
            let text = format!("{} is no number of replicas", self.replication_factor);
            add("replication_factor", text, "use 1 or more, or -1 for the broker's default");
        }
        if self.max_topics == 0 {
            add("max_topics", "no topic at all is allowed".to_owned(), "use 1 or more");
        }
        let own = [("delivery.checkpoint_topic", Some(&self.checkpoint_topic)), ("delivery.dlq.topic", self.dlq_topic.as_ref())];
        for (key, name) in own.into_iter().filter_map(|(key, name)| Some((key, name?))) {
            if let Some(fault) = illegal(name) {
                findings.push(Finding::new(
                    key.to_owned(),
                    format!("`{name}` cannot be a topic: {fault}"),
                    "choose another name",
                ));
            }
        }
        if self.dlq_topic.as_ref() == Some(&self.checkpoint_topic) {
            let text = "the dlq and the checkpoint cannot share a topic".to_owned();
            findings.push(Finding::new("delivery.dlq.topic".to_owned(), text, "choose another name"));
        }
        if self.is_exactly_once
            && let Err(Error::Config { key, text }) = self.bounds()
        {
            findings.push(Finding::new(key, text, "leave both out: relay sets them"));
        }
        self.security.check(&mut findings);
        if !self.allow_unsafe {
            properties::check(&self.properties, &mut findings);
        }
        findings
    }

    /// Starts the producer and its threads. Succeeds whether or not a broker answers.
    ///
    /// # Errors
    /// The first finding of [`Config::check`], a file that cannot be read, or a property that librdkafka does not know.
    pub fn build(self, deps: Deps) -> Result<Kafka, Error> {
        if let Some(Finding { key, text, .. }) = self.check().into_iter().next() {
            return Err(Error::Config { key, text });
        }
        let Deps { acks } = deps;
        let transactional = self.is_exactly_once.then(|| self.clone());
        let reader = CheckpointReader::new(self.clone());
        let gate = Gate::new(self.allowed_topics.clone(), self.max_topics, &self.own_topics());
        let creation = self.creation();
        let checkpoint_topic = Arc::new(Topic::new(&self.checkpoint_topic, Role::Checkpoint));
        let mut own = vec![Arc::clone(&checkpoint_topic)];
        own.extend(self.dlq_topic.as_ref().map(|name| Arc::new(Topic::new(name, Role::Dlq))));
        let plan = Arc::new(Plan::new(self, acks.capacity())?);
        let (asks, asked) = channel();
        let (health, stores) = (Arc::new(Health::new()), Arc::new(Stores::default()));
        let producer = plan.start(plan.context(&acks, &stores, &health, &asks), plan.batch_bytes)?;
        let current = Arc::new(Current::new(Arc::new(producer)));
        let lookup = Lookup::new(Arc::clone(&current), Arc::clone(&health), creation);
        spawn("relay-kafka-admin", move || lookup.serve(&asked))?;
        let transactions = transactional
            .map(|config| Transactions::start(config, Arc::clone(&current), Arc::clone(&checkpoint_topic)))
            .transpose()?;
        let checkpoint = CheckpointTopic::new(Arc::clone(&current), checkpoint_topic, stores, asks.clone());
        let surrender = transactions.as_ref().map(Transactions::surrender);
        let sink = KafkaSink::new(plan, current, Arc::clone(&health), asks, &own, gate, surrender);
        Ok(Kafka { sink, checkpoint, transactions, reader, health })
    }

    pub(crate) fn own_topics(&self) -> Vec<&str> {
        std::iter::once(self.checkpoint_topic.as_str()).chain(self.dlq_topic.as_deref()).collect()
    }

    pub(crate) fn creation(&self) -> Creation {
        Creation {
            is_allowed: self.create_topics == "if-missing",
            partitions: self.partitions,
            replication_factor: self.replication_factor,
        }
    }

    /// What every client of this pipeline needs: brokers, name, security and the properties about them.
    pub(crate) fn base(&self) -> Result<ClientConfig, Error> {
        let mut client = ClientConfig::new();
        let name = if self.client_name.is_empty() { format!("relay-{}", self.name) } else { self.client_name.clone() };
        client
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", name)
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true");
        for (property, value) in self.properties.iter().filter(|(property, _)| properties::is_shared(property)) {
            client.set(property, value);
        }
        self.security.apply(&mut client)?;
        // Without a debug property this decides nothing; with one, the lines must come through.
        client.set_log_level(if self.properties.contains_key("debug") { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
        Ok(client)
    }

    /// The producer's configuration (kafka.md, section 3).
    pub(crate) fn producer(&self, batch_bytes: usize, message_max_bytes: usize, linger_ms: f64) -> Result<ClientConfig, Error> {
        let queue_kbytes =
            (self.in_flight_bytes.saturating_mul(5) / 4).max(message_max_bytes as u64).div_ceil(1024).min(i32::MAX as u64);
        let mut client = self.base()?;
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("partitioner", &self.partitioner)
            .set("linger.ms", linger_ms.to_string())
            .set("batch.num.messages", "20000")
            .set("compression.type", "lz4")
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", queue_kbytes.to_string())
            .set("message.max.bytes", message_max_bytes.to_string())
            .set("topic.metadata.propagation.max.ms", "30000")
            .set("statistics.interval.ms", "5000");
        if self.is_exactly_once {
            // message.timeout.ms is left unset, and becomes transaction.timeout.ms.
            client
                .remove("message.timeout.ms")
                .set("transactional.id", format!("relay.{}", self.name))
                .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string())
                .set("socket.timeout.ms", SOCKET_TIMEOUT_MS.to_string());
        }
        for (property, value) in &self.properties {
            client.set(property, value);
        }
        if self.is_exactly_once {
            // The only way to hear of every loss of the coordinator's connection. A few lines a connection, for which the log has a level.
            let debug = self.properties.get("debug").map_or("broker".to_owned(), |debug| format!("{debug},broker"));
            client.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
        }
        client.set("batch.size", batch_bytes.to_string());
        Ok(client)
    }

    /// What a transaction may take.
    pub(crate) fn bounds(&self) -> Result<Bounds, Error> {
        let time = |name: &str, default: u64| -> Result<Duration, Error> {
            Ok(Duration::from_secs_f64(self.number(&[name])?.unwrap_or(default as f64).clamp(1.0, 1e9) / 1000.0))
        };
        let bounds = Bounds {
            transaction: time("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)?,
            socket: time("socket.timeout.ms", SOCKET_TIMEOUT_MS)?,
        };
        if bounds.socket >= bounds.transaction {
            let text = "it must be below transaction.timeout.ms: a request that is given up later may outlive its transaction";
            return Err(Error::Config { key: "sink.kafka.properties.\"socket.timeout.ms\"".to_owned(), text: text.to_owned() });
        }
        Ok(bounds)
    }

    /// A property under any of its names, as a number.
    fn number(&self, names: &[&str]) -> Result<Option<f64>, Error> {
        for &name in names {
            if let Some(value) = self.properties.get(name) {
                let fault =
                    || Error::Config { key: format!("sink.kafka.properties.\"{name}\""), text: "it must be a number".to_owned() };
                return value.parse().map(Some).map_err(|_| fault());
            }
        }
        Ok(None)
    }
}

/// After so long the broker aborts a transaction.
pub const TRANSACTION_TIMEOUT_MS: u64 = 60_000;
/// After so long a request is given up; well below the transaction's time, so that a stalled connection does not use it up.
pub const SOCKET_TIMEOUT_MS: u64 = 10_000;
/// Bounds of `linger.ms` where no property gives it: a millisecond for each MiB and each thousand events of the window, so that one that
/// is full of lingering records still turns round at 1 GB and a million events a second.
///
/// Long enough for large batches while behind, and no longer: of a drain 64 ms instead of 20 spared the broker another fifth and cost
/// relay as much, because records that wait leave the processor's caches. While caught up it does not count (see [`crate::flush`]), nor at
/// a commit, which flushes. Longer, too, than a record waits in a full [`crate::room`] for the batch before it: librdkafka (2.12.1) has one
/// batch of a partition under way at a time, and spins until that is acknowledged once another record of the partition has outlived its
/// linger.
const LINGER_MS: RangeInclusive<f64> = 10.0..=20.0;

// === impl Plan ===

impl Plan {
    pub(crate) fn new(config: Config, window_events: usize) -> Result<Self, Error> {
        let message_max_bytes = config.number(&["message.max.bytes"])?.unwrap_or(1_000_000.0) as usize;
        let batch_bytes = config.number(&["batch.size"])?.unwrap_or(1_000_000.0) as usize;
        let window = (config.in_flight_bytes as f64 / 1_048_576.0).min(window_events as f64 / 1_000.0);
        let own_linger_ms = config.number(&["linger.ms", "queue.buffering.max.ms"])?;
        let linger_ms = own_linger_ms.unwrap_or(window.round().clamp(*LINGER_MS.start(), *LINGER_MS.end()));
        let bounds = config.is_exactly_once.then(|| config.bounds()).transpose()?;
        if config.allow_unsafe {
            tracing::warn!(event = "sink.unsafe", "sink.kafka.unsafe is on: the properties may break what relay promises");
        }
        for name in ["ssl.endpoint.identification.algorithm", "enable.ssl.certificate.verification"] {
            if let Some(value) = config.properties.get(name).filter(|value| matches!(value.as_str(), "none" | "false")) {
                tracing::warn!(
                    event = "sink.unverified",
                    property = name,
                    value,
                    "the brokers' certificates are not checked as they should be"
                );
            }
        }
        Ok(Self {
            configured_topics: config.configured_topics.clone(),
            config,
            message_max_bytes,
            batch_bytes,
            linger_ms,
            bounds,
        })
    }

    pub(crate) fn context(&self, acks: &Arc<Acks>, stores: &Arc<Stores>, health: &Arc<Health>, asks: &Sender<Ask>) -> Context {
        Context {
            acks: Arc::clone(acks),
            stores: Arc::clone(stores),
            health: Arc::clone(health),
            asks: asks.clone(),
            security: self.config.security.clone(),
            reported: AtomicUsize::new(0),
            reported_bytes: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            is_replaced: AtomicBool::new(false),
            client: OnceLock::new(),
            fatal: OnceLock::new(),
            doubted: Mutex::default(),
            life: self.bounds.map(Life::new),
        }
    }

    /// Starts a producer; secrets are read anew.
    pub(crate) fn start(&self, context: Context, batch_bytes: usize) -> Result<Producer, Error> {
        let linger = Duration::from_secs_f64(self.linger_ms.clamp(0.0, 900_000.0) / 1000.0);
        Producer::start(&self.config.producer(batch_bytes, self.message_max_bytes, self.linger_ms)?, context, linger)
    }
}

// === impl Finding ===

impl Finding {
    pub(crate) fn new(key: String, text: String, hint: impl Into<String>) -> Self {
        Self { key, text, hint: hint.into() }
    }
}

// === impl Kafka ===

impl Kafka {
    /// What librdkafka said about itself last.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.health.statistics()
    }
}
