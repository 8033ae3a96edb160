//! Turns `relay.toml`, the environment and `--set` into typed [`Settings`], or into a list of findings.
//!
//! A setting goes one way: file, [`Settings`], the component's own `Config`, a field of the struct that uses it.

#![allow(dead_code, unused_imports, reason = "a key that this version only refuses has no reader yet")]

mod admin;
mod capture;
mod capture_rules;
mod delivery;
mod dsn;
mod effective;
mod environment;
mod field;
mod finding;
mod format;
mod load;
mod markdown;
mod not_yet;
mod outbox;
mod outbox_rules;
mod paths;
mod properties;
#[cfg(test)]
mod reference;
mod rules;
mod schema;
mod secret;
mod sink;
mod sink_rules;
mod source;
mod source_log;
mod source_text;
mod strict;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;
mod units;

pub(crate) use admin::{Admin, Drain, Log, LogFormat, Shutdown};
pub(crate) use capture::{Capture, CaptureColumns, CaptureFlat, CaptureFormat, FlatDelete, KeyChange};
pub(crate) use delivery::{Delivery, Guarantee, OnPoison, Snapshot, SnapshotMode};
pub(crate) use dsn::Dsn;
pub(crate) use effective::{effective_toml, origins, quoted};
pub(crate) use field::{Commas, Entries};
pub(crate) use finding::{Finding, FindingRow, Place, Report, Severity};
pub(crate) use format::{
    BinaryMode, CloudeventsMode, Compat, DecimalMode, Format, HstoreMode, IntervalMode, InvalidUtf8, RecordTimestamp, TimeMode,
};
pub(crate) use load::{Inputs, Inspection, Loaded, inspect, inspect_markdown, load, read_file};
pub(crate) use outbox::{MissingColumns, OnScheduled, OnUpdate, Outbox, OutboxFormat};
pub(crate) use paths::expand;
pub(crate) use secret::Secret;
pub(crate) use sink::{Kafka, Mechanism, Partitioner, Security, SecurityProtocol, Sink, SinkKind};
pub(crate) use sink_rules::is_legal_topic;
pub(crate) use source::{Source, SourceMode, SourcePoll};
pub(crate) use source_log::{Create, OnMissingSlot, OnUnrouted, OriginFilter, ProtoVersion, ReadCoalesce, SourceLog, Streaming};
pub(crate) use source_text::printable;
pub(crate) use units::{Size, parse_duration};

use schema::{Initial::Nested, Initial::Required, table};

table! {
    /// One pipeline: one source database, one slot, one sink.
    struct Settings {
        /// Pipeline name: slot, checkpoint topic and key, transactional.id `relay.<name>`, default topic prefix, dlq topic;
        /// `[a-z0-9_]{1,50}`: a slot name allows nothing else.
        name: String = Required,
        /// The PostgreSQL database that events come from.
        source: Source = Nested,
        /// Outbox tables.
        outbox: Vec<Outbox> = Nested,
        /// Captures of row changes.
        capture: Vec<Capture> = Nested,
        /// How values, headers and times are written.
        format: Format = Nested,
        /// Rows that exist before the slot.
        snapshot: Snapshot = Nested,
        /// What is promised about each event.
        delivery: Delivery = Nested,
        /// Where events go.
        sink: Sink = Nested,
        /// The admin listener.
        admin: Admin = Nested,
        /// relay's own log.
        log: Log = Nested,
        /// The end of the process.
        shutdown: Shutdown = Nested,
    }
}
