//! Tells what a message is from its first bytes, for frames that are too large to be kept.

use crate::reader::{InStream, Reader};
use crate::tag::Tag;
use relay_core::{Oid, Xid};

/// As many bytes of a message as [`peek`] looks at: tag, stream xid, relation oid.
pub const PEEK_BYTES: usize = 9;

/// What the first bytes of a message say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// The message's type.
    pub tag: Tag,
    /// The subtransaction, for a message that carries it inside a stream block.
    pub xid: Option<Xid>,
    /// The table of an Insert, Update, Delete or Relation.
    pub oid: Option<Oid>,
}

/// Looks at the first [`PEEK_BYTES`] of a message. `None` when there is no known tag; a field that is not there, because the
/// message has none or `bytes` end before it, is `None` in the answer. Nothing behind those bytes is checked.
#[must_use]
pub fn peek(bytes: &[u8], in_stream: bool) -> Option<Peeked> {
    let first_bytes = bytes.get(..PEEK_BYTES).unwrap_or(bytes);
    let mut reader = Reader::open(first_bytes).ok()?;
    let tag = reader.tag();
    let in_stream = InStream(in_stream && tag.has_stream_xid());
    let Ok(xid) = reader.stream_xid(in_stream) else {
        return Some(Peeked { tag, xid: None, oid: None });
    };
    let oid = match tag {
        Tag::Insert | Tag::Update | Tag::Delete | Tag::Relation => reader.oid("the relation's oid").ok(),
        _ => None,
    };
    Some(Peeked { tag, xid, oid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_known_by_nine_bytes() {
        let outside = peek(b"I\0\0\x40\x01N\0\x01t\0", false);
        assert_eq!(outside, Some(Peeked { tag: Tag::Insert, xid: None, oid: Some(Oid(0x4001)) }));
        let inside = peek(b"U\0\0\x02\xe5\0\0\x40\x01", true);
        assert_eq!(inside, Some(Peeked { tag: Tag::Update, xid: Some(Xid(0x2e5)), oid: Some(Oid(0x4001)) }));
    }

    #[test]
    fn what_is_not_there_is_not_invented() {
        assert_eq!(peek(b"", false), None);
        assert_eq!(peek(b"?\0\0\0\0", false), None);
        assert_eq!(peek(b"D\0\0\0", false), Some(Peeked { tag: Tag::Delete, xid: None, oid: None }));
        assert_eq!(peek(b"D\0\0\0\x01\0\0\0", true), Some(Peeked { tag: Tag::Delete, xid: Some(Xid(1)), oid: None }));
        let message = Some(Peeked { tag: Tag::Message, xid: Some(Xid(7)), oid: None });
        assert_eq!(peek(b"M\0\0\0\x07\x01\0\0\0\0\0", true), message);
        assert_eq!(peek(b"S\0\0\0\x07\x01", true), Some(Peeked { tag: Tag::StreamStart, xid: None, oid: None }));
    }
}
