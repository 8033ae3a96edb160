//! Payload and columns side by side in an object, and its Connect schema (event-format.md, section 10.3).

use crate::field::{Field, Form, Piece};
use crate::json;
use crate::payload::write_json_string;
use crate::plan::is_raw_json;
use crate::types::{ColumnType, SchemaField};
use relay_core::{Poison, Row};

/// `{"payload":…,"<alias>":<column>,…}`.
#[derive(Debug)]
pub(crate) struct Envelope {
    /// How the payload is written; `None` = as a JSON string.
    payload: Option<ColumnType>,
    /// A JSON payload, and with a schema any JSON, is a JSON string inside the object too (D6).
    is_converted: bool,
    members: Box<[EnvelopeMember]>,
    schema: Option<EnvelopeSchema>,
}

/// A member beside the payload.
#[derive(Debug)]
pub(crate) struct EnvelopeMember {
    /// `,"name":`.
    pub(crate) name: Box<[u8]>,
    pub(crate) field: Field,
    /// How its column is written; `None` = as the piece stands.
    pub(crate) kind: Option<ColumnType>,
}

/// The schema of the object, which the row has a part in.
#[derive(Debug)]
pub(crate) struct EnvelopeSchema {
    /// From `{"schema":` to the inside of the struct's name.
    pub(crate) head: Box<[u8]>,
    /// Its text is part of the name.
    pub(crate) routing: Option<Field>,
    pub(crate) version: Option<Field>,
}

// === impl Envelope ===

impl Envelope {
    /// `payload`: the column of the payload; `column_type`: how section 8 writes a column.
    pub(crate) fn new(
        members: Box<[EnvelopeMember]>,
        payload: Option<&Field>,
        is_converted: bool,
        schema: Option<EnvelopeSchema>,
        column_type: impl Fn(&Field) -> ColumnType,
    ) -> Self {
        let is_typed =
            |field: &&Field| schema.is_some() && field.form != Form::Json && field.form != Form::Bool && !is_raw_json(field);
        let payload = payload.filter(is_typed).map(column_type);
        Self { payload, is_converted: is_converted || schema.is_some(), members, schema }
    }

    pub(crate) fn write(
        &self,
        payload: Option<(&Field, Piece<'_>)>,
        row: &Row<'_>,
        out: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Poison> {
        if let Some(schema) = &self.schema {
            schema.write(row, out, scratch)?;
        }
        out.extend_from_slice(b"{\"payload\":");
        match payload {
            None => out.extend_from_slice(b"null"),
            Some((field, piece)) => {
                let is_document = field.form == Form::Json || is_raw_json(field);
                let is_bare = if is_document { !self.is_converted } else { self.schema.is_some() && field.form == Form::Bool };
                write_member(field, piece, self.payload.as_ref(), is_bare, out, scratch)?;
            }
        }
        for EnvelopeMember { name, field, kind } in &self.members {
            out.extend_from_slice(name);
            let is_bare = self.schema.is_none() || !is_raw_json(field);
            write_member(field, field.read(row)?, kind.as_ref(), is_bare, out, scratch)?;
        }
        out.push(b'}');
        if self.schema.is_some() {
            out.push(b'}');
        }
        Ok(())
    }
}

/// By the rules of its type; else as it stands, if it is JSON or a boolean, or as a JSON string.
fn write_member(
    field: &Field,
    piece: Piece<'_>,
    kind: Option<&ColumnType>,
    is_bare: bool,
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
) -> Result<(), Poison> {
    match (piece, kind) {
        (Piece::Null | Piece::Absent, _) => out.extend_from_slice(b"null"),
        (Piece::Text(text) | Piece::Hex(text), Some(kind)) if !field.is_base64 => {
            kind.write(text, out).map_err(|poison| Poison::new(poison.reason, field.poison(&poison.message).message))?;
        }
        (Piece::Text(text) | Piece::Json(text), None) if !field.is_base64 && is_bare => {
            out.extend_from_slice(field.check(text)?.as_bytes());
        }
        (piece, _) => write_json_string(field, piece, out, scratch)?,
    }
    Ok(())
}

// === impl EnvelopeSchema ===

impl EnvelopeSchema {
    /// Renders what no row has a part in. `name`: what stands before the routing value; `fields`: each with its name, and whether it
    /// may be NULL.
    pub(crate) fn render(name: &str, fields: &[(&str, &Field, bool)], column_type: impl Fn(&Field) -> ColumnType) -> Box<[u8]> {
        let mut head = b"{\"schema\":{\"type\":\"struct\",\"fields\":[".to_vec();
        for (at, &(name, field, is_optional)) in fields.iter().enumerate() {
            if at > 0 {
                head.push(b',');
            }
            column_type(field).write_schema(&SchemaField { name: Some(name), is_optional, default: None, mask: None }, &mut head);
        }
        head.extend_from_slice(b"],\"optional\":false,\"name\":");
        json::write_string(name, &mut head);
        head.pop();
        head.into()
    }

    /// Up to the object.
    fn write(&self, row: &Row<'_>, out: &mut Vec<u8>, scratch: &mut Vec<u8>) -> Result<(), Poison> {
        out.extend_from_slice(&self.head);
        if let Some(field) = &self.routing {
            scratch.clear();
            if field.write_text(field.read(row)?, scratch)? {
                // The string's opening quote becomes the point, its closing one goes.
                let start = out.len();
                json::write_string(field.check(scratch)?, out);
                if let Some(quote) = out.get_mut(start) {
                    *quote = b'.';
                }
                out.pop();
            }
        }
        out.extend_from_slice(b".Value\"");
        if let Some(field) = &self.version {
            match field.read(row)? {
                Piece::Null | Piece::Absent => {}
                Piece::Text(text) | Piece::Json(text) if is_version(text) => {
                    out.extend_from_slice(b",\"version\":");
                    out.extend_from_slice(text);
                }
                _ => return Err(field.poison("is not the version of a schema (an int4)")),
            }
        }
        out.extend_from_slice(b"},\"payload\":");
        Ok(())
    }
}

/// An int32 as JSON.
fn is_version(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<i32>().is_ok_and(|number| number.to_string() == text))
}
