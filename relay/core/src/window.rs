//! Turns acknowledgements, in any order, into the position that is safe to store.

use crate::lsn::Lsn;
use crate::position::Position;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One event in flight. Carried through the producer as its opaque, so it must stay a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub usize);

/// Where a sink reports the events it accepted. Shared: reports come from the sink's own thread, the window reads them from another.
///
/// A ring of bits, one per ticket; at most [`Acks::capacity`] tickets may be outstanding at once.
#[derive(Debug)]
pub struct Acks {
    words: Box<[AtomicU64]>,
    failures: Mutex<Vec<(Ticket, Failure)>>,
    has_failures: AtomicBool,
}

/// Why an accepted event did not become durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its class.
    pub kind: FailureKind,
    /// What the destination said; no text from the event.
    pub message: String,
}

/// The classes of failed deliveries (kafka.md, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The broker refused the batch: somebody in it is at fault.
    Rejected,
    /// Given up by [`Sink::purge`](crate::sink::Sink::purge).
    Purged,
    /// The topic or partition vanished, or the client gave up on it.
    UnknownTopic,
    /// We may not write there.
    Denied,
    /// The client is dead and must be replaced.
    Fatal,
    /// Exactly-once: the Kafka transaction was aborted, or must be; nothing of it is visible, and the client goes on after an abort.
    Aborted,
    /// Exactly-once: what became of the Kafka transaction is not known, and this client may never begin another one (kafka.md, section 12).
    Indefinite,
    /// Another instance owns the destination.
    Fenced,
    /// Anything else that a second try may cure.
    Transient,
}

/// The position up to which every event is durable, contiguous from the start: what a checkpoint stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    /// End of the last transaction that is durable as a whole, or a keepalive's position.
    pub end_lsn: Lsn,
    /// Last durable event of the transaction after it, when only its head is durable.
    pub inside: Option<Position>,
}

/// A source transaction of which every event is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Commit time in microseconds since the Unix epoch.
    pub commit_time_us: i64,
    /// Events of it that were sent.
    pub events: u64,
    /// It was no transaction: the rows of an exported snapshot.
    pub is_snapshot: bool,
}

/// The bounds of the window.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes accepted and not yet contiguously acknowledged.
    pub bytes: u64,
    /// Events accepted and not yet contiguously acknowledged.
    pub events: usize,
}

/// Transactions in commit order; the front one is the oldest with events still unacknowledged.
#[derive(Debug)]
pub struct Window {
    acks: Arc<Acks>,
    slots: Box<[Slot]>,
    /// First ticket not yet contiguously acknowledged.
    base: usize,
    /// Next ticket to hand out.
    next: usize,
    bytes: u64,
    limits: Limits,
    transactions: VecDeque<Sent>,
    frontier: Frontier,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Changes of its transaction that are done once this event is durable: of a change with several records only the last counts.
    done: u64,
    seq: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    commit_lsn: Lsn,
    commit_time_us: i64,
    first: usize,
    /// Set by the commit: where the transaction ends in the log, and the ticket after its last.
    finished: Option<(Lsn, usize)>,
    /// Rows of a snapshot, which stand at `commit_lsn` together and move no frontier.
    is_snapshot: bool,
}

// === impl Acks ===

impl Acks {
    /// Room for at least `events` outstanding tickets.
    #[must_use]
    pub fn new(events: usize) -> Arc<Self> {
        let words = (events.max(1).next_power_of_two() / 64).max(1);
        Arc::new(Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            failures: Mutex::default(),
            has_failures: AtomicBool::new(false),
        })
    }

    /// How many tickets may be outstanding.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.words.len() * 64
    }

    /// The event of this ticket is durable.
    #[inline]
    pub fn done(&self, ticket: Ticket) {
        let (word, bit) = self.locate(ticket.0);
        // Release pairs with the Acquire in `Window::advance`: what the sink did before the report is visible after it.
        self.words[word].fetch_or(bit, Ordering::Release);
    }

    /// The event of this ticket will never become durable through this acceptance.
    pub fn failed(&self, ticket: Ticket, failure: Failure) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push((ticket, failure));
        self.has_failures.store(true, Ordering::Release);
    }

    /// Takes the failures reported since the last call.
    #[must_use]
    pub fn take_failures(&self) -> Vec<(Ticket, Failure)> {
        if !self.has_failures.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[inline]
    fn locate(&self, ticket: usize) -> (usize, u64) {
        ((ticket / 64) & (self.words.len() - 1), 1 << (ticket % 64))
    }

    /// Clears and returns the acknowledgement of one ticket.
    #[inline]
    pub(crate) fn take(&self, ticket: usize) -> bool {
        let (word, bit) = self.locate(ticket);
        if self.words[word].load(Ordering::Acquire) & bit == 0 {
            return false;
        }
        self.words[word].fetch_and(!bit, Ordering::Relaxed);
        true
    }

    fn clear(&self) {
        for word in &self.words {
            word.store(0, Ordering::Relaxed);
        }
        let _ = self.take_failures();
    }
}

// === impl Frontier ===

impl Frontier {
    /// Whether the event at that position is durable, by itself or because nothing of its transaction had to be sent.
    #[must_use]
    pub fn covers(&self, position: Position) -> bool {
        position.commit_lsn < self.end_lsn || self.inside.is_some_and(|inside| inside >= position)
    }
}

// === impl Window ===

impl Window {
    /// An empty window behind `acks`, whose capacity bounds the events whatever `limits` says.
    #[must_use]
    pub fn new(acks: Arc<Acks>, limits: Limits) -> Self {
        let capacity = acks.capacity();
        Self {
            acks,
            slots: vec![Slot::default(); capacity].into_boxed_slice(),
            base: 0,
            next: 0,
            bytes: 0,
            limits: Limits { bytes: limits.bytes, events: limits.events.clamp(1, capacity) },
            transactions: VecDeque::with_capacity(1024),
            frontier: Frontier::default(),
        }
    }

    /// Starts at a stored position: everything before it is durable.
    pub fn start_at(&mut self, frontier: Frontier) {
        assert!(self.is_empty(), "the window starts empty");
        self.frontier = frontier;
    }

    /// A transaction begins.
    pub fn begin(&mut self, commit_lsn: Lsn, commit_time_us: i64) {
        debug_assert!(self.open().is_none(), "transactions do not overlap");
        self.transactions.push_back(Sent { commit_lsn, commit_time_us, first: self.next, finished: None, is_snapshot: false });
    }

    /// Rows of a snapshot of everything before `lsn`, where the frontier stands, follow; no transaction begins before
    /// [`Window::end_snapshot`].
    pub fn begin_snapshot(&mut self, lsn: Lsn, time_us: i64) {
        self.begin(lsn, time_us);
        if let Some(begun) = self.transactions.back_mut() {
            begun.is_snapshot = true;
        }
    }

    /// No other row of the snapshot follows.
    pub fn end_snapshot(&mut self) {
        if self.open().is_some_and(|open| open.is_snapshot) {
            self.commit(self.frontier.end_lsn);
        }
    }

    /// Whether the event in flight is a row of a snapshot.
    #[must_use]
    pub fn is_snapshot(&self, ticket: Ticket) -> bool {
        self.sent_with(ticket).is_some_and(|sent| sent.is_snapshot)
    }

    /// Whether an event of that size fits. An event larger than the budget goes alone.
    #[inline]
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.next == self.base || (self.next - self.base < self.limits.events && self.bytes + bytes as u64 <= self.limits.bytes)
    }

    /// The ticket that the next event gets.
    #[inline]
    #[must_use]
    pub fn next_ticket(&self) -> Ticket {
        Ticket(self.next)
    }

    /// The next ticket's event was accepted by the sink; `is_last`: the change has no further record.
    #[inline]
    pub fn sent(&mut self, seq: u64, is_last: bool, bytes: usize) {
        let slot = self.next & (self.slots.len() - 1);
        self.slots[slot] = Slot { done: seq + u64::from(is_last), seq, bytes: bytes as u64 };
        self.bytes += bytes as u64;
        self.next += 1;
    }

    /// The open transaction ends at `end_lsn`.
    pub fn commit(&mut self, end_lsn: Lsn) {
        let next = self.next;
        let Some(open) = self.transactions.back_mut().filter(|sent| sent.finished.is_none()) else {
            return;
        };
        open.finished = Some((end_lsn, next));
        if open.first == next && self.transactions.len() > 1 {
            // Nothing of it was sent: it is durable together with the one before.
            self.transactions.pop_back();
            if let Some(Sent { finished: Some((end, _)), .. }) = self.transactions.back_mut() {
                *end = end_lsn;
            }
        }
    }

    /// The server has sent everything up to `wal_end`; with nothing in flight that is durable knowledge.
    pub fn keepalive(&mut self, wal_end: Lsn) {
        if self.transactions.is_empty() && wal_end > self.frontier.end_lsn {
            // The server has not come to the half-done transaction yet: its head stays done.
            let inside = self.frontier.inside.filter(|inside| inside.commit_lsn >= wal_end);
            self.frontier = Frontier { end_lsn: wal_end, inside };
        }
    }

    /// Reads the acknowledgements that have come in and moves the frontier; `delivered` sees each transaction that is now whole.
    pub fn advance(&mut self, mut delivered: impl FnMut(Delivered)) {
        let before = self.base;
        while self.base < self.next && self.acks.take(self.base) {
            self.bytes -= self.slots[self.base & (self.slots.len() - 1)].bytes;
            self.base += 1;
        }
        while let Some(&Sent { commit_time_us, first, finished: Some((end_lsn, end)), is_snapshot, .. }) =
            self.transactions.front()
        {
            if self.base < end {
                break;
            }
            debug_assert!(end_lsn >= self.frontier.end_lsn, "the frontier never goes back");
            self.frontier = Frontier { end_lsn, inside: None };
            delivered(Delivered { commit_time_us, events: (end - first) as u64, is_snapshot });
            self.transactions.pop_front();
        }
        if let Some(front) = self.transactions.front().filter(|front| !front.is_snapshot)
            && self.base > front.first.max(before)
        {
            let done = self.slots[(self.base - 1) & (self.slots.len() - 1)].done;
            if let Some(seq) = done.checked_sub(1) {
                self.frontier.inside = Some(Position { commit_lsn: front.commit_lsn, seq });
            }
        }
    }

    /// Drops the window after a purge, back to the frontier. Every ticket must have been reported by now.
    pub fn rewind(&mut self) -> Frontier {
        self.acks.clear();
        self.transactions.clear();
        self.base = self.next;
        self.bytes = 0;
        self.frontier
    }

    /// Exactly-once: drops the window back to what was committed, below the frontier: what was acknowledged behind it was aborted.
    pub fn rewind_to(&mut self, frontier: Frontier) {
        self.rewind();
        self.frontier = frontier;
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Takes the failed deliveries reported since the last call.
    #[must_use]
    pub fn take_failures(&self) -> Vec<(Ticket, Failure)> {
        self.acks.take_failures()
    }

    /// Commit LSN of the transaction that has begun and not yet ended.
    #[must_use]
    pub fn open_commit(&self) -> Option<Lsn> {
        self.open().map(|sent| sent.commit_lsn)
    }

    /// Whether an event of the transaction that has begun and not yet ended was sent.
    #[must_use]
    pub fn open_has_events(&self) -> bool {
        self.open().is_some_and(|sent| sent.first < self.next)
    }

    /// Whether the last event of the open transaction is a part of a change, or stands beside the changes.
    pub(crate) fn ends_in_part(&self) -> bool {
        let slot = self.next.checked_sub(1).map(|last| &self.slots[last & (self.slots.len() - 1)]);
        self.open_has_events() && slot.is_some_and(|slot| slot.done <= slot.seq)
    }

    /// The position of an event in flight; `None` when it is not in the window.
    #[must_use]
    pub fn position_of(&self, ticket: Ticket) -> Option<Position> {
        let sent = self.sent_with(ticket)?;
        Some(Position { commit_lsn: sent.commit_lsn, seq: self.slots[ticket.0 & (self.slots.len() - 1)].seq })
    }

    /// The highest position handed to the sink and not yet durable.
    #[must_use]
    pub fn last_sent(&self) -> Option<Position> {
        self.position_of(Ticket(self.next.checked_sub(1)?))
    }

    /// The durable position.
    #[must_use]
    pub fn frontier(&self) -> Frontier {
        self.frontier
    }

    /// Commit time of the oldest transaction that is not durable yet, in microseconds since the Unix epoch.
    #[must_use]
    pub fn oldest_commit_time_us(&self) -> Option<i64> {
        self.transactions.front().map(|sent| sent.commit_time_us)
    }

    /// The first ticket that is not contiguously acknowledged.
    #[must_use]
    pub fn first_unacknowledged(&self) -> Ticket {
        Ticket(self.base)
    }

    /// Events in flight.
    #[must_use]
    pub fn events(&self) -> usize {
        self.next - self.base
    }

    /// Bytes in flight.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether no transaction is open or undelivered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    fn sent_with(&self, ticket: Ticket) -> Option<&Sent> {
        if !(self.base..self.next).contains(&ticket.0) {
            return None;
        }
        let after = self.transactions.partition_point(|sent| sent.first <= ticket.0);
        self.transactions.get(after.checked_sub(1)?)
    }

    fn open(&self) -> Option<&Sent> {
        self.transactions.back().filter(|sent| sent.finished.is_none())
    }
}
