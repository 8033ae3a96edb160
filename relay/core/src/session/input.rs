//! What the session is told.

use super::{ChunkRead, Exported, Fault, Listed, Look, Server};
use crate::checkpoint::{LogPoll, ReadError, Reading};
use crate::lsn::Lsn;
use crate::window::Failure;

/// What happened, outside the stream itself.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a few a second at most, and none is kept")]
pub enum Input {
    /// [`Order::Inspect`](super::Order::Inspect) is done.
    Inspected(Result<Server, Fault>),
    /// [`Order::ReadCheckpoint`](super::Order::ReadCheckpoint) or [`Order::Fence`](super::Order::Fence) is done.
    CheckpointRead(Result<Reading, ReadError>),
    /// [`Order::Store`](super::Order::Store) is done.
    Stored(Result<(), Failure>),
    /// [`Order::CreatePublication`](super::Order::CreatePublication) is done (also when it was there already).
    PublicationReady(Result<(), Fault>),
    /// [`Order::CreateSlot`](super::Order::CreateSlot) is done (also when it was there already); with its snapshot, if that was exported.
    SlotReady(Result<Option<Exported>, Fault>),
    /// [`Order::Hold`](super::Order::Hold) is done: the slot is ours and the stream is open.
    Held(Result<(), Busy>),
    /// [`Order::Renew`](super::Order::Renew) is done.
    Renewed(Result<(), String>),
    /// `Order::Abort` is done. Any failure but `FailureKind::Fenced` counts as indefinite.
    Aborted(Result<(), Failure>),
    /// The stream's connection is gone.
    Lost(Fault),
    /// The [`Order::ListTables`](super::Order::ListTables) of that number is done.
    Listed(u64, Result<Vec<Listed>, Fault>),
    /// The [`Order::Look`](super::Order::Look) of that number is done.
    Looked(u64, Result<Look, Fault>),
    /// The [`Order::ReadChunk`](super::Order::ReadChunk) of that number is done.
    ChunkRead(u64, Result<ChunkRead, Fault>),
    /// The [`Order::Mark`](super::Order::Mark) of that number is done.
    Marked(u64, Result<(), Fault>),
    /// Log mode: what a query saw, and where WAL ended after that.
    Pair(LogPoll),
    /// Something was met from which the stream must not go on.
    Stop(Fault),
    /// SIGTERM: finish what is in flight until the deadline, after reading up to the LSN if one is given.
    Drain {
        /// When to give up waiting.
        deadline_ms: u64,
        /// Read up to here first.
        read_to: Option<Lsn>,
    },
}

/// Why the slot could not be held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Another consumer has it.
    Other(Fault),
    /// Our own last connection has not been noticed as gone by the server yet.
    OwnGhost,
    /// Anything else.
    Fault(Fault),
}
