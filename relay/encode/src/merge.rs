//! An updated row whose long values were not sent again, made whole from the old one.

use relay_core::{Cell, Row, Value};

/// Whether the row leaves a value out.
pub(crate) fn has_unchanged(row: &Row<'_>) -> bool {
    (0..row.len()).any(|index| row.get(index) == Some(Value::Unchanged))
}

/// The new row, with what it leaves out from the old one. An outbox whose updates count is rare, and long values in it rarer.
pub(crate) fn merged(old: &Row<'_>, new: &Row<'_>) -> (Vec<u8>, Vec<Cell>) {
    let (mut bytes, mut cells) = (Vec::new(), Vec::new());
    for index in 0..new.len() {
        let value = match new.get(index) {
            Some(Value::Unchanged) => old.get(index),
            value => value,
        };
        let (start, length) = match value {
            Some(Value::Text(text) | Value::Binary(text)) => (bytes.len(), text.len()),
            _ => (0, 0),
        };
        // A row fits into a frame, and a frame's length into 31 bits.
        let (start, len) = (u32::try_from(start).unwrap_or(u32::MAX), u32::try_from(length).unwrap_or(u32::MAX));
        cells.push(match value {
            Some(Value::Text(text)) => {
                bytes.extend_from_slice(text);
                Cell::Text { start, len }
            }
            Some(Value::Binary(text)) => {
                bytes.extend_from_slice(text);
                Cell::Binary { start, len }
            }
            Some(Value::Null) => Cell::Null,
            Some(Value::Unchanged) | None => Cell::Unchanged,
        });
    }
    (bytes, cells)
}
