//! Which preset fits a table, going by the names and types of its columns.

/// A table as its catalog describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Schema name.
    pub schema: String,
    /// Table name.
    pub table: String,
    /// Names and types, as `format_type` prints them.
    pub columns: Vec<(String, String)>,
}

/// How well something fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// No preset, but it looks like an outbox.
    Shape,
    /// All names, though in another case; or one type differs.
    Close,
    /// All names and types.
    Exact,
}

/// What was found out about a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// The preset; `None` for a mere shape.
    pub preset: Option<&'static str>,
    /// How well.
    pub grade: Grade,
    /// The same in per cent; exact is 100.
    pub percent: u8,
    /// What differs, one text for each column.
    pub differences: Vec<String>,
}

/// A family of types that serve the same purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
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
struct Signature {
    preset: &'static str,
    schema: &'static str,
    table_prefix: &'static str,
    required: &'static [(&'static str, Family)],
    /// Of each group one is enough.
    any_of: &'static [&'static str],
    forbidden: &'static [&'static str],
}

use Family::{Any, Boolean, Bytea, Integer, Json, Smallint, Text, Texts, Time, Uuid, Xid8};

const fn signature(preset: &'static str, required: &'static [(&'static str, Family)]) -> Signature {
    Signature { preset, schema: "", table_prefix: "", required, any_of: &[], forbidden: &[] }
}

/// The more specific ones first.
const SIGNATURES: &[Signature] = &[
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
];

/// What the table fits, the best first; nothing when it does not even look like an outbox.
#[must_use]
pub fn detect(candidate: &Candidate) -> Vec<Fit> {
    let mut fits: Vec<Fit> = SIGNATURES.iter().filter_map(|signature| signature.fit(candidate)).collect();
    // The sort is stable: of equal grades the more specific signature stays in front.
    fits.sort_by_key(|fit| std::cmp::Reverse(fit.grade));
    if fits.is_empty() && looks_like_an_outbox(candidate) {
        fits.push(Fit { preset: None, grade: Grade::Shape, percent: 50, differences: Vec::new() });
    }
    fits
}

/// Whether a payload of a watermill table is the forwarder's envelope.
#[must_use]
pub fn is_forwarder_payload(payload: &[u8]) -> bool {
    let Ok(document) = crate::json::document(payload) else { return false };
    let Some(members) = crate::json::members(document) else { return false };
    members.flatten().any(|member| crate::json::stands_for(member.name, b"destination_topic"))
}

/// A payload column and at least two of topic, key, headers and type.
fn looks_like_an_outbox(candidate: &Candidate) -> bool {
    let has = |names: &[&str], family: fn(&str) -> bool| {
        candidate.columns.iter().any(|(name, kind)| names.contains(&folded(name).as_str()) && family(kind))
    };
    let is_payload = |kind: &str| matches!(family_of(kind), Some(Text | Json | Bytea));
    let signs = [
        &["topic", "destination", "aggregatetype", "queuename", "channel"][..],
        &["key", "aggregateid", "partitionkey", "streamid", "streamname"],
        &["headers", "metadata", "properties"],
        &["type", "eventtype", "messagetype", "eventname"],
    ];
    let seen = signs.iter().filter(|names| has(names, |_| true)).count();
    has(&["payload", "body", "data", "content", "message", "value", "serializedevent", "eventpayload"], is_payload) && seen >= 2
}

/// Lower case, without underscores.
fn folded(name: &str) -> String {
    name.chars().filter(|&c| c != '_').flat_map(char::to_lowercase).collect()
}

fn family_of(kind: &str) -> Option<Family> {
    // Type modifiers do not count.
    let base = kind.split('(').next().unwrap_or(kind).trim_end();
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
    fn fit(&self, candidate: &Candidate) -> Option<Fit> {
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
        let (mut names, mut types) = (Vec::new(), Vec::new());
        for &(name, family) in self.required {
            let (found, kind) = exactly(name).or_else(|| nearly(name))?;
            if found != name {
                names.push(format!("`{name}` is called `{found}`"));
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
        Some(Fit { preset: Some(self.preset), grade, percent, differences: [names, types].concat() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(schema: &str, table: &str, columns: &[(&str, &str)]) -> Candidate {
        let columns = columns.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect();
        Candidate { schema: schema.to_owned(), table: table.to_owned(), columns }
    }

    #[test]
    fn the_more_specific_preset_wins() {
        let mut columns = vec![
            ("id", "uuid"),
            ("aggregatetype", "character varying(255)"),
            ("aggregateid", "character varying(255)"),
            ("type", "character varying(255)"),
            ("payload", "jsonb"),
        ];
        let best = |columns: &[(&str, &str)]| detect(&candidate("public", "outboxevent", columns))[0].clone();
        assert_eq!((best(&columns).preset, best(&columns).percent), (Some("debezium"), 100));
        columns.push(("tracingspancontext", "character varying(256)"));
        assert_eq!(best(&columns).preset, Some("debezium-quarkus"));
    }

    #[test]
    fn case_and_one_type_make_it_close() {
        let columns = [("AggregateType", "text"), ("AggregateId", "text"), ("Type", "text"), ("Payload", "json")];
        let fit = &detect(&candidate("public", "OutboxEvent", &columns))[0];
        assert_eq!((fit.preset, fit.grade), (Some("debezium"), Grade::Close));
        assert!(fit.percent < 100 && fit.differences.iter().any(|text| text.contains("AggregateType")));
        let columns = [("msg_id", "bigint"), ("vt", "date"), ("message", "jsonb")];
        let fit = &detect(&candidate("pgmq", "q_orders", &columns))[0];
        assert_eq!(
            (fit.preset, fit.grade, fit.differences.as_slice()),
            (Some("pgmq"), Grade::Close, &["`vt` is date".to_owned()][..])
        );
        assert!(detect(&candidate("public", "q_orders", &columns)).is_empty(), "the schema is part of the signature");
    }

    #[test]
    fn a_shape_is_no_preset_and_an_ordinary_table_is_nothing() {
        let shape =
            candidate("public", "messages", &[("id", "uuid"), ("destination", "text"), ("body", "jsonb"), ("headers", "jsonb")]);
        assert_eq!(detect(&shape)[0].preset, None);
        assert!(detect(&candidate("public", "customers", &[("id", "uuid"), ("name", "text"), ("data", "jsonb")])).is_empty());
        assert!(
            is_forwarder_payload(br#"{"destination_topic":"a"}"#)
                && !is_forwarder_payload(b"{\"a\":1}")
                && !is_forwarder_payload(b"{")
        );
    }
}
