//! What a person writes about one outbox: the fields of an `[[outbox]]` table, each optional, and the format they share.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// One `[[outbox]]` table. What is `None` comes from the preset.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutboxSettings {
    /// Name of the preset that this table starts from.
    pub preset: Option<String>,
    /// Table, or a glob over `schema.table`.
    pub table: Option<String>,
    /// Prefix of logical messages, exact or glob, in place of `table`.
    pub message: Option<String>,
    /// `raw`, `cloudevents`.
    pub format: Option<String>,
    /// Condition that a row must meet to be an event; joined to the preset's by `and`.
    #[serde(rename = "match")]
    pub matches: Option<String>,
    /// Names the event: column, pointer or template.
    pub id: Option<String>,
    /// Topic template, or with `topic_match` its replacement.
    pub topic: Option<String>,
    /// Routing column, read only with `topic_match`.
    pub topic_from: Option<String>,
    /// Regex over the routing column.
    pub topic_match: Option<String>,
    /// Record key: column, pointer or template.
    pub key: Option<String>,
    /// Payload: column or pointer.
    pub value: Option<String>,
    /// `auto`, `base64`, `json-string`.
    pub value_encoding: Option<String>,
    /// Columns put beside the payload in an object.
    pub envelope: Option<Vec<String>>,
    /// Column with the version of that object's schema.
    pub schema_version: Option<String>,
    /// Header list, in order.
    pub headers: Option<Vec<String>>,
    /// `error`, `ignore`: a listed header or envelope column does not exist.
    pub missing_columns: Option<String>,
    /// Event type.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// Column with the record timestamp.
    pub timestamp: Option<String>,
    /// Integer column naming the partition.
    pub partition: Option<String>,
    /// Column copied to the header `traceparent`; `column?` = if the table has it.
    pub traceparent: Option<String>,
    /// Column copied to the header `tracestate`.
    pub tracestate: Option<String>,
    /// Column copied to the header `baggage`.
    pub baggage: Option<String>,
    /// Column with java.util.Properties text that holds the trace context.
    pub trace_properties: Option<String>,
    /// Whether an empty payload is a null record value.
    pub tombstone_on_null: Option<bool>,
    /// Column of the CloudEvents attribute.
    pub dataschema: Option<String>,
    /// `ignore`, `publish`, `stop`.
    pub on_update: Option<String>,
    /// `ignore`, `poison`: a message emitted outside a transaction.
    pub on_non_transactional: Option<String>,
    /// Row due in the future: `poison`, `publish`, `skip`.
    pub on_scheduled: Option<String>,
    /// Poll mode: what becomes of a published row.
    pub after_publish: Option<String>,
    /// Poll mode: order of rows.
    pub order: Option<String>,
    /// How long published rows are kept.
    #[serde(skip)]
    pub retention: Option<Duration>,
    /// Value of the header `x-source`, for one preset.
    pub source_name: Option<String>,
    /// Number in generated ids, for one preset.
    pub outbox_id: Option<i64>,
    /// Debezium's outbox router options under their own names.
    pub router: Option<BTreeMap<String, RouterValue>>,
}

/// A value of `[outbox.router]`: Debezium's options are text, TOML may have them typed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum RouterValue {
    /// `true` or `false`.
    Flag(bool),
    /// A number.
    Number(i64),
    /// Text.
    Text(String),
}

/// What all routes and captures of a pipeline share: `[format]` key by key, and the topics that rows may not choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatSettings {
    /// Where rows come from.
    pub mode: Mode,
    /// Pipeline name: header `relay-src`.
    pub pipeline: String,
    /// `{prefix}` in templates; empty = the pipeline's name.
    pub topic_prefix: String,
    /// `relay`, `debezium`.
    pub compat: String,
    /// Whether keys and values carry their schema.
    pub schemas: bool,
    /// `precise`, `string`, `double`.
    pub decimal: String,
    /// `adaptive`, `adaptive-microseconds`, `connect`, `isostring`, `microseconds`, `nanoseconds`.
    pub time: String,
    /// `numeric`, `string`.
    pub interval: String,
    /// `bytes`, `base64`, `base64-url-safe`, `hex`.
    pub binary: String,
    /// `json`, `map`.
    pub hstore: String,
    /// Decimals of `money`.
    pub money_scale: u32,
    /// Placeholder of an unchanged TOAST value; prefix `hex:` for raw bytes.
    pub unavailable_value: String,
    /// Whether a null value follows each deletion.
    pub tombstones: bool,
    /// Whether BEGIN and END records and the transaction block are written.
    pub transaction_metadata: bool,
    /// Whether `relay-unavailable` is on every record with an unavailable value.
    pub unavailable_header: bool,
    /// `source.version`; empty = relay's own.
    pub source_version: String,
    /// `binary`, `structured`.
    pub cloudevents_mode: String,
    /// URI of the attribute `source`; empty = `/relay/` and the pipeline's name.
    pub cloudevents_source: String,
    /// Template of the attribute `type` of captures; empty = `<topic>.<created|updated|deleted|read|truncated>`.
    pub cloudevents_type: String,
    /// `datacontenttype` of outbox payloads that are not JSON.
    pub cloudevents_content_type: String,
    /// Whether the attribute `partitionkey` is written.
    pub cloudevents_partitionkey: bool,
    /// Globs of the prefixes of logical messages that are published in the row-capture style (`source.log.messages`).
    pub messages: Vec<String>,
    /// UUID of this process: the header `__debezium.context.runId` of `compat = "debezium"`.
    pub run_id: String,
    /// Whether each record carries `relay-pos`.
    pub position_header: bool,
    /// Whether each record carries `relay-src`.
    pub source_header: bool,
    /// Record timestamp of a row without timestamp column.
    pub record_timestamp: RecordTimestamp,
    /// `poison`, `replace`, `base64`: text that is not UTF-8.
    pub invalid_utf8: String,
    /// relay's own topics: checkpoint and dlq.
    pub internal_topics: Vec<String>,
    /// Globs that a topic taken from row data must match; empty = any legal name.
    pub allowed_topics: Vec<String>,
}

/// Where rows come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The log.
    #[default]
    Log,
    /// The tables, by SQL.
    Poll,
}

/// Record timestamp of a row without timestamp column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordTimestamp {
    /// The commit time of the source transaction.
    #[default]
    Commit,
    /// The time of encoding.
    Now,
}

// === impl OutboxSettings ===

/// Takes a field of the first that has it.
macro_rules! overlay {
    ($user:ident over $preset:ident: $($field:ident),* $(,)?) => {
        OutboxSettings {
            matches: join($user.matches, $preset.matches),
            router: None,
            $($field: $user.$field.or($preset.$field)),*
        }
    };
}

impl OutboxSettings {
    /// These settings where they say something, else the preset's.
    #[must_use]
    pub fn over(self, preset: Self) -> Self {
        let user = self;
        overlay!(user over preset:
            preset, table, message, format, id, topic, topic_from, topic_match, key, value, value_encoding, envelope,
            schema_version, headers, missing_columns, event_type, timestamp, partition, traceparent, tracestate, baggage,
            trace_properties, tombstone_on_null, dataschema, on_update, on_non_transactional, on_scheduled, after_publish, order,
            retention, source_name, outbox_id,
        )
    }

    /// What decides the bytes and the routing of events, one `field=value` a line: the text that is fingerprinted.
    #[must_use]
    pub fn canonical(&self) -> String {
        let list = |items: &Option<Vec<String>>| items.as_ref().map(|items| format!("{items:?}"));
        let flag = |flag: &Option<bool>| flag.map(|flag| flag.to_string());
        let fields: [(&str, Option<String>); 23] = [
            ("table", self.table.clone()),
            ("message", self.message.clone()),
            ("format", self.format.clone()),
            ("match", self.matches.clone()),
            ("id", self.id.clone()),
            ("topic", self.topic.clone()),
            ("topic_from", self.topic_from.clone()),
            ("topic_match", self.topic_match.clone()),
            ("key", self.key.clone()),
            ("value", self.value.clone()),
            ("value_encoding", self.value_encoding.clone()),
            ("envelope", list(&self.envelope)),
            ("schema_version", self.schema_version.clone()),
            ("headers", list(&self.headers)),
            ("missing_columns", self.missing_columns.clone()),
            ("timestamp", self.timestamp.clone()),
            ("partition", self.partition.clone()),
            ("traceparent", self.traceparent.clone()),
            ("tracestate", self.tracestate.clone()),
            ("baggage", self.baggage.clone()),
            ("trace_properties", self.trace_properties.clone()),
            ("tombstone_on_null", flag(&self.tombstone_on_null)),
            ("on_update", self.on_update.clone()),
        ];
        fields.into_iter().filter_map(|(name, value)| Some(format!("{name}={}\n", value?.escape_debug()))).collect()
    }
}

/// A preset's condition and the user's must both hold.
fn join(user: Option<String>, preset: Option<String>) -> Option<String> {
    let texts: Vec<String> = [preset, user].into_iter().flatten().filter(|text| !text.trim().is_empty()).collect();
    (!texts.is_empty()).then(|| texts.join(" and "))
}

// === impl RouterValue ===

impl RouterValue {
    /// As Debezium's own configuration would have it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            RouterValue::Flag(flag) => flag.to_string(),
            RouterValue::Number(number) => number.to_string(),
            RouterValue::Text(text) => text.trim().to_owned(),
        }
    }
}

// === impl FormatSettings ===

impl Default for FormatSettings {
    fn default() -> Self {
        Self {
            mode: Mode::Log,
            pipeline: String::new(),
            topic_prefix: String::new(),
            compat: "relay".to_owned(),
            schemas: false,
            decimal: "precise".to_owned(),
            time: "adaptive".to_owned(),
            interval: "numeric".to_owned(),
            binary: "bytes".to_owned(),
            hstore: "json".to_owned(),
            money_scale: 2,
            unavailable_value: "__debezium_unavailable_value".to_owned(),
            tombstones: true,
            transaction_metadata: false,
            unavailable_header: false,
            source_version: String::new(),
            cloudevents_mode: "binary".to_owned(),
            cloudevents_source: String::new(),
            cloudevents_type: String::new(),
            cloudevents_content_type: "application/octet-stream".to_owned(),
            cloudevents_partitionkey: false,
            messages: Vec::new(),
            run_id: String::new(),
            position_header: true,
            source_header: false,
            record_timestamp: RecordTimestamp::Commit,
            invalid_utf8: "poison".to_owned(),
            internal_topics: Vec::new(),
            allowed_topics: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_errors_and_reserved_words_are_keys() {
        let settings: OutboxSettings = toml::from_str("type = \"kind\"\nmatch = \"a = 1\"").expect("known keys");
        assert_eq!((settings.event_type.as_deref(), settings.matches.as_deref()), (Some("kind"), Some("a = 1")));
        let error = toml::from_str::<OutboxSettings>("tabel = \"x\"").expect_err("no such key");
        assert!(error.to_string().contains("tabel"));
    }

    #[test]
    fn conditions_are_joined_and_the_rest_is_overlaid() {
        let some = |text: &str| Some(text.to_owned());
        let preset = OutboxSettings { matches: some("a = 1"), key: some("k"), id: some("id"), ..Default::default() };
        let user = OutboxSettings { matches: some("b = 2"), key: some("x"), ..Default::default() };
        let both = user.over(preset);
        assert_eq!(both.matches.as_deref(), Some("a = 1 and b = 2"));
        assert_eq!((both.key.as_deref(), both.id.as_deref()), (Some("x"), Some("id")));
        assert_eq!(both.canonical(), "match=a = 1 and b = 2\nid=id\nkey=x\n");
    }
}
