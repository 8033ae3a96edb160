//! The polling source's way through the session: which part of which tick is read next, and what a frontier means in ticks.
//!
//! Work is numbered in the order in which it is first read, and a number serves as the commit LSN of everything that the session shares
//! with the log: window, rewind, isolation, poison. Numbers live as long as the process; what is stored are snapshots and order values.

use super::{Begun, Fault, Reads, Session};
use crate::checkpoint::PollPosition;
use crate::error::Kind;
use crate::lsn::Lsn;
use crate::position::Position;
use crate::snapshot::Snapshot;
use crate::window::Frontier;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A snapshot that was taken, and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// What is visible in it.
    pub snapshot: Snapshot,
    /// End of the server's WAL, read after the snapshot: what the snapshot sees was written before.
    pub wal_end: Lsn,
    /// The server's clock, microseconds since the Unix epoch: the timestamp of events whose table has none.
    pub time_us: i64,
}

/// Rows of one table to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Its number; the next one's is one higher.
    pub number: Lsn,
    /// `schema.table`.
    pub table: Arc<str>,
    /// Which rows.
    pub rows: Rows,
    /// The server's clock when they were first asked for, microseconds since the Unix epoch.
    pub time_us: i64,
}

/// Which rows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Visible in `tick` and not in `previous`, in the order of the order column.
    Tick {
        /// The tick before.
        previous: Arc<Tick>,
        /// This tick.
        tick: Arc<Tick>,
        /// The last value that was handled: reading starts with it, so that a second row of that value shows.
        from: Option<i64>,
    },
    /// Not marked as published yet.
    Claim,
}

/// What is being read and is not durable as a whole, and where reading stands.
#[derive(Debug)]
pub(super) struct Book {
    batches: VecDeque<Batch>,
    /// Number of the work to read next.
    cursor: u64,
    /// Number of the work to be added next.
    next: u64,
    /// The tick up to which everything before `batches` is durable.
    before: Arc<Tick>,
    /// A tick that the checkpoint left unfinished: what it sees, and what was published of it.
    half: Option<(Snapshot, BTreeMap<String, i64>)>,
    /// The snapshot that ends polling, once it is exported.
    last: Option<Tick>,
    has_ended: bool,
}

#[derive(Debug)]
enum Batch {
    Tick { previous: Arc<Tick>, tick: Arc<Tick>, first: u64, parts: Vec<Part> },
    Claim { number: u64, table: Arc<str>, time_us: i64 },
}

/// One table's rows in one tick.
#[derive(Debug)]
struct Part {
    table: Arc<str>,
    /// Last order value that was published before this process began.
    published: Option<i64>,
    /// Last order value, once it was read to its end.
    last: Option<i64>,
}

/// The order value as the position inside its work: the order is kept, that of negative values too.
fn to_seq(order: i64) -> u64 {
    order as u64 ^ (1 << 63)
}

fn to_order(seq: u64) -> i64 {
    (seq ^ (1 << 63)) as i64
}

/// Where a row of a tick stands, for [`Frontier::covers`].
#[must_use]
pub fn row_position(number: Lsn, order: i64) -> Position {
    Position { commit_lsn: number, seq: to_seq(order) }
}

/// The order value of a row that stands there.
#[must_use]
pub fn row_order(position: Position) -> i64 {
    to_order(position.seq)
}

// === impl Batch ===

impl Batch {
    /// The number behind its last work.
    fn end(&self) -> u64 {
        match self {
            Batch::Tick { first, parts, .. } => first + parts.len() as u64,
            Batch::Claim { number, .. } => number + 1,
        }
    }
}

// === impl Book ===

impl Book {
    pub(super) fn new() -> Self {
        let nothing = Tick { snapshot: Snapshot::nothing(), wal_end: Lsn::ZERO, time_us: 0 };
        Self { batches: VecDeque::new(), cursor: 1, next: 1, before: Arc::new(nothing), half: None, last: None, has_ended: false }
    }

    /// Starts anew behind a stored position; gives the frontier that stands for it.
    pub(super) fn start(&mut self, position: PollPosition, wal_end: Lsn) -> Frontier {
        self.batches.clear();
        self.cursor = self.next;
        (self.last, self.has_ended) = (None, false);
        self.half = (position.snapshot != position.tick).then_some((position.tick, position.seq));
        self.before = Arc::new(Tick { snapshot: position.snapshot, wal_end, time_us: 0 });
        Frontier { end_lsn: Lsn(self.next), inside: None }
    }

    /// The next tick is this one, and the last.
    pub(super) fn end_with(&mut self, exported: Tick) {
        self.last = Some(exported);
    }

    /// The newest tick that is known.
    pub(super) fn newest(&self) -> &Arc<Tick> {
        let newest = self.batches.iter().rev().find_map(|batch| match batch {
            Batch::Tick { tick, .. } => Some(tick),
            Batch::Claim { .. } => None,
        });
        newest.unwrap_or(&self.before)
    }

    fn take(&mut self, mut taken: Tick, tables: &[Arc<str>]) -> bool {
        let previous = Arc::clone(self.newest());
        let mut handled = BTreeMap::new();
        if let Some((snapshot, seq)) = self.half.take() {
            taken.snapshot = snapshot;
            handled = seq;
        } else if let Some(last) = self.last.take() {
            taken = last;
            self.has_ended = true;
        } else if self.has_ended || taken.snapshot == previous.snapshot {
            return false;
        }
        let part = |table: &Arc<str>| Part { table: Arc::clone(table), published: handled.get(&**table).copied(), last: None };
        let parts: Vec<Part> = tables.iter().map(part).collect();
        let first = self.next;
        self.next += parts.len() as u64;
        self.batches.push_back(Batch::Tick { previous, tick: Arc::new(taken), first, parts });
        true
    }

    fn claim(&mut self, table: Arc<str>, time_us: i64) {
        self.batches.push_back(Batch::Claim { number: self.next, table, time_us });
        self.next += 1;
    }

    fn work(&self) -> Option<Work> {
        let batch = self.batches.iter().find(|batch| batch.end() > self.cursor)?;
        let number = Lsn(self.cursor);
        Some(match batch {
            Batch::Tick { previous, tick, first, parts } => {
                let part = parts.get((self.cursor - first) as usize)?;
                let rows = Rows::Tick { previous: Arc::clone(previous), tick: Arc::clone(tick), from: part.published };
                Work { number, table: Arc::clone(&part.table), rows, time_us: tick.time_us }
            }
            Batch::Claim { table, time_us, .. } => {
                Work { number, table: Arc::clone(table), rows: Rows::Claim, time_us: *time_us }
            }
        })
    }

    /// The work at the cursor was read to its end.
    fn end_work(&mut self, last: Option<i64>) {
        let cursor = self.cursor;
        if let Some(Batch::Tick { first, parts, .. }) = self.batches.iter_mut().find(|batch| batch.end() > cursor)
            && let Some(part) = parts.get_mut((cursor - *first) as usize)
        {
            part.last = last;
        }
        self.cursor += 1;
    }

    fn end(&self) -> Lsn {
        Lsn(self.next)
    }

    pub(super) fn rewind(&mut self, frontier: Frontier) {
        self.cursor = frontier.end_lsn.0;
    }

    /// Forgets what is durable; a tick goes as a whole, because its tables' last values are stored until then.
    pub(super) fn retire(&mut self, frontier: Frontier) {
        while self.batches.front().is_some_and(|batch| batch.end() <= frontier.end_lsn.0.min(self.cursor)) {
            if let Some(Batch::Tick { tick, .. }) = self.batches.pop_front() {
                self.before = tick;
            }
        }
    }

    /// What to store for a frontier, and the end of WAL by which later histories are compared with it.
    pub(super) fn position(&self, frontier: Frontier) -> (PollPosition, Lsn) {
        let mut whole = &self.before;
        for batch in &self.batches {
            let Batch::Tick { previous, tick, first, parts } = batch else { continue };
            if batch.end() <= frontier.end_lsn.0 {
                whole = tick;
                continue;
            }
            let mut seq = BTreeMap::new();
            for (number, part) in (*first..).zip(parts) {
                let inside = frontier.inside.filter(|inside| inside.commit_lsn.0 == number).map(|inside| to_order(inside.seq));
                let whole = part.last.filter(|_| number < frontier.end_lsn.0);
                if let Some(last) = inside.or(whole).or(part.published) {
                    seq.insert(part.table.to_string(), last);
                }
            }
            return (PollPosition { snapshot: previous.snapshot.clone(), tick: tick.snapshot.clone(), seq }, tick.wal_end);
        }
        match &self.half {
            Some((tick, seq)) => {
                let snapshot = self.before.snapshot.clone();
                (PollPosition { snapshot, tick: tick.clone(), seq: seq.clone() }, self.before.wal_end)
            }
            None => (PollPosition::at(whole.snapshot.clone()), whole.wal_end),
        }
    }

    /// Whether everything that polling had to do before the log takes over is durable.
    pub(super) fn is_through(&self, frontier: Frontier) -> bool {
        self.has_ended && frontier.end_lsn.0 >= self.next
    }
}

// === impl Session ===

impl Session {
    /// What to read next; `None` when all that is known was read: then a snapshot is due ([`Session::take_tick`]), or rows without a mark
    /// may be claimed ([`Session::take_claim`]).
    #[must_use]
    pub fn work(&self) -> Option<Work> {
        let mut work = self.book.work()?;
        if let Rows::Tick { from, .. } = &mut work.rows {
            *from = self.flow.inside_of(work.number).map(to_order).or(*from);
        }
        Some(work)
    }

    /// A snapshot was taken: gives work to do, one a table, if it shows anything new.
    pub fn take_tick(&mut self, taken: Tick, tables: &[Arc<str>]) -> bool {
        self.book.take(taken, tables)
    }

    /// Rows without a mark are to be read: as work, whose number names them when they are read again.
    pub fn take_claim(&mut self, table: Arc<str>, time_us: i64) {
        self.book.claim(table, time_us);
    }

    /// Reading of that work begins, for the first time or again.
    ///
    /// # Errors
    /// As [`Session::begin`].
    pub fn begin_work(&mut self, work: &Work) -> Result<Begun, Fault> {
        if let Rows::Tick { from: Some(from), .. } = work.rows {
            self.flow.handled(Position { commit_lsn: work.number, seq: to_seq(from) });
        }
        self.begin(work.number, work.time_us)
    }

    /// The next row of a tick has this order value.
    ///
    /// # Errors
    /// When the value is not above that of the row before: two rows with one value cannot be told apart after a crash.
    pub fn seek_order(&mut self, order: i64) -> Result<(), Fault> {
        if self.seek(to_seq(order)) {
            return Ok(());
        }
        let message = format!("the order column's value {order} stands in more than one row of a tick");
        Err(Fault { kind: Kind::OrderRepeats, message })
    }

    /// Reading of the work at hand is given up for now; it begins again where it was left.
    pub fn leave_work(&mut self) {
        self.flow.connected();
    }

    /// The work at hand was read to its end.
    ///
    /// # Errors
    /// As [`Session::commit`].
    pub fn end_work(&mut self, number: Lsn) -> Result<(), Fault> {
        let last = self.flow.inside_of(number).map(to_order);
        self.commit(number, Lsn(number.0 + 1))?;
        self.book.end_work(last);
        Ok(())
    }

    /// The next row of a claim stands at this place in it.
    pub fn seek_index(&mut self, index: u64) {
        self.seek(index);
    }

    /// The number behind everything that is known: read to there, all that is known was read.
    #[must_use]
    pub fn known_end(&self) -> Lsn {
        self.book.end()
    }

    /// The position in the log that a frontier stands for; in poll mode that of the tick it is in.
    #[must_use]
    pub fn log_position(&self, frontier: Frontier) -> Lsn {
        match self.config.reads {
            Reads::Log => frontier.end_lsn,
            Reads::Poll { .. } => self.book.position(frontier).1,
        }
    }

    /// The newest tick that is known.
    #[must_use]
    pub fn newest_tick(&self) -> &Tick {
        self.book.newest()
    }

    /// A tick that an earlier process left unfinished, with the last order value that it published of each table; `None` once the tick is
    /// taken up.
    #[must_use]
    pub fn half_tick(&self) -> Option<(&Snapshot, &BTreeMap<String, i64>)> {
        self.book.half.as_ref().map(|(tick, seq)| (tick, seq))
    }

    /// What is published and stored, as a snapshot: everything that it sees. `None` until that is known.
    #[must_use]
    pub fn published(&self) -> Option<&Snapshot> {
        self.progress.published.as_ref()
    }
}
