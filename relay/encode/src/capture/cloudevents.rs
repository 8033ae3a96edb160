//! A change as a CloudEvent: its attributes in headers or in the value, or as Debezium's converter writes them (section 13).

use super::context::Context;
use super::format::{Format, TypePart};
use super::plan::{CapturePlan, Scratch};
use super::source::{SourceField, quoted};
use super::step::{Record, Sides, Step};
use crate::cloudevents::{self, Attributes, Time};
use relay_core::{Event, Poison, Relation, RelayPos};

/// What is constant of the events of a table.
#[derive(Debug)]
pub(super) struct CloudEventsBody {
    /// The attribute `type` of each operation: created, updated, deleted, read, truncated.
    types: [Box<str>; 5],
    source: Box<str>,
    /// Debezium's form: `,"iodebezium<field>":` for every field of `source`.
    fields: Box<[(Box<[u8]>, SourceField)]>,
    /// Debezium's form: `{"id":"name:<prefix>;lsn:`, and from `source` to `"time":"`.
    debezium: [Box<[u8]>; 2],
}

const OPERATIONS: [&str; 5] = ["created", "updated", "deleted", "read", "truncated"];

// === impl CloudEventsBody ===

impl CloudEventsBody {
    pub(super) fn new(format: &Format, relation: &Relation) -> Self {
        let (prefix, schema, table) = (&*format.prefix, &*relation.schema, &*relation.name);
        let default = || {
            use TypePart::{Literal, Operation, Prefix, Schema, Table};
            let dot = || Literal(".".to_owned());
            vec![Prefix, dot(), Schema, dot(), Table, dot(), Operation]
        };
        let parts = format.cloudevents_type.clone().unwrap_or_else(default);
        let type_of = |operation: &str| {
            let text = |part: &TypePart| match part {
                TypePart::Literal(text) => text.clone(),
                TypePart::Prefix => prefix.to_owned(),
                TypePart::Schema => schema.to_owned(),
                TypePart::Table => table.to_owned(),
                TypePart::Operation => operation.to_owned(),
            };
            parts.iter().map(text).collect::<String>().into_boxed_str()
        };
        let member = |(name, field): (&str, SourceField)| {
            let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
            (format!(",\"iodebezium{name}\":").into_bytes().into_boxed_slice(), field)
        };
        let id = quoted(&format!("name:{prefix};lsn:"));
        let source = quoted(&format!("/debezium/postgresql/{prefix}"));
        let id = [b"{\"id\":", id.strip_suffix(b"\"").unwrap_or_default()].concat();
        let rest = r#","specversion":"1.0","type":"io.debezium.connector.postgresql.DataChangeEvent","time":""#;
        let rest = [b"\",\"source\":", &*source, rest.as_bytes()].concat();
        Self {
            types: OPERATIONS.map(type_of),
            source: format.cloudevents_source.clone(),
            fields: SourceField::ALL.map(member).into(),
            debezium: [id.into(), rest.into()],
        }
    }

    fn type_of(&self, op: u8) -> &str {
        let [created, updated, deleted, read, truncated] = &self.types;
        match op {
            b'c' => created,
            b'u' => updated,
            b'd' => deleted,
            b'r' => read,
            _ => truncated,
        }
    }
}

// === impl CapturePlan ===

impl CapturePlan {
    /// The attributes of a record that is no tombstone; its key was written before, and stands without schema in `scratch`.
    fn attributes<'a>(
        &'a self,
        body: &'a CloudEventsBody,
        context: &Context<'_>,
        op: u8,
        id: &'a [u8],
        key: Option<&'a [u8]>,
    ) -> Attributes<'a> {
        let (lsn, seq) = match context.pos {
            RelayPos::Log(position) => (position.commit_lsn, position.seq),
            pos => (pos.lsn().unwrap_or_default(), 0),
        };
        Attributes {
            id,
            source: &body.source,
            event_type: body.type_of(op).as_bytes(),
            time: Time { us: context.transaction.commit_time_us },
            subject: key,
            content_type: "application/json",
            data_schema: None,
            partition_key: key.filter(|_| self.rule.format.cloudevents_partitionkey),
            sequence: Some((lsn, seq)),
            trace: [None, None],
        }
    }

    /// Headers that carry the attributes, or only say that the value does.
    pub(super) fn write_cloudevents_headers(
        &self,
        body: &CloudEventsBody,
        record: &Record<'_>,
        scratch: &mut Scratch,
        event: &mut Event,
    ) -> Result<(), Poison> {
        let (context, step) = (&record.context, record.step);
        let format = &self.rule.format;
        if format.is_debezium || step == Step::Tombstone {
            return Ok(());
        }
        let has_key = self.write_event_key(step, &record.sides, scratch)?;
        scratch.id.clear();
        record.pos().write(&mut scratch.id);
        if matches!(context.pos, RelayPos::Snapshot(_) | RelayPos::SnapshotRow { .. }) {
            scratch.id.push(b'/');
            scratch.id.extend_from_slice(self.label.as_bytes());
            if has_key {
                scratch.id.push(b'/');
                scratch.id.extend_from_slice(&scratch.new_key);
            }
        }
        if format.is_structured {
            event.header("content-type", Some(cloudevents::STRUCTURED.as_bytes()));
            return Ok(());
        }
        let key = has_key.then_some(scratch.new_key.as_slice());
        self.attributes(body, context, step.op(), &scratch.id, key).write_headers(event);
        Ok(())
    }

    /// The key without schema, into the scratch; false when there is none.
    fn write_event_key(&self, step: Step, sides: &Sides<'_>, scratch: &mut Scratch) -> Result<bool, Poison> {
        let Scratch { seen, new_key, .. } = scratch;
        new_key.clear();
        let Some(key) = &self.key else { return Ok(false) };
        match (step, sides.new_cells(), sides.old) {
            (Step::New(_), Some(cells), _) => key.write_new(&cells, seen, new_key)?,
            (_, _, Some(old)) => key.write_old(old, seen, new_key)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The value: the data alone, or the attributes and the data.
    pub(super) fn write_cloudevents_value(
        &self,
        body: &CloudEventsBody,
        record: &Record<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), Poison> {
        let (context, step) = (&record.context, record.step);
        let format = &self.rule.format;
        let is_alone = !format.is_debezium && !format.is_structured;
        if format.is_debezium {
            self.write_debezium_attributes(body, context, step.op(), out);
        } else if format.is_structured {
            let key = Some(scratch.new_key.as_slice()).filter(|key| !key.is_empty());
            self.attributes(body, context, step.op(), &scratch.id, key).write_members(out);
        }
        if !is_alone {
            out.extend_from_slice(b",\"data\":");
        }
        out.extend_from_slice(b"{\"before\":");
        self.write_images(step, &record.sides, scratch, out)?;
        out.extend_from_slice(if is_alone { b"}" } else { b"}}" });
        Ok(())
    }

    /// The attributes as Debezium's converter writes them, up to the data.
    fn write_debezium_attributes(&self, body: &CloudEventsBody, context: &Context<'_>, op: u8, out: &mut Vec<u8>) {
        let [id, rest] = &body.debezium;
        out.extend_from_slice(id);
        self.source.write_field(SourceField::Lsn, context, out);
        out.extend_from_slice(b";txId:");
        self.source.write_field(SourceField::TxId, context, out);
        out.extend_from_slice(b";sequence:");
        let sequence = out.len();
        self.source.write_field(SourceField::Sequence, context, out);
        // Its quotes go, what it escapes inside stays escaped.
        out.remove(sequence);
        out.pop();
        out.extend_from_slice(rest);
        Time { us: context.transaction.commit_time_us }.write_ms(out);
        out.extend_from_slice(b"\",\"datacontenttype\":\"application/json\",\"iodebeziumop\":\"");
        out.push(op);
        out.push(b'"');
        for (member, field) in &body.fields {
            out.extend_from_slice(member);
            let start = out.len();
            self.source.write_field(*field, context, out);
            if field.is_integer() && out.get(start..) != Some(b"null") {
                out.insert(start, b'"');
                out.push(b'"');
            }
        }
        match context.order {
            None => out.extend_from_slice(
                b",\"iodebeziumtxid\":null,\"iodebeziumtxtotalorder\":null,\"iodebeziumtxdatacollectionorder\":null",
            ),
            Some(order) => {
                out.extend_from_slice(b",\"iodebeziumtxid\":\"");
                context.write_transaction_id(out);
                out.extend_from_slice(b"\",\"iodebeziumtxtotalorder\":\"");
                super::number::write_u64(order.total, out);
                out.extend_from_slice(b"\",\"iodebeziumtxdatacollectionorder\":\"");
                super::number::write_u64(order.in_table, out);
                out.push(b'"');
            }
        }
    }
}
