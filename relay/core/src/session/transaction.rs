//! Exactly-once: when the Kafka transaction under way is committed, and how it goes on when it was not (kafka.md, section 12).
//!
//! Events go into the open transaction, and with them, last of all, the checkpoint record. What is committed is `stored`; the window's
//! frontier runs ahead of it and counts for nothing until then. Whatever goes wrong leads back to `stored`. When nobody knows whether a
//! commit happened, a new client shuts the old one out first, and the checkpoint as committed then tells.

mod fence;

use super::kept::Kept;
use super::recover::{Cause, Purged};
use super::{AfterRewind, Fault, Next, Note, Order, Phase, Reads, Session};
use crate::checkpoint::{Guarantee, Record, RecordState};
use crate::error::Kind;
use crate::lsn::Lsn;
use crate::sink::PurgeScope;
use crate::window::{Failure, FailureKind, Frontier, Ticket};
use fence::Doubt;

/// A transaction stays open for so long, if need be, to have the end of the source transaction in it.
const WHOLE_MS: u64 = 1_000;
/// How long a commit waits for the rest of a change whose first records are acknowledged.
const REST_MS: u64 = 1_000;
/// The source counts as idle when it has had nothing for so long.
const IDLE_MS: u64 = 5;

/// What is known of the Kafka transaction under way.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// When its first event was sent; `None` when none was since the last commit or abort.
    since_ms: Option<u64>,
    events: usize,
    bytes: u64,
    /// It is to be committed as soon as everything sent is acknowledged: nothing but the rest of a change is sent any more.
    pub(super) is_closing: bool,
    /// Since when the source has had nothing more.
    pub(super) idle_since_ms: Option<u64>,
    /// The source transaction that was split last.
    split: Option<Lsn>,
    /// The record being committed, and what is acknowledged before it.
    committing: Option<(Box<Record>, Ticket)>,
    /// The record of which nobody knows whether it was committed.
    doubt: Option<Doubt>,
    /// This client may not begin again: a new one must shut it out.
    pub(super) needs_fence: bool,
    /// To stop for, once what was sent is committed.
    stop: Option<Fault>,
    /// Since when a commit waits for nothing but the rest of a change.
    rest_since_ms: Option<u64>,
    /// The change there, and what is behind it, goes into a transaction of its own: its rest did not come, and all that was sent before it
    /// would wait with it.
    cut_before: Option<(Lsn, u64)>,
    pub(super) kept: Kept,
}

// === impl Transaction ===

impl Transaction {
    pub(super) fn is_open(&self) -> bool {
        self.since_ms.is_some()
    }

    #[inline]
    fn sent(&mut self, now_ms: u64, bytes: usize) {
        self.since_ms.get_or_insert(now_ms);
        self.idle_since_ms = None;
        self.events += 1;
        self.bytes += bytes as u64;
    }

    /// It is over, whichever way.
    fn end(&mut self) {
        (self.since_ms, self.idle_since_ms, self.rest_since_ms, self.is_closing) = (None, None, None, false);
        (self.events, self.bytes) = (0, 0);
        self.stop = None;
    }

    /// A connection begins. `is_clean`: at `stored`, with nothing sent behind that.
    pub(super) fn connected(&mut self, is_clean: bool) {
        // A commit that is under way was ordered at a place of the last connection.
        self.kept = Kept { is_used: self.kept.is_used, bytes: is_clean.then_some(0), ..Kept::default() };
    }

    /// What this connection has sent does not come again.
    pub(super) fn disconnected(&mut self) {
        (self.kept.bytes, self.kept.after) = (None, None);
    }

    /// A start: nothing is known of any transaction.
    pub(super) fn start_over(&mut self) {
        self.end();
        (self.doubt, self.committing, self.cut_before) = (None, None, None);
        self.needs_fence = true;
    }
}

// === impl Session ===

impl Session {
    #[inline]
    pub(super) fn is_exactly_once(&self) -> bool {
        self.config.guarantee == Guarantee::ExactlyOnce
    }

    /// The position that is durable and stays so, whatever breaks: in exactly-once what is committed, else what is acknowledged.
    #[must_use]
    pub fn durable(&self) -> Frontier {
        if self.is_exactly_once() { self.progress.stored } else { self.window.frontier() }
    }

    /// The source has nothing more to read just now. Exactly-once: what is open is committed if that lasts.
    pub fn idle(&mut self) {
        if self.is_exactly_once() {
            self.transaction.idle_since_ms.get_or_insert(self.now_ms);
        }
    }

    /// Whether something may be sent into the transaction.
    #[inline]
    pub(super) fn transaction_has_room(&self) -> bool {
        if self.progress.is_under_way() {
            return false;
        }
        !(self.transaction.is_closing || self.is_transaction_full() || self.is_at_cut()) || self.is_inside_change()
    }

    /// Whether what is open is to be committed before the change at hand.
    #[inline]
    fn is_at_cut(&self) -> bool {
        self.transaction.cut_before.is_some()
            && self.transaction.cut_before == self.flow.place()
            && self.transaction.is_open()
            && !self.is_inside_change()
    }

    #[inline]
    fn is_transaction_full(&self) -> bool {
        let limits = self.window.limits();
        let Transaction { events, bytes, kept, .. } = &self.transaction;
        *events >= limits.events || *bytes >= limits.bytes || kept.bytes.unwrap_or(0) + self.window.bytes() >= limits.bytes / 2
    }

    #[inline]
    pub(super) fn sent_into_transaction(&mut self, bytes: usize) {
        if self.is_exactly_once() {
            self.transaction.sent(self.now_ms, bytes);
        }
    }

    /// Whether it is time, for a transaction that is open.
    fn is_commit_due(&self, since_ms: u64) -> bool {
        let age_ms = self.now_ms - since_ms;
        let interval_ms = self.config.commit_interval_ms;
        // A tick is no transaction of the source: it may be cut anywhere.
        let is_between = self.flow.open.is_none() || self.config.reads != Reads::Log;
        let is_idle = self.transaction.idle_since_ms.is_some_and(|since_ms| self.now_ms >= since_ms + IDLE_MS.min(interval_ms));
        (is_between && (age_ms >= interval_ms || is_idle)) || age_ms >= interval_ms.max(WHOLE_MS)
    }

    pub(super) fn commit_if_due(&mut self) {
        if !self.is_ours()
            || self.transaction.needs_fence
            || self.progress.is_under_way()
            || self.is_rewinding()
            || self.awaits_replay()
        {
            return;
        }
        let frontier = self.window.frontier();
        let mut is_news = true;
        let is_due = if let Some(since_ms) = self.transaction.since_ms {
            self.is_commit_due(since_ms) || self.progress.is_forced
        } else {
            is_news = frontier != self.progress.stored || self.copying.is_unstored();
            is_news && self.is_store_due()
        };
        self.transaction.is_closing |= is_due || self.is_transaction_full() || self.is_at_cut();
        if !is_news {
            self.progress.is_forced &= !self.window.is_empty();
            // There is nothing to say, unless what is kept shall begin anew.
            self.transaction.is_closing &= self.transaction.kept.bytes.is_some_and(|bytes| bytes > 0);
        }
        if !self.transaction.is_closing || self.window.events() > 0 {
            self.transaction.rest_since_ms = None;
        } else if self.is_inside_change() {
            self.commit_without_rest(frontier);
        } else {
            self.progress.is_forced = false;
            self.store(RecordState::Running, frontier);
        }
    }

    /// A change is acknowledged in part, and a commit would tear it. Where its rest is long in coming (it is poison, its topic is missing),
    /// all is taken back, and what comes before it is committed without it.
    fn commit_without_rest(&mut self, frontier: Frontier) {
        let since_ms = *self.transaction.rest_since_ms.get_or_insert(self.now_ms);
        if self.now_ms < since_ms + REST_MS || frontier == self.progress.stored || self.phase != Phase::Streaming {
            return;
        }
        let has_whole = |commit_lsn| frontier.inside.is_some_and(|inside| inside.commit_lsn == commit_lsn);
        // Where nothing whole of its source transaction is sent, that transaction's BEGIN may be.
        self.transaction.cut_before =
            self.flow.place().map(|(commit_lsn, seq)| (commit_lsn, if has_whole(commit_lsn) { seq } else { 0 }));
        self.rewind_because(Cause::Source);
    }

    /// A record is on its way into the transaction, or being the whole of it.
    pub(super) fn committing(&mut self, record: &Record) {
        if let Some(commit_lsn) = record.commit_lsn
            && !matches!(self.phase, Phase::Claiming(_))
            && self.transaction.split.replace(commit_lsn) != Some(commit_lsn)
        {
            self.note(Note::Split(commit_lsn));
        }
        self.transaction.committing = Some((Box::new(record.clone()), self.window.next_ticket()));
        self.transaction.kept.after = Some(0);
        self.transaction.kept.origin_after = self.flow.place();
    }

    /// The commit is answered.
    pub(super) fn commit_done(&mut self, result: Result<(), Failure>) {
        let committing = self.transaction.committing.take();
        let is_current =
            self.is_ours() || self.is_rewinding() || matches!(self.phase, Phase::Claiming(_) | Phase::StoringLast | Phase::Ended);
        if !is_current {
            // Of a life that is over, or of a claim that was given up: the next start reads what became of it.
            return;
        }
        match result {
            Ok(()) => self.committed(committing),
            Err(failure) => self.not_committed(committing, &failure),
        }
    }

    fn committed(&mut self, committing: Option<(Box<Record>, Ticket)>) {
        if let Phase::Claiming(frontier) = self.phase {
            self.transaction.end();
            return self.claimed(Ok(()), frontier);
        }
        let (Some(frontier), Some((_, acknowledged))) = (self.progress.storing(), committing) else { return };
        let stop = self.transaction.stop.take();
        if self.transaction.events > 0 {
            // What failed before does no longer.
            self.attempts = 0;
        }
        self.transaction.end();
        self.transaction.cut_before = None;
        let kept = &mut self.transaction.kept;
        (kept.bytes, kept.origin) = (kept.after.take(), kept.origin_after);
        self.is_committed(frontier, acknowledged);
        match self.phase {
            Phase::StoringLast => self.last_stored(),
            Phase::Rewinding { .. } | Phase::Ended => {}
            _ => {
                if let Some(fault) = stop {
                    self.stop(fault);
                }
            }
        }
    }

    /// Everything up to here is durable now, and the record said so.
    fn is_committed(&mut self, frontier: Frontier, acknowledged: Ticket) {
        self.frontier_stored(frontier);
        self.book.retire(frontier);
        self.copying.pass_stored(frontier, acknowledged);
        self.end_isolation(frontier);
    }

    fn not_committed(&mut self, committing: Option<(Box<Record>, Ticket)>, failure: &Failure) {
        let (kind, cause) = match failure.kind {
            FailureKind::Fenced => {
                return self.stop(Fault { kind: Kind::Fenced, message: failure.message.clone() });
            }
            FailureKind::Indefinite | FailureKind::Fatal => (Kind::SinkFatal, Cause::Fatal),
            FailureKind::Denied => (Kind::SinkPermission, Cause::Transient),
            FailureKind::UnknownTopic => (Kind::CheckpointUnreachable, Cause::UnknownTopic),
            FailureKind::Rejected => (Kind::SinkRejected, Cause::Transient),
            FailureKind::Aborted | FailureKind::Purged | FailureKind::Transient => {
                (Kind::CheckpointUnreachable, Cause::Transient)
            }
        };
        if matches!(self.phase, Phase::Claiming(_)) {
            return self.failed(Fault { kind: Kind::CheckpointUnreachable, message: failure.message.clone() }, Next::Start);
        }
        // The ring's frames from before the order are still there, and those from after it follow.
        let kept = &mut self.transaction.kept;
        let after = kept.after.take();
        kept.bytes = kept.bytes.zip(after).map(|(before, after)| before + after);
        // The record may have been produced: an abort is owed even where no event was sent.
        self.transaction.since_ms.get_or_insert(self.now_ms);
        if let (Cause::Fatal, Some(frontier), Some((record, acknowledged))) = (cause, self.progress.storing(), committing) {
            self.transaction.doubt = Some(Doubt { record, frontier, acknowledged });
            self.transaction.needs_fence = true;
        }
        self.store_failed(failure.message.clone());
        match self.phase {
            // Where a new client is needed, the end of the rewind knows.
            Phase::Ended | Phase::Rewinding { .. } => {}
            // What cannot be told from here the next start will find in the checkpoint.
            Phase::StoringLast if self.drain.is_some() => self.give_up(),
            _ => self.undelivered(kind, failure, cause),
        }
    }

    /// The last moment of a drain: what is not committed is aborted, if that can be done in time.
    pub(super) fn give_up(&mut self) {
        self.rewind(AfterRewind::End);
    }

    /// What is on the wire is given up as well. It may arrive all the same, and then an abort might come before it: a new client, whose
    /// coming the brokers refuse it for, is the only way on.
    pub(super) fn purge_in_flight(&mut self) {
        self.transaction.needs_fence |= self.is_exactly_once();
        self.purged = Some(Purged::at(self.now_ms));
        self.order(Order::Purge(PurgeScope::QueuedAndInFlight));
    }

    /// Everything sent since `stored` is answered: drop it, and the transaction with it.
    pub(super) fn undo(&mut self, then: AfterRewind) {
        if self.progress.is_under_way() {
            // Where `stored` is depends on its answer.
            return;
        }
        let is_claimed = self.progress.epoch > 0 && self.progress.stored != Frontier::default();
        let frontier = if is_claimed { self.progress.stored } else { self.window.frontier() };
        self.window.rewind_to(frontier);
        if self.transaction.doubt.is_none() {
            self.copying.rewound();
        }
        self.flow.resume_from(frontier);
        self.book.rewind(frontier);
        let is_spent = self.transaction.needs_fence || then == AfterRewind::RenewAndStream;
        self.transaction.needs_fence = is_spent;
        if self.transaction.is_open() && !is_spent {
            self.phase = Phase::Aborting { then };
            self.order(Order::Abort);
        } else {
            self.undone(then);
        }
    }

    pub(super) fn aborted(&mut self, result: Result<(), Failure>) {
        let Phase::Aborting { then } = self.phase else { return };
        match result {
            Ok(()) => self.undone(then),
            Err(failure) => {
                self.transaction.needs_fence = true;
                let is_fenced = failure.kind == FailureKind::Fenced;
                let fault = Fault { kind: if is_fenced { Kind::Fenced } else { Kind::SinkFatal }, message: failure.message };
                if is_fenced {
                    return self.stop(fault);
                }
                let wait_ms = self.backoff_ms();
                self.note(Note::Fault(fault.clone(), wait_ms));
                self.fault = Some(fault);
                self.resume_at_ms = self.resume_at_ms.max(self.now_ms + wait_ms);
                self.undone(then);
            }
        }
    }

    /// The transaction is over: where to go from `stored`.
    fn undone(&mut self, then: AfterRewind) {
        self.transaction.end();
        let streams = matches!(then, AfterRewind::Stream | AfterRewind::RenewAndStream);
        let kept = &self.transaction.kept;
        if streams && self.config.reads == Reads::Log && kept.is_used && kept.bytes.is_some() {
            self.phase = Phase::Waiting { until_ms: self.resume_at_ms.max(self.now_ms), then: Next::Replay };
            return;
        }
        self.disconnect();
        self.after_rewind(then);
    }

    /// Whether a stop waits: what was sent before is committed first, or each later look would send it, and abort it, again.
    pub(super) fn stops_later(&mut self, fault: &Fault) -> bool {
        let is_open = self.is_exactly_once() && self.phase == Phase::Streaming && self.transaction.is_open();
        // Of a change alone that is sent in part nothing can be committed.
        let is_all_part = self.is_inside_change() && self.window.events() == 0 && self.window.frontier() == self.progress.stored;
        if !is_open || is_all_part || fault.kind == Kind::Fenced {
            return false;
        }
        self.transaction.is_closing = true;
        self.transaction.stop = Some(fault.clone());
        true
    }
}
