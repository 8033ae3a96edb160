//! Turns `[format]` into how values, headers and times are written.

use std::time::Duration;

use super::schema::{choice, derived, flag, number, table, text};

choice! {
    /// Whose contract holds where relay and Debezium differ.
    enum Compat {
        /// relay's.
        Relay = "relay",
        /// Debezium's.
        Debezium = "debezium",
    }
}

choice! {
    /// How numerics are written.
    enum DecimalMode {
        /// Exact.
        Precise = "precise",
        /// As text.
        String = "string",
        /// As a double.
        Double = "double",
    }
}

choice! {
    /// How times are written.
    enum TimeMode {
        /// By the column's precision.
        Adaptive = "adaptive",
        /// By precision, times of day in microseconds.
        AdaptiveMicroseconds = "adaptive-microseconds",
        /// Kafka Connect's types.
        Connect = "connect",
        /// ISO 8601 text.
        Isostring = "isostring",
        /// Microseconds.
        Microseconds = "microseconds",
        /// Nanoseconds.
        Nanoseconds = "nanoseconds",
    }
}

choice! {
    /// The record's timestamp.
    enum RecordTimestamp {
        /// The commit time.
        Commit = "commit",
        /// The time of encoding.
        Now = "now",
    }
}

choice! {
    /// How intervals are written.
    enum IntervalMode {
        /// As a number.
        Numeric = "numeric",
        /// As text.
        String = "string",
    }
}

choice! {
    /// How bytea is written.
    enum BinaryMode {
        /// Debezium's bytes.
        Bytes = "bytes",
        /// Base64.
        Base64 = "base64",
        /// Base64 for URLs.
        Base64UrlSafe = "base64-url-safe",
        /// Hexadecimal.
        Hex = "hex",
    }
}

choice! {
    /// How hstore is written.
    enum HstoreMode {
        /// As JSON text.
        Json = "json",
        /// As a map.
        Map = "map",
    }
}

choice! {
    /// What text that is not UTF-8 leads to.
    enum InvalidUtf8 {
        /// `delivery.on_poison` decides.
        Poison = "poison",
        /// The replacement character.
        Replace = "replace",
        /// Base64.
        Base64 = "base64",
    }
}

choice! {
    /// Where a CloudEvent's attributes go.
    enum CloudeventsMode {
        /// To headers.
        Binary = "binary",
        /// Into the value.
        Structured = "structured",
    }
}

table! {
    /// How values, headers and times are written.
    struct Format {
        /// `{prefix}` of topic templates.
        topic_prefix: String = derived("name"),
        /// `debezium` restores the documented deviations and emits no `relay-*` header.
        compat: Compat = text("relay"),
        /// Debezium format: wrap with `{"schema", "payload"}`.
        schemas: bool = flag(false),
        /// How numerics are written.
        decimal: DecimalMode = text("precise"),
        /// How times are written.
        time: TimeMode = text("adaptive"),
        /// A null value after each deletion.
        tombstones: bool = flag(true),
        /// BEGIN/END topic and the transaction block.
        transaction_metadata: bool = flag(false),
        /// Header `relay-pos`.
        position_header: bool = derived("`true`; `false` with `compat = \"debezium\"`"),
        /// Header `relay-src` = `name`, for topics that several pipelines write.
        source_header: bool = flag(false),
        /// Header `relay-unavailable` on every record with an unavailable value, not only where no placeholder fits.
        unavailable_header: bool = flag(false),
        /// `commit` or `now`; a `timestamp` column wins over both.
        record_timestamp: RecordTimestamp = text("commit"),
        /// How intervals are written.
        interval: IntervalMode = text("numeric"),
        /// How bytea is written.
        binary: BinaryMode = text("bytes"),
        /// How hstore is written.
        hstore: HstoreMode = text("json"),
        /// Decimals of `money`.
        money_scale: u32 = number(2),
        /// Text that is not UTF-8.
        invalid_utf8: InvalidUtf8 = text("poison"),
        /// Placeholder of an unchanged TOAST value; prefix `hex:` for raw bytes.
        unavailable_value: String = text("__debezium_unavailable_value"),
        /// `source.version` in the envelope; `""` = relay's version.
        source_version: String = text(""),
        /// Debezium's heartbeat records, for consumers that want them.
        heartbeat_interval: Option<Duration> = text("none"),
        /// `binary` or `structured`.
        cloudevents_mode: CloudeventsMode = text("binary"),
        /// URI; `""` = `/relay/` + name.
        cloudevents_source: String = text(""),
        /// Template for captures.
        cloudevents_type: String = text(""),
        /// Of outbox payloads that are not JSON.
        cloudevents_content_type: String = text("application/octet-stream"),
        /// Add the attribute `partitionkey`.
        cloudevents_partitionkey: bool = flag(false),
    }
}
