//! A row with text that is not UTF-8, made over as `format.invalid_utf8` says: rare, so it is copied.

use crate::binary;
use crate::types::InvalidUtf8;
use relay_core::{Cell, Row, Value};

/// The row with every wrong text replaced. `is_json` tells the columns, by index, whose text must stay a JSON document.
pub(crate) fn readable(row: &Row<'_>, policy: InvalidUtf8, is_json: impl Fn(usize) -> bool) -> (Vec<u8>, Vec<Cell>) {
    let (mut bytes, mut cells) = (Vec::new(), Vec::new());
    for index in 0..row.len() {
        let start = bytes.len();
        let value = row.get(index);
        match value {
            Some(Value::Text(text)) => write_text(text, policy, is_json(index), &mut bytes),
            Some(Value::Binary(binary)) => bytes.extend_from_slice(binary),
            Some(Value::Null | Value::Unchanged) | None => {}
        }
        // Base64 and U+FFFD make a text longer; one that no cell can tell of any more is no text.
        let span = u32::try_from(start).ok().zip(u32::try_from(bytes.len() - start).ok());
        cells.push(match (value, span) {
            (Some(Value::Text(_)), Some((start, len))) => Cell::Text { start, len },
            (Some(Value::Binary(_)), Some((start, len))) => Cell::Binary { start, len },
            (Some(Value::Null), _) => Cell::Null,
            _ => Cell::Unchanged,
        });
    }
    (bytes, cells)
}

fn write_text(text: &[u8], policy: InvalidUtf8, is_json: bool, out: &mut Vec<u8>) {
    match (simdutf8::basic::from_utf8(text), policy) {
        (Ok(_), _) | (_, InvalidUtf8::Poison) => out.extend_from_slice(text),
        (_, InvalidUtf8::Replace) => out.extend_from_slice(String::from_utf8_lossy(text).as_bytes()),
        (_, InvalidUtf8::Base64) => {
            // The digits of base64 need no escape.
            let quote: &[u8] = if is_json { b"\"" } else { b"" };
            out.extend_from_slice(quote);
            binary::write_base64(text, out);
            out.extend_from_slice(quote);
        }
    }
}
