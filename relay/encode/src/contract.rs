//! What Debezium's contract, and values with schemas, change about outbox records (event-format.md, sections 10.4, 11.3 and 17).

use crate::error::RouteError;
use crate::field::{Field, Piece, oid};
use crate::json;
use crate::plan::{Text, TextPart, is_raw_json};
use crate::settings::FormatSettings;
use crate::types::{ColumnType, InvalidUtf8, Modes, SchemaField};
use relay_core::catalog::Catalog;
use relay_core::{Event, Oid, Poison};

/// The keys of `[format]` that outboxes read beside their own.
#[derive(Debug)]
pub(crate) struct Contract {
    /// `compat = "debezium"`.
    pub(crate) is_debezium: bool,
    pub(crate) schemas: bool,
    /// D6: key and value pass JsonConverter, as they do for an outbox that says nothing about its encoding.
    pub(crate) is_converted: bool,
    prefix: Box<str>,
    run_id: Box<str>,
    modes: Modes,
}

/// A key as JsonConverter writes it.
#[derive(Debug)]
pub(crate) struct KeyForm {
    /// The column's own type; `None` where the key is made of several pieces, which is text.
    kind: Option<ColumnType>,
    /// `{"schema":…,"payload":`.
    head: Box<[u8]>,
}

// === impl Contract ===

impl Contract {
    /// `sets_encoding`: whether the outbox has a `value_encoding` of its own.
    pub(crate) fn new(format: &FormatSettings, sets_encoding: bool) -> Result<Self, RouteError> {
        let is_debezium = format.compat == "debezium";
        let prefix = if format.topic_prefix.is_empty() { &format.pipeline } else { &format.topic_prefix };
        Ok(Self {
            is_debezium,
            schemas: format.schemas,
            is_converted: is_debezium && !sets_encoding,
            prefix: prefix.as_str().into(),
            run_id: format.run_id.as_str().into(),
            modes: Modes::new(format)?,
        })
    }

    /// What text that is not UTF-8 becomes; `None` = nothing, it is poison.
    pub(crate) fn mends(&self) -> Option<InvalidUtf8> {
        (self.modes.invalid_utf8 != InvalidUtf8::Poison).then_some(self.modes.invalid_utf8)
    }

    /// The context headers, which stand before all others.
    pub(crate) fn write_context(&self, event: &mut Event) {
        if self.is_debezium {
            write_context(&self.prefix, &self.run_id, event);
        }
    }

    /// `{"schema":…,"payload":` of a value from that column; empty where values carry no schema.
    pub(crate) fn value_head(&self, field: Option<&Field>) -> Box<[u8]> {
        match field {
            Some(field) if self.schemas => head(&self.column_type(field), true),
            _ => Box::default(),
        }
    }

    /// How the key is written; `None` = as its text.
    pub(crate) fn key_form(&self, key: &Text) -> Option<KeyForm> {
        if !self.is_converted {
            return None;
        }
        let kind = single_field(key).map(|field| self.column_type(field));
        let text = ColumnType::new(Oid(oid::TEXT), -1, None, &Catalog::default(), &self.modes);
        let head = if self.schemas { head(kind.as_ref().unwrap_or(&text), false) } else { Box::default() };
        Some(KeyForm { kind, head })
    }

    /// The type of a column whose header is the Connect value as text, where that is another text than the column's (D32).
    pub(crate) fn header_type(&self, field: &Field) -> Option<ColumnType> {
        // float4, float8, date, time, timestamp.
        let differs = matches!(field.type_oid, 700 | 701 | 1082 | 1083 | 1114) && field.pointer.is_none();
        (self.is_debezium && differs).then(|| self.column_type(field))
    }

    /// How section 8 writes the column; a type that only the catalog knows is its text, and what is found in a document is one.
    pub(crate) fn column_type(&self, field: &Field) -> ColumnType {
        let (oid, modifier) = if is_raw_json(field) { (oid::JSONB, -1) } else { (field.type_oid, field.type_modifier) };
        ColumnType::new(Oid(oid), modifier, None, &Catalog::default(), &self.modes)
    }
}

/// The four headers `__debezium.context.…`.
pub(crate) fn write_context(prefix: &str, run_id: &str, event: &mut Event) {
    let values = [
        ("__debezium.context.connectorLogicalName", prefix),
        ("__debezium.context.taskId", "0"),
        ("__debezium.context.connectorName", "postgresql"),
        ("__debezium.context.runId", run_id),
    ];
    for (name, value) in values {
        event.header(name, Some(value.as_bytes()));
    }
}

fn single_field(key: &Text) -> Option<&Field> {
    match key.alternatives.first().map(|parts| &**parts) {
        Some([TextPart::Field(field)]) if key.alternatives.len() == 1 && field.pointer.is_none() && !field.is_base64 => {
            Some(field)
        }
        _ => None,
    }
}

fn head(kind: &ColumnType, is_optional: bool) -> Box<[u8]> {
    let mut out = b"{\"schema\":".to_vec();
    kind.write_schema(&SchemaField { name: None, is_optional, default: None, mask: None }, &mut out);
    out.extend_from_slice(b",\"payload\":");
    out.into()
}

// === impl KeyForm ===

impl KeyForm {
    /// Turns the text of the key, which is the open piece, into JSON; `None` = there is no key. `scratch` is room for the text.
    pub(crate) fn rewrite(
        &self,
        key: &Text,
        row: &relay_core::Row<'_>,
        is_there: bool,
        event: &mut Event,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Poison> {
        scratch.clear();
        scratch.extend_from_slice(event.open_piece());
        event.abandon_piece();
        let out = event.out();
        out.extend_from_slice(&self.head);
        let typed = self.kind.as_ref().zip(single_field(key));
        match typed {
            _ if !is_there => out.extend_from_slice(b"null"),
            Some((kind, field)) => match field.read(row)? {
                Piece::Text(text) | Piece::Hex(text) => {
                    // A boolean's text has been spelled out.
                    let text = match text {
                        b"true" if field.type_oid == oid::BOOL => b"t",
                        b"false" if field.type_oid == oid::BOOL => b"f",
                        text => text,
                    };
                    kind.write(text, out).map_err(|poison| field.poison(&poison.message))?;
                }
                _ => json::write_string(field.check(scratch)?, out),
            },
            None => json::write_string(std::str::from_utf8(scratch).unwrap_or_default(), out),
        }
        if !self.head.is_empty() {
            event.out().push(b'}');
        }
        Ok(())
    }
}
