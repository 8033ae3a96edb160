//! From acknowledgements to the stored checkpoint to what PostgreSQL is told.

use super::{Phase, Session};
use crate::checkpoint::{AcceptedGap, LogPoll, Record, RecordState};
use crate::lsn::Lsn;
use crate::session::recover::Cause;
use crate::session::{Note, Order};
use crate::snapshot::Snapshot;
use crate::window::{Delivered, Failure, FailureKind, Frontier};
use std::collections::VecDeque;

/// What is durable, and when it was made so.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The epoch of this session; 0 before one is claimed.
    pub(super) epoch: u64,
    /// The stored frontier.
    pub(super) stored: Frontier,
    /// The frontier being stored.
    storing: Option<Frontier>,
    /// When the last store ended, or failed.
    stored_at_ms: u64,
    /// Events became durable since the last store began.
    has_events: bool,
    /// Store at once.
    pub(super) is_forced: bool,
    /// The highest position ever confirmed.
    pub(super) confirmed: Lsn,
    pub(super) accepted_gaps: Vec<AcceptedGap>,
    /// What is published and stored, as a snapshot.
    pub(super) published: Option<Snapshot>,
    /// What will be once the store under way is answered.
    publishing: Option<Snapshot>,
    /// Log mode: the newest pair whose LSN the frontier has passed.
    pair: Option<LogPoll>,
    /// Later pairs, ascending.
    pairs: VecDeque<LogPoll>,
    /// A store was ordered and has not been answered: a checkpoint takes one at a time.
    is_under_way: bool,
    /// The record to store after the one under way, whose outcome then decides nothing any more.
    next: Option<Box<Record>>,
}

/// The positions of a standby status update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// Highest position received on this connection.
    pub written: Lsn,
    /// Position up to which the server may forget; `0/0` is no statement.
    pub flushed: Lsn,
}

/// Pairs that wait for the frontier at most: while relay is far behind there is no use in newer ones.
const PAIRS_MAX: usize = 32;
/// Wait before a last checkpoint that failed is stored again.
const STORE_AGAIN_MS: u64 = 200;

// === impl Progress ===

impl Progress {
    pub(super) fn connected(&mut self) {
        self.is_forced = false;
    }

    /// An epoch is being claimed; nothing is stored under it before [`Progress::stored`].
    pub(super) fn start(&mut self, epoch: u64, confirmed: Lsn) {
        self.epoch = epoch;
        self.stored = Frontier::default();
        self.storing = None;
        self.has_events = false;
        // Older servers let a lower position move the slot back.
        self.confirmed = confirmed;
    }

    /// The frontier being stored.
    pub(super) fn storing(&self) -> Option<Frontier> {
        self.storing
    }

    /// A store was ordered and has not been answered.
    pub(super) fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    pub(super) fn stored(&mut self, frontier: Frontier, now_ms: u64) {
        self.stored = frontier;
        self.storing = None;
        self.published = self.publishing.take();
        self.stored_at_ms = now_ms;
        self.pass_pairs(frontier.end_lsn);
    }
}

impl Progress {
    /// A query saw this much, and WAL ended there after that.
    pub(super) fn pair(&mut self, pair: LogPoll) {
        if self.pairs.len() < PAIRS_MAX && self.pairs.back().is_none_or(|last| last.lsn < pair.lsn) {
            self.pairs.push_back(pair);
        }
    }

    /// The pair that a checkpoint had.
    pub(super) fn restore_pair(&mut self, pair: Option<LogPoll>) {
        self.pair = pair;
        self.pairs.clear();
    }

    /// The frontier is at `end_lsn`: what a pair's snapshot sees is published once its LSN is passed.
    fn pass_pairs(&mut self, end_lsn: Lsn) {
        while self.pairs.front().is_some_and(|pair| pair.lsn <= end_lsn) {
            self.pair = self.pairs.pop_front();
        }
    }

    /// The newest pair for a record that stands there.
    pub(super) fn pair_at(&self, end_lsn: Lsn) -> Option<&LogPoll> {
        self.pairs.iter().take_while(|pair| pair.lsn <= end_lsn).last().or(self.pair.as_ref())
    }
}

// === impl Session ===

impl Session {
    /// Reads the acknowledgements that came in; `delivered` sees each source transaction that is now durable.
    pub fn advance(&mut self, mut delivered: impl FnMut(Delivered)) {
        let before = self.window.frontier();
        let mut has_events = false;
        self.window.advance(|transaction| {
            has_events |= transaction.events > 0;
            delivered(transaction);
        });
        if self.window.is_empty() {
            // A keepalive that came while events were in flight counts now.
            self.window.keepalive(self.flow.received_end);
        }
        let frontier = self.window.frontier();
        if !self.is_exactly_once() {
            self.book.retire(frontier);
            self.copying.pass(frontier, self.window.first_unacknowledged());
            self.end_isolation(frontier);
        }
        if has_events || (frontier.inside.is_some() && frontier.inside != before.inside) {
            self.progress.has_events = true;
        }
        for (ticket, failure) in self.window.take_failures() {
            self.delivery_failed(ticket, &failure);
        }
    }

    /// Everything up to here is durable for good: was it the culprit that was looked for?
    pub(super) fn end_isolation(&mut self, durable: Frontier) {
        if self.isolate_until.is_some_and(|until| durable.covers(until)) {
            self.isolate_until = None;
            self.condemned.clear();
        }
    }

    /// What to tell PostgreSQL now. Never above the durable checkpoint, never above what the server has sent on this connection, never
    /// going back; `0/0` until the start checks have passed.
    pub fn confirmation(&mut self) -> Confirmation {
        let written = self.flow.received;
        if !matches!(self.phase, Phase::Streaming | Phase::StoringLast | Phase::Ended) || self.progress.epoch == 0 {
            return Confirmation { written: Lsn::ZERO, flushed: Lsn::ZERO };
        }
        // The server believes any flush position and drops WAL up to it, so clamp to what it has sent on this connection.
        let flushed = self.progress.stored.end_lsn.min(written);
        if flushed < self.progress.confirmed || self.proof_at_ms.is_some() {
            return Confirmation { written, flushed: Lsn::ZERO };
        }
        assert!(flushed <= self.window.frontier().end_lsn, "nothing is confirmed that is not durable");
        self.progress.confirmed = flushed;
        Confirmation { written, flushed }
    }

    /// The durable position.
    #[must_use]
    pub fn stored(&self) -> Frontier {
        self.progress.stored
    }

    /// The highest position confirmed to PostgreSQL by this session.
    #[must_use]
    pub fn confirmed(&self) -> Lsn {
        self.progress.confirmed
    }

    pub(super) fn store_done(&mut self, result: Result<(), Failure>) {
        self.progress.is_under_way = false;
        if let Some(record) = self.progress.next.take() {
            return self.order_store(*record);
        }
        if self.is_exactly_once() && self.phase != Phase::StoringBootstrap {
            return self.commit_done(result);
        }
        if let Err(failure) = &result
            && failure.kind == FailureKind::Fatal
        {
            match self.phase {
                // Nothing is outstanding here; the answer matters in `Phase::Renewing` alone.
                Phase::StoringBootstrap | Phase::Claiming(_) if !self.is_exactly_once() => self.order(Order::Renew),
                Phase::Streaming => {
                    self.store_failed(failure.message.clone());
                    return self.rewind_because(Cause::Fatal);
                }
                _ => {}
            }
        }
        match self.phase {
            Phase::StoringBootstrap => self.bootstrap_stored(result),
            Phase::Claiming(frontier) => self.claimed(result, frontier),
            Phase::StoringLast => {
                match result {
                    Ok(()) => {
                        if let Some(frontier) = self.progress.storing {
                            self.frontier_stored(frontier);
                        }
                        self.last_stored();
                    }
                    // Tried again while the grace lasts.
                    Err(failure) => self.store_failed(failure.message),
                }
            }
            _ => match result {
                Ok(()) => {
                    if let Some(frontier) = self.progress.storing {
                        self.frontier_stored(frontier);
                    }
                }
                Err(failure) => self.store_failed(failure.message),
            },
        }
    }

    /// The last record of this session is durable.
    pub(super) fn last_stored(&mut self) {
        if let Some((consistent, _)) = self.log_takes_over().filter(|_| self.drain.is_none()) {
            self.is_switch = true;
            self.note(Note::LogTakesOver(consistent));
        }
        self.end();
    }

    pub(super) fn frontier_stored(&mut self, frontier: Frontier) {
        self.progress.stored(frontier, self.now_ms);
        self.copying.stored();
    }

    pub(super) fn store_failed(&mut self, message: String) {
        self.progress.storing = None;
        self.progress.stored_at_ms = self.now_ms;
        self.progress.has_events = true;
        self.note(Note::StoreFailed(message));
    }

    /// Whether the last store was answered so long ago that another one is no flood.
    pub(super) fn may_store_again(&self) -> bool {
        !self.is_storing() && self.now_ms >= self.progress.stored_at_ms + STORE_AGAIN_MS
    }

    pub(super) fn store_if_due(&mut self) {
        if self.is_exactly_once() {
            return self.commit_if_due();
        }
        if !self.is_ours() || self.progress.storing.is_some() || matches!(self.phase, Phase::Rewinding { .. }) {
            return;
        }
        let frontier = self.window.frontier();
        if frontier == self.progress.stored && !self.copying.is_unstored() {
            self.progress.is_forced &= !self.window.is_empty();
            return;
        }
        if self.is_store_due() {
            self.progress.is_forced = false;
            self.store(RecordState::Running, frontier);
        }
    }

    /// Whether what is not stored has waited long enough.
    pub(super) fn is_store_due(&self) -> bool {
        let interval_ms = if self.progress.has_events || self.copying.is_unstored() {
            self.config.checkpoint_interval_ms
        } else {
            self.config.idle_checkpoint_interval_ms
        };
        let is_due = self.now_ms >= self.progress.stored_at_ms + interval_ms || self.copying.is_urgent();
        is_due || (self.progress.is_forced && self.window.is_empty())
    }

    pub(super) fn store(&mut self, state: RecordState, frontier: Frontier) {
        debug_assert!(frontier.end_lsn >= self.progress.stored.end_lsn, "a checkpoint never goes back");
        self.progress.storing = Some(frontier);
        self.progress.has_events = false;
        self.copying.store();
        let record = self.record(state, self.progress.epoch, Some(frontier));
        self.order_store(record);
    }

    /// Orders the store, or keeps the record until the store under way is answered: its answer must not be taken for this one's.
    pub(super) fn order_store(&mut self, record: Record) {
        self.progress.publishing = record.published().cloned();
        if self.progress.is_under_way {
            self.progress.next = Some(Box::new(record));
        } else {
            self.progress.is_under_way = true;
            if self.is_exactly_once() {
                self.committing(&record);
            }
            self.order(Order::Store(Box::new(record)));
        }
    }

    pub(super) fn is_storing(&self) -> bool {
        self.progress.storing.is_some()
    }
}
