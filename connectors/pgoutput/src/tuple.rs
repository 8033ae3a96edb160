//! Turns the columns of one row into cells that point into the message.

use crate::error::Error;
use crate::reader::Reader;
use relay_core::{Cell, Row};

/// The manual's TupleData: the bytes of a row's columns behind their count, with every column found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TupleData<'a> {
    bytes: &'a [u8],
    cells: &'a [Cell],
}

/// A tuple walked, whose cells lie in the vector that the walk filled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walked<'a>(&'a [u8]);

// === impl TupleData ===

impl<'a> TupleData<'a> {
    /// The row that an encoder reads. Costs nothing: cells and bytes are borrowed.
    #[inline]
    #[must_use]
    pub fn row(&self) -> Row<'a> {
        Row::new(self.bytes, self.cells)
    }

    /// The columns as they stand in the message.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// One cell a column; offsets count from the start of [`TupleData::bytes`].
    #[must_use]
    pub fn cells(&self) -> &'a [Cell] {
        self.cells
    }

    /// Number of columns.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether the tuple has no column.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }
}

// === impl Walked ===

impl<'a> Walked<'a> {
    /// Reads one tuple and replaces what `cells` held with its columns.
    #[inline]
    pub(crate) fn read(reader: &mut Reader<'a>, cells: &mut Vec<Cell>) -> Result<Self, Error> {
        let offset = reader.offset();
        let count = reader.u16("a column count")?;
        let bytes = reader.rest();
        cells.clear();
        // A column takes at least its kind byte, so the frame's own size caps what is allocated here.
        if usize::from(count) > bytes.len() {
            return Err(reader.wrong_count(offset, "one kind byte a column", count.into()));
        }
        cells.reserve(count.into());
        let mut rest = bytes;
        for _ in 0..count {
            let [kind, after @ ..] = rest else {
                reader.go_on(rest);
                return Err(reader.cut_short("a column kind"));
            };
            let cell = match *kind {
                b't' | b'b' => {
                    let Some((length, value)) = after.split_first_chunk::<4>() else {
                        reader.go_on(after);
                        return Err(reader.cut_short("a value's length"));
                    };
                    let len = u32::from_be_bytes(*length);
                    let Some(after_value) = value.get(len as usize..) else {
                        reader.go_on(value);
                        return Err(reader.wrong_count(reader.offset() - 4, "a value of that length", len));
                    };
                    // Frames are below 2 GiB (`Reader::open`), so the offset fits.
                    let start = (bytes.len() - value.len()) as u32;
                    rest = after_value;
                    if *kind == b't' { Cell::Text { start, len } } else { Cell::Binary { start, len } }
                }
                b'n' => {
                    rest = after;
                    Cell::Null
                }
                b'u' => {
                    rest = after;
                    Cell::Unchanged
                }
                found => {
                    reader.go_on(rest);
                    return Err(reader.unexpected(reader.offset(), "column kind n, u, t or b", found));
                }
            };
            cells.push(cell);
        }
        reader.go_on(rest);
        let (tuple, _) = bytes.split_at(bytes.len() - rest.len());
        Ok(Self(tuple))
    }

    /// The tuple with its cells.
    #[inline]
    pub(crate) fn with(self, cells: &'a [Cell]) -> TupleData<'a> {
        TupleData { bytes: self.0, cells }
    }
}
