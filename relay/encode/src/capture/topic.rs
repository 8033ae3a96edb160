//! The topic of a capture, rendered once where no column takes part in it.

use super::format::clean_topic;
use super::rule::Capture;
use crate::error::PlanError;
use crate::field::{Field, Names};
use crate::template::{Part, Variable};
use relay_core::{Event, Kind, Poison, PoisonReason, Relation, Row};

/// How the topic of a relation version is made.
#[derive(Debug)]
pub(super) enum TopicPlan {
    /// The same for every row.
    Constant(Box<str>),
    /// Alternatives in order; the first whose columns are not NULL and not empty counts.
    Row(Box<[Box<[TopicPart]>]>),
}

#[derive(Debug)]
pub(super) enum TopicPart {
    Literal(Box<str>),
    Field(Field),
}

// === impl TopicPlan ===

impl TopicPlan {
    /// The topic of every row of a table, where no column takes part in it.
    pub(super) fn constant(rule: &Capture, schema: &str, table: &str) -> Option<String> {
        let text =
            rule.topic.alternatives.first()?.iter().map(|part| literal(rule, schema, table, part)).collect::<Option<String>>()?;
        Some(clean_topic(&text))
    }

    pub(super) fn compile(rule: &Capture, relation: &Relation) -> Result<Self, PlanError> {
        let mut alternatives = Vec::new();
        for alternative in &rule.topic.alternatives {
            let mut parts: Vec<TopicPart> = Vec::new();
            for part in alternative {
                if let Part::Field(reference) = part {
                    parts.push(TopicPart::Field(column(rule, relation, "topic", reference)?));
                    continue;
                }
                // The rule has refused all others.
                let Some(literal) = literal(rule, &relation.schema, &relation.name, part) else { continue };
                match parts.last_mut() {
                    Some(TopicPart::Literal(before)) => *before = format!("{before}{literal}").into(),
                    _ => parts.push(TopicPart::Literal(literal.into())),
                }
            }
            alternatives.push(parts.into_boxed_slice());
        }
        if let Some([TopicPart::Literal(text)]) = alternatives.first().map(|parts| &**parts) {
            let topic = clean_topic(text);
            rule.format.topics.check(topic.as_bytes(), false).map_err(|message| PlanError {
                table: relation.to_string(),
                field: "topic",
                column: String::new(),
                message,
                hint: "set `topic` in this [[capture]], or format.topic_prefix".to_owned(),
                kind: Kind::ConfigValue,
            })?;
            return Ok(TopicPlan::Constant(topic.into()));
        }
        Ok(TopicPlan::Row(alternatives.into()))
    }

    /// Writes the topic of a record; `known` holds the last one that was found legal. What is refused stays in the event, so that a dlq
    /// record can name it.
    #[inline]
    pub(super) fn write(
        &self,
        rule: &Capture,
        row: Option<&Row<'_>>,
        known: &mut Vec<u8>,
        event: &mut Event,
    ) -> Result<(), Poison> {
        match self {
            TopicPlan::Constant(topic) => {
                event.out().extend_from_slice(topic.as_bytes());
                event.end_topic();
                Ok(())
            }
            TopicPlan::Row(alternatives) => write_from_row(alternatives, rule, row, known, event),
        }
    }
}

/// A part that is the same for every row of a table.
fn literal<'a>(rule: &'a Capture, schema: &'a str, table: &'a str, part: &'a Part) -> Option<&'a str> {
    match part {
        Part::Literal(text) => Some(text),
        Part::Variable(Variable::Prefix) => Some(&rule.format.prefix),
        Part::Variable(Variable::Schema) => Some(schema),
        Part::Variable(Variable::Table) => Some(table),
        _ => None,
    }
}

fn write_from_row(
    alternatives: &[Box<[TopicPart]>],
    rule: &Capture,
    row: Option<&Row<'_>>,
    known: &mut Vec<u8>,
    event: &mut Event,
) -> Result<(), Poison> {
    let poison = |message: String| Poison::new(PoisonReason::Route, message);
    for parts in alternatives {
        if !write_parts(parts, row, event.out())? {
            event.abandon_piece();
            continue;
        }
        if event.open_piece() == known.as_slice() {
            event.end_topic();
            return Ok(());
        }
        if rule.format.topics.check(event.open_piece(), false).is_err() {
            let topic = clean_topic(&String::from_utf8_lossy(event.open_piece()));
            event.abandon_piece();
            event.out().extend_from_slice(topic.as_bytes());
        }
        let checked = rule.format.topics.check(event.open_piece(), true);
        if checked.is_ok() {
            known.clear();
            known.extend_from_slice(event.open_piece());
        }
        event.end_topic();
        return checked.map_err(poison);
    }
    Err(poison("every topic alternative is NULL or empty".to_owned()))
}

fn write_parts(parts: &[TopicPart], row: Option<&Row<'_>>, out: &mut Vec<u8>) -> Result<bool, Poison> {
    for part in parts {
        match part {
            TopicPart::Literal(text) => out.extend_from_slice(text.as_bytes()),
            TopicPart::Field(field) => {
                let Some(row) = row else { return Ok(false) };
                let before = out.len();
                if !field.write_text(field.read(row)?, out)? || out.len() == before {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

/// A column that says where a record goes: it must exist, be shown, and be known of old rows too.
pub(super) fn column(
    rule: &Capture,
    relation: &Relation,
    field: &'static str,
    reference: &crate::template::Reference,
) -> Result<Field, PlanError> {
    use relay_core::ReplicaIdentity::{Default, Index};
    let name = &reference.column;
    let error = |message: String, hint: &str, kind| PlanError {
        table: relation.to_string(),
        field,
        column: name.clone(),
        message,
        hint: hint.to_owned(),
        kind,
    };
    let mut names = Names::Columns(relation);
    let Some(found) = names.field(reference) else {
        let hint = match names.nearest(name) {
            Some(near) => format!("the table has a column `{near}`"),
            None => format!("add the column or set `{field}` in this [[capture]]"),
        };
        return Err(error(format!("there is no column `{name}`, which `{field}` names"), &hint, Kind::ColumnMissing));
    };
    if field != "filter" && rule.mask(relation, name).is_some() {
        let hint = "take another column, or drop the mask";
        return Err(error(format!("column `{name}` is masked, and `{field}` would show it"), hint, Kind::ConfigConflict));
    }
    let is_in_old_rows =
        !matches!(relation.identity, Default | Index) || relation.columns.get(found.column).is_some_and(|column| column.is_key);
    if field != "filter" && rule.reads_old_rows() && !is_in_old_rows {
        let message = format!("column `{name}` is not in the old row of a delete, and `{field}` needs it there");
        let hint = format!("ALTER TABLE {relation} REPLICA IDENTITY FULL, or capture inserts only");
        return Err(error(message, &hint, Kind::ConfigConflict));
    }
    Ok(found)
}
