//! Turns each `[[outbox]]` into the fields that override its preset's; a field left out is `None` and stays the preset's.

use std::time::Duration;

use super::field::Entries;
use super::schema::{Initial::Empty, choice, derived, number, table, text, unset};

choice! {
    /// What the record's value looks like.
    enum OutboxFormat {
        /// The payload.
        Raw = "raw",
        /// A CloudEvent.
        Cloudevents = "cloudevents",
    }
}

choice! {
    /// What a listed column that the table lacks leads to.
    enum MissingColumns {
        /// The stream stops and names it.
        Error = "error",
        /// It is left out.
        Ignore = "ignore",
    }
}

choice! {
    /// What an update of an outbox row leads to.
    enum OnUpdate {
        /// It is counted.
        Ignore = "ignore",
        /// It is an event like an insert; needs REPLICA IDENTITY FULL.
        Publish = "publish",
        /// The stream stops.
        Stop = "stop",
    }
}

choice! {
    /// What a row that is due in the future leads to.
    enum OnScheduled {
        /// `delivery.on_poison` decides.
        Poison = "poison",
        /// It is published at once.
        Publish = "publish",
        /// It is left out.
        Skip = "skip",
    }
}

table! {
    /// An outbox table, or a prefix of logical messages. Every field that is left out is the preset's: see `relay preset show`.
    struct Outbox {
        /// The table, quoted exactly; globs allowed.
        table: Option<String> = unset("none; with `preset` and no `message` the preset's"),
        /// Prefix of `pg_logical_emit_message(true, …)`, exact or glob, in place of `table`.
        message: Option<String> = unset("none"),
        /// The named column map that the fields below override.
        preset: String = derived("`\"relay\"`; with `message` `\"wal-message\"`; with `[outbox.router]` `\"debezium\"`"),
        /// The record's value: the payload, or a CloudEvent.
        format: OutboxFormat = text("raw"),
        /// Plain predicate, joined to the preset's by `and`, that a row must meet to be an event: comparisons, `in`, `is null`,
        /// `now()`, joined by `and`.
        condition as "match": Option<String> = unset("preset's"),
        /// Column that names the event; becomes the header `id`.
        id: Option<String> = unset("preset's"),
        /// Template of the topic with `{column}`, `{table}` and `??`; with `topic_match` the replacement (`$1`, `${name}`).
        topic: Option<String> = unset("preset's"),
        /// Routing column; only read with `topic_match`.
        topic_from: Option<String> = unset("preset's"),
        /// Regex (no backtracking) over the text of `topic_from`.
        topic_match: Option<String> = unset("preset's"),
        /// Template, column or JSON pointer of the record key.
        key: Option<String> = unset("preset's"),
        /// Column or JSON pointer of the payload.
        value: Option<String> = unset("preset's"),
        /// `auto` (by column type: json, jsonb and text verbatim, bytea raw), `base64`, `json-string` or `wrap:…`.
        value_encoding: Option<String> = unset("preset's"),
        /// Columns, `column:name`, `{column}` = every entry of a json object column, functions.
        headers: Option<Vec<String>> = unset("preset's"),
        /// Column of the event type.
        event_type as "type": Option<String> = unset("preset's"),
        /// Column used as the record timestamp; `""` = commit time.
        timestamp: Option<String> = unset("preset's"),
        /// Integer column that names the partition; `""` = partitioner.
        partition: Option<String> = unset("preset's"),
        /// Column copied to the header `traceparent`; `""` = none.
        traceparent: Option<String> = unset("preset's"),
        /// Column copied to the header `tracestate`.
        tracestate: Option<String> = unset("preset's"),
        /// Column copied to the header `baggage`.
        baggage: Option<String> = unset("preset's"),
        /// Column with java.util.Properties text that holds the trace context.
        trace_properties: Option<String> = unset("preset's"),
        /// `column` or `column:alias` put beside the payload in an object.
        envelope: Option<Vec<String>> = unset("preset's"),
        /// Integer column = version of that envelope's schema.
        schema_version: Option<String> = unset("preset's"),
        /// A listed header or envelope column does not exist.
        missing_columns: Option<MissingColumns> = unset("preset's, else `\"error\"`"),
        /// An empty payload becomes a null value.
        tombstone_on_null: Option<bool> = unset("preset's, else `false`"),
        /// An update of a row: `ignore` counts it, `publish` needs REPLICA IDENTITY FULL.
        on_update: Option<OnUpdate> = unset("preset's, else `\"ignore\"`"),
        /// A row that fails `match` by a comparison with `now()` alone (due in the future).
        on_scheduled: Option<OnScheduled> = unset("preset's, else `\"poison\"`"),
        /// Poll mode: `tick(xid column, order column)` or `claim(order column)`; log mode is always commit order.
        order: Option<String> = unset("preset's"),
        /// Poll mode: `keep`, `delete` or `update:col=literal[,col=literal]`.
        after_publish: Option<String> = unset("preset's, else `\"keep\"`"),
        /// Published rows older than that are pruned while relay runs.
        retention: Option<Duration> = text("none"),
        /// Column of the CloudEvents attribute.
        dataschema: Option<String> = unset("preset's"),
        /// Preset `tomorrow-one` only, required there: value of its `x-source` header.
        source_name: Option<String> = unset("none"),
        /// Preset `eventuate-tram` only: number used in generated ids.
        outbox_id: u64 = number(0),
        /// Debezium's outbox router options under their own quoted names.
        router: Entries = Empty,
    }
}
