//! `[format]`, checked: what all captures of a pipeline share.

use crate::error::RouteError;
use crate::settings::{FormatSettings, RecordTimestamp};
use crate::template::{Bare, Expression, Part, Refusal, Variable};
use crate::topic::TopicRules;
use crate::types::Modes;

/// What all captures of a pipeline share.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) prefix: Box<str>,
    pub(super) pipeline: Box<str>,
    /// Topics of records that belong to no row.
    pub(super) message_topic: Box<str>,
    pub(super) transaction_topic: Box<str>,
    pub(super) heartbeat_topic: Box<str>,
    /// `compat = "debezium"`.
    pub(super) is_debezium: bool,
    pub(super) schemas: bool,
    pub(super) tombstones: bool,
    pub(super) transaction_metadata: bool,
    pub(super) position_header: bool,
    pub(super) source_header: bool,
    pub(super) unavailable_header: bool,
    /// `record_timestamp = "now"`.
    pub(super) stamps_now: bool,
    pub(super) version: Box<str>,
    pub(super) run_id: Box<str>,
    pub(super) modes: Modes,
    pub(super) topics: TopicRules,
    pub(super) is_structured: bool,
    pub(super) cloudevents_source: Box<str>,
    pub(super) cloudevents_type: Option<Vec<TypePart>>,
    pub(super) cloudevents_partitionkey: bool,
}

/// A piece of the template of the attribute `type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TypePart {
    Literal(String),
    Prefix,
    Schema,
    Table,
    /// `{operation}`: `created`, `updated`, `deleted`, `read`, `truncated`.
    Operation,
}

// === impl Format ===

impl Format {
    pub(super) fn new(settings: &FormatSettings) -> Result<Self, Vec<RouteError>> {
        let mut errors = Vec::new();
        let is_debezium = choice("compat", &settings.compat, ["relay", "debezium"], &mut errors);
        let is_structured = choice("cloudevents_mode", &settings.cloudevents_mode, ["binary", "structured"], &mut errors);
        let cloudevents_type = match settings.cloudevents_type.as_str() {
            "" => None,
            text => type_parts(text).map_err(|error| errors.push(error)).ok(),
        };
        let modes = Modes::new(settings).map_err(|error| errors.push(error)).ok();
        let or = |text: &str, default: &str| Box::<str>::from(if text.is_empty() { default } else { text });
        let prefix = or(&settings.topic_prefix, &settings.pipeline);
        let own = |name: String| clean_topic(&name).into_boxed_str();
        match modes {
            Some(modes) if errors.is_empty() => Ok(Self {
                message_topic: own(format!("{prefix}.message")),
                transaction_topic: own(format!("{prefix}.transaction")),
                heartbeat_topic: own(format!("__debezium-heartbeat.{prefix}")),
                prefix,
                pipeline: settings.pipeline.as_str().into(),
                is_debezium,
                schemas: settings.schemas,
                tombstones: settings.tombstones,
                transaction_metadata: settings.transaction_metadata,
                position_header: settings.position_header,
                // No relay-* header goes with Debezium's contract, but for the position if it is asked for.
                source_header: settings.source_header && !is_debezium,
                unavailable_header: settings.unavailable_header && !is_debezium,
                stamps_now: settings.record_timestamp == RecordTimestamp::Now,
                version: or(&settings.source_version, env!("CARGO_PKG_VERSION")),
                run_id: settings.run_id.as_str().into(),
                modes,
                topics: TopicRules::new(settings),
                is_structured,
                cloudevents_source: or(&settings.cloudevents_source, &format!("/relay/{}", settings.pipeline)),
                cloudevents_type,
                cloudevents_partitionkey: settings.cloudevents_partitionkey,
            }),
            _ => Err(errors),
        }
    }
}

/// Whether the second of two values is chosen.
fn choice(field: &str, value: &str, [first, second]: [&str; 2], errors: &mut Vec<RouteError>) -> bool {
    if value != first && value != second {
        let error = RouteError::value(format!("format.{field}"), format!("`{value}` is not known"));
        errors.push(error.hint(format!("known: {first}, {second}")));
    }
    value == second
}

fn type_parts(text: &str) -> Result<Vec<TypePart>, RouteError> {
    let wrong = |message: String| RouteError::value("format.cloudevents_type", message);
    let parsed = Expression::parse(text, Bare::Literal).map_err(|refusal| match refusal {
        Refusal::Wrong(message) | Refusal::Later(message) => wrong(message),
    })?;
    let [alternative] = parsed.alternatives.as_slice() else {
        return Err(wrong("there are no alternatives here".to_owned()));
    };
    let part = |part: &Part| match part {
        Part::Literal(text) => Ok(TypePart::Literal(text.clone())),
        Part::Variable(Variable::Prefix) => Ok(TypePart::Prefix),
        Part::Variable(Variable::Schema) => Ok(TypePart::Schema),
        Part::Variable(Variable::Table) => Ok(TypePart::Table),
        Part::Field(field) if field.column == "operation" && field.pointer.is_none() => Ok(TypePart::Operation),
        _ => Err(wrong("the type of an event is made of {prefix}, {schema}, {table}, {operation} and text".to_owned())),
    };
    alternative.iter().map(part).collect()
}

/// A name as Kafka takes it (section 2): characters outside `[A-Za-z0-9._-]` become `_`, those above U+FFFF two of them as in Java; cut
/// at 249.
pub(super) fn clean_topic(name: &str) -> String {
    let is_legal = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let units = |c: char| std::iter::repeat_n(if is_legal(&c) { c } else { '_' }, c.len_utf16());
    let clean: String = name.chars().flat_map(units).take(249).collect();
    match clean.as_str() {
        "." => "_".to_owned(),
        ".." => "__".to_owned(),
        _ => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_cleaned_one_for_one() {
        let long = "x".repeat(300);
        for (name, topic) in [
            ("p.s1.dbz_878_some|test@data", "p.s1.dbz_878_some_test_data"),
            ("p.s.Größe 1", "p.s.Gr__e_1"),
            ("p.s.\u{1F600}", "p.s.__"),
            (".", "_"),
            ("..", "__"),
            ("...", "..."),
            (&long, &long[..249]),
        ] {
            assert_eq!(clean_topic(name), topic);
        }
    }

    #[test]
    fn wrong_values_are_all_told() {
        let settings = FormatSettings {
            compat: "debezum".to_owned(),
            cloudevents_mode: "batch".to_owned(),
            cloudevents_type: "x.{id}".to_owned(),
            ..FormatSettings::default()
        };
        let fields: Vec<String> = Format::new(&settings).expect_err("wrong").into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["format.compat", "format.cloudevents_mode", "format.cloudevents_type"]);
    }
}
