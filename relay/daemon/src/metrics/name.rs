//! The metrics contract as data: each metric's name, type, unit, labels and meaning.

use metrics::Unit;

/// One metric of the contract.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Definition {
    /// Its name, as rendered.
    pub(crate) name: &'static str,
    /// Its type.
    pub(crate) shape: Shape,
    /// What it counts or measures in.
    pub(crate) unit: Unit,
    /// Its labels, apart from `pipeline`, which every sample of relay's own has.
    pub(crate) labels: &'static [&'static str],
    /// What it means, one line.
    pub(crate) meaning: &'static str,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by upper bound.
    Histogram(&'static [f64]),
}

/// Upper bounds of latencies, in seconds.
pub(crate) const LATENCY_SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

macro_rules! contract {
    ($($constant:ident $name:literal $shape:expr, $unit:ident [$($label:literal)*] $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub(crate) const $constant: Definition = Definition {
                name: $name, shape: $shape, unit: Unit::$unit, labels: &[$($label),*], meaning: $meaning,
            };
        )*

        /// The whole contract, in the order of its documentation.
        pub(crate) const CONTRACT: &[&Definition] = &[$(&$constant),*];
    };
}

use Shape::{Counter, Gauge, Histogram};

contract! {
    BUILD_INFO "relay_build_info" Gauge, Count ["version" "commit" "librdkafka"] "1; what is running";
    PIPELINE_INFO "relay_pipeline_info" Gauge, Count ["mode" "guarantee" "slot" "publication" "sink"] "1; what it is set up to do";
    PROCESS_START_TIME "process_start_time_seconds" Gauge, Seconds [] "Unix time at which the process started";
    PROCESS_RESIDENT_MEMORY "process_resident_memory_bytes" Gauge, Bytes [] "resident memory";
    PROCESS_CPU "process_cpu_seconds_total" Counter, Seconds [] "CPU time used, user and system";
    PROCESS_OPEN_FDS "process_open_fds" Gauge, Count [] "open file descriptors";
    STATE "relay_state" Gauge, Count ["state"] "1 for the state the pipeline is in, 0 for the others: connecting, snapshot, streaming, standby, paused, draining, failed";
    LEADER "relay_leader" Gauge, Count [] "1 on the instance that holds the slot";
    SOURCE_CONNECTED "relay_source_connected" Gauge, Count [] "1 while PostgreSQL answers";
    SINK_CONNECTED "relay_sink_connected" Gauge, Count [] "1 while Kafka answers";
    SLOT_ACTIVE "relay_slot_active" Gauge, Count [] "1 while anybody holds the slot; 0 also when it does not exist";
    SLOT_WAL_STATUS "relay_slot_wal_status" Gauge, Count ["status"] "1 for the slot's wal_status, 0 for the others: reserved, extended, unreserved, lost";
    SLOT_RETAINED_WAL "relay_slot_retained_wal_bytes" Gauge, Bytes [] "WAL that the slot keeps on the server: current WAL - restart_lsn";
    SLOT_SAFE_WAL "relay_slot_safe_wal_bytes" Gauge, Bytes [] "WAL that may still be written before the slot is in danger of being lost; absent when the server sets no limit";
    SLOT_WAL_BUDGET "relay_slot_wal_budget_bytes" Gauge, Bytes [] "source.log.wal_budget; absent when there is none";
    SLOT_CATALOG_XMIN_AGE "relay_slot_catalog_xmin_age" Gauge, Count [] "transactions since the slot's catalog_xmin: what vacuum cannot clean in the catalogs";
    SLOT_INACTIVE_SINCE "relay_slot_inactive_since_timestamp_seconds" Gauge, Seconds [] "Unix time since which nobody holds the slot (PostgreSQL 17 and newer); 0 while active";
    SOURCE_LAG_BYTES "relay_source_lag_bytes" Gauge, Bytes ["stage"] "WAL between the server's end and the stage: received, queued, produced, confirmed";
    SOURCE_LAG_SECONDS "relay_source_lag_seconds" Gauge, Seconds [] "age of the oldest commit that is not yet confirmed, on the server's clock; 0 when caught up, so idle is not lag";
    SOURCE_OLDEST_TRANSACTION "relay_source_oldest_transaction_seconds" Gauge, Seconds [] "age of the oldest open writing transaction, prepared ones included: it keeps WAL back, and in poll mode its own rows; whose it is, /status tells";
    LAST_EVENT "relay_last_event_timestamp_seconds" Gauge, Seconds [] "Unix time at which an event was last read; 0 before the first";
    LAST_COMMIT "relay_last_commit_timestamp_seconds" Gauge, Seconds [] "commit time of the last transaction that is in Kafka as a whole; 0 before the first";
    LAST_CHECKPOINT "relay_last_checkpoint_timestamp_seconds" Gauge, Seconds [] "Unix time at which a checkpoint was last stored; 0 before the first";
    CONFIRMED_LSN "relay_confirmed_lsn" Gauge, Bytes [] "position confirmed to PostgreSQL, as a number";
    CHECKPOINT_LSN "relay_checkpoint_lsn" Gauge, Bytes [] "position stored in the checkpoint, as a number";
    EVENTS_RECEIVED "relay_events_received_total" Counter, Count ["table" "op"] "changes decoded; op is insert, update, delete, truncate or message (table is then _message)";
    EVENTS_FILTERED "relay_events_filtered_total" Counter, Count ["reason"] "changes left out by configuration";
    EVENTS_PRODUCED "relay_events_produced_total" Counter, Count ["topic"] "events acknowledged by the broker";
    EVENTS_DISCARDED "relay_events_discarded_total" Counter, Count ["reason"] "events never sent, because delivery.on_poison is \"skip\"";
    TRANSACTIONS "relay_transactions_total" Counter, Count [] "source transactions completed";
    RECEIVED_BYTES "relay_received_bytes_total" Counter, Bytes [] "bytes read from PostgreSQL";
    PRODUCED_BYTES "relay_produced_bytes_total" Counter, Bytes [] "bytes of records acknowledged by the broker";
    END_TO_END_LATENCY "relay_end_to_end_latency_seconds" Histogram(LATENCY_SECONDS), Seconds [] "from commit to the last acknowledgement, one observation a source transaction";
    ERRORS "relay_errors_total" Counter, Count ["stage" "class"] "errors, by where they were met and what they demand";
    RETRIES "relay_retries_total" Counter, Count ["stage"] "attempts after a failed one";
    RECONNECTS "relay_reconnects_total" Counter, Count ["peer"] "connections opened again: source (replication), control (queries), sink (Kafka client replaced)";
    REWINDS "relay_rewinds_total" Counter, Count ["reason"] "returns to the frontier: rejected, unknown_topic, producer, source (receive time-out, lost slot)";
    SCHEMA_CHANGES "relay_schema_changes_total" Counter, Count ["table"] "relations that changed since they were last seen";
    SOURCE_NOTICES "relay_source_notices_total" Counter, Count ["severity"] "notices and warnings of the server inside the stream";
    PRODUCE_INFLIGHT "relay_produce_inflight" Gauge, Count [] "events handed to the sink and not yet acknowledged";
    QUEUE_EVENTS "relay_queue_events" Gauge, Count [] "events that fill the buffer";
    QUEUE_BYTES "relay_queue_bytes" Gauge, Bytes [] "bytes that fill the buffer";
    MEMORY_LIMIT "relay_memory_limit_bytes" Gauge, Bytes [] "budget of the buffer";
    BACKPRESSURE "relay_backpressure_seconds_total" Counter, Seconds [] "time during which nothing was read because the sink was full";
    KAFKA_TRANSACTIONS "relay_kafka_transactions_total" Counter, Count ["outcome"] "exactly-once: Kafka transactions, by outcome: committed, aborted, unknown (a new client finds out), fenced";
    COMMIT_SECONDS "relay_commit_seconds" Histogram(LATENCY_SECONDS), Seconds [] "exactly-once: from the order to commit to its answer";
    KAFKA_FENCES "relay_kafka_fences_total" Counter, Count [] "exactly-once: clients that took this pipeline's place at the brokers: at each start, and after an outcome that is not known";
    TRANSACTION_SPLITS "relay_transaction_splits_total" Counter, Count [] "exactly-once: source transactions that were committed in parts, because they do not fit one Kafka transaction";
    CHECKPOINT_WRITES "relay_checkpoint_writes_total" Counter, Count [] "checkpoints stored";
    OUTBOX_SIZE "relay_outbox_size_bytes" Gauge, Bytes ["table"] "outbox table with partitions and indexes";
    OUTBOX_DEAD_ROWS "relay_outbox_dead_rows" Gauge, Count ["table"] "dead tuples of the outbox table, by the server's statistics";
    OUTBOX_PENDING_ROWS "relay_outbox_pending_rows" Gauge, Count ["table"] "poll mode: rows not yet published; absent when they take over 2 s to count";
    OUTBOX_OLDEST_PENDING "relay_outbox_oldest_pending_seconds" Gauge, Seconds ["table"] "poll mode: age of the oldest row not yet published; absent without a timestamp column";
    CLEANUP_ROWS "relay_cleanup_rows_total" Counter, Count ["table"] "rows deleted or marked after publishing";
    SNAPSHOT_ROWS "relay_snapshot_rows_total" Counter, Count ["table"] "rows of snapshots given to the sink; a partition counts for itself";
    SNAPSHOT_TABLES "relay_snapshot_tables_remaining" Gauge, Count [] "tables that the snapshot in work has not done; 0 when none is";
    SNAPSHOT_REREADS "relay_snapshot_rereads_total" Counter, Count [] "chunks read again because the read did not see a commit that was streamed already";
    DLQ_EVENTS "relay_dlq_events_total" Counter, Count ["reason"] "events stored in the dlq";
    CERTIFICATE_EXPIRY "relay_tls_certificate_expiry_timestamp_seconds" Gauge, Seconds ["peer"] "Unix time at which the first certificate of the chain ends: source (the server's chain), sink (certificate files); absent without TLS";
}

// === impl Shape ===

impl Shape {
    /// The word of the exposition format.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}
