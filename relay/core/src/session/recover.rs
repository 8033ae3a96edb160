//! What a session does when something breaks: reconnect, go back to the frontier, stop, drain.

use super::{AfterRewind, Drain, Fault, Next, Note, Order, Phase, Reads, Rewind, Session};
use crate::checkpoint::RecordState;
use crate::error::{Action, Kind};
use crate::lsn::Lsn;
use crate::sink::PurgeScope;
use crate::window::{Failure, FailureKind, Frontier, Ticket};

/// How long a rewind waits for what is on the wire before it gives that up too: in-flight requests are answered or timed out by then.
const IN_FLIGHT_MS: u64 = 60_000;
/// In exactly-once the abort answers for all of it, after some ten seconds at the latest.
const ABORT_MS: u64 = 15_000;
/// A purge is answered at once, by every thread of the client that gets to run. What is not answered within this time it has lost:
/// librdkafka (2.12.1) forgets the records of a partition that goes away with its topic's rights while another request is repeated.
const LOST_MS: u64 = 10_000;
/// When nobody has looked for so long the process stood still, and so did the client's threads.
const STOOD_STILL_MS: u64 = 1_000;
/// What is left of the grace when the last checkpoint is written, whatever is still in flight.
const LAST_STORE_MS: u64 = 1_000;
/// After so long an event that was refused, and that nobody parked or skipped, is tried again: the topic's limit may have been raised.
const CONDEMNED_MS: u64 = 60_000;
/// Bounds of the slow look at a stopped stream.
const STOPPED_MS: (u64, u64) = (5_000, 60_000);
/// How long a drain waits, with nothing in flight, for the other records of a change: the sink has room for them then.
const REST_MS: u64 = 1_000;

/// Why the session goes back to the frontier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cause {
    Rejected,
    UnknownTopic,
    Transient,
    Fatal,
    Source,
    Silent,
}

/// A purge of all that the client holds, and how long its answers have been waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purged {
    since_ms: u64,
    seen_ms: u64,
}

// === impl Purged ===

impl Purged {
    pub(super) fn at(now_ms: u64) -> Self {
        Self { since_ms: now_ms, seen_ms: now_ms }
    }

    /// Whether what has not been answered yet is lost; asked again, not before the same time is over.
    fn is_lost(&mut self, now_ms: u64) -> bool {
        if now_ms > self.seen_ms + STOOD_STILL_MS {
            self.since_ms = now_ms;
        }
        self.seen_ms = now_ms;
        let is_lost = now_ms >= self.since_ms + LOST_MS;
        if is_lost {
            self.since_ms = now_ms;
        }
        is_lost
    }
}

// === impl Session ===

impl Session {
    /// The stream's connection broke. The window stays: what is in flight goes on, and the stream will be taken up behind it.
    pub(super) fn lost(&mut self, fault: Fault) {
        self.flow.disconnected();
        self.transaction.disconnected();
        if matches!(self.phase, Phase::Streaming | Phase::Rewinding { .. }) {
            self.interrupt_copying();
        }
        match self.phase {
            // The rest of the change may be long in coming, and a transaction does not wait for a server.
            Phase::Streaming if self.is_exactly_once() && self.is_inside_change() && !self.ends_in_log() => {
                self.note(Note::Fault(fault.clone(), 0));
                self.fault = Some(fault);
                self.disconnect();
                self.rewind_because(Cause::Source);
            }
            Phase::Streaming if fault.kind == Kind::SourceSilent => {
                self.note(Note::Fault(fault.clone(), 0));
                self.fault = Some(fault);
                // The server may have freed the slot: what we still had to send must not arrive behind a successor's events.
                self.disconnect();
                self.rewind_because(Cause::Silent);
            }
            // The exported snapshot is gone with the connections.
            Phase::Streaming | Phase::CreatingPublication | Phase::CreatingSlot if self.ends_in_log() => {
                self.note(Note::Fault(fault.clone(), 0));
                self.fault = Some(fault);
                self.rewind(AfterRewind::StartOver);
            }
            Phase::Streaming
            | Phase::Rereading
            | Phase::Inspecting(Next::Resume | Next::Replay)
            | Phase::Waiting { then: Next::Replay, .. } => self.failed(fault, Next::Resume),
            Phase::Holding(next) | Phase::Fencing(next) | Phase::Renewing { next, .. } => self.failed(fault, next),
            Phase::Aborting { .. } => self.disconnect(),
            Phase::Settling { .. } | Phase::ReadingAgain | Phase::Claiming(_) | Phase::Inspecting(Next::Checks) => {
                // A claimed epoch may or may not be durable; the next start claims a higher one.
                self.failed(fault, Next::Start);
            }
            // What is on the wire is given up, and the slot let go: the server wants to shut down.
            Phase::Rewinding { .. } => self.purge_in_flight(),
            _ => {}
        }
    }

    /// An event that the sink accepted did not become durable.
    pub(super) fn delivery_failed(&mut self, ticket: Ticket, failure: &Failure) {
        match (self.phase, failure.kind) {
            (Phase::Ended, _) => return,
            (Phase::Rewinding { .. }, FailureKind::Fatal | FailureKind::Indefinite) => {
                self.transaction.needs_fence = true;
                return self.rewind(AfterRewind::RenewAndStream);
            }
            // Said once: each event of the lost transaction comes back with it.
            (Phase::Rewinding { .. }, FailureKind::Fenced) if self.fault.as_ref().is_some_and(|it| it.kind == Kind::Fenced) => {
                return;
            }
            (Phase::Rewinding { .. }, FailureKind::Fenced) => {}
            (Phase::Rewinding { .. }, _) => return,
            _ => {}
        }
        let position = self.window.position_of(ticket);
        match failure.kind {
            FailureKind::Rejected => {
                if let Some(is_new) = self.row_refused(ticket, failure) {
                    if !is_new {
                        let message = format!("the dlq record of a snapshot's row was refused: {}", failure.message);
                        return self.stop(Fault { kind: Kind::Poison, message });
                    }
                } else if self.isolate_until.is_some() && self.window.events() == 1 {
                    let Some(position) = position else { return };
                    let verdict = (failure.message.clone(), self.now_ms + CONDEMNED_MS);
                    if self.condemned.insert(position, verdict).is_some_and(|(_, until_ms)| self.now_ms < until_ms) {
                        // Its dlq record was refused as well.
                        let message = format!("the dlq record of event {position} was refused: {}", failure.message);
                        return self.stop(Fault { kind: Kind::Poison, message });
                    }
                    self.note(Note::Culprit(position));
                } else {
                    let last = self.window.last_sent().max(self.isolate_until);
                    self.isolate_until = last;
                    if let Some(last) = last {
                        self.note(Note::Isolating(last));
                    }
                }
                self.undelivered(Kind::SinkRejected, failure, Cause::Rejected);
            }
            FailureKind::UnknownTopic => self.undelivered(Kind::TopicMissing, failure, Cause::UnknownTopic),
            FailureKind::Fatal | FailureKind::Indefinite => self.undelivered(Kind::SinkFatal, failure, Cause::Fatal),
            FailureKind::Fenced => self.stop(Fault { kind: Kind::Fenced, message: failure.message.clone() }),
            FailureKind::Denied => self.undelivered(Kind::SinkPermission, failure, Cause::Transient),
            FailureKind::Aborted => self.undelivered(Kind::SinkFatal, failure, Cause::Transient),
            FailureKind::Transient | FailureKind::Purged => self.undelivered(Kind::SinkUnreachable, failure, Cause::Transient),
        }
    }

    /// Says what the destination said, and goes back: after a rejection at once, since isolation makes progress; else with back-off.
    pub(super) fn undelivered(&mut self, kind: Kind, failure: &Failure, cause: Cause) {
        let wait_ms = if cause == Cause::Rejected { 0 } else { self.backoff_ms() };
        let fault = Fault { kind, message: failure.message.clone() };
        self.note(Note::Fault(fault.clone(), wait_ms));
        self.fault = Some(fault);
        self.resume_at_ms = self.now_ms + wait_ms;
        self.rewind_because(cause);
    }

    pub(super) fn rewind_because(&mut self, cause: Cause) {
        let reason = match cause {
            Cause::Rejected => Rewind::Rejected,
            Cause::UnknownTopic => Rewind::UnknownTopic,
            Cause::Transient | Cause::Fatal => Rewind::Producer,
            Cause::Source | Cause::Silent => Rewind::Source,
        };
        self.note(Note::Rewinding(reason));
        self.rewind(match cause {
            Cause::Fatal => AfterRewind::RenewAndStream,
            // What a rewind disconnects takes the exported snapshot along.
            _ if self.ends_in_log() => AfterRewind::StartOver,
            _ => AfterRewind::Stream,
        });
        if cause == Cause::Silent {
            self.purge_in_flight();
        }
    }

    /// The one way back: purge, drop the window, read again from the frontier.
    pub(super) fn rewind(&mut self, then: AfterRewind) {
        if let Phase::Rewinding { since_ms, then: planned } = self.phase {
            if then.hardness() >= planned.hardness() {
                self.phase = Phase::Rewinding { since_ms, then };
            }
            return;
        }
        if let Phase::Aborting { then: planned } = self.phase {
            if then.hardness() >= planned.hardness() {
                self.phase = Phase::Aborting { then };
            }
            return;
        }
        // The slot is let go only when nothing is in flight: else our events could arrive behind those of a successor.
        self.phase = Phase::Rewinding { since_ms: self.now_ms, then };
        self.purged = None;
        self.interrupt_copying();
        self.order(Order::Purge(PurgeScope::Queued));
    }

    pub(super) fn rewinding(&mut self, since_ms: u64, then: AfterRewind, outstanding: usize) {
        if self.now_ms < since_ms {
            return;
        }
        if outstanding > 0 {
            let in_flight_ms = if self.is_exactly_once() { ABORT_MS } else { IN_FLIGHT_MS };
            let now_ms = self.now_ms;
            if self.purged.as_mut().is_some_and(|purged| purged.is_lost(now_ms)) {
                // Nothing of a client that is replaced is waited for any more.
                self.transaction.needs_fence |= self.is_exactly_once();
                self.order(Order::Renew);
            } else if self.purged.is_none() && now_ms >= since_ms + in_flight_ms {
                self.purge_in_flight();
            }
            return;
        }
        if self.is_exactly_once() {
            return self.undo(then);
        }
        // A last look: what was on the wire may have arrived.
        self.window.advance(|_| {});
        self.copying.pass(self.window.frontier(), self.window.first_unacknowledged());
        let frontier = self.window.rewind();
        self.copying.rewound();
        self.flow.resume_from(frontier);
        self.book.rewind(frontier);
        self.disconnect();
        let starts_anew = matches!(then, AfterRewind::StartOver | AfterRewind::Stop { .. });
        if starts_anew
            && self.progress.epoch > 0
            && self.progress.stored != Frontier::default()
            && frontier != self.progress.stored
        {
            // The next start begins here: without this record, each look at a stopped stream would send the same events again.
            self.store(RecordState::Running, frontier);
        }
        self.after_rewind(then);
    }

    /// Nothing is in flight, and the connection is closed.
    pub(super) fn after_rewind(&mut self, then: AfterRewind) {
        match then {
            AfterRewind::RenewAndStream if !self.is_exactly_once() => {
                self.phase = Phase::Renewing { next: Next::Resume, is_ordered: true };
                self.order(Order::Renew);
            }
            // In exactly-once the new client comes when the slot is held again.
            AfterRewind::Stream | AfterRewind::RenewAndStream => {
                let then = if self.ends_in_log() { Next::Start } else { Next::Resume };
                self.phase = Phase::Waiting { until_ms: self.resume_at_ms, then };
            }
            AfterRewind::StartOver if self.now_ms < self.resume_at_ms => {
                self.phase = Phase::Waiting { until_ms: self.resume_at_ms, then: Next::Start };
            }
            AfterRewind::StartOver => self.start_over(),
            AfterRewind::StandBy => self.stand_by(),
            AfterRewind::Stop { retry_ms } => self.phase = Phase::Stopped { retry_ms },
            AfterRewind::End => self.end(),
        }
    }

    pub(super) fn renewed(&mut self, result: Result<(), String>) {
        let Phase::Renewing { next, is_ordered: true } = self.phase else { return };
        if self.is_exactly_once() {
            return self.renewed_to_fence(next, result);
        }
        match result {
            Ok(()) => {
                let then = if self.ends_in_log() { Next::Start } else { Next::Resume };
                self.phase = Phase::Waiting { until_ms: self.resume_at_ms, then };
            }
            Err(message) => {
                let wait_ms = self.backoff_ms();
                let fault = Fault { kind: Kind::SinkUnreachable, message };
                self.note(Note::Fault(fault.clone(), wait_ms));
                self.fault = Some(fault);
                self.phase = Phase::Rewinding { since_ms: self.now_ms + wait_ms, then: AfterRewind::RenewAndStream };
            }
        }
    }

    /// The stream must not go on. The process stays; the slot is let go, so that a person can repair it.
    pub(super) fn stop(&mut self, fault: Fault) {
        if self.phase == Phase::Ended {
            return;
        }
        // The next look tries the event itself again: a person may have raised the topic's limit.
        self.condemned.clear();
        let full = (STOPPED_MS.0 << self.attempts.min(4)).min(STOPPED_MS.1);
        self.attempts = self.attempts.saturating_add(1);
        let wait_ms = full / 2 + self.random(full / 2);
        self.note(Note::Fault(fault.clone(), wait_ms));
        self.fault = Some(fault);
        self.rewind(AfterRewind::Stop { retry_ms: self.now_ms + wait_ms });
    }

    /// The exit code that the fault at hand demands, if it ends the process.
    #[must_use]
    pub fn exit_code(&self) -> Option<u8> {
        match self.fault.as_ref()?.kind.directive().action {
            Action::StopProcess(code) => Some(code),
            _ => None,
        }
    }

    pub(super) fn drain(&mut self, deadline_ms: u64, read_to: Option<Lsn>) {
        match &mut self.drain {
            // One that is under way by itself has no deadline; a signal brings one.
            Some(drain) => drain.deadline_ms = drain.deadline_ms.min(deadline_ms),
            None => self.drain = Some(Drain { deadline_ms, read_to, waits_since_ms: None }),
        }
        self.drain_step();
    }

    /// Moves a drain on: wait for what is in flight, store, end.
    pub(super) fn drain_step(&mut self) {
        let Some(drain) = self.drain else { return };
        let is_late = self.now_ms >= drain.deadline_ms;
        let is_nearly_late = self.now_ms + LAST_STORE_MS >= drain.deadline_ms;
        let is_exactly_once = self.is_exactly_once();
        match self.phase {
            Phase::Ended => {}
            // Nothing can be committed any more, or nobody knows what is: the checkpoint as it is tells the next start.
            _ if is_exactly_once && (is_late || (self.transaction.needs_fence && !self.is_rewinding())) => self.end(),
            _ if is_exactly_once && (self.is_rewinding() || self.progress.is_under_way()) => {}
            Phase::StoringLast => {
                if is_late {
                    self.end();
                } else if self.may_store_again() {
                    self.store(self.last_state(), self.window.frontier());
                }
            }
            _ if is_late || !self.is_ours() => self.end(),
            _ if self.is_storing() => {}
            phase => {
                let mut reads_on = drain.read_to.is_some_and(|lsn| self.flow.received_end < lsn);
                if !reads_on && phase == Phase::Streaming && self.is_inside_change() && self.window.events() == 0 {
                    let since_ms = drain.waits_since_ms.unwrap_or(self.now_ms);
                    reads_on = self.now_ms < since_ms + REST_MS;
                    self.drain = Some(Drain { waits_since_ms: Some(since_ms), ..drain });
                }
                // Whether the epoch is still ours is being looked up: nothing is confirmed before that.
                if matches!(phase, Phase::Rereading | Phase::Inspecting(Next::Resume)) && !is_nearly_late {
                    return;
                }
                let is_ready = !reads_on && self.window.events() == 0;
                if is_exactly_once && is_nearly_late && (!is_ready || self.is_inside_change()) {
                    self.give_up();
                } else if is_exactly_once && self.is_inside_change() {
                    if is_ready {
                        self.give_up();
                    }
                } else if is_ready || is_nearly_late {
                    self.phase = Phase::StoringLast;
                    self.store(RecordState::Stopped, self.window.frontier());
                }
            }
        }
    }

    pub(super) fn is_rewinding(&self) -> bool {
        matches!(self.phase, Phase::Rewinding { .. } | Phase::Aborting { .. })
    }

    fn ends_in_log(&self) -> bool {
        matches!(self.config.reads, Reads::Poll { ends_in_log: true, .. })
    }

    pub(super) fn end(&mut self) {
        self.phase = Phase::Ended;
    }
}
