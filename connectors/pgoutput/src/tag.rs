//! The first byte of a message, and what it says before anything else is read.

use std::fmt;

macro_rules! tags {
    ($($name:ident $byte:literal $title:literal, $doc:literal;)*) => {
        /// The type of a message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Tag {
            $(#[doc = $doc] $name = $byte,)*
        }

        impl Tag {
            /// Every tag that protocol 1 to 4 knows.
            pub const ALL: &'static [Tag] = &[$(Tag::$name),*];

            /// The tag of that first byte, if there is one.
            #[inline]
            #[must_use]
            pub fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($byte => Some(Tag::$name),)*
                    _ => None,
                }
            }

            /// The manual's name of the message.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Tag::$name => $title),* }
            }
        }
    };
}

tags! {
    Begin b'B' "Begin", "A transaction begins; protocol 1.";
    Commit b'C' "Commit", "It ends; protocol 1.";
    Origin b'O' "Origin", "Where it came from; protocol 1.";
    Relation b'R' "Relation", "The shape of a table; protocol 1.";
    Type b'Y' "Type", "The name of a type that is not built in; protocol 1.";
    Insert b'I' "Insert", "A new row; protocol 1.";
    Update b'U' "Update", "A changed row; protocol 1.";
    Delete b'D' "Delete", "A deleted row; protocol 1.";
    Truncate b'T' "Truncate", "Emptied tables; protocol 1.";
    Message b'M' "Message", "`pg_logical_emit_message`; protocol 1, PostgreSQL 14.";
    StreamStart b'S' "Stream Start", "A block of an open transaction begins; protocol 2.";
    StreamStop b'E' "Stream Stop", "The block ends; protocol 2.";
    StreamCommit b'c' "Stream Commit", "A streamed transaction is committed; protocol 2.";
    StreamAbort b'A' "Stream Abort", "A streamed transaction, or a part of it, is aborted; protocol 2.";
    BeginPrepare b'b' "Begin Prepare", "A transaction that ends in PREPARE begins; protocol 3.";
    Prepare b'P' "Prepare", "It is prepared; protocol 3.";
    CommitPrepared b'K' "Commit Prepared", "A prepared transaction is committed; protocol 3.";
    RollbackPrepared b'r' "Rollback Prepared", "A prepared transaction is rolled back; protocol 3.";
    StreamPrepare b'p' "Stream Prepare", "A streamed transaction is prepared; protocol 3.";
}

// === impl Tag ===

impl Tag {
    /// The byte on the wire.
    #[inline]
    #[must_use]
    pub fn byte(self) -> u8 {
        self as u8
    }

    /// Whether the message carries the subtransaction's xid inside a stream block.
    #[inline]
    #[must_use]
    pub fn has_stream_xid(self) -> bool {
        use Tag::{Delete, Insert, Message, Relation, Truncate, Type, Update};
        matches!(self, Insert | Update | Delete | Relation | Type | Truncate | Message)
    }

    /// Whether the message may come in that state. A block holds rows, shapes, messages and, directly after Stream Start, the
    /// origin; everything else comes between blocks.
    #[inline]
    #[must_use]
    pub fn fits(self, in_stream: bool) -> bool {
        match self {
            Tag::StreamStop => in_stream,
            Tag::Origin => true,
            _ => !in_stream || self.has_stream_xid(),
        }
    }
}

/// `Insert 'I'`.
impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}'", self.title(), char::from(self.byte()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_tags_are_one_to_one() {
        assert_eq!(Tag::ALL.len(), 19);
        let known = (0..=u8::MAX).filter_map(|byte| Some((byte, Tag::from_byte(byte)?)));
        assert_eq!(known.clone().count(), 19);
        assert!(known.into_iter().all(|(byte, tag)| tag.byte() == byte));
        assert_eq!(Tag::StreamPrepare.to_string(), "Stream Prepare 'p'");
    }
}
