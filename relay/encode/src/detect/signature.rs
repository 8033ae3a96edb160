//! The signatures of the presets: which columns of which types make a table the layout of one.

use super::{Candidate, Fit, Grade, Variant, folded};

/// A family of types that serve the same purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Any,
    Text,
    /// json and jsonb.
    Json,
    Bytea,
    Uuid,
    Smallint,
    /// integer, bigint.
    Integer,
    Boolean,
    Time,
    Xid8,
    Texts,
}

/// The columns that make a preset.
pub(super) struct Signature {
    preset: &'static str,
    schema: &'static str,
    table_prefix: &'static str,
    required: &'static [(&'static str, Family)],
    /// Of each group one is enough.
    any_of: &'static [&'static str],
    forbidden: &'static [&'static str],
    /// A payload column, and the preset that fits instead where a row of it holds a forwarder's envelope.
    forwarder: Option<(&'static str, &'static str)>,
}

use Family::{Any, Boolean, Bytea, Integer, Json, Smallint, Text, Texts, Time, Uuid, Xid8};

const fn signature(preset: &'static str, required: &'static [(&'static str, Family)]) -> Signature {
    Signature { preset, schema: "", table_prefix: "", required, any_of: &[], forbidden: &[], forwarder: None }
}

/// The more specific ones first.
pub(super) const SIGNATURES: &[Signature] = &[
    Signature {
        any_of: &["topic", "aggregate_type"],
        ..signature("relay", &[("id", Uuid), ("type", Text), ("payload", Any), ("headers", Json), ("xid", Xid8)])
    },
    signature(
        "debezium-quarkus",
        &[("aggregatetype", Text), ("aggregateid", Text), ("type", Text), ("payload", Any), ("tracingspancontext", Text)],
    ),
    Signature {
        forbidden: &["tracingspancontext"],
        ..signature("debezium", &[("aggregatetype", Text), ("aggregateid", Text), ("type", Text), ("payload", Any)])
    },
    signature(
        "eventuate-tram",
        &[("destination", Text), ("headers", Any), ("payload", Any), ("published", Smallint), ("creation_time", Integer)],
    ),
    signature("tomorrow-one", &[("topic", Text), ("key", Text), ("value", Bytea), ("headers", Json), ("processed", Time)]),
    signature("goharvest", &[("kafka_topic", Text), ("kafka_key", Text), ("kafka_value", Text), ("kafka_header_keys", Texts)]),
    signature(
        "brighter",
        &[("messageid", Text), ("messagetype", Text), ("headerbag", Text), ("body", Any), ("dispatched", Time)],
    ),
    signature(
        "open-outbox",
        &[("event_id", Uuid), ("event_type", Text), ("partition_key", Text), ("payload", Bytea), ("available_at", Time)],
    ),
    Signature {
        table_prefix: "watermill_",
        forwarder: Some(("payload", "watermill-forwarder")),
        ..signature(
            "watermill",
            &[("offset", Integer), ("uuid", Text), ("payload", Any), ("metadata", Json), ("transaction_id", Xid8)],
        )
    },
    Signature {
        table_prefix: "watermill_",
        ..signature(
            "watermill-queue",
            &[("offset", Integer), ("uuid", Text), ("payload", Any), ("metadata", Json), ("acked", Boolean)],
        )
    },
    signature("cap", &[("Name", Text), ("Content", Text), ("StatusName", Text), ("ExpiresAt", Time)]),
    signature(
        "pg-transactional-outbox",
        &[("aggregate_type", Text), ("aggregate_id", Text), ("message_type", Text), ("segment", Text), ("concurrency", Text)],
    ),
    signature(
        "namastack",
        &[("record_key", Text), ("record_type", Text), ("payload", Any), ("partition_no", Integer), ("handler_id", Text)],
    ),
    Signature {
        schema: "pgmq",
        table_prefix: "q_",
        ..signature("pgmq", &[("msg_id", Integer), ("vt", Time), ("message", Json)])
    },
    // The generic one, last: it is what its fields say as they stand.
    signature("kafka-columns", &[("id", Any), ("topic", Text), ("key", Any), ("value", Any), ("headers", Json)]),
];

/// The family of a type as `format_type` prints it.
pub(super) fn family_of(kind: &str) -> Option<Family> {
    // Type modifiers do not count, and neither does the schema of an extension's type.
    let base = kind.split('(').next().unwrap_or(kind).trim_end();
    let base = base.rsplit_once('.').map_or(base, |(_, name)| name);
    let is_array = kind.ends_with("[]");
    Some(match base.trim_end_matches("[]") {
        "text" | "character varying" | "character" | "citext" | "name" if is_array => Texts,
        _ if is_array => return None,
        "text" | "character varying" | "character" | "citext" | "name" => Text,
        "json" | "jsonb" => Json,
        "bytea" => Bytea,
        "uuid" => Uuid,
        "smallint" => Smallint,
        "integer" | "bigint" => Integer,
        "boolean" => Boolean,
        "xid8" => Xid8,
        "timestamp" | "timestamp without time zone" | "timestamp with time zone" => Time,
        _ => return None,
    })
}

// === impl Family ===

impl Family {
    fn takes(self, kind: &str) -> bool {
        self == Any || family_of(kind) == Some(self)
    }
}

// === impl Signature ===

impl Signature {
    pub(super) fn fit(&self, candidate: &Candidate) -> Option<Fit> {
        if !self.schema.is_empty() && self.schema != candidate.schema || !candidate.table.starts_with(self.table_prefix) {
            return None;
        }
        let exactly = |name: &str| candidate.columns.iter().find(|(known, _)| known == name);
        let nearly = |name: &str| candidate.columns.iter().find(|(known, _)| folded(known) == folded(name));
        if self.forbidden.iter().any(|name| nearly(name).is_some()) {
            return None;
        }
        if !self.any_of.is_empty() && !self.any_of.iter().any(|name| exactly(name).is_some()) {
            return None;
        }
        let (mut names, mut types, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for &(name, family) in self.required {
            let (found, kind) = exactly(name).or_else(|| nearly(name))?;
            if found != name {
                names.push(format!("`{name}` is called `{found}`"));
                missing.push(name);
            }
            if !family.takes(kind) {
                types.push(format!("`{found}` is {kind}"));
            }
        }
        let wrong = names.len() + types.len();
        if types.len() > 1 {
            return None;
        }
        let grade = if wrong == 0 { Grade::Exact } else { Grade::Close };
        let count = self.required.len();
        let percent = 100 * count.saturating_sub(wrong.min(count / 2)) / count;
        let percent = if wrong == 0 { 100 } else { percent.min(99) as u8 };
        let variant = self.forwarder.and_then(|(column, preset)| Some(Variant { column: nearly(column)?.0.clone(), preset }));
        Some(Fit { preset: Some(self.preset), grade, percent, missing, differences: [names, types].concat(), variant })
    }
}
