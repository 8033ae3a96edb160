//! A capture meets its table: names, types and everything constant of a record are worked out once per relation version.

use super::cloudevents::CloudEventsBody;
use super::column::{ColumnBuilder, ColumnPlan, Seen};
use super::doubt::{self, KeyDoubt};
use super::flat::FlatRule;
use super::key::{self, Chosen};
use super::metadata::Metadata;
use super::rule::{Capture, Shape};
use super::schema;
use super::source::{SharedSource, Source};
use super::topic::{TopicPlan, column};
use crate::error::PlanError;
use crate::field::{Field, oid};
use crate::json;
use crate::predicate::Test;
use relay_core::catalog::Catalog;
use relay_core::{Change, Kind, Relation, Row, Value};
use std::cell::RefCell;
use std::sync::Arc;

/// What turns the changes of one relation version into events.
///
/// A plan belongs to the thread that encodes: it keeps a few buffers between calls.
#[derive(Debug)]
pub struct CapturePlan {
    pub(super) rule: Arc<Capture>,
    /// `schema.table`.
    pub(super) label: Box<str>,
    /// The columns of a value, in the order of the relation.
    pub(super) columns: Box<[ColumnPlan]>,
    pub(super) key: Option<KeyPlan>,
    /// Cells that tell the rows of the table apart.
    identity: Box<[(usize, bool)]>,
    pub(super) topic: TopicPlan,
    pub(super) filter: Box<[Condition]>,
    pub(super) partition: Option<Field>,
    pub(super) source: Source,
    pub(super) body: Body,
    notes: Vec<String>,
    doubts: Box<[KeyDoubt]>,
    pub(super) scratch: RefCell<Scratch>,
}

/// A term of the filter.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) field: Field,
    /// Whether an old tuple of identity columns has the column.
    pub(super) is_identity: bool,
    pub(super) test: Test,
}

/// The key of a record.
#[derive(Debug)]
pub(super) struct KeyPlan {
    pub(super) columns: Box<[ColumnPlan]>,
    /// Whether an old tuple of identity columns has every one.
    pub(super) is_covered: bool,
    /// `{"schema":…,"payload":`.
    pub(super) head: Box<[u8]>,
}

/// What is constant of a value.
#[derive(Debug)]
pub(super) enum Body {
    /// From the beginning to `"before":`.
    Debezium {
        head: Box<[u8]>,
    },
    Flat(FlatBody),
    CloudEvents(CloudEventsBody),
}

/// What is constant of a flat value.
#[derive(Debug)]
pub(super) struct FlatBody {
    /// `{"schema":…,"payload":`.
    pub(super) head: Box<[u8]>,
    /// Whether rows carry `__deleted`.
    pub(super) marks_deleted: bool,
    /// `,"name":`, and what follows.
    pub(super) fields: Box<[(Box<[u8]>, Metadata)]>,
    /// `compat = "debezium"`: the value of a deletion (D30).
    pub(super) null: Option<Box<[u8]>>,
}

/// What a plan keeps between changes.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) seen: Seen,
    /// The last topic that was found legal.
    pub(super) topic: Vec<u8>,
    /// The time of encoding, and what an envelope says of it.
    pub(super) now_ns: i64,
    pub(super) now: Vec<u8>,
    pub(super) source: SharedSource,
    /// Keys that are held against each other.
    pub(super) old_key: Vec<u8>,
    pub(super) new_key: Vec<u8>,
    /// Id of a CloudEvent.
    pub(super) id: Vec<u8>,
}

// === impl CapturePlan ===

impl CapturePlan {
    /// Works out everything that does not depend on a row. `database` is the name of the database.
    ///
    /// # Errors
    /// A column that the capture names and the table lacks, one that does not fit, or a topic that Kafka or relay does not allow.
    pub fn compile(rule: &Arc<Capture>, relation: &Relation, catalog: &Catalog, database: &str) -> Result<Self, PlanError> {
        let format = &rule.format;
        let builder = ColumnBuilder { relation, catalog, rule };
        let mut notes = Vec::new();
        let all: Vec<ColumnPlan> = (0..relation.columns.len()).filter_map(|index| builder.column(index, index)).collect();
        let is_omitted = |column: &ColumnPlan| format.is_debezium && column.kind.is_omitted();
        for column in all.iter().filter(|column| column.kind.is_unknown()) {
            let what =
                if is_omitted(column) { "it is left out, as format.compat = \"debezium\" has it" } else { "its text is emitted" };
            notes.push(format!("{relation}: the type of column `{}` is not known: {what}", column.name));
        }
        let columns = (0..relation.columns.len())
            .filter(|&index| relation.columns.get(index).is_some_and(|column| !rule.excludes(relation, &column.name)))
            .filter(|&index| all.get(index).is_some_and(|column| !is_omitted(column)));
        let columns: Vec<ColumnPlan> = columns.enumerate().filter_map(|(place, index)| builder.column(index, place)).collect();
        let topic = TopicPlan::compile(rule, relation)?;
        let topic_name = match &topic {
            TopicPlan::Constant(topic) => topic,
            TopicPlan::Row(_) => "",
        };
        let Chosen { columns: key_columns, note } = key::message_key(rule, relation, catalog)?;
        notes.extend(note);
        let key = KeyPlan::new(&key_columns, &builder, topic_name);
        let doubts = doubt::of_key(rule, relation, key.as_ref());
        let identity = key::identity(relation, catalog).columns;
        let is_marked = |&index: &usize| (index, relation.columns.get(index).is_some_and(|column| column.is_key));
        let filter = filter(rule, relation)?;
        let partition = rule.partition.as_ref().map(|reference| column(rule, relation, "partition", reference)).transpose()?;
        if let Some(field) = &partition
            && !matches!(field.type_oid, oid::INT2 | oid::INT4 | oid::INT8)
        {
            let message = format!("column `{}` does not fit `partition`: it must be smallint, integer or bigint", field.name);
            return Err(unfit(relation, "partition", &field.name, message));
        }
        if let Shape::Flat(flat) = &rule.shape
            && let Some(name) = columns.iter().map(|column| &*column.name).find(|name| flat.adds(name))
        {
            let message = format!("column `{name}` has the name of a field that the flat format adds");
            let error = unfit(relation, "flat.add_fields", name, message);
            let hint = "set another `flat.prefix` or `flat.delete`, or leave the column out".to_owned();
            return Err(PlanError { kind: Kind::ConfigConflict, hint, ..error });
        }
        let body = Body::new(rule, relation, &columns, topic_name);
        let scratch = Scratch { seen: Seen { is_thorough: format.unavailable_header, ..Seen::default() }, ..Scratch::default() };
        Ok(Self {
            rule: Arc::clone(rule),
            label: relation.to_string().into(),
            identity: identity.iter().map(is_marked).collect(),
            key,
            topic,
            filter,
            partition,
            source: Source::new(&format.version, &format.prefix, database, &relation.schema, &relation.name),
            body,
            columns: columns.into(),
            notes,
            doubts,
            scratch: RefCell::new(scratch),
        })
    }

    /// The topic, if no row takes part in it: two relations must not end in one.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        match &self.topic {
            TopicPlan::Constant(topic) => Some(topic),
            TopicPlan::Row(_) => None,
        }
    }

    /// Whether the configuration says the topic, so that several relations may share it.
    #[must_use]
    pub fn is_topic_on_purpose(&self) -> bool {
        self.rule.is_topic_on_purpose
    }

    /// `schema.table`.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What an operator should know about this relation version: each is worth one line in the log.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.notes.iter().cloned()
    }

    /// What about its key may not be meant so: each is worth a warning.
    #[must_use]
    pub fn key_doubts(&self) -> &[KeyDoubt] {
        &self.doubts
    }

    /// Whether an old tuple has every column of the key: else a deletion, or a change of the key, cannot tell which key is gone (D27).
    #[must_use]
    pub fn is_key_covered(&self) -> bool {
        self.key.as_ref().is_none_or(|key| key.is_covered)
    }

    /// Whether records have a key.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Whether anything tells the rows of the table apart: see [`CapturePlan::identity`].
    #[must_use]
    pub fn has_identity(&self) -> bool {
        !self.identity.is_empty()
    }

    /// Whether changes of that operation are published; rows of snapshots are, whatever this says.
    #[must_use]
    pub fn takes(&self, change: &Change<'_>) -> bool {
        self.rule.takes(change)
    }

    /// Appends what tells the row apart from every other: the texts of its primary key or replica identity, each behind its length.
    /// False when nothing does.
    pub fn identity(&self, row: &Row<'_>, out: &mut Vec<u8>) -> bool {
        for &(index, _) in &self.identity {
            match row.get(index) {
                Some(Value::Text(text) | Value::Binary(text)) => {
                    out.extend_from_slice(&(text.len() as u64).to_be_bytes());
                    out.extend_from_slice(text);
                }
                // A length that no text has.
                Some(Value::Null) => out.extend_from_slice(&u64::MAX.to_be_bytes()),
                Some(Value::Unchanged) | None => return false,
            }
        }
        !self.identity.is_empty()
    }

    /// Whether values have the column at that index of the relation.
    pub(crate) fn shows(&self, index: usize) -> bool {
        self.columns.iter().any(|column| column.index == index)
    }

    /// Appends what a mask shows of the column's value; false when the column has none.
    pub(crate) fn write_masked(&self, index: usize, value: Value<'_>, out: &mut Vec<u8>) -> bool {
        let keys = self.key.iter().flat_map(|key| key.columns.iter());
        let masked = self.columns.iter().chain(keys).find(|column| column.index == index && column.mask.is_some());
        let Some(column) = masked else { return false };
        column.write_shown(value, &mut self.scratch.borrow_mut().seen, out);
        true
    }

    /// The name of a column whose value became null because it cannot be converted (D3), once after it happened.
    pub fn take_lost(&self) -> Option<&str> {
        let lost = self.scratch.borrow_mut().seen.lost.take()?;
        let keys = self.key.iter().flat_map(|key| key.columns.iter());
        self.columns.iter().chain(keys).find(|column| column.index == lost).map(|column| &*column.name)
    }
}

fn unfit(relation: &Relation, field: &'static str, column: &str, message: String) -> PlanError {
    let (table, column) = (relation.to_string(), column.to_owned());
    PlanError { table, field, column, message, hint: String::new(), kind: Kind::ConfigValue }
}

fn filter(rule: &Capture, relation: &Relation) -> Result<Box<[Condition]>, PlanError> {
    let test = |term: &crate::predicate::Term| {
        let field = column(rule, relation, "filter", &term.column)?;
        if let Some(message) = term.test.unfit(&field) {
            return Err(unfit(
                relation,
                "filter",
                &field.name,
                format!("column `{}` does not fit `filter`: {message}", field.name),
            ));
        }
        let is_identity = relation.columns.get(field.column).is_some_and(|column| column.is_key);
        Ok(Condition { field, is_identity, test: term.test.clone() })
    };
    rule.filter.iter().map(test).collect()
}

// === impl KeyPlan ===

impl KeyPlan {
    fn new(indexes: &[usize], builder: &ColumnBuilder<'_>, topic: &str) -> Option<Self> {
        let format = &builder.rule.format;
        let columns = indexes.iter().enumerate().filter_map(|(place, &index)| builder.column(index, place));
        let columns: Box<[ColumnPlan]> = columns.filter(|column| !(format.is_debezium && column.kind.is_omitted())).collect();
        // A key of nothing but columns that Debezium leaves out is an empty one, not none (D9).
        if columns.is_empty() && (indexes.is_empty() || !format.is_debezium) {
            return None;
        }
        let head = match format.schemas {
            true => schema::wrap(|out| schema::write_key(&columns, topic, out)),
            false => Box::default(),
        };
        Some(Self { is_covered: columns.iter().all(|column| column.is_identity), columns, head })
    }
}

// === impl Body ===

impl Body {
    fn new(rule: &Capture, relation: &Relation, columns: &[ColumnPlan], topic: &str) -> Self {
        let format = &rule.format;
        match &rule.shape {
            Shape::Debezium => {
                let mut head = match format.schemas {
                    true => schema::wrap(|out| schema::write_envelope(format, relation, columns, topic, out)).into_vec(),
                    false => Vec::new(),
                };
                head.extend_from_slice(b"{\"before\":");
                Body::Debezium { head: head.into() }
            }
            Shape::Flat(flat) => Body::Flat(FlatBody::new(flat, format, columns, topic)),
            Shape::CloudEvents => Body::CloudEvents(CloudEventsBody::new(format, relation)),
        }
    }
}

// === impl FlatBody ===

impl FlatBody {
    fn new(rule: &FlatRule, format: &super::format::Format, columns: &[ColumnPlan], topic: &str) -> Self {
        let head = match format.schemas {
            true => schema::wrap(|out| schema::write_flat(rule, columns, topic, out)),
            false => Box::default(),
        };
        let null = (format.is_debezium && rule.delete == super::flat::FlatDelete::Tombstone).then(|| match format.schemas {
            true => {
                let head = schema::wrap(|out| schema::write_value(columns, topic, schema::Whose::Row, None, out));
                [&*head, b"null}"].concat().into()
            }
            false => b"null".as_slice().into(),
        });
        let member = |(name, metadata): &(String, Metadata)| {
            let mut member = vec![b','];
            json::write_string(name, &mut member);
            member.push(b':');
            (member.into_boxed_slice(), *metadata)
        };
        Self { head, marks_deleted: rule.marks_deleted(), fields: rule.fields.iter().map(member).collect(), null }
    }
}
