//! Decodes arbitrary bytes and checks what must hold for all of them; the fuzz target and a timed test both run it.

use crate::{Decoder, Message, OldTuple, PEEK_BYTES, TupleData, peek};
use relay_core::Cell;
use std::ops::Range;

/// Panics if `bytes` break an invariant of the decoder, outside or inside a stream block.
pub fn fuzz_body(bytes: &[u8]) {
    decode_once(bytes, Decoder::new);
    decode_once(bytes, Decoder::inside_stream);
}

fn decode_once(bytes: &[u8], start: fn() -> Decoder) {
    let (mut first, mut second) = (start(), start());
    let in_stream = first.in_stream();
    // The second decoder carries cells of another row: nothing of them may show.
    let _ = second.decode(b"I\0\0\0\x01N\0\x03nnn");
    let decoded = first.decode(bytes);
    assert_eq!(decoded, second.decode(bytes), "the same bytes decode to the same");
    let peeked = peek(bytes, in_stream);
    match decoded {
        Ok(message) => {
            let peeked = peeked.expect("what decodes can be peeked at");
            assert_eq!((peeked.tag, peeked.xid), (message.tag(), message.stream_xid()));
            assert_eq!(peek(&bytes[..bytes.len().min(PEEK_BYTES)], in_stream), Some(peeked));
            walk(&message, bytes);
            let is_in_stream = first.in_stream();
            assert_eq!(is_in_stream, expected_state(bytes, in_stream));
        }
        Err(error) => {
            assert!(error.offset() <= bytes.len(), "{error} points behind the message");
            assert_eq!(error.tag(), peeked.map(|peeked| peeked.tag));
            assert!(!error.to_string().is_empty());
            assert_eq!(first.in_stream(), in_stream, "an error leaves the state alone");
        }
    }
}

fn expected_state(bytes: &[u8], in_stream: bool) -> bool {
    match bytes.first() {
        Some(b'S') => true,
        Some(b'E') => false,
        _ => in_stream,
    }
}

fn walk(message: &Message<'_>, frame: &[u8]) {
    match message {
        Message::Insert(insert) => walk_tuple(&insert.new, frame),
        Message::Update(update) => {
            if let Some(OldTuple::Key(old) | OldTuple::Full(old)) = &update.old {
                walk_tuple(old, frame);
            }
            walk_tuple(&update.new, frame);
        }
        Message::Delete(delete) => walk_tuple(&delete.old.tuple(), frame),
        Message::Relation(relation) => {
            let owned = relation.to_relation();
            assert_eq!(relation.columns().len(), owned.columns.len());
            assert!(relation.columns().map(|column| column.to_column()).eq(owned.columns));
            assert!(relation.columns().all(|column| inside(frame, column.name.as_bytes())));
        }
        Message::Truncate(truncate) => {
            assert_eq!(truncate.oids().count(), truncate.oids().len());
            assert!(truncate.oids().len() * 4 < frame.len());
        }
        Message::Message(message) => {
            assert!(inside(frame, message.content) && inside(frame, message.prefix.as_bytes()));
        }
        _ => {}
    }
}

/// Cells follow one another without overlap, each value lies in the tuple, and the tuple lies in the frame.
fn walk_tuple(tuple: &TupleData<'_>, frame: &[u8]) {
    assert!(inside(frame, tuple.bytes()));
    assert_eq!(tuple.row().len(), tuple.len());
    let mut at = 0;
    for (index, cell) in tuple.cells().iter().enumerate() {
        let kind = tuple.bytes()[at];
        match *cell {
            Cell::Null => assert_eq!(kind, b'n'),
            Cell::Unchanged => assert_eq!(kind, b'u'),
            Cell::Text { .. } => assert_eq!(kind, b't'),
            Cell::Binary { .. } => assert_eq!(kind, b'b'),
        }
        at += 1;
        if let Cell::Text { start, len } | Cell::Binary { start, len } = *cell {
            assert_eq!(start as usize, at + 4, "a value starts behind its length");
            at = (start + len) as usize;
        }
        assert!(tuple.row().get(index).is_some(), "every cell lies in its tuple");
    }
    assert_eq!(at, tuple.bytes().len(), "cells account for every byte");
}

/// Whether `part` is a slice of `frame`, or empty.
fn inside(frame: &[u8], part: &[u8]) -> bool {
    let range = |bytes: &[u8]| -> Range<usize> {
        let Range { start, end } = bytes.as_ptr_range();
        start as usize..end as usize
    };
    let (outer, inner) = (range(frame), range(part));
    part.is_empty() || (outer.start <= inner.start && inner.end <= outer.end)
}
