//! The stream's way through the session: which changes are new, which were seen, where reading would go on.

use super::recover::Cause;
use super::{Fault, Session};
use crate::error::Kind;
use crate::lsn::Lsn;
use crate::position::Position;
use crate::sink::Poison;
use crate::sink::PoisonReason;
use crate::window::{Frontier, Ticket};

/// What is known of the stream, across connections.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Highest position that this connection has named: the clamp of everything we confirm.
    pub(super) received: Lsn,
    /// Where a new connection would start: end of the last transaction received whole, or a keepalive between transactions.
    pub(super) received_end: Lsn,
    /// Last event that was handled in the transaction that follows `received_end`.
    inside: Option<Position>,
    /// Records of the change behind `inside` that the last connection sent before it was lost in the middle of that change.
    cut: u64,
    /// The transaction being received.
    pub(super) open: Option<Open>,
    /// Highest commit begun on this connection.
    last_begun: Lsn,
    /// What comes again begins inside the transaction of that commit, with the change of that index.
    begins_at: Option<(Lsn, u64)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    commit_lsn: Lsn,
    next_seq: u64,
    /// Records of the current change that were sent.
    parts: u64,
    /// All of it was handled before.
    is_covered: bool,
    /// Changes below this index were handled before.
    skip_below: u64,
    /// Records of the change at that index that are in the window already.
    cut: u64,
}

/// What to do with the transaction that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Go on with its changes.
    Read,
    /// The session goes back to its frontier; stop reading.
    Rewind,
}

/// What to do with the change that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It was handled before: pass it by.
    Covered,
    /// It is new.
    Fresh(Position),
    /// It is new, and known to be refused by the broker: the poison policy has it.
    Condemned(Position, Poison),
}

// === impl Flow ===

impl Flow {
    pub(super) fn connected(&mut self) {
        self.received = Lsn::ZERO;
        self.begins_at = None;
        self.last_begun = Lsn::ZERO;
        if let Some(open) = self.open.take().filter(|open| !open.is_covered && open.next_seq >= open.skip_below) {
            self.cut = open.parts;
        }
    }

    /// The changes of a transaction up to this one were handled by an earlier process.
    pub(super) fn handled(&mut self, position: Position) {
        self.inside = self.inside.max(Some(position));
    }

    pub(super) fn disconnected(&mut self) {
        self.received = Lsn::ZERO;
    }

    /// The transaction being read, and the index of its next change.
    pub(super) fn place(&self) -> Option<(Lsn, u64)> {
        self.open.map(|open| (open.commit_lsn, open.next_seq))
    }

    /// Frames that were read on this connection come again, from there on.
    pub(super) fn replay(&mut self, begins_at: Option<(Lsn, u64)>) {
        self.last_begun = Lsn::ZERO;
        self.begins_at = begins_at;
    }

    /// Whether the head of a transaction was handled and its rest not.
    pub(super) fn is_inside(&self) -> bool {
        self.inside.is_some()
    }

    /// Commit of the transaction of which the head was handled and the rest not.
    pub(super) fn inside_commit(&self) -> Option<Lsn> {
        self.inside.map(|inside| inside.commit_lsn)
    }

    /// Index of the last change that was handled in the transaction of that commit, if it is the one cut short or being read.
    pub(super) fn inside_of(&self, commit_lsn: Lsn) -> Option<u64> {
        self.inside.filter(|inside| inside.commit_lsn == commit_lsn).map(|inside| inside.seq)
    }

    /// Everything up to here was handled.
    pub(super) fn resume_from(&mut self, frontier: Frontier) {
        self.received_end = frontier.end_lsn;
        self.inside = frontier.inside;
        self.cut = 0;
        self.open = None;
    }
}

// === impl Session ===

impl Session {
    /// A transaction begins in the stream.
    ///
    /// # Errors
    /// When commits do not come in the log's order: the server breaks its protocol, nothing of it is used.
    pub fn begin(&mut self, commit_lsn: Lsn, commit_time_us: i64) -> Result<Begun, Fault> {
        if self.flow.open.is_some() || commit_lsn <= self.flow.last_begun {
            return Err(Fault {
                kind: Kind::SourceProtocol,
                message: format!("a transaction with commit {commit_lsn} begins after {}", self.flow.last_begun),
            });
        }
        self.flow.last_begun = commit_lsn;
        let is_covered = commit_lsn < self.flow.received_end;
        let seen = self.flow.inside.filter(|inside| inside.commit_lsn == commit_lsn);
        let mut is_continued = false;
        if !is_covered && let Some(open) = self.window.open_commit() {
            if open != commit_lsn {
                // The transaction cut by the last connection did not come again: its head in the window has no end.
                self.rewind_because(Cause::Source);
                return Ok(Begun::Rewind);
            }
            is_continued = true;
        }
        if !is_covered && !is_continued {
            self.window.begin(commit_lsn, commit_time_us);
        }
        let skip_below = seen.map_or(0, |inside| inside.seq.saturating_add(1));
        let cut = if is_continued { self.flow.cut } else { 0 };
        let parts = if skip_below == 0 { cut } else { 0 };
        let next_seq = self.flow.begins_at.take().filter(|(begun, _)| *begun == commit_lsn).map_or(0, |(_, seq)| seq);
        self.flow.open = Some(Open { commit_lsn, next_seq, parts, is_covered, skip_below, cut });
        Ok(Begun::Read)
    }

    /// A change of the open transaction was read; after it is dealt with, [`Session::passed`] counts it. Asking twice is harmless.
    #[inline]
    #[must_use]
    pub fn admit(&self) -> Admission {
        let Some(open) = self.flow.open else { return Admission::Covered };
        if open.is_covered || open.next_seq < open.skip_below {
            return Admission::Covered;
        }
        let position = Position { commit_lsn: open.commit_lsn, seq: open.next_seq };
        if !self.condemned.is_empty()
            && let Some((message, until_ms)) = self.condemned.get(&position)
            && self.now_ms < *until_ms
        {
            return Admission::Condemned(position, Poison::new(PoisonReason::Rejected, message.clone()));
        }
        Admission::Fresh(position)
    }

    /// Whether an event of that size may go to the sink now. While a culprit is being looked for, events go one at a time.
    #[inline]
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        // A drain finishes the change at hand and begins no other.
        if self.drain.is_some() && !self.is_streaming() {
            return false;
        }
        if self.is_exactly_once() && !self.transaction_has_room() {
            return false;
        }
        if let Some(until) = self.isolate_until
            && self.window.events() > 0
            && self.flow.open.is_some_and(|open| Position { commit_lsn: open.commit_lsn, seq: open.next_seq } <= until)
        {
            return false;
        }
        if self.copying.is_careful() && self.window.events() > 0 {
            return false;
        }
        self.window.has_room(bytes)
    }

    /// Commit LSN of the transaction being read.
    pub(super) fn open_commit(&self) -> Option<Lsn> {
        self.flow.open.map(|open| open.commit_lsn)
    }

    /// The ticket for the event about to be offered.
    #[inline]
    #[must_use]
    pub fn next_ticket(&self) -> Ticket {
        self.window.next_ticket()
    }

    /// The sink accepted the event of the current change, its only or last one; [`Session::passed`] follows.
    #[inline]
    pub fn sent(&mut self, bytes: usize) {
        self.sent_as(true, bytes);
    }

    /// The sink accepted a record of the current change, and another one of the same change is to come: only with the last one the
    /// change counts as done.
    #[inline]
    pub fn sent_part(&mut self, bytes: usize) {
        self.sent_as(false, bytes);
    }

    /// The sink accepted a record that belongs to no change: a transaction's BEGIN before its changes, its END behind them, a
    /// heartbeat between transactions. No change is done by it, and the transaction is whole only with it.
    pub fn sent_beside(&mut self, bytes: usize) {
        let seq = self.flow.open.map_or(0, |open| open.next_seq);
        self.window.sent(seq, false, bytes);
        self.sent_into_transaction(bytes);
        if self.copying.is_careful() {
            self.copying.sent_careful();
        }
    }

    /// Whether all of the open transaction was handled before.
    #[inline]
    #[must_use]
    pub fn is_covered(&self) -> bool {
        self.flow.open.is_some_and(|open| open.is_covered)
    }

    /// Whether a record that belongs to no transaction may go now: between transactions, none being cut either, and not while a culprit is
    /// being looked for.
    #[must_use]
    pub fn takes_heartbeat(&self) -> bool {
        self.is_streaming() && self.flow.open.is_none() && self.window.open_commit().is_none() && self.isolate_until.is_none()
    }

    #[inline]
    fn sent_as(&mut self, is_last: bool, bytes: usize) {
        if let Some(open) = &mut self.flow.open {
            debug_assert!(!open.is_covered && open.next_seq >= open.skip_below, "an event is sent once");
            open.parts += 1;
            self.window.sent(open.next_seq, is_last, bytes);
            self.sent_into_transaction(bytes);
            if self.copying.is_careful() {
                self.copying.sent_careful();
            }
        } else if self.copying.is_exporting() {
            self.window.sent(0, true, bytes);
            self.sent_into_transaction(bytes);
        }
    }

    /// Whether a record of the open transaction was sent before, and is in flight or durable: its BEGIN was the first.
    #[must_use]
    pub fn has_records(&self) -> bool {
        let is_inside = |open: &Open| self.window.frontier().inside.is_some_and(|inside| inside.commit_lsn == open.commit_lsn);
        self.flow.open.as_ref().is_some_and(|open| open.is_covered || self.window.open_has_events() || is_inside(open))
    }

    /// Whether records were sent that no checkpoint can tell of: some of a change and not all, or a BEGIN and no change.
    pub(super) fn is_inside_change(&self) -> bool {
        self.flow.open.is_some() && self.window.ends_in_part()
    }

    /// Records of the current change that were sent before the sink was full or the connection lost: the next one to offer.
    #[inline]
    #[must_use]
    pub fn parts_sent(&self) -> u64 {
        self.flow.open.map_or(0, |open| open.parts)
    }

    /// The current change is dealt with: covered, filtered, skipped, or sent.
    #[inline]
    pub fn passed(&mut self) {
        if let Some(open) = &mut self.flow.open {
            if !open.is_covered && open.next_seq >= open.skip_below {
                self.flow.inside = Some(Position { commit_lsn: open.commit_lsn, seq: open.next_seq });
            }
            open.next_seq = open.next_seq.saturating_add(1);
            open.parts = if open.next_seq == open.skip_below { open.cut } else { 0 };
        }
    }

    /// The next change of the open transaction has this index. False when it is not above that of the change before.
    pub(super) fn seek(&mut self, seq: u64) -> bool {
        let Some(open) = self.flow.open.as_mut().filter(|open| seq >= open.next_seq) else { return false };
        open.next_seq = seq;
        true
    }

    /// The open transaction ends.
    ///
    /// # Errors
    /// When no transaction is open, or another one: the server breaks its protocol.
    pub fn commit(&mut self, commit_lsn: Lsn, end_lsn: Lsn) -> Result<(), Fault> {
        let Some(open) = self.flow.open.take().filter(|open| open.commit_lsn == commit_lsn && end_lsn > commit_lsn) else {
            return Err(Fault {
                kind: Kind::SourceProtocol,
                message: format!("a commit at {commit_lsn}, ending at {end_lsn}, does not fit the transaction being read"),
            });
        };
        self.flow.received = self.flow.received.max(end_lsn);
        if !open.is_covered {
            self.window.commit(end_lsn);
            self.flow.received_end = end_lsn;
            self.flow.inside = None;
            self.flow.cut = 0;
        }
        Ok(())
    }

    /// The server has sent everything up to `wal_end`. `is_urgent`: it asked for a reply, as it does when it shuts down.
    pub fn keepalive(&mut self, wal_end: Lsn, is_urgent: bool) {
        self.flow.received = self.flow.received.max(wal_end);
        if !self.is_streaming() {
            return;
        }
        if is_urgent {
            self.progress.is_forced = true;
        }
        if self.flow.open.is_none() && wal_end > self.flow.received_end {
            self.flow.received_end = wal_end;
            // While the server decodes its way to the transaction that was cut, the head of that one stays handled.
            self.flow.inside = self.flow.inside.filter(|inside| inside.commit_lsn >= wal_end);
            self.window.keepalive(wal_end);
        }
    }

    /// Whether the server had nothing more to send when it last spoke, and everything sent is durable.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.flow.open.is_none() && self.window.is_empty()
    }

    /// The highest position that this connection has named.
    #[must_use]
    pub fn received(&self) -> Lsn {
        self.flow.received
    }
}
