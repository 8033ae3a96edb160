//! Turns the bytes of one message into a [`Message`].

use crate::error::Error;
use crate::message::Message;
use crate::prepared::{BeginPrepare, CommitPrepared, Prepare, RollbackPrepared};
use crate::reader::{InStream, Reader};
use crate::relation::{RelationMessage, TypeMessage};
use crate::row::{Delete, Insert, LogicalMessage, Update};
use crate::tag::Tag;
use crate::transaction::{Begin, Commit, Origin, StreamAbort, StreamCommit, StreamStart};
use crate::truncate::Truncate;
use relay_core::Cell;

/// Decodes the messages of one replication connection in the order received.
///
/// It keeps the one thing that changes a message's layout, whether a stream block is open (Stream Start seen, Stream Stop not
/// yet), and the cells of the last row, so that decoding allocates only when a row has more columns than any before. A new
/// connection needs a new decoder: the server starts outside a block.
#[derive(Debug, Default)]
pub struct Decoder {
    in_stream: bool,
    old_cells: Vec<Cell>,
    new_cells: Vec<Cell>,
}

// === impl Decoder ===

impl Decoder {
    /// A decoder at the start of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder that starts inside a stream block, to read again what was kept from one.
    #[must_use]
    pub fn inside_stream() -> Self {
        Self { in_stream: true, ..Self::default() }
    }

    /// Whether the next message is inside a stream block.
    #[must_use]
    pub fn in_stream(&self) -> bool {
        self.in_stream
    }

    /// Decodes one message, all of `bytes`. After an error the decoder stands where it stood before the message.
    #[inline]
    pub fn decode<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Message<'a>, Error> {
        let mut reader = Reader::open(bytes)?;
        let tag = reader.tag();
        if !tag.fits(self.in_stream) {
            return Err(Error::OutOfPlace { tag, in_stream: self.in_stream });
        }
        let in_stream = InStream(self.in_stream);
        let r = &mut reader;
        let message = match tag {
            Tag::Insert => Message::Insert(Insert::read(r, in_stream, &mut self.new_cells)?),
            Tag::Update => Message::Update(Update::read(r, in_stream, &mut self.old_cells, &mut self.new_cells)?),
            Tag::Delete => Message::Delete(Delete::read(r, in_stream, &mut self.old_cells)?),
            Tag::Begin => Message::Begin(Begin::read(r)?),
            Tag::Commit => Message::Commit(Commit::read(r)?),
            Tag::Origin => Message::Origin(Origin::read(r)?),
            Tag::Relation => Message::Relation(RelationMessage::read(r, in_stream)?),
            Tag::Type => Message::Type(TypeMessage::read(r, in_stream)?),
            Tag::Truncate => Message::Truncate(Truncate::read(r, in_stream)?),
            Tag::Message => Message::Message(LogicalMessage::read(r, in_stream)?),
            Tag::StreamStart => Message::StreamStart(StreamStart::read(r)?),
            Tag::StreamStop => Message::StreamStop,
            Tag::StreamCommit => Message::StreamCommit(StreamCommit::read(r)?),
            Tag::StreamAbort => Message::StreamAbort(StreamAbort::read(r)?),
            Tag::BeginPrepare => Message::BeginPrepare(BeginPrepare::read(r)?),
            Tag::Prepare => Message::Prepare(Prepare::read(r)?),
            Tag::CommitPrepared => Message::CommitPrepared(CommitPrepared::read(r)?),
            Tag::RollbackPrepared => Message::RollbackPrepared(RollbackPrepared::read(r)?),
            Tag::StreamPrepare => Message::StreamPrepare(Prepare::read(r)?),
        };
        reader.finish()?;
        match tag {
            Tag::StreamStart => self.in_stream = true,
            Tag::StreamStop => self.in_stream = false,
            _ => {}
        }
        Ok(message)
    }
}
