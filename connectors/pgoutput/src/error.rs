//! What can be wrong with a message: which one, at which byte, and what was expected there.

use crate::tag::Tag;
use relay_core::Kind;

/// A message that the protocol does not allow. Offsets count from the tag, which is byte 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No byte at all.
    #[error("message is empty at byte 0: expected a tag")]
    Empty,
    /// The first byte is no tag of protocol 1 to 4.
    #[error("unknown message tag 0x{tag:02x} at byte 0")]
    UnknownTag {
        /// The byte.
        tag: u8,
    },
    /// More bytes than a wire message can have.
    #[error("{tag} message of {len} bytes is longer than the protocol can carry")]
    TooLarge {
        /// Type of the message.
        tag: Tag,
        /// Its length.
        len: usize,
    },
    /// A message that cannot come here, such as Begin inside a stream block or Stream Stop outside of one.
    #[error("{tag} message {} a stream block", if *in_stream { "inside" } else { "outside" })]
    OutOfPlace {
        /// Type of the message.
        tag: Tag,
        /// Whether the decoder was inside a stream block.
        in_stream: bool,
    },
    /// The message ends inside a field.
    #[error("{tag} message is cut short at byte {offset}: expected {expected}")]
    Truncated {
        /// Type of the message.
        tag: Tag,
        /// Where the field starts.
        offset: usize,
        /// The field.
        expected: &'static str,
    },
    /// A flag, kind or mark byte of an unknown value.
    #[error("{tag} message has 0x{found:02x} at byte {offset}: expected {expected}")]
    Unexpected {
        /// Type of the message.
        tag: Tag,
        /// Where the byte is.
        offset: usize,
        /// What may stand there.
        expected: &'static str,
        /// What stands there.
        found: u8,
    },
    /// A count or length that does not agree with the bytes that follow.
    #[error("{tag} message announces {announced} at byte {offset} with {left} bytes left: expected {expected}")]
    WrongCount {
        /// Type of the message.
        tag: Tag,
        /// Where the number stands.
        offset: usize,
        /// What is counted.
        expected: &'static str,
        /// The number.
        announced: u32,
        /// Bytes behind it.
        left: usize,
    },
    /// A name that is not UTF-8.
    #[error("{tag} message has bytes at {offset} that are not UTF-8: expected {expected}")]
    NotUtf8 {
        /// Type of the message.
        tag: Tag,
        /// The first byte that is not UTF-8.
        offset: usize,
        /// The field.
        expected: &'static str,
    },
    /// Bytes after the last field.
    #[error("{tag} message goes on at byte {offset}: expected its end, found {left} more bytes")]
    Trailing {
        /// Type of the message.
        tag: Tag,
        /// Where it should have ended.
        offset: usize,
        /// How many bytes are left.
        left: usize,
    },
}

// === impl Error ===

impl Error {
    /// Kind for the policy table: always a protocol error, on which the stream stops.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::SourceProtocol
    }

    /// Type of the message, where its tag is known.
    #[must_use]
    pub fn tag(&self) -> Option<Tag> {
        match *self {
            Error::Empty | Error::UnknownTag { .. } => None,
            Error::TooLarge { tag, .. }
            | Error::OutOfPlace { tag, .. }
            | Error::Truncated { tag, .. }
            | Error::Unexpected { tag, .. }
            | Error::WrongCount { tag, .. }
            | Error::NotUtf8 { tag, .. }
            | Error::Trailing { tag, .. } => Some(tag),
        }
    }

    /// The byte at which decoding stopped.
    #[must_use]
    pub fn offset(&self) -> usize {
        match *self {
            Error::Empty | Error::UnknownTag { .. } | Error::TooLarge { .. } | Error::OutOfPlace { .. } => 0,
            Error::Truncated { offset, .. }
            | Error::Unexpected { offset, .. }
            | Error::WrongCount { offset, .. }
            | Error::NotUtf8 { offset, .. }
            | Error::Trailing { offset, .. } => offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_message_byte_and_expectation() {
        let error = Error::Unexpected { tag: Tag::Commit, offset: 1, expected: "flags 0", found: 2 };
        assert_eq!(error.to_string(), "Commit 'C' message has 0x02 at byte 1: expected flags 0");
        assert_eq!((error.kind(), error.tag(), error.offset()), (Kind::SourceProtocol, Some(Tag::Commit), 1));
        let error = Error::OutOfPlace { tag: Tag::Begin, in_stream: true };
        assert_eq!(error.to_string(), "Begin 'B' message inside a stream block");
    }
}
