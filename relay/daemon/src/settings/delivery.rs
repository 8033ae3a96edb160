//! Turns `[delivery]` and `[snapshot]` into what is promised about each event.

use std::time::Duration;

use super::schema::{choice, flag, list, number, table, text};
use super::units::Size;

choice! {
    /// How often an event can appear in Kafka.
    enum Guarantee {
        /// Once, or again after a crash.
        AtLeastOnce = "at-least-once",
        /// Once for readers of committed records.
        ExactlyOnce = "exactly-once",
    }
}

choice! {
    /// What an event that cannot be published leads to.
    enum OnPoison {
        /// The stream stops.
        Stop = "stop",
        /// The event is parked in the dlq topic.
        Dlq = "dlq",
        /// The event is parked, and the key's later events after it.
        DlqHoldKey = "dlq-hold-key",
        /// The event is counted and left out.
        Skip = "skip",
    }
}

choice! {
    /// Whether rows that exist already are read.
    enum SnapshotMode {
        /// On the first start.
        Initial = "initial",
        /// Never.
        Never = "never",
        /// On every start.
        Always = "always",
        /// Only them; then the process ends.
        Only = "only",
    }
}

table! {
    /// What is promised about each event.
    struct Delivery {
        /// `at-least-once` or `exactly-once`.
        guarantee: Guarantee = text("at-least-once"),
        /// exactly-once: the longest a Kafka transaction stays open.
        commit_interval: Duration = text("100ms"),
        /// One per pipeline, compacted, 1 partition; created if missing. `{name}` stands for the pipeline.
        checkpoint_topic: String = text("{name}.checkpoint"),
        /// What an event that cannot be published leads to. `dlq-hold-key` holds the key's later events too.
        on_poison: OnPoison = text("stop"),
        /// Compacted; created if missing. `{name}` stands for the pipeline.
        dlq_topic: String = text("{name}.dlq"),
        /// Bytes accepted by the sink and not yet acknowledged; exactly-once: with the frames kept.
        in_flight: Size = text("64MiB"),
        /// Second bound of the in-flight window.
        in_flight_events: u32 = number(100_000),
        /// Longest wait between two checkpoint records while events flow.
        checkpoint_interval: Duration = text("1s"),
        /// Shortest wait between two checkpoint records for idle progress.
        idle_checkpoint_interval: Duration = text("10s"),
        /// Limit of the dlq; when full, poison behaves as `stop`.
        dlq_max_entries: u64 = number(100_000),
        /// Limit of the keys that the dlq holds; when full, poison behaves as `stop`.
        dlq_max_held_keys: u64 = number(10_000),
        /// Also write Kafka Connect's `__connect.errors.*` headers.
        dlq_connect_headers: bool = flag(false),
    }
}

table! {
    /// Rows that exist before the slot; captures only, never outbox tables.
    struct Snapshot {
        /// When they are read.
        mode: SnapshotMode = text("initial"),
        /// Subset; `[]` = all captured.
        tables: Vec<String> = list(&[]),
        /// Chunks read at a time.
        threads: u32 = number(1),
        /// Rows a chunk; progress is checkpointed per chunk and resumes after a crash.
        chunk: u64 = number(10_000),
    }
}
