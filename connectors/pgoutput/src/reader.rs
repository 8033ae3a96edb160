//! Reads the fields of one message in order, each with a check that it is there.

use crate::error::Error;
use crate::tag::Tag;
use crate::timestamp::Timestamp;
use relay_core::{Lsn, Oid, Xid};

/// The unread end of a message. Integers are big-endian, strings end with a NUL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    tag: Tag,
    rest: &'a [u8],
    len: usize,
}

/// Whether a message starts with a stream's xid: it does inside a stream block only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InStream(pub(crate) bool);

/// A frame's length is an int32, so every offset fits a `u32`.
const MAX_BYTES: usize = i32::MAX as usize;

// === impl Reader ===

impl<'a> Reader<'a> {
    /// A reader behind the tag.
    #[inline]
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, Error> {
        let (&first, rest) = bytes.split_first().ok_or(Error::Empty)?;
        let tag = Tag::from_byte(first).ok_or(Error::UnknownTag { tag: first })?;
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLarge { tag, len: bytes.len() });
        }
        Ok(Self { tag, rest, len: bytes.len() })
    }

    #[inline]
    pub(crate) fn tag(&self) -> Tag {
        self.tag
    }

    /// The bytes not yet read.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Goes on at `rest`, the end of what [`Reader::rest`] gave.
    #[inline]
    pub(crate) fn go_on(&mut self, rest: &'a [u8]) {
        self.rest = rest;
    }

    /// Offset of the next byte.
    #[inline]
    pub(crate) fn offset(&self) -> usize {
        self.len - self.rest.len()
    }

    #[inline]
    fn take<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], Error> {
        match self.rest.split_first_chunk::<N>() {
            Some((field, rest)) => {
                self.rest = rest;
                Ok(*field)
            }
            None => Err(self.cut_short(expected)),
        }
    }

    #[inline]
    pub(crate) fn byte(&mut self, expected: &'static str) -> Result<u8, Error> {
        let [byte] = self.take(expected)?;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self, expected: &'static str) -> Result<u16, Error> {
        self.take(expected).map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self, expected: &'static str) -> Result<u32, Error> {
        self.take(expected).map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i32(&mut self, expected: &'static str) -> Result<i32, Error> {
        self.take(expected).map(i32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn lsn(&mut self, expected: &'static str) -> Result<Lsn, Error> {
        self.take(expected).map(|field| Lsn(u64::from_be_bytes(field)))
    }

    #[inline]
    pub(crate) fn timestamp(&mut self, expected: &'static str) -> Result<Timestamp, Error> {
        self.take(expected).map(|field| Timestamp(i64::from_be_bytes(field)))
    }

    #[inline]
    pub(crate) fn oid(&mut self, expected: &'static str) -> Result<Oid, Error> {
        self.u32(expected).map(Oid)
    }

    #[inline]
    pub(crate) fn xid(&mut self, expected: &'static str) -> Result<Xid, Error> {
        self.u32(expected).map(Xid)
    }

    /// The subtransaction's xid, which is there inside a stream block only.
    #[inline]
    pub(crate) fn stream_xid(&mut self, in_stream: InStream) -> Result<Option<Xid>, Error> {
        if in_stream.0 { self.xid("the subtransaction's xid").map(Some) } else { Ok(None) }
    }

    /// A flags byte of which only the bits of `known` may be set.
    #[inline]
    pub(crate) fn flags(&mut self, known: u8, expected: &'static str) -> Result<u8, Error> {
        let offset = self.offset();
        let found = self.byte(expected)?;
        if found & !known == 0 { Ok(found) } else { Err(self.unexpected(offset, expected, found)) }
    }

    /// A flags byte that the protocol reserves: always 0.
    #[inline]
    pub(crate) fn no_flags(&mut self) -> Result<(), Error> {
        self.flags(0, "flags 0").map(drop)
    }

    /// A NUL-terminated UTF-8 string.
    pub(crate) fn name(&mut self, expected: &'static str) -> Result<&'a str, Error> {
        let start = self.offset();
        let parts = memchr::memchr(0, self.rest).and_then(|end| self.rest.split_at_checked(end));
        let Some((name, [_nul, rest @ ..])) = parts else {
            return Err(self.cut_short(expected));
        };
        self.rest = rest;
        std::str::from_utf8(name).map_err(|error| {
            let offset = start + error.valid_up_to();
            Error::NotUtf8 { tag: self.tag, offset, expected }
        })
    }

    /// The end of the message.
    #[inline]
    pub(crate) fn finish(&self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.trailing()) }
    }

    #[cold]
    pub(crate) fn cut_short(&self, expected: &'static str) -> Error {
        Error::Truncated { tag: self.tag, offset: self.offset(), expected }
    }

    #[cold]
    pub(crate) fn unexpected(&self, offset: usize, expected: &'static str, found: u8) -> Error {
        Error::Unexpected { tag: self.tag, offset, expected, found }
    }

    #[cold]
    pub(crate) fn wrong_count(&self, offset: usize, expected: &'static str, announced: u32) -> Error {
        Error::WrongCount { tag: self.tag, offset, expected, announced, left: self.rest.len() }
    }

    #[cold]
    fn trailing(&self) -> Error {
        Error::Trailing { tag: self.tag, offset: self.offset(), left: self.rest.len() }
    }
}
