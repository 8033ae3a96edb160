//! What people are told.

use super::Fault;
use crate::checkpoint::{AcceptedGap, LogPoll};
use crate::lsn::Lsn;
use crate::position::Position;
use crate::window::Frontier;

/// Turns in a session's life that people want to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// No checkpoint, but a slot: starting where the slot stands.
    Adopted(Lsn),
    /// The first start: publication and slot are being created.
    Bootstrapping,
    /// Poll mode without a checkpoint: every row that the tables hold will be published.
    PublishesAll,
    /// The checkpoint is of the other mode: the switch from the log to polling, at this snapshot.
    FromLog(LogPoll),
    /// The checkpoint is of the other mode: the switch from polling to the log begins.
    ToLog,
    /// The switch from polling to the log is done: the stream begins here.
    LogTakesOver(Lsn),
    /// Polling goes on, although a switch to the log had begun: the slot that it may have left holds WAL back.
    SlotLeft(String),
    /// The slot is held by somebody else; waiting as standby.
    Standby(String),
    /// The stream starts, from this frontier on, as this epoch.
    Streaming {
        /// Where it starts.
        frontier: Frontier,
        /// The claimed epoch.
        epoch: u64,
    },
    /// The stream goes on after a lost connection, without duplicates.
    Resumed(Lsn),
    /// The operator's `--accept-gap` was used.
    GapAccepted(AcceptedGap),
    /// Back to the frontier.
    Rewinding(Rewind),
    /// The replay runs with one record in flight, up to this position.
    Isolating(Position),
    /// The record that the broker refuses was found.
    Culprit(Position),
    /// Publication, `messages` or `origin` changed since the checkpoint was written.
    PublicationChanged,
    /// Routes, partitioner or topics changed since the checkpoint was written: both fingerprints.
    RoutesChanged(String, String),
    /// Something failed; it is tried again after so many milliseconds, unless only a person can help.
    Fault(Fault, u64),
    /// A store failed and is repeated.
    StoreFailed(String),
    /// Exactly-once: the source transaction with this commit does not fit one Kafka transaction; its parts become visible one by one.
    Split(Lsn),
    /// Exactly-once: another client takes the place of one of whose last commit nobody knows what became.
    Doubt,
    /// Exactly-once: whether that commit had happened.
    Settled(bool),
    /// The checkpoint was written under the other guarantee: what that had in flight may come twice.
    GuaranteeChanged(String),
    /// A snapshot begins, or goes on after a restart.
    SnapshotBegins {
        /// Its number.
        job: u64,
        /// Whether it is the pipeline's own.
        is_initial: bool,
        /// Tables that it reads.
        tables: usize,
    },
    /// A snapshot waits until every transaction is over that was open when the process began to stream.
    SnapshotWaits,
    /// A table was rewritten while its snapshot was taken: it starts again.
    SnapshotTableAgain(String),
    /// A table was dropped while its snapshot was taken.
    SnapshotTableGone(String),
    /// The snapshot of that number is published.
    SnapshotDone(u64),
    /// The snapshot of that number cannot be taken and was called off.
    SnapshotRefused(u64, Fault),
}

/// Why a session went back to its frontier: label `reason` of `relay_rewinds_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rewind {
    /// A broker refused a batch.
    Rejected,
    /// A topic vanished.
    UnknownTopic,
    /// The producer failed.
    Producer,
    /// The source went silent or its slot was taken.
    Source,
}
