//! The messages inside a transaction that carry rows or a writer's own bytes.

use crate::error::Error;
use crate::reader::{InStream, Reader};
use crate::tuple::{TupleData, Walked};
use relay_core::change::OldRow;
use relay_core::{Cell, Lsn, Oid, Xid};

/// Insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insert<'a> {
    /// The subtransaction, inside a stream block.
    pub xid: Option<Xid>,
    /// The table.
    pub oid: Oid,
    /// The new row.
    pub new: TupleData<'a>,
}

/// Update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update<'a> {
    /// The subtransaction, inside a stream block.
    pub xid: Option<Xid>,
    /// The table.
    pub oid: Oid,
    /// What identified the row before, if that changed or the identity is FULL.
    pub old: Option<OldTuple<'a>>,
    /// The row after the update.
    pub new: TupleData<'a>,
}

/// Delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delete<'a> {
    /// The subtransaction, inside a stream block.
    pub xid: Option<Xid>,
    /// The table.
    pub oid: Oid,
    /// What identified the row.
    pub old: OldTuple<'a>,
}

/// The old tuple of an Update or Delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldTuple<'a> {
    /// `K`: the columns of the replica identity; the others are null.
    Key(TupleData<'a>),
    /// `O`: the whole row, with REPLICA IDENTITY FULL.
    Full(TupleData<'a>),
}

/// Message: what `pg_logical_emit_message` wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogicalMessage<'a> {
    /// The subtransaction, inside a stream block.
    pub xid: Option<Xid>,
    /// Whether it belongs to the transaction around it; if not it is sent even when its writer aborts.
    pub is_transactional: bool,
    /// Its WAL location.
    pub lsn: Lsn,
    /// What it is for.
    pub prefix: &'a str,
    /// Its content, any bytes.
    pub content: &'a [u8],
}

// === impl Insert ===

impl<'a> Insert<'a> {
    #[inline]
    pub(crate) fn read(reader: &mut Reader<'a>, in_stream: InStream, cells: &'a mut Vec<Cell>) -> Result<Self, Error> {
        let xid = reader.stream_xid(in_stream)?;
        let oid = reader.oid("the relation's oid")?;
        new_mark(reader)?;
        let new = Walked::read(reader, cells)?;
        Ok(Self { xid, oid, new: new.with(cells) })
    }
}

// === impl Update ===

impl<'a> Update<'a> {
    #[inline]
    pub(crate) fn read(
        reader: &mut Reader<'a>,
        in_stream: InStream,
        old_cells: &'a mut Vec<Cell>,
        new_cells: &'a mut Vec<Cell>,
    ) -> Result<Self, Error> {
        let xid = reader.stream_xid(in_stream)?;
        let oid = reader.oid("the relation's oid")?;
        let old = match reader.rest().first() {
            Some(b'K' | b'O') => {
                let old = OldTuple::read(reader, old_cells)?;
                new_mark(reader)?;
                Some(old)
            }
            Some(b'N') => {
                new_mark(reader)?;
                None
            }
            Some(&found) => return Err(reader.unexpected(reader.offset(), "tuple mark K, O or N", found)),
            None => return Err(reader.cut_short("tuple mark K, O or N")),
        };
        let new = Walked::read(reader, new_cells)?;
        Ok(Self { xid, oid, old, new: new.with(new_cells) })
    }
}

/// The `N` in front of a new tuple.
#[inline]
fn new_mark(reader: &mut Reader<'_>) -> Result<(), Error> {
    const EXPECTED: &str = "tuple mark N";
    let offset = reader.offset();
    match reader.byte(EXPECTED)? {
        b'N' => Ok(()),
        found => Err(reader.unexpected(offset, EXPECTED, found)),
    }
}

// === impl Delete ===

impl<'a> Delete<'a> {
    #[inline]
    pub(crate) fn read(reader: &mut Reader<'a>, in_stream: InStream, cells: &'a mut Vec<Cell>) -> Result<Self, Error> {
        let xid = reader.stream_xid(in_stream)?;
        let oid = reader.oid("the relation's oid")?;
        Ok(Self { xid, oid, old: OldTuple::read(reader, cells)? })
    }
}

// === impl OldTuple ===

impl<'a> OldTuple<'a> {
    #[inline]
    fn read(reader: &mut Reader<'a>, cells: &'a mut Vec<Cell>) -> Result<Self, Error> {
        const EXPECTED: &str = "tuple mark K or O";
        let offset = reader.offset();
        let mark = reader.byte(EXPECTED)?;
        let wrap = match mark {
            b'K' => OldTuple::Key,
            b'O' => OldTuple::Full,
            found => return Err(reader.unexpected(offset, EXPECTED, found)),
        };
        let old = Walked::read(reader, cells)?;
        Ok(wrap(old.with(cells)))
    }

    /// The tuple, whichever kind it is.
    #[must_use]
    pub fn tuple(&self) -> TupleData<'a> {
        match *self {
            OldTuple::Key(tuple) | OldTuple::Full(tuple) => tuple,
        }
    }

    /// The old row of a change.
    #[inline]
    #[must_use]
    pub fn row(&self) -> OldRow<'a> {
        match self {
            OldTuple::Key(tuple) => OldRow::Key(tuple.row()),
            OldTuple::Full(tuple) => OldRow::Full(tuple.row()),
        }
    }
}

// === impl LogicalMessage ===

impl<'a> LogicalMessage<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>, in_stream: InStream) -> Result<Self, Error> {
        let xid = reader.stream_xid(in_stream)?;
        let is_transactional = reader.flags(1, "flags 0 or 1")? == 1;
        let lsn = reader.lsn("the message's LSN")?;
        let prefix = reader.name("a prefix ended by NUL")?;
        let offset = reader.offset();
        let announced = reader.u32("the content's length")?;
        let Some((content, after)) = reader.rest().split_at_checked(announced as usize) else {
            return Err(reader.wrong_count(offset, "a content of that length", announced));
        };
        reader.go_on(after);
        Ok(Self { xid, is_transactional, lsn, prefix, content })
    }
}
