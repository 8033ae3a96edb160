//! What the session wants done.

use super::{Chunk, Listing, Note};
use crate::checkpoint::Record;
use crate::lsn::Lsn;
use crate::sink::PurgeScope;

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ask the server who it is and how slot and publication stand.
    ///
    /// While a stream is held (its connection may be dead without anybody having noticed), an inspection that finds the slot active for
    /// another backend, or for none, is answered with `Input::Lost`: else an epoch would be claimed under the feet of the slot's holder.
    Inspect,
    /// Read the checkpoint store to its end.
    ReadCheckpoint,
    /// Make this record durable. In exactly-once: begin a Kafka transaction unless one is open, produce the record into it and commit it;
    /// everything sent is acknowledged by then, and nothing is sent before the answer. Only a record in state
    /// `RecordState::Bootstrapping` is written plainly, outside of any transaction, in both guarantees.
    Store(Box<Record>),
    /// Exactly-once: shut every older client out (`init_transactions`), commit a marker in a first transaction, and read the checkpoint
    /// store as committed up to that marker. The answer is `Input::CheckpointRead`, without the marker. Comes right behind each
    /// [`Order::Renew`], with the slot held.
    Fence,
    /// Exactly-once: abort the open Kafka transaction, if there is one. Comes when nothing is outstanding, and is always answered.
    Abort,
    /// Exactly-once, reading the log: the frames that `Session::kept` said yes to since the last durable [`Order::Store`] come
    /// again, through the same path, and then the connection goes on where it stands. Each is told to `Session::kept` again. When the
    /// ring begins inside a source transaction, its Begin comes first, and the driver's own counts of it are as they were at the store.
    Replay,
    /// Remove the records of older epochs.
    Retire(Vec<String>),
    /// Create the publication.
    CreatePublication,
    /// Create the slot. Where polling ends at it: drop one that is left over from an earlier attempt. An exported snapshot is kept until
    /// the next [`Order::Disconnect`], or until [`Session::is_exporting`](super::Session::is_exporting) has come and gone.
    CreateSlot {
        /// Export its snapshot.
        exports: bool,
    },
    /// Open a replication connection and start the stream there; `0/0` is where the slot stands.
    Hold(Lsn),
    /// Close the stream's connection.
    Disconnect,
    /// Give up what the sink has accepted.
    Purge(PurgeScope),
    /// Replace the sink's client.
    Renew,
    /// List tables of a snapshot.
    ListTables(Listing),
    /// Ask a query what it sees.
    Look {
        /// Names the question.
        number: u64,
        /// Take a transaction id first.
        takes_id: bool,
    },
    /// Set the chunk's first watermark (`Session::watermark_text`), and read its rows after that has committed. They are kept until the
    /// second watermark comes by in the stream, the next chunk is ordered, or [`Order::Disconnect`].
    ReadChunk(Chunk),
    /// Set the second watermark of the chunk of that number.
    Mark(u64),
    /// Tell people.
    Note(Note),
}
