//! The decisions of a pipeline as one state machine: decoded inputs in, orders out; no I/O, no clock, no row bytes.
//!
//! A driver feeds it what happened ([`Input`], and for the stream the methods of `flow`), passes the time with [`Session::tick`], and
//! carries out the [`Order`]s it takes from [`Session::orders`]. The session spans connections: it outlives each of them. Production and
//! the tests drive this very type; a test may "crash" after any order and start a new session on what was durable by then.
//!
//! One of `Inspect`, `ReadCheckpoint`, `CreatePublication`, `CreateSlot` and `Hold` is under way at a time: the answer to one that was
//! followed by another of them, or by `Disconnect`, must not reach the session. A `Store` is always answered; the next comes after that.

mod check;
mod config;
mod flow;
mod input;
mod kept;
mod note;
mod order;
mod phase;
mod poll;
mod poll_check;
mod progress;
mod record;
mod recover;
mod resume;
mod server;
mod snapshot;
mod start;
mod transaction;

pub use config::{Config, Reads};
pub use flow::{Admission, Begun};
pub use input::{Busy, Input};
pub use note::{Note, Rewind};
pub use order::Order;
pub use phase::State;
pub use poll::{Rows, Tick, Work, row_order, row_position};
pub use poll_check::check_published;
pub use progress::Confirmation;
pub use server::{Exported, Fault, Server, Slot};
pub use snapshot::{
    Chunk, ChunkRead, Listed, Listing, Look, RowAdmission, SnapshotConfig, SnapshotMode, SnapshotProgress, Watermark,
};

use crate::checkpoint::Reading;
use crate::lsn::Lsn;
use crate::position::Position;
use crate::window::Window;
use phase::{AfterRewind, Drain, Next, Phase};
use recover::Purged;
use std::collections::HashMap;

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
    /// What a rewind has given up on the wire.
    purged: Option<Purged>,
    /// Where the log takes over from polling, once the slot is there.
    consistent: Option<Lsn>,
    /// The session ended because the other mode goes on.
    is_switch: bool,
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
            purged: None,
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
}
