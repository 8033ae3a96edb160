//! One message of the stream, whatever its type.

use crate::prepared::{BeginPrepare, CommitPrepared, Prepare, RollbackPrepared};
use crate::relation::{RelationMessage, TypeMessage};
use crate::row::{Delete, Insert, LogicalMessage, Update};
use crate::tag::Tag;
use crate::transaction::{Begin, Commit, Origin, StreamAbort, StreamCommit, StreamStart};
use crate::truncate::Truncate;
use relay_core::Xid;

/// A decoded message: names and values are slices of its frame, cells live in the decoder until its next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// `B`
    Begin(Begin),
    /// `C`
    Commit(Commit),
    /// `O`
    Origin(Origin<'a>),
    /// `R`
    Relation(RelationMessage<'a>),
    /// `Y`
    Type(TypeMessage<'a>),
    /// `I`
    Insert(Insert<'a>),
    /// `U`
    Update(Update<'a>),
    /// `D`
    Delete(Delete<'a>),
    /// `T`
    Truncate(Truncate<'a>),
    /// `M`
    Message(LogicalMessage<'a>),
    /// `S`
    StreamStart(StreamStart),
    /// `E`
    StreamStop,
    /// `c`
    StreamCommit(StreamCommit),
    /// `A`
    StreamAbort(StreamAbort),
    /// `b`
    BeginPrepare(BeginPrepare<'a>),
    /// `P`
    Prepare(Prepare<'a>),
    /// `K`
    CommitPrepared(CommitPrepared<'a>),
    /// `r`
    RollbackPrepared(RollbackPrepared<'a>),
    /// `p`
    StreamPrepare(Prepare<'a>),
}

// === impl Message ===

impl Message<'_> {
    /// Its type.
    #[must_use]
    pub fn tag(&self) -> Tag {
        match self {
            Message::Begin(_) => Tag::Begin,
            Message::Commit(_) => Tag::Commit,
            Message::Origin(_) => Tag::Origin,
            Message::Relation(_) => Tag::Relation,
            Message::Type(_) => Tag::Type,
            Message::Insert(_) => Tag::Insert,
            Message::Update(_) => Tag::Update,
            Message::Delete(_) => Tag::Delete,
            Message::Truncate(_) => Tag::Truncate,
            Message::Message(_) => Tag::Message,
            Message::StreamStart(_) => Tag::StreamStart,
            Message::StreamStop => Tag::StreamStop,
            Message::StreamCommit(_) => Tag::StreamCommit,
            Message::StreamAbort(_) => Tag::StreamAbort,
            Message::BeginPrepare(_) => Tag::BeginPrepare,
            Message::Prepare(_) => Tag::Prepare,
            Message::CommitPrepared(_) => Tag::CommitPrepared,
            Message::RollbackPrepared(_) => Tag::RollbackPrepared,
            Message::StreamPrepare(_) => Tag::StreamPrepare,
        }
    }

    /// The subtransaction that a message inside a stream block belongs to.
    #[must_use]
    pub fn stream_xid(&self) -> Option<Xid> {
        match self {
            Message::Relation(message) => message.xid,
            Message::Type(message) => message.xid,
            Message::Insert(message) => message.xid,
            Message::Update(message) => message.xid,
            Message::Delete(message) => message.xid,
            Message::Truncate(message) => message.xid,
            Message::Message(message) => message.xid,
            _ => None,
        }
    }
}
