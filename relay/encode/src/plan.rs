//! A route meets its table: every name becomes a column index, once per Relation message.

mod value;

use crate::cloud_route::CloudStep;
use crate::contract::KeyForm;
use crate::encode::Scratch;
use crate::envelope::Envelope;
use crate::error::PlanError;
use crate::field::{Field, Form, Names, Piece, oid};
use crate::headers::HeaderStep;
use crate::predicate::{Term, Test};
use crate::route::{Route, TopicRule, ValueEncoding};
use crate::template::{Expression, HeaderItem, Part, Reference, Variable};
use crate::wrap::Eventuate;
use relay_core::{Kind, Poison, Relation, Row};
use std::cell::RefCell;
use std::io::Write;
use std::sync::Arc;

/// What turns the rows of one relation version, or the messages of one prefix, into events.
///
/// A plan belongs to the thread that encodes: it keeps the last legal topic and a few buffers between calls.
#[derive(Debug)]
pub struct Plan {
    pub(crate) route: Arc<Route>,
    /// `schema.table`, or the message prefix.
    pub(crate) label: Box<str>,
    pub(crate) conditions: Box<[(Field, Test)]>,
    /// When the row is due.
    pub(crate) schedule: Box<[(Field, Test)]>,
    pub(crate) topic: TopicStep,
    pub(crate) key: Option<Text>,
    /// Where the key is JSON.
    pub(crate) key_form: Option<KeyForm>,
    pub(crate) cloud: Option<CloudStep>,
    pub(crate) id: Text,
    pub(crate) headers: Box<[HeaderStep]>,
    pub(crate) timestamp: Option<Field>,
    pub(crate) partition: Option<Field>,
    pub(crate) value: ValueStep,
    /// Columns whose text is a JSON document, by index.
    pub(crate) documents: Box<[usize]>,
    /// Members of a message that the plan reads, by cell index.
    pub(crate) members: Box<[Box<str>]>,
    pub(crate) scratch: RefCell<Scratch>,
}

/// How the topic is made.
#[derive(Debug)]
pub(crate) enum TopicStep {
    Text {
        text: Text,
        is_from_row: bool,
    },
    /// Through the route's regex.
    Rewrite(Field),
}

/// Alternatives with their names resolved; neighbouring constants are one literal.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) alternatives: Box<[Box<[TextPart]>]>,
}

#[derive(Debug)]
pub(crate) enum TextPart {
    Literal(Box<str>),
    Field(Field),
    RelayPos,
    Null,
    GeneratedId(GeneratedId),
}

/// An id made of a number in the row and one of the route's.
#[derive(Clone, Debug)]
pub(crate) struct GeneratedId {
    pub(crate) field: Field,
    pub(crate) number: u64,
}

/// How the record value is made.
#[derive(Debug)]
pub(crate) struct ValueStep {
    pub(crate) alternatives: Box<[Field]>,
    pub(crate) encoding: ValueEncoding,
    /// What NULL becomes without `tombstone_on_null`.
    pub(crate) null: &'static [u8],
    pub(crate) envelope: Option<Envelope>,
    /// `wrap:eventuate`.
    pub(crate) wrap: Option<Eventuate>,
    /// `{"schema":…,"payload":` before a JSON string.
    pub(crate) head: Box<[u8]>,
    /// D31: NULL is a null value, whatever its column.
    pub(crate) is_null_kept: bool,
}

/// Resolves the names of one route, remembering for which field.
struct Resolver<'a> {
    route: &'a Route,
    names: Names<'a>,
    label: String,
    schema: &'a str,
    table: &'a str,
}

// === impl Plan ===

impl Plan {
    /// Resolves the route's names against the table.
    ///
    /// # Errors
    /// A column that is missing or of a type that its field cannot take.
    pub fn compile(route: &Arc<Route>, relation: &Relation) -> Result<Self, PlanError> {
        Resolver {
            route,
            names: Names::Columns(relation),
            label: relation.to_string(),
            schema: &relation.schema,
            table: &relation.name,
        }
        .plan(route)
    }

    /// Resolves the route's names for messages of that prefix.
    ///
    /// # Errors
    /// A field whose form does not fit a message.
    pub fn compile_message(route: &Arc<Route>, prefix: &str) -> Result<Self, PlanError> {
        let names = Names::Members(Vec::new());
        Resolver { route, names, label: prefix.to_owned(), schema: "", table: "" }.plan(route)
    }

    /// The route it was compiled from.
    #[must_use]
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// `schema.table`, or the message prefix.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

// === impl GeneratedId ===

impl GeneratedId {
    /// Appends 16 digits of the row's number, `-`, 16 digits of the route's; false when the row's is NULL.
    pub(crate) fn write(&self, row: &Row<'_>, out: &mut Vec<u8>) -> Result<bool, Poison> {
        let text = match self.field.read(row)? {
            Piece::Text(text) => text,
            Piece::Null | Piece::Absent => return Ok(false),
            _ => return Err(self.field.poison("is not an integer")),
        };
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
        let number = number.ok_or_else(|| self.field.poison("is not an integer"))?;
        // Writing to memory does not fail.
        let _ = write!(out, "{number:016x}-{:016x}", self.number);
        Ok(true)
    }
}

// === impl Resolver ===

impl Resolver<'_> {
    fn plan(mut self, shared: &Arc<Route>) -> Result<Plan, PlanError> {
        let route = self.route;
        let conditions = self.tests(&route.conditions)?;
        let schedule = self.tests(&route.schedule)?;
        let topic = match &route.topic {
            TopicRule::Template(expression) => TopicStep::Text {
                text: self.text("topic", expression)?,
                is_from_row: expression.alternatives.iter().flatten().any(|part| matches!(part, Part::Field(_))),
            },
            TopicRule::Rewrite(rewrite) => TopicStep::Rewrite(self.field("topic_from", &rewrite.from)?),
        };
        let key = route.key.as_ref().map(|expression| self.text("key", expression)).transpose()?;
        let id = self.text("id", &route.id)?;
        let headers = self.headers()?;
        let timestamp = self.optional("timestamp", route.timestamp.as_ref())?;
        if let Some(field) = &timestamp
            && !is_raw_json(field)
            && !matches!(field.type_oid, oid::TIMESTAMP | oid::TIMESTAMPTZ | oid::INT8)
        {
            return Err(self.wrong_type(
                "timestamp",
                field,
                "it must be timestamp, timestamptz, or bigint with epoch milliseconds",
            ));
        }
        let partition = self.optional("partition", route.partition.as_ref())?;
        if let Some(field) = &partition
            && !is_raw_json(field)
            && !matches!(field.type_oid, oid::INT2 | oid::INT4 | oid::INT8)
        {
            return Err(self.wrong_type("partition", field, "it must be smallint, integer or bigint"));
        }
        let mut value = self.value(&topic)?;
        if route.value_encoding == ValueEncoding::Eventuate {
            let headers = Reference { column: "headers".to_owned(), pointer: None, is_base64: false, is_optional: false };
            let generated = id.alternatives.iter().flatten().find_map(|part| match part {
                TextPart::GeneratedId(id) => Some(id.clone()),
                _ => None,
            });
            value.wrap = Some(Eventuate { headers: self.field("value_encoding", &headers)?, id: generated });
        }
        let key_form = key.as_ref().and_then(|key| route.contract.key_form(key));
        let cloud = match &route.cloud {
            Some(rule) => Some(rule.compile(|field, reference| self.optional(field, reference))?),
            None => None,
        };
        let (documents, members) = match self.names {
            Names::Members(names) => (Box::default(), names.into()),
            Names::Columns(relation) => (documents(relation), Box::default()),
        };
        let scratch = RefCell::new(Scratch::new(route));
        let (route, label) = (Arc::clone(shared), self.label.into());
        Ok(Plan {
            route,
            label,
            conditions,
            schedule,
            topic,
            key,
            key_form,
            cloud,
            id,
            headers,
            timestamp,
            partition,
            value,
            documents,
            members,
            scratch,
        })
    }

    fn tests(&mut self, terms: &[Term]) -> Result<Box<[(Field, Test)]>, PlanError> {
        let test = |term: &Term| {
            let field = self.field("match", &term.column)?;
            match term.test.unfit(&field) {
                Some(message) => Err(self.wrong_type("match", &field, &message)),
                None => Ok((field, term.test.clone())),
            }
        };
        terms.iter().map(test).collect()
    }

    /// A field that must exist.
    fn field(&mut self, field: &'static str, reference: &Reference) -> Result<Field, PlanError> {
        let Some(found) = self.names.field(reference) else {
            let column = &reference.column;
            let hint = match self.names.nearest(column) {
                Some(near) => format!("the table has a column `{near}`"),
                None => format!("add the column or set `{field}` in this [[outbox]]"),
            };
            return Err(PlanError {
                table: self.label.clone(),
                field,
                column: column.clone(),
                message: format!("there is no column `{column}`, which `{field}` names"),
                hint,
                kind: Kind::ColumnMissing,
            });
        };
        if found.pointer.is_some() && matches!(found.form, Form::Bytea | Form::Bool) {
            return Err(self.wrong_type(field, &found, "a JSON pointer needs a json, jsonb or text column"));
        }
        if found.is_base64 && matches!(found.form, Form::Bytea | Form::Bool) {
            return Err(self.wrong_type(field, &found, "base64 is decoded from text"));
        }
        Ok(found)
    }

    /// A field that may be unset, and with `?` may name a column that the table lacks.
    fn optional(&mut self, field: &'static str, reference: Option<&Reference>) -> Result<Option<Field>, PlanError> {
        match reference {
            None => Ok(None),
            Some(reference) => match self.field(field, reference) {
                Err(error) if reference.is_optional && error.kind == Kind::ColumnMissing => Ok(None),
                found => found.map(Some),
            },
        }
    }

    fn wrong_type(&self, field: &'static str, column: &Field, why: &str) -> PlanError {
        PlanError {
            table: self.label.clone(),
            field,
            column: column.name.to_string(),
            message: format!("column `{}` (type oid {}) does not fit `{field}`: {why}", column.name, column.type_oid),
            hint: String::new(),
            kind: Kind::ConfigValue,
        }
    }

    /// An alternative whose only fault is a missing column marked with `?` is left out.
    fn text(&mut self, field: &'static str, expression: &Expression) -> Result<Text, PlanError> {
        let mut alternatives = Vec::new();
        let mut missing = None;
        for alternative in &expression.alternatives {
            let is_forgiving = |error: &PlanError| {
                let is_optional = |part: &Part| match part {
                    Part::Field(field) | Part::GeneratedId(field) => field.is_optional && field.column == error.column,
                    _ => false,
                };
                error.kind == Kind::ColumnMissing && alternative.iter().any(is_optional)
            };
            match self.alternative(field, alternative) {
                Ok(parts) => alternatives.push(parts),
                Err(error) if is_forgiving(&error) => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
        match (alternatives.is_empty(), missing) {
            (true, Some(error)) => Err(error),
            _ => Ok(Text { alternatives: alternatives.into() }),
        }
    }

    fn alternative(&mut self, field: &'static str, parts: &[Part]) -> Result<Box<[TextPart]>, PlanError> {
        let mut resolved: Vec<TextPart> = Vec::new();
        for part in parts {
            let literal = match part {
                Part::Literal(text) => text,
                Part::Variable(variable) => self.variable(*variable),
                Part::RelayPos => {
                    resolved.push(TextPart::RelayPos);
                    continue;
                }
                Part::Null => {
                    resolved.push(TextPart::Null);
                    continue;
                }
                Part::Field(reference) => {
                    let found = self.field(field, reference)?;
                    resolved.push(TextPart::Field(found));
                    continue;
                }
                Part::GeneratedId(reference) => {
                    let found = self.field(field, reference)?;
                    // The shards of an outbox are told apart by the number behind the table's name.
                    let shard = self.variable(Variable::TableSuffix).parse::<u64>().unwrap_or(0);
                    let number = self.route.outbox_id.wrapping_add(shard);
                    resolved.push(TextPart::GeneratedId(GeneratedId { field: found, number }));
                    continue;
                }
            };
            match resolved.last_mut() {
                Some(TextPart::Literal(before)) => *before = format!("{before}{literal}").into(),
                _ => resolved.push(TextPart::Literal(literal.into())),
            }
        }
        Ok(resolved.into())
    }

    fn variable(&self, variable: Variable) -> &str {
        let rest = || self.route.rest.as_ref().and_then(|glob| glob.rest(&self.label)).unwrap_or_default();
        match variable {
            Variable::Table => self.table,
            Variable::Schema => self.schema,
            Variable::Prefix => &self.route.topic_prefix,
            Variable::TableSuffix | Variable::PrefixRest => rest(),
        }
    }

    /// A listed column: `None` when it is missing and that is allowed.
    fn listed(&mut self, field: &'static str, reference: &Reference) -> Result<Option<Field>, PlanError> {
        match self.field(field, reference) {
            Err(error) if self.route.ignores_missing && error.kind == Kind::ColumnMissing => Ok(None),
            found => found.map(Some),
        }
    }

    fn headers(&mut self) -> Result<Box<[HeaderStep]>, PlanError> {
        let route = self.route;
        let mut steps = Vec::new();
        for item in &route.headers {
            match item {
                HeaderItem::Constant { name, value } => {
                    steps.push(HeaderStep::Constant { name: name.as_str().into(), value: value.as_str().into() });
                }
                HeaderItem::Field { name, reference } => {
                    if let Some(field) = self.listed("headers", reference)? {
                        let keeps_null = !reference.is_optional && reference.pointer.is_none();
                        let name = name.as_str().into();
                        steps.push(match route.contract.header_type(&field) {
                            Some(kind) => HeaderStep::Connect { name, field, kind },
                            None => HeaderStep::Field { name, field, keeps_null },
                        });
                    }
                }
                HeaderItem::Entries { reference, reserved } => {
                    if let Some(field) = self.listed("headers", reference)? {
                        if matches!(field.form, Form::Bytea | Form::Bool) {
                            return Err(self.wrong_type("headers", &field, "entries need a json, jsonb or text column"));
                        }
                        let reserved = reserved.iter().map(|name| name.as_str().into()).collect();
                        steps.push(HeaderStep::Entries { field, reserved });
                    }
                }
                HeaderItem::Arrays { names, values } => {
                    if let Some((names, values)) = self.listed("headers", names)?.zip(self.listed("headers", values)?) {
                        steps.push(HeaderStep::Arrays { names, values });
                    }
                }
                HeaderItem::Int64(name, reference) => {
                    if let Some(field) = self.listed("headers", reference)? {
                        if !matches!(field.type_oid, oid::INT2 | oid::INT4 | oid::INT8) && !is_raw_json(&field) {
                            return Err(self.wrong_type("headers", &field, "int64be needs an integer column"));
                        }
                        steps.push(HeaderStep::Int64 { name: name.as_str().into(), field });
                    }
                }
                HeaderItem::Time { name, reference, form } => {
                    if let Some(field) = self.listed("headers", reference)? {
                        if !matches!(field.type_oid, oid::TIMESTAMP | oid::TIMESTAMPTZ) {
                            return Err(self.wrong_type("headers", &field, "time needs a timestamp or timestamptz column"));
                        }
                        steps.push(HeaderStep::Time { name: name.as_str().into(), field, form: *form });
                    }
                }
                // The route has put the text in its place.
                HeaderItem::SourceName(_) => {}
            }
        }
        for (name, reference) in &route.trace {
            if let Some(field) = self.optional(name, Some(reference))? {
                steps.push(HeaderStep::Field { name: (*name).into(), field, keeps_null: false });
            }
        }
        if let Some(field) = self.optional("trace_properties", route.trace_properties.as_ref())? {
            if matches!(field.form, Form::Bytea | Form::Bool) {
                return Err(self.wrong_type("trace_properties", &field, "it must be text"));
            }
            steps.push(HeaderStep::Trace(field));
        }
        Ok(steps.into())
    }
}

// === impl TopicStep ===

impl TopicStep {
    /// The column that the row is routed by; the first one where there are several.
    fn routing(&self) -> Option<&Field> {
        match self {
            TopicStep::Rewrite(field) => Some(field),
            TopicStep::Text { text, .. } => text.alternatives.iter().flatten().find_map(|part| match part {
                TextPart::Field(field) => Some(field),
                _ => None,
            }),
        }
    }
}

/// The json and jsonb columns.
fn documents(relation: &Relation) -> Box<[usize]> {
    let is_document = |column: &relay_core::Column| matches!(column.type_oid.0, oid::JSON | oid::JSONB);
    (0..).zip(&relation.columns).filter(|(_, column)| is_document(column)).map(|(index, _)| index).collect()
}

/// Whether what is read is raw JSON, whose own form tells its type.
pub(crate) fn is_raw_json(field: &Field) -> bool {
    field.form == Form::Member || field.pointer.is_some()
}
