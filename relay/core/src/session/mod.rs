//! The decisions of a pipeline as one state machine: decoded inputs in, orders out; no I/O, no clock, no row bytes.
//!
//! A driver feeds it what happened ([`Input`], and for the stream the methods of `flow`), passes the time with [`Session::tick`], and
//! carries out the [`Order`]s it takes from [`Session::orders`]. The session spans connections: it outlives each of them. Production and
//! the tests drive this very type; a test may "crash" after any order and start a new session on what was durable by then.
//!
//! One of `Inspect`, `ReadCheckpoint`, `CreatePublication`, `CreateSlot` and `Hold` is under way at a time: the answer to one that was
//! followed by another of them, or by `Disconnect`, must not reach the session. A `Store` is always answered; the next comes after that.

mod check;
mod flow;
mod poll;
mod poll_check;
mod progress;
mod recover;
mod resume;
mod ring;
mod snapshot;
mod start;
mod transaction;

pub use flow::{Admission, Begun};
pub use poll::{Rows, Tick, Work, row_order, row_position};
pub use poll_check::check_published;
pub use progress::Confirmation;
pub use snapshot::{
    Chunk, ChunkRead, Listed, Listing, Look, RowAdmission, SnapshotConfig, SnapshotMode, SnapshotProgress, Watermark,
};

use crate::checkpoint::{AcceptedGap, Guarantee, LogPoll, Mode, ReadError, Reading, Record, RecordState};
use crate::error::Kind;
use crate::lsn::Lsn;
use crate::position::Position;
use crate::sink::PurgeScope;
use crate::snapshot::Snapshot;
use crate::window::{Failure, Frontier, Window};
use std::collections::HashMap;

/// What a session must know about its pipeline.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pipeline name.
    pub name: String,
    /// Random per process start.
    pub instance: String,
    /// How the source is read.
    pub reads: Reads,
    /// What is promised. Exactly-once needs a sink with transactions, and refuses [`Reads::Poll`] with claims before a session begins.
    pub guarantee: Guarantee,
    /// Exactly-once: how long a Kafka transaction stays open, from its first event on.
    pub commit_interval_ms: u64,
    /// Slot name.
    pub slot: String,
    /// Publication name.
    pub publication: String,
    /// Whether publication and slot may be created on the very first start.
    pub may_create: bool,
    /// Whether checkpoints outlive the process (the stdout sink keeps none).
    pub is_durable: bool,
    /// Snapshots of captured tables; `None` where none is captured.
    pub snapshot: Option<SnapshotConfig>,
    /// The gap that the operator accepted for this start.
    pub accept_gap: Option<Lsn>,
    /// Longest wait between two checkpoints while events flow.
    pub checkpoint_interval_ms: u64,
    /// Shortest wait between two checkpoints for idle progress.
    pub idle_checkpoint_interval_ms: u64,
    /// Fingerprint of routes, partitioner and topic map.
    pub config_fingerprint: String,
    /// relay's version, for people who read the checkpoint.
    pub relay_version: String,
    /// Seed of the jitter.
    pub seed: u64,
}

/// How a session reads its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// The log, from the slot.
    #[default]
    Log,
    /// Outbox tables by SQL, behind an advisory lock in place of the slot.
    Poll {
        /// Whether a table is read in ticks: else the tables' marks are the position, and none is stored.
        has_ticks: bool,
        /// Whether a table is read with order `claim`.
        has_claims: bool,
        /// Whether this is the way from polling to the log: up to the snapshot of a new slot, and no further.
        ends_in_log: bool,
    },
}

/// What the server says of itself, its slot and its publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// System identifier.
    pub system_id: String,
    /// Current timeline.
    pub timeline: u32,
    /// Ends of earlier timelines: (timeline, LSN at which the next one took over).
    pub switch_points: Vec<(u32, Lsn)>,
    /// Database that we are connected to.
    pub database: String,
    /// End of its WAL.
    pub wal_end: Lsn,
    /// Whether it is a standby.
    pub is_standby: bool,
    /// What is visible to a query now; asked for in poll mode only.
    pub snapshot: Option<Snapshot>,
    /// The slot, if there is one of our name.
    pub slot: Option<Slot>,
    /// Fingerprint of the publication, `messages` and `origin`; `None` when the publication does not exist.
    pub publication: Option<String>,
}

/// A row of `pg_replication_slots`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Why relay cannot read from it (plugin, database, kind, two_phase), if so.
    pub unfit: Option<String>,
    /// Whether the server threw away WAL that it needs.
    pub is_lost: bool,
    /// Everything before it was confirmed by its consumer.
    pub confirmed_flush: Lsn,
    /// Whether a consumer has it now.
    pub is_active: bool,
}

/// A new slot that polling ends at, or behind whose snapshot the stream begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The snapshot that was exported with it.
    pub tick: Tick,
    /// The slot's stream has what commits from here on, and the snapshot sees what committed before.
    pub consistent: Lsn,
}

/// Something went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its kind: the policy table tells the rest.
    pub kind: Kind,
    /// What happened, without secrets.
    pub message: String,
}

/// What happened, outside the stream itself.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a few a second at most, and none is kept")]
pub enum Input {
    /// [`Order::Inspect`] is done.
    Inspected(Result<Server, Fault>),
    /// [`Order::ReadCheckpoint`] or [`Order::Fence`] is done.
    CheckpointRead(Result<Reading, ReadError>),
    /// [`Order::Store`] is done.
    Stored(Result<(), Failure>),
    /// [`Order::CreatePublication`] is done (also when it was there already).
    PublicationReady(Result<(), Fault>),
    /// [`Order::CreateSlot`] is done (also when it was there already); with its snapshot, if that was exported.
    SlotReady(Result<Option<Exported>, Fault>),
    /// [`Order::Hold`] is done: the slot is ours and the stream is open.
    Held(Result<(), Busy>),
    /// [`Order::Renew`] is done.
    Renewed(Result<(), String>),
    /// [`Order::Abort`] is done. Any failure but [`FailureKind::Fenced`](crate::window::FailureKind::Fenced) counts as indefinite.
    Aborted(Result<(), Failure>),
    /// The stream's connection is gone.
    Lost(Fault),
    /// The [`Order::ListTables`] of that number is done.
    Listed(u64, Result<Vec<Listed>, Fault>),
    /// The [`Order::Look`] of that number is done.
    Looked(u64, Result<Look, Fault>),
    /// The [`Order::ReadChunk`] of that number is done.
    ChunkRead(u64, Result<ChunkRead, Fault>),
    /// The [`Order::Mark`] of that number is done.
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

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ask the server who it is and how slot and publication stand.
    ///
    /// While a stream is held (its connection may be dead without anybody having noticed), an inspection that finds the slot active for
    /// another backend, or for none, is answered with [`Input::Lost`]: else an epoch would be claimed under the feet of the slot's holder.
    Inspect,
    /// Read the checkpoint store to its end.
    ReadCheckpoint,
    /// Make this record durable. In exactly-once: begin a Kafka transaction unless one is open, produce the record into it and commit it;
    /// everything sent is acknowledged by then, and nothing is sent before the answer. Only a record in state
    /// [`RecordState::Bootstrapping`] is written plainly, outside of any transaction, in both guarantees.
    Store(Box<Record>),
    /// Exactly-once: shut every older client out (`init_transactions`), commit a marker in a first transaction, and read the checkpoint
    /// store as committed up to that marker. The answer is [`Input::CheckpointRead`], without the marker. Comes right behind each
    /// [`Order::Renew`], with the slot held.
    Fence,
    /// Exactly-once: abort the open Kafka transaction, if there is one. Comes when nothing is outstanding, and is always answered.
    Abort,
    /// Exactly-once, reading the log: the frames that [`Session::kept`] said yes to since the last durable [`Order::Store`] come
    /// again, through the same path, and then the connection goes on where it stands. Each is told to [`Session::kept`] again. When the
    /// ring begins inside a source transaction, its Begin comes first, and the driver's own counts of it are as they were at the store.
    Replay,
    /// Remove the records of older epochs.
    Retire(Vec<String>),
    /// Create the publication.
    CreatePublication,
    /// Create the slot. Where polling ends at it: drop one that is left over from an earlier attempt. An exported snapshot is kept until
    /// the next [`Order::Disconnect`], or until [`Session::is_exporting`] has come and gone.
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
    /// Set the chunk's first watermark ([`Session::watermark_text`]), and read its rows after that has committed. They are kept until the
    /// second watermark comes by in the stream, the next chunk is ordered, or [`Order::Disconnect`].
    ReadChunk(Chunk),
    /// Set the second watermark of the chunk of that number.
    Mark(u64),
    /// Tell people.
    Note(Note),
}

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

/// What a session is doing: label `state` of `relay_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// On its way to the stream.
    Connecting,
    /// Publishing a snapshot; the stream waits.
    Snapshot,
    /// Reading and publishing.
    Streaming,
    /// Another instance streams; this one waits.
    Standby,
    /// Finishing after SIGTERM.
    Draining,
    /// Stopped until a person, or a later look, helps.
    Failed,
}

/// The state machine. See the module's text.
#[derive(Debug)]
pub struct Session {
    config: Config,
    phase: Phase,
    orders: Vec<Order>,
    now_ms: u64,
    random: u64,
    attempts: u32,
    window: Window,
    flow: flow::Flow,
    book: poll::Book,
    progress: progress::Progress,
    copying: snapshot::Copying,
    transaction: transaction::Transaction,
    server: Option<Server>,
    reading: Reading,
    /// Whether another holder was met since the last time the stream was ours.
    was_standby: bool,
    /// Whether this session created the slot, or found the mark that it was about to.
    is_bootstrap: bool,
    fault: Option<Fault>,
    drain: Option<Drain>,
    isolate_until: Option<Position>,
    /// Events that the broker refused alone: its words, and until when that is taken for final.
    condemned: HashMap<Position, (String, u64)>,
    /// Since when events may flow.
    streaming_since_ms: u64,
    /// After a reconnect: when to look once more whether another epoch was claimed meanwhile. Nothing is confirmed before that.
    proof_at_ms: Option<u64>,
    /// When a rewind may go on to the stream: a destination that refuses everything must not cause a storm of connections.
    resume_at_ms: u64,
    /// Where the log takes over from polling, once the slot is there.
    consistent: Option<Lsn>,
    /// The session ended because the other mode goes on.
    is_switch: bool,
}

/// Where the session stands. Only `Streaming` reads events.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Waiting {
        until_ms: u64,
        then: Next,
    },
    Inspecting(Next),
    ReadingFirst,
    StoringBootstrap,
    CreatingPublication,
    CreatingSlot,
    Holding(Next),
    Standby {
        retry_ms: u64,
    },
    Settling {
        until_ms: u64,
    },
    ReadingAgain,
    /// Where the stream starts once the claim is durable.
    Claiming(Frontier),
    /// The slot is held again after a lost connection: was another epoch claimed meanwhile?
    Rereading,
    Streaming,
    Rewinding {
        since_ms: u64,
        then: AfterRewind,
    },
    /// A new client is taken; in exactly-once to shut the older ones out, `next` being what follows.
    Renewing {
        next: Next,
        is_ordered: bool,
    },
    /// Exactly-once: older clients are being shut out.
    Fencing(Next),
    /// Exactly-once: what was sent is being aborted.
    Aborting {
        then: AfterRewind,
    },
    StoringLast,
    Stopped {
        retry_ms: u64,
    },
    Ended,
}

/// What an inspection or a held slot is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    /// The start protocol, before the slot is held.
    Start,
    /// Whether the slot is really missing, a checkpoint having been found.
    SurelyMissing,
    /// The start protocol's checks, the slot being held.
    Checks,
    /// Going on after a lost connection.
    Resume,
    /// Exactly-once: going on from `stored` with what was kept, the slot being held still.
    Replay,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum AfterRewind {
    Stream,
    RenewAndStream,
    StartOver,
    StandBy,
    Stop {
        retry_ms: u64,
    },
    /// A drain's time is up.
    End,
}

#[derive(Clone, Copy, Debug)]
struct Drain {
    deadline_ms: u64,
    read_to: Option<Lsn>,
    /// Since when nothing is in flight, although a change is sent in part.
    waits_since_ms: Option<u64>,
}

// === impl Session ===

impl Session {
    /// A session that has not done anything yet; its first order is to inspect the server.
    #[must_use]
    pub fn new(config: Config, window: Window) -> Self {
        let random = config.seed | 1;
        let copying = snapshot::Copying::new(config.snapshot);
        let mut session = Self {
            config,
            phase: Phase::Ended,
            orders: Vec::with_capacity(16),
            now_ms: 0,
            random,
            attempts: 0,
            window,
            flow: flow::Flow::default(),
            book: poll::Book::new(),
            progress: progress::Progress::default(),
            copying,
            transaction: transaction::Transaction::default(),
            server: None,
            reading: Reading::default(),
            was_standby: false,
            is_bootstrap: false,
            fault: None,
            drain: None,
            isolate_until: None,
            condemned: HashMap::new(),
            streaming_since_ms: 0,
            proof_at_ms: None,
            resume_at_ms: 0,
            consistent: None,
            is_switch: false,
        };
        session.start_over();
        session
    }

    /// Takes the orders given since the last call.
    pub fn orders(&mut self) -> std::vec::Drain<'_, Order> {
        self.orders.drain(..)
    }

    /// Something happened outside the stream.
    pub fn input(&mut self, input: Input) {
        match input {
            Input::Inspected(result) => self.inspected(result),
            Input::CheckpointRead(result) => self.checkpoint_read(result),
            Input::Stored(result) => self.store_done(result),
            Input::PublicationReady(result) => self.publication_ready(result),
            Input::SlotReady(result) => self.slot_ready(result),
            Input::Held(result) => self.held(result),
            Input::Renewed(result) => self.renewed(result),
            Input::Aborted(result) => self.aborted(result),
            Input::Lost(fault) => self.lost(fault),
            Input::Listed(number, result) => self.tables_listed(number, result),
            Input::Looked(number, result) => self.looked(number, result),
            Input::ChunkRead(number, result) => self.chunk_read(number, result),
            Input::Marked(number, result) => self.marked(number, result),
            Input::Pair(pair) => {
                self.copying.saw(&pair.snapshot);
                self.progress.pair(pair);
            }
            Input::Stop(fault) => {
                if !self.stops_later(&fault) {
                    self.stop(fault);
                }
            }
            Input::Drain { deadline_ms, read_to } => self.drain(deadline_ms, read_to),
        }
    }

    /// Time passes. `outstanding` is the number of events that the sink has accepted and not yet reported.
    pub fn tick(&mut self, now_ms: u64, outstanding: usize) {
        debug_assert!(now_ms >= self.now_ms, "time does not go back");
        self.now_ms = now_ms;
        match self.phase {
            Phase::Waiting { until_ms, then } if now_ms >= until_ms => match then {
                Next::Start | Next::SurelyMissing => self.start_over(),
                Next::Checks => self.inspect(then),
                Next::Resume => self.hold_again(),
                Next::Replay => self.replay(),
            },
            Phase::Standby { retry_ms } if now_ms >= retry_ms => self.hold(Lsn::ZERO, Next::Start),
            Phase::Settling { until_ms } if now_ms >= until_ms => self.settled(),
            Phase::Stopped { retry_ms } if now_ms >= retry_ms => self.start_over(),
            Phase::Rewinding { since_ms, then } => self.rewinding(since_ms, then, outstanding),
            Phase::Renewing { is_ordered: false, .. } => self.renew_when_answered(),
            Phase::Streaming => self.streaming(),
            // The record by which the log takes over; a drain has its own pace.
            Phase::StoringLast if self.drain.is_none() && self.may_store_again() => {
                self.store(self.last_state(), self.window.frontier());
            }
            _ => {}
        }
        self.drain_step();
        self.store_if_due();
    }

    /// What the session is doing.
    #[must_use]
    pub fn state(&self) -> State {
        if self.drain.is_some() {
            return State::Draining;
        }
        match self.phase {
            Phase::Streaming if self.copying.holds_stream() => State::Snapshot,
            Phase::Streaming
            | Phase::Waiting { then: Next::Replay, .. }
            | Phase::Rewinding { then: AfterRewind::Stream | AfterRewind::RenewAndStream, .. }
            | Phase::Aborting { then: AfterRewind::Stream | AfterRewind::RenewAndStream } => State::Streaming,
            Phase::Standby { .. }
            | Phase::Rewinding { then: AfterRewind::StandBy, .. }
            | Phase::Aborting { then: AfterRewind::StandBy } => State::Standby,
            Phase::Holding(Next::Start) if self.was_standby => State::Standby,
            Phase::Stopped { .. }
            | Phase::Rewinding { then: AfterRewind::Stop { .. }, .. }
            | Phase::Aborting { then: AfterRewind::Stop { .. } } => State::Failed,
            _ => State::Connecting,
        }
    }

    /// Whether events may be read and sent now.
    #[inline]
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.phase == Phase::Streaming
            && !self.copying.holds_stream()
            && self
                .drain
                .is_none_or(|drain| drain.read_to.is_some_and(|lsn| self.flow.received_end < lsn) || self.is_inside_change())
    }

    /// Whether the claimed epoch is still ours to write: the stream is open, or on its way back after a lost connection.
    fn is_ours(&self) -> bool {
        self.progress.epoch > 0
            && matches!(
                self.phase,
                Phase::Streaming
                    | Phase::Waiting { then: Next::Resume | Next::Replay, .. }
                    | Phase::Inspecting(Next::Resume | Next::Replay)
                    | Phase::Holding(Next::Resume)
                    | Phase::Rereading
                    | Phase::Renewing { .. }
                    | Phase::Fencing(_)
                    | Phase::Rewinding { then: AfterRewind::Stream | AfterRewind::RenewAndStream, .. }
                    | Phase::Aborting { then: AfterRewind::Stream | AfterRewind::RenewAndStream }
            )
    }

    /// Whether this instance holds the slot.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(
            self.phase,
            Phase::Settling { .. }
                | Phase::ReadingAgain
                | Phase::Inspecting(Next::Checks | Next::Resume | Next::Replay)
                | Phase::Waiting { then: Next::Replay, .. }
                | Phase::Fencing(_)
                | Phase::Claiming(_)
                | Phase::Rereading
                | Phase::Streaming
                | Phase::StoringLast
        )
    }

    /// Whether the process may end, unless this is a switch.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether it ended for another session to go on: in log mode one that ends polling, after that one again one in log mode.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.is_switch
    }

    /// What keeps it from streaming, if anything went wrong.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// What the server last said of itself.
    #[must_use]
    pub fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// The events in flight.
    #[must_use]
    pub fn window(&self) -> &Window {
        &self.window
    }

    fn order(&mut self, order: Order) {
        self.orders.push(order);
    }

    fn disconnect(&mut self) {
        // Nothing may be confirmed to the next connection for what this one had sent.
        self.flow.disconnected();
        self.transaction.disconnected();
        self.interrupt_copying();
        self.order(Order::Disconnect);
    }

    fn stream(&mut self, proof_at_ms: Option<u64>) {
        self.streaming_since_ms = self.now_ms;
        self.proof_at_ms = proof_at_ms;
        self.fault = None;
        self.phase = Phase::Streaming;
    }

    fn note(&mut self, note: Note) {
        self.orders.push(Order::Note(note));
    }

    /// A number from 0 up to `below`, from the seed.
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below.max(1)
    }

    /// Milliseconds to wait before the next attempt: doubling from 250 ms to 30 s, half of it random.
    fn backoff_ms(&mut self) -> u64 {
        let full = (250_u64 << self.attempts.min(7)).min(30_000);
        self.attempts = self.attempts.saturating_add(1);
        full / 2 + self.random(full / 2)
    }

    fn record(&self, state: RecordState, epoch: u64, frontier: Option<Frontier>) -> Record {
        if let Reads::Poll { has_ticks, .. } = self.config.reads {
            return self.poll_record(state, epoch, frontier, has_ticks);
        }
        let inside = frontier.and_then(|frontier| frontier.inside);
        Record {
            end_lsn: frontier.map(|frontier| frontier.end_lsn),
            commit_lsn: inside.map(|position| position.commit_lsn),
            seq: inside.map(|position| position.seq),
            snapshot: self.copying.record(frontier.map_or(Lsn::ZERO, |frontier| frontier.end_lsn)),
            log_poll: self.progress.pair_at(frontier.map_or(Lsn::ZERO, |frontier| frontier.end_lsn)).cloned(),
            ..self.blank_record(state, epoch)
        }
    }

    /// A record of everything but the position.
    fn blank_record(&self, state: RecordState, epoch: u64) -> Record {
        let server = self.server.as_ref();
        Record {
            v: Record::VERSION,
            state,
            name: self.config.name.clone(),
            epoch,
            instance: self.config.instance.clone(),
            guarantee: self.config.guarantee.name().into(),
            mode: Mode::Log.name().into(),
            system_id: server.map(|s| s.system_id.clone()).unwrap_or_default(),
            timeline: server.map_or(0, |s| s.timeline),
            database: server.map(|s| s.database.clone()).unwrap_or_default(),
            slot: Some(self.config.slot.clone()),
            end_lsn: None,
            commit_lsn: None,
            seq: None,
            snapshot: self.copying.record(Lsn::ZERO),
            poll: None,
            log_poll: None,
            publication_fingerprint: server.and_then(|s| s.publication.clone()).unwrap_or_default(),
            config_fingerprint: self.config.config_fingerprint.clone(),
            accepted_gaps: self.progress.accepted_gaps.clone(),
            // The driver stamps it when it stores it: a session has no clock of the wall.
            written_at: String::new(),
            relay_version: self.config.relay_version.clone(),
        }
    }
}
