//! The text format of COPY: a row's values in one line, most of them as they are.

use relay_core::Cell;

/// Finds the values of a line of COPY … TO STDOUT, with or without its line feed. Where a value had to be rewritten the cells are of
/// `scratch`, else of `line`; answers which.
pub fn split_line<'a>(line: &'a [u8], cells: &mut Vec<Cell>, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    cells.clear();
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let mut start = 0;
    for at in memchr::memchr2_iter(b'\t', b'\\', text) {
        if text[at] == b'\\' {
            // `\N` alone is NULL; any other backslash begins an escape.
            if at != start || text.get(at + 1) != Some(&b'N') || !matches!(text.get(at + 2), None | Some(b'\t')) {
                return unescape(text, cells, scratch);
            }
            continue;
        }
        cells.push(cell(text, start, at));
        start = at + 1;
    }
    cells.push(cell(text, start, text.len()));
    line
}

fn cell(text: &[u8], start: usize, end: usize) -> Cell {
    if &text[start..end] == b"\\N" {
        return Cell::Null;
    }
    Cell::Text { start: start as u32, len: (end - start) as u32 }
}

#[cold]
fn unescape<'a>(text: &[u8], cells: &mut Vec<Cell>, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    cells.clear();
    scratch.clear();
    for value in text.split(|byte| *byte == b'\t') {
        if value == b"\\N" {
            cells.push(Cell::Null);
            continue;
        }
        let start = scratch.len();
        let mut rest = value;
        while let Some(at) = memchr::memchr(b'\\', rest) {
            scratch.extend_from_slice(&rest[..at]);
            let (byte, taken) = escaped(&rest[at + 1..]);
            scratch.extend(byte);
            rest = &rest[at + 1 + taken..];
        }
        scratch.extend_from_slice(rest);
        cells.push(Cell::Text { start: start as u32, len: (scratch.len() - start) as u32 });
    }
    scratch
}

/// What stands behind a backslash: its byte, and how many bytes it takes up.
fn escaped(rest: &[u8]) -> (Option<u8>, usize) {
    match rest.first() {
        Some(b'b') => (Some(8), 1),
        Some(b'f') => (Some(12), 1),
        Some(b'n') => (Some(b'\n'), 1),
        Some(b'r') => (Some(b'\r'), 1),
        Some(b't') => (Some(b'\t'), 1),
        Some(b'v') => (Some(11), 1),
        Some(byte) => (Some(*byte), 1),
        None => (None, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_core::{Row, Value};

    /// As COPY writes it.
    fn write(values: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut line = Vec::new();
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                line.push(b'\t');
            }
            let Some(value) = value else {
                line.extend_from_slice(b"\\N");
                continue;
            };
            for byte in value {
                match byte {
                    8 => line.extend_from_slice(b"\\b"),
                    12 => line.extend_from_slice(b"\\f"),
                    b'\n' => line.extend_from_slice(b"\\n"),
                    b'\r' => line.extend_from_slice(b"\\r"),
                    b'\t' => line.extend_from_slice(b"\\t"),
                    11 => line.extend_from_slice(b"\\v"),
                    b'\\' => line.extend_from_slice(b"\\\\"),
                    byte => line.push(*byte),
                }
            }
        }
        line.push(b'\n');
        line
    }

    fn read(line: &[u8]) -> Vec<Option<Vec<u8>>> {
        let (mut cells, mut scratch) = (Vec::new(), Vec::new());
        let bytes = split_line(line, &mut cells, &mut scratch).to_vec();
        let row = Row::new(&bytes, &cells);
        (0..row.len())
            .map(|at| match row.get(at) {
                Some(Value::Text(text)) => Some(text.to_vec()),
                _ => None,
            })
            .collect()
    }

    proptest::proptest! {
        #[test]
        fn any_row_is_read_as_it_was_written(
            values in proptest::collection::vec(
                proptest::option::of(proptest::collection::vec(proptest::sample::select(b"\\N\t\n\rabx\x08\x0b\x0c".to_vec()), 0..6)), 1..6)
        ) {
            proptest::prop_assert_eq!(read(&write(&values)), values);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(line in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)) {
            read(&line);
        }
    }

    #[test]
    fn null_is_not_the_text_of_null() {
        assert_eq!(read(b"\\N\ta\t\\\\N\n"), [None, Some(b"a".to_vec()), Some(b"\\N".to_vec())]);
        assert_eq!(read(b"\n"), [Some(Vec::new())]);
        let (mut cells, mut scratch) = (Vec::new(), Vec::new());
        let line = b"a\t\\N\tb\n".as_slice();
        assert!(std::ptr::eq(split_line(line, &mut cells, &mut scratch), line), "nothing is copied without need");
    }
}
