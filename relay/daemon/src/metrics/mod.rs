//! The metrics of a pipeline: handles made once, counted with per batch or transaction, rendered when somebody asks.

mod capped;
mod histogram;
mod label;
mod name;
mod process;
mod scrape;
mod setup;
mod sheet;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use relay_core::error::Kind;
use relay_core::session::Rewind;
use relay_core::sink::PoisonReason;

use capped::Capped;
use histogram::Histogram;
pub(crate) use label::state as state_name;
use name::{Definition, Shape};
pub(crate) use scrape::{LagBytes, lag_seconds};
pub(crate) use setup::{Build, Setup};

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// All handles. Made once, shared as `Arc<Metrics>`.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    pipeline: String,
    build: Build,
    setup: Setup,
    tables: Capped<TableMetrics>,
    topics: Capped<Counter>,
    messages: Counter,
    filtered: Family<&'static str>,
    discarded: Family<&'static str>,
    dlq: Family<&'static str>,
    reconnects: Family<&'static str>,
    errors: Family<(&'static str, &'static str)>,
    retries: Family<&'static str>,
    rewinds: Family<&'static str>,
    notices: Family<&'static str>,
    transactions: Counter,
    received_bytes: Counter,
    produced_bytes: Counter,
    kafka_transactions: Family<&'static str>,
    commit_seconds: Histogram,
    fences: Counter,
    splits: Counter,
    checkpoint_writes: Counter,
    end_to_end: Histogram,
    backpressure_us: AtomicU64,
    last_event: Stamp,
    last_commit: Stamp,
    last_checkpoint: Stamp,
    /// One a peer.
    certificate_expiry: [Stamp; 2],
}

/// Counters by label values that are all known in advance.
type Family<L> = BTreeMap<L, Counter>;

/// A Unix time in seconds, fraction and all; 0 = never.
#[derive(Debug, Default)]
struct Stamp(AtomicU64);

/// The counters of one table, to be kept beside its plan.
#[derive(Clone, Debug)]
pub(crate) struct TableMetrics {
    insert: Counter,
    update: Counter,
    delete: Counter,
    truncate: Counter,
    schema_changes: Counter,
    cleaned: Counter,
    snapshot_rows: Counter,
}

// === impl Metrics ===

impl Metrics {
    /// Makes every handle; label values known in advance exist at 0 from here on. Tables and topics of the configuration should be
    /// asked for once at the start, so that theirs do too.
    pub(crate) fn with(pipeline: &str, label_limit: usize, build: Build, setup: Setup) -> Self {
        let recorder = PrometheusBuilder::new().add_global_label("pipeline", pipeline).build_recorder();
        for definition in name::CONTRACT {
            describe(&recorder, definition);
        }
        let one = |definition: &Definition| counter(&recorder, definition, &[]);
        let family = |definition: &Definition, values: &mut dyn Iterator<Item = &'static str>| -> Family<&'static str> {
            values.map(|value| (value, counter(&recorder, definition, &[value]))).collect()
        };
        let poison = || PoisonReason::ALL.iter().map(|reason| reason.name());
        Self {
            tables: Capped::new(label_limit),
            topics: Capped::new(label_limit),
            messages: counter(&recorder, &name::EVENTS_RECEIVED, &[label::MESSAGES, "message"]),
            filtered: family(&name::EVENTS_FILTERED, &mut label::FILTERED.into_iter()),
            discarded: family(&name::EVENTS_DISCARDED, &mut poison()),
            dlq: family(&name::DLQ_EVENTS, &mut poison()),
            reconnects: family(&name::RECONNECTS, &mut label::LINKS.into_iter()),
            errors: label::errors()
                .into_iter()
                .map(|pair| (pair, counter(&recorder, &name::ERRORS, &[pair.0, pair.1])))
                .collect(),
            retries: family(&name::RETRIES, &mut label::stages().into_iter()),
            rewinds: family(&name::REWINDS, &mut label::REWINDS.into_iter().map(label::rewind)),
            notices: family(&name::SOURCE_NOTICES, &mut label::SEVERITIES.into_iter()),
            transactions: one(&name::TRANSACTIONS),
            received_bytes: one(&name::RECEIVED_BYTES),
            produced_bytes: one(&name::PRODUCED_BYTES),
            kafka_transactions: family(&name::KAFKA_TRANSACTIONS, &mut label::OUTCOMES.into_iter()),
            commit_seconds: Histogram::new(name::LATENCY_SECONDS),
            fences: one(&name::KAFKA_FENCES),
            splits: one(&name::TRANSACTION_SPLITS),
            checkpoint_writes: one(&name::CHECKPOINT_WRITES),
            end_to_end: Histogram::new(name::LATENCY_SECONDS),
            backpressure_us: AtomicU64::new(0),
            last_event: Stamp::default(),
            last_commit: Stamp::default(),
            last_checkpoint: Stamp::default(),
            certificate_expiry: Default::default(),
            pipeline: pipeline.to_owned(),
            build,
            setup,
            recorder,
        }
    }

    /// The counters of a table (`schema.table`); past `admin.label_limit`, those of `_other`. Ask once a relation and keep them.
    pub(crate) fn table(&self, table: &str) -> TableMetrics {
        self.tables.get(table, |table| {
            let received = |op| counter(&self.recorder, &name::EVENTS_RECEIVED, &[table, op]);
            TableMetrics {
                insert: received("insert"),
                update: received("update"),
                delete: received("delete"),
                truncate: received("truncate"),
                schema_changes: counter(&self.recorder, &name::SCHEMA_CHANGES, &[table]),
                cleaned: counter(&self.recorder, &name::CLEANUP_ROWS, &[table]),
                snapshot_rows: counter(&self.recorder, &name::SNAPSHOT_ROWS, &[table]),
            }
        })
    }

    /// Events acknowledged for a topic; past `admin.label_limit`, for `_other`. Ask once a topic and keep it.
    pub(crate) fn topic(&self, topic: &str) -> Counter {
        self.topics.get(topic, |topic| counter(&self.recorder, &name::EVENTS_PRODUCED, &[topic]))
    }

    /// A logical message was decoded.
    pub(crate) fn message_received(&self) {
        self.messages.increment(1);
    }

    /// Rows of a table's snapshot were given to the sink.
    pub(crate) fn snapshot_rows(&self, table: &str, rows: u64) {
        add(&self.table(table).snapshot_rows, rows);
    }

    /// The relation of that table changed since it was last seen.
    pub(crate) fn schema_change(&self, table: &str) {
        self.table(table).schema_changes.increment(1);
    }

    /// Rows of that table were deleted or marked after publishing.
    pub(crate) fn cleaned(&self, table: &str, rows: u64) {
        add(&self.table(table).cleaned, rows);
    }

    /// A change was left out by configuration.
    pub(crate) fn filtered(&self, reason: &'static str) {
        count(&self.filtered, &reason);
    }

    /// An event was never sent, by the policy `skip`.
    pub(crate) fn discarded(&self, reason: PoisonReason) {
        count(&self.discarded, &reason.name());
    }

    /// An event was stored in the dlq.
    pub(crate) fn dlq(&self, reason: PoisonReason) {
        count(&self.dlq, &reason.name());
    }

    /// An error was met, with stage and class of its row in the policy.
    pub(crate) fn error(&self, stage: &'static str, class: &'static str) {
        count(&self.errors, &(stage, class));
    }

    /// An event was found to be poison; counted as an error whatever the policy then does.
    pub(crate) fn poison(&self, reason: PoisonReason) {
        self.error(reason.stage(), Kind::Poison.directive().class);
    }

    /// Something is tried again after an error at that stage.
    pub(crate) fn retry(&self, stage: &'static str) {
        count(&self.retries, &stage);
    }

    /// A connection was opened again: `source` (replication), `control` (queries) or `sink` (the Kafka client).
    pub(crate) fn reconnect(&self, link: &'static str) {
        count(&self.reconnects, &link);
    }

    /// The session went back to its frontier.
    pub(crate) fn rewind(&self, reason: Rewind) {
        count(&self.rewinds, &label::rewind(reason));
    }

    /// The server said something inside the stream; `severity` is its untranslated word (`NOTICE`).
    pub(crate) fn notice(&self, severity: &str) {
        // DEBUG1 to DEBUG5 are one.
        let word = severity.trim_end_matches(|c: char| c.is_ascii_digit());
        if let Some(counter) =
            self.notices.iter().find_map(|(known, counter)| word.eq_ignore_ascii_case(known).then_some(counter))
        {
            counter.increment(1);
        }
    }

    /// Source transactions are in Kafka as a whole.
    pub(crate) fn transactions(&self, transactions: u64) {
        self.transactions.increment(transactions);
    }

    /// Bytes came from PostgreSQL.
    pub(crate) fn received_bytes(&self, bytes: u64) {
        self.received_bytes.increment(bytes);
    }

    /// Bytes of records were acknowledged by the broker.
    pub(crate) fn produced_bytes(&self, bytes: u64) {
        self.produced_bytes.increment(bytes);
    }

    /// A source transaction took so long from its commit to its last acknowledgement.
    pub(crate) fn end_to_end(&self, seconds: f64) {
        self.end_to_end.observe(seconds);
    }

    /// Nothing was read for so long because the sink was full.
    pub(crate) fn backpressure(&self, seconds: f64) {
        self.backpressure_us.fetch_add((seconds * 1e6) as u64, Ordering::Relaxed);
    }

    /// Events were last read at that Unix time.
    pub(crate) fn last_event(&self, unix_seconds: f64) {
        self.last_event.set(unix_seconds);
    }

    /// The last transaction that is in Kafka as a whole was committed at that Unix time.
    pub(crate) fn last_commit(&self, unix_seconds: f64) {
        self.last_commit.set(unix_seconds);
    }

    /// Exactly-once: a Kafka transaction ended so, after so long.
    pub(crate) fn transaction(&self, outcome: &'static str, seconds: f64) {
        count(&self.kafka_transactions, &outcome);
        if outcome == label::COMMITTED {
            self.commit_seconds.observe(seconds);
        }
    }

    /// Exactly-once: a client took this pipeline's place at the brokers.
    pub(crate) fn fenced(&self) {
        self.fences.increment(1);
    }

    /// Exactly-once: a source transaction is committed in parts.
    pub(crate) fn split(&self) {
        self.splits.increment(1);
    }

    /// A checkpoint was stored at that Unix time.
    pub(crate) fn checkpoint_written(&self, unix_seconds: f64) {
        self.checkpoint_writes.increment(1);
        self.last_checkpoint.set(unix_seconds);
    }

    /// The first certificate of the chain of `source` or `sink` ends at that Unix time.
    pub(crate) fn certificate_expiry(&self, peer: &str, unix_seconds: f64) {
        if let Some(at) = label::PEERS.iter().position(|known| *known == peer) {
            self.certificate_expiry[at].set(unix_seconds);
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("pipeline", &self.pipeline).field("setup", &self.setup).finish_non_exhaustive()
    }
}

// === impl Stamp ===

impl Stamp {
    fn set(&self, unix_seconds: f64) {
        self.0.store(unix_seconds.to_bits(), Ordering::Relaxed);
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

// === impl TableMetrics ===

impl TableMetrics {
    /// Rows inserted.
    pub(crate) fn insert(&self, rows: u64) {
        add(&self.insert, rows);
    }

    /// Rows updated.
    pub(crate) fn update(&self, rows: u64) {
        add(&self.update, rows);
    }

    /// Rows deleted.
    pub(crate) fn delete(&self, rows: u64) {
        add(&self.delete, rows);
    }

    /// Truncations.
    pub(crate) fn truncate(&self, times: u64) {
        add(&self.truncate, times);
    }
}

fn add(counter: &Counter, by: u64) {
    if by > 0 {
        counter.increment(by);
    }
}

/// A label value that the contract does not know is a defect, but none that is worth ending the process for.
fn count<L: Ord + std::fmt::Debug>(family: &Family<L>, label: &L) {
    debug_assert!(family.contains_key(label), "{label:?} is not in the contract");
    if let Some(counter) = family.get(label) {
        counter.increment(1);
    }
}

fn describe(recorder: &PrometheusRecorder, definition: &'static Definition) {
    let name = KeyName::from_const_str(definition.name);
    let (unit, meaning) = (Some(definition.unit), definition.meaning.into());
    match definition.shape {
        Shape::Counter => recorder.describe_counter(name, unit, meaning),
        Shape::Gauge => recorder.describe_gauge(name, unit, meaning),
        Shape::Histogram(_) => recorder.describe_histogram(name, unit, meaning),
    }
}

/// A counter at 0, with a value for each label of its definition.
fn counter(recorder: &PrometheusRecorder, definition: &Definition, values: &[&str]) -> Counter {
    debug_assert_eq!(definition.labels.len(), values.len(), "{}", definition.name);
    let labels: Vec<Label> =
        definition.labels.iter().zip(values).map(|(label, value)| Label::new(*label, (*value).to_owned())).collect();
    recorder.register_counter(&Key::from_parts(definition.name, labels), &METADATA)
}
