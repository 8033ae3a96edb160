//! Logical messages in the row-capture style, op `m` (event-format.md, section 6).

use super::context::Context;
use super::encode::{Encoded, write_block};
use super::format::Format;
use super::number::write_i64;
use super::rule::Captures;
use super::schema;
use super::source::{SharedSource, Source, quoted};
use crate::encode::FilterReason;
use crate::field::oid;
use crate::json;
use crate::types::ColumnType;
use relay_core::catalog::Catalog;
use relay_core::{Change, Event, Oid, Poison, PoisonReason};
use std::cell::RefCell;
use std::sync::Arc;

/// What turns logical messages into events.
#[derive(Debug)]
pub struct LogicalMessages {
    format: Arc<Format>,
    topic: Box<str>,
    source: Source,
    /// How the content is written: as a bytea column is.
    content: ColumnType,
    key_head: Box<[u8]>,
    value_head: Box<[u8]>,
    /// Debezium's CloudEvents converter knows no message: its value is null.
    has_value: bool,
    /// The content as PostgreSQL prints bytea.
    text: RefCell<Vec<u8>>,
}

// === impl LogicalMessages ===

impl LogicalMessages {
    /// The messages of the pipeline that has these captures, in the database of that name.
    #[must_use]
    pub fn new(captures: &Captures, database: &str) -> Self {
        let format = Arc::clone(&captures.format);
        let content = ColumnType::new(Oid(oid::BYTEA), -1, None, &Catalog::default(), &format.modes);
        let head = |schema: &dyn Fn(&mut Vec<u8>)| if format.schemas { schema::wrap(schema) } else { Box::default() };
        let key_head = head(&|out| out.extend_from_slice(schema::MESSAGE_KEY.as_bytes()));
        let value_head = head(&|out| schema::write_message(&content, out));
        Self {
            topic: format.message_topic.clone(),
            source: Source::new(&format.version, &format.prefix, database, "", ""),
            content,
            key_head,
            value_head,
            has_value: !(format.is_debezium && captures.makes_cloudevents()),
            text: RefCell::default(),
            format,
        }
    }

    /// Encodes a message into `event`, which is cleared first; other changes are no message.
    ///
    /// # Errors
    /// As [`super::CapturePlan::encode`].
    pub fn encode(&self, context: &Context<'_>, change: &Change<'_>, event: &mut Event) -> Result<Encoded, Poison> {
        event.clear();
        let Change::Message { prefix, content, .. } = change else {
            return Ok(Encoded::Filtered(FilterReason::Operation));
        };
        event.out().extend_from_slice(self.topic.as_bytes());
        event.end_topic();
        event.out().extend_from_slice(&self.key_head);
        event.out().extend_from_slice(b"{\"prefix\":");
        json::write_string(prefix, event.out());
        event.out().extend_from_slice(if self.key_head.is_empty() { b"}" } else { b"}}" });
        event.end_key();
        self.format.write_own_headers(context.pos, event);
        event.timestamp_ms = self.format.timestamp_ms(context);
        if self.has_value {
            if let Err(poison) = self.write_value(context, prefix, content, event.out()) {
                event.abandon_piece();
                return Err(poison);
            }
            event.end_value();
        }
        Ok(Encoded::Last)
    }

    fn write_value(&self, context: &Context<'_>, prefix: &str, content: &[u8], out: &mut Vec<u8>) -> Result<(), Poison> {
        out.extend_from_slice(&self.value_head);
        out.extend_from_slice(b"{\"op\":\"m\",\"ts_ms\":");
        write_i64(context.now_ns.div_euclid(1_000_000), out);
        out.extend_from_slice(b",\"source\":");
        self.source.write(context, &mut SharedSource::default(), out);
        out.extend_from_slice(b",\"transaction\":");
        match context.order {
            Some(order) => write_block(context, order, out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"message\":{\"prefix\":");
        json::write_string(prefix, out);
        out.extend_from_slice(b",\"content\":");
        let text = &mut *self.text.borrow_mut();
        text.clear();
        text.extend_from_slice(b"\\x");
        for byte in content {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            text.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        let written = self.content.write(text, out);
        written.map_err(|poison| Poison::new(PoisonReason::Encode, format!("the message's content {}", poison.message)))?;
        out.extend_from_slice(if self.value_head.is_empty() { b"}}" } else { b"}}}" });
        Ok(())
    }
}

/// The key of a heartbeat: `{"serverName":"<prefix>"}`.
pub(super) fn server_key(prefix: &str) -> Vec<u8> {
    [b"{\"serverName\":", &*quoted(prefix), b"}"].concat()
}
