//! An outbox row as a CloudEvent: where its attributes come from, and how its payload becomes the data (section 13).

use crate::binary;
use crate::cloudevents::{self, Attributes, Time};
use crate::error::PlanError;
use crate::field::{Field, Form, Piece};
use crate::json;
use crate::plan::is_raw_json;
use crate::settings::FormatSettings;
use crate::template::Reference;
use relay_core::{Event, Poison, RelayPos, Row};

/// What an `[[outbox]]` with `format = "cloudevents"` says of its events.
#[derive(Clone, Debug)]
pub(crate) struct CloudRule {
    source: Box<str>,
    content_type: Box<str>,
    has_partition_key: bool,
    is_structured: bool,
    event_type: Option<Reference>,
    data_schema: Option<Reference>,
    trace: Vec<(&'static str, Reference)>,
}

/// The rule with its columns found.
#[derive(Debug)]
pub(crate) struct CloudStep {
    source: Box<str>,
    content_type: Box<str>,
    has_partition_key: bool,
    is_structured: bool,
    event_type: Option<Field>,
    data_schema: Option<Field>,
    trace: [Option<Field>; 2],
}

/// Texts of one row's attributes.
#[derive(Debug, Default)]
pub(crate) struct CloudScratch {
    pub(crate) id: Vec<u8>,
    key: Vec<u8>,
    event_type: Vec<u8>,
    data_schema: Vec<u8>,
    trace: [Vec<u8>; 2],
}

/// What is known of a row beside its columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'a> {
    pub(crate) position: RelayPos<'a>,
    pub(crate) us: i64,
    /// Whether the data is JSON.
    pub(crate) is_json: bool,
}

// === impl CloudRule ===

impl CloudRule {
    pub(crate) fn new(
        format: &FormatSettings,
        event_type: Option<Reference>,
        data_schema: Option<Reference>,
        trace: Vec<(&'static str, Reference)>,
    ) -> Self {
        let source = match format.cloudevents_source.as_str() {
            "" => format!("/relay/{}", format.pipeline),
            source => source.to_owned(),
        };
        Self {
            source: source.into(),
            content_type: format.cloudevents_content_type.as_str().into(),
            has_partition_key: format.cloudevents_partitionkey,
            is_structured: format.cloudevents_mode == "structured",
            event_type,
            data_schema,
            trace,
        }
    }

    /// Finds the columns by `find`, which gives `None` for one that may be missing.
    pub(crate) fn compile(
        &self,
        mut find: impl FnMut(&'static str, Option<&Reference>) -> Result<Option<Field>, PlanError>,
    ) -> Result<CloudStep, PlanError> {
        let named = |name: &str| self.trace.iter().find(|(known, _)| *known == name).map(|(_, reference)| reference);
        Ok(CloudStep {
            source: self.source.clone(),
            content_type: self.content_type.clone(),
            has_partition_key: self.has_partition_key,
            is_structured: self.is_structured,
            event_type: find("type", self.event_type.as_ref())?,
            data_schema: find("dataschema", self.data_schema.as_ref())?,
            trace: [find("traceparent", named("traceparent"))?, find("tracestate", named("tracestate"))?],
        })
    }
}

// === impl CloudStep ===

impl CloudStep {
    /// Writes the headers and, in structured mode, the beginning of the value; `true` = the value is open and waits for its data.
    pub(crate) fn write_headers(
        &self,
        moment: Moment<'_>,
        row: &Row<'_>,
        event: &mut Event,
        scratch: &mut CloudScratch,
    ) -> Result<(), Poison> {
        if self.is_structured {
            event.header("content-type", Some(cloudevents::STRUCTURED.as_bytes()));
            return Ok(());
        }
        self.attributes(moment, row, event.key(), scratch)?.write_headers(event);
        Ok(())
    }

    /// Whether the value carries the attributes.
    pub(crate) fn is_structured(&self) -> bool {
        self.is_structured
    }

    /// Structured mode: the value, whose data is what was found.
    pub(crate) fn write_value(
        &self,
        moment: Moment<'_>,
        row: &Row<'_>,
        found: Option<(&Field, Piece<'_>)>,
        event: &mut Event,
        scratch: &mut CloudScratch,
    ) -> Result<(), Poison> {
        let attributes = self.attributes(moment, row, event.key(), scratch)?;
        let out = event.out();
        attributes.write_members(out);
        match found {
            None => {}
            Some((field, Piece::Text(text) | Piece::Json(text))) if !field.is_base64 && is_json(field) => {
                out.extend_from_slice(b",\"data\":");
                out.extend_from_slice(field.check(text)?.as_bytes());
            }
            Some((field, Piece::Text(text))) if !field.is_base64 => {
                out.extend_from_slice(b",\"data\":");
                json::write_string(field.check(text)?, out);
            }
            Some((field, piece)) => {
                let mut bytes = Vec::new();
                field.write_text(piece, &mut bytes)?;
                out.extend_from_slice(b",\"data_base64\":\"");
                binary::write_base64(&bytes, out);
                out.push(b'"');
            }
        }
        out.push(b'}');
        Ok(())
    }

    fn attributes<'a>(
        &'a self,
        moment: Moment<'_>,
        row: &Row<'_>,
        key: Option<&[u8]>,
        scratch: &'a mut CloudScratch,
    ) -> Result<Attributes<'a>, Poison> {
        let CloudScratch { id, key: key_text, event_type, data_schema, trace: [parent, state] } = scratch;
        let read = |field: &Option<Field>, out: &mut Vec<u8>| {
            out.clear();
            match field {
                Some(field) => field.write_text(field.read(row)?, out).map(|is_there| is_there && !out.is_empty()),
                None => Ok(false),
            }
        };
        let has_type = read(&self.event_type, event_type)?;
        let has_schema = read(&self.data_schema, data_schema)?;
        let has_parent = read(&self.trace[0], parent)?;
        let has_state = read(&self.trace[1], state)?;
        key_text.clear();
        // A key of bytes is no text, and an attribute must be.
        let key = key.filter(|key| std::str::from_utf8(key).is_ok());
        key_text.extend_from_slice(key.unwrap_or_default());
        let key = key.map(|_| key_text.as_slice());
        Ok(Attributes {
            id,
            source: &self.source,
            event_type: if has_type { event_type } else { b"outbox" },
            time: Time { us: moment.us },
            subject: key,
            content_type: if moment.is_json { "application/json" } else { &self.content_type },
            data_schema: has_schema.then_some(data_schema.as_slice()),
            partition_key: key.filter(|_| self.has_partition_key),
            sequence: match moment.position {
                RelayPos::Log(position) => Some((position.commit_lsn, position.seq)),
                _ => None,
            },
            trace: [has_parent.then_some(parent.as_slice()), has_state.then_some(state.as_slice())],
        })
    }
}

fn is_json(field: &Field) -> bool {
    field.form == Form::Json || is_raw_json(field)
}
