//! A row as it lies in the read buffer: cells that point into the frame, no value copied.

/// One column value of a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// An unchanged TOAST value that the server did not send; never means NULL.
    Unchanged,
    /// The type's text output, not yet checked for UTF-8.
    Text(&'a [u8]),
    /// The type's binary output (option `binary`).
    Binary(&'a [u8]),
}

/// Where one column of a tuple lies in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// SQL NULL.
    Null,
    /// Unchanged TOAST.
    Unchanged,
    /// Text from `start` for `len` bytes.
    Text {
        /// First byte in the tuple's bytes.
        start: u32,
        /// Length in bytes.
        len: u32,
    },
    /// Binary from `start` for `len` bytes.
    Binary {
        /// First byte in the tuple's bytes.
        start: u32,
        /// Length in bytes.
        len: u32,
    },
}

/// A tuple with its columns found: `cells` index into `bytes`. Both are borrowed from buffers that are reused for the next row.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    bytes: &'a [u8],
    cells: &'a [Cell],
}

// === impl Row ===

impl<'a> Row<'a> {
    /// A row over `bytes`. A cell that does not lie inside `bytes` reads as absent ([`Row::get`] gives `None`).
    #[must_use]
    pub fn new(bytes: &'a [u8], cells: &'a [Cell]) -> Self {
        Self { bytes, cells }
    }

    /// The value of column `index`; `None` when there is no such column.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        let slice = |start: u32, len: u32| {
            let start = start as usize;
            self.bytes.get(start..start.checked_add(len as usize)?)
        };
        Some(match *self.cells.get(index)? {
            Cell::Null => Value::Null,
            Cell::Unchanged => Value::Unchanged,
            Cell::Text { start, len } => Value::Text(slice(start, len)?),
            Cell::Binary { start, len } => Value::Binary(slice(start, len)?),
        })
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
