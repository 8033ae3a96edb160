//! The tables that one TRUNCATE emptied.

use crate::error::Error;
use crate::reader::{InStream, Reader};
use relay_core::{Oid, Xid};

/// Truncate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncate<'a> {
    /// The subtransaction, inside a stream block.
    pub xid: Option<Xid>,
    /// Whether CASCADE was given.
    pub is_cascade: bool,
    /// Whether RESTART IDENTITY was given.
    pub restarts_identity: bool,
    oids: Oids<'a>,
}

/// Iterator over the tables of a Truncate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oids<'a>(&'a [u8]);

const CASCADE: u8 = 1;
const RESTART_IDENTITY: u8 = 2;
const OID_BYTES: usize = 4;

// === impl Truncate ===

impl<'a> Truncate<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>, in_stream: InStream) -> Result<Self, Error> {
        let xid = reader.stream_xid(in_stream)?;
        let offset = reader.offset();
        let announced = reader.u32("a relation count")?;
        let flags = reader.flags(CASCADE | RESTART_IDENTITY, "truncate flags 0 to 3")?;
        let bytes = reader.rest();
        let end = (announced as usize).checked_mul(OID_BYTES);
        let Some((oids, after)) = end.and_then(|end| bytes.split_at_checked(end)) else {
            return Err(reader.wrong_count(offset, "4 bytes a relation", announced));
        };
        reader.go_on(after);
        Ok(Self { xid, is_cascade: flags & CASCADE != 0, restarts_identity: flags & RESTART_IDENTITY != 0, oids: Oids(oids) })
    }

    /// The tables, in the statement's order.
    #[must_use]
    pub fn oids(&self) -> Oids<'a> {
        self.oids
    }
}

// === impl Oids ===

impl Iterator for Oids<'_> {
    type Item = Oid;

    fn next(&mut self) -> Option<Oid> {
        let (oid, rest) = self.0.split_first_chunk::<OID_BYTES>()?;
        self.0 = rest;
        Some(Oid(u32::from_be_bytes(*oid)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.0.len() / OID_BYTES;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Oids<'_> {}
