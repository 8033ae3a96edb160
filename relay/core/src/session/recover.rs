//! What a session does when something breaks: reconnect, go back to the frontier, stop, drain.

use super::{AfterRewind, Drain, Fault, Next, Note, Order, Phase, Rewind, Session};
use crate::checkpoint::RecordState;
use crate::error::{Action, Kind};
use crate::lsn::Lsn;
use crate::sink::PurgeScope;
use crate::window::{Failure, FailureKind, Ticket};

/// How long a rewind waits for what is on the wire before it gives that up too: in-flight requests are answered or timed out by then.
const IN_FLIGHT_MS: u64 = 60_000;
/// What is left of the grace when the last checkpoint is written, whatever is still in flight.
const LAST_STORE_MS: u64 = 1_000;
/// Bounds of the slow look at a stopped stream.
const STOPPED_MS: (u64, u64) = (5_000, 60_000);

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

impl Session {
    /// The stream's connection broke. The window stays: what is in flight goes on, and the stream will be taken up behind it.
    pub(super) fn lost(&mut self, fault: Fault) {
        match self.phase {
            Phase::Streaming if fault.kind == Kind::SourceSilent => {
                self.note(Note::Fault(fault.clone(), 0));
                self.fault = Some(fault);
                // The server may have freed the slot: what we still had to send must not arrive behind a successor's events.
                self.rewind_because(Cause::Silent);
            }
            Phase::Streaming => {
                self.order(Order::Disconnect);
                self.failed(fault, Next::Resume);
            }
            Phase::Holding(next) => self.failed(fault, next),
            Phase::Settling { .. } | Phase::ReadingAgain | Phase::Claiming | Phase::Inspecting(Next::Checks) => {
                // A claimed epoch may or may not be durable; the next start claims a higher one.
                self.failed(fault, Next::Start);
            }
            _ => {}
        }
    }

    /// An event that the sink accepted did not become durable.
    pub(super) fn delivery_failed(&mut self, ticket: Ticket, failure: &Failure) {
        if self.phase == Phase::Ended || matches!(self.phase, Phase::Rewinding { .. }) {
            return;
        }
        let position = self.window.position_of(ticket);
        match failure.kind {
            FailureKind::Rejected => {
                if self.isolate_until.is_some() && self.window.events() == 1 {
                    let Some(position) = position else { return };
                    if self.condemned.insert(position, failure.message.clone()).is_some() {
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
                self.rewind_because(Cause::Rejected);
            }
            FailureKind::UnknownTopic => self.rewind_because(Cause::UnknownTopic),
            FailureKind::Fatal => self.rewind_because(Cause::Fatal),
            FailureKind::Fenced => self.stop(Fault { kind: Kind::Fenced, message: failure.message.clone() }),
            FailureKind::Denied | FailureKind::Transient | FailureKind::Purged => self.rewind_because(Cause::Transient),
        }
    }

    pub(super) fn rewind_because(&mut self, cause: Cause) {
        let reason = match cause {
            Cause::Rejected => Rewind::Rejected,
            Cause::UnknownTopic => Rewind::UnknownTopic,
            Cause::Transient | Cause::Fatal => Rewind::Producer,
            Cause::Source | Cause::Silent => Rewind::Source,
        };
        self.note(Note::Rewinding(reason));
        self.rewind(if cause == Cause::Fatal { AfterRewind::RenewAndStream } else { AfterRewind::Stream });
        if cause == Cause::Silent {
            self.order(Order::Purge(PurgeScope::QueuedAndInFlight));
        }
    }

    /// The one way back: purge, drop the window, read again from the frontier.
    pub(super) fn rewind(&mut self, then: AfterRewind) {
        if let Phase::Rewinding { since_ms, then: planned } = self.phase {
            // The harder end wins.
            if matches!(then, AfterRewind::Stop { .. } | AfterRewind::StandBy) && planned != then {
                self.phase = Phase::Rewinding { since_ms, then };
            }
            return;
        }
        self.phase = Phase::Rewinding { since_ms: self.now_ms, then };
        self.order(Order::Disconnect);
        self.order(Order::Purge(PurgeScope::Queued));
    }

    pub(super) fn rewinding(&mut self, since_ms: u64, then: AfterRewind, outstanding: usize) {
        if outstanding > 0 {
            if self.now_ms >= since_ms + IN_FLIGHT_MS {
                self.phase = Phase::Rewinding { since_ms: self.now_ms, then };
                self.order(Order::Purge(PurgeScope::QueuedAndInFlight));
            }
            return;
        }
        // A last look: what was on the wire may have arrived.
        self.window.advance(|_| {});
        let frontier = self.window.rewind();
        self.flow.resume_from(frontier);
        match then {
            AfterRewind::Stream => self.inspect(Next::Resume),
            AfterRewind::RenewAndStream => {
                self.phase = Phase::Renewing;
                self.order(Order::Renew);
            }
            AfterRewind::StartOver => self.start_over(),
            AfterRewind::StandBy => self.stand_by(),
            AfterRewind::Stop { retry_ms } => self.phase = Phase::Stopped { retry_ms },
        }
    }

    pub(super) fn renewed(&mut self, result: Result<(), String>) {
        if self.phase != Phase::Renewing {
            return;
        }
        match result {
            Ok(()) => self.inspect(Next::Resume),
            Err(message) => {
                let wait_ms = self.backoff_ms();
                let fault = Fault { kind: Kind::SinkUnreachable, message };
                self.note(Note::Fault(fault.clone(), wait_ms));
                self.fault = Some(fault);
                self.phase = Phase::Rewinding { since_ms: self.now_ms, then: AfterRewind::RenewAndStream };
            }
        }
    }

    /// The stream must not go on. The process stays; the slot is let go, so that a person can repair it.
    pub(super) fn stop(&mut self, fault: Fault) {
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
        if self.drain.is_none() {
            self.drain = Some(Drain { deadline_ms, read_to });
        }
        self.drain_step();
    }

    /// Moves a drain on: wait for what is in flight, store, end.
    pub(super) fn drain_step(&mut self) {
        let Some(drain) = self.drain else { return };
        let is_late = self.now_ms >= drain.deadline_ms;
        let is_nearly_late = self.now_ms + LAST_STORE_MS >= drain.deadline_ms;
        match self.phase {
            Phase::Ended => {}
            Phase::StoringLast => {
                if is_late {
                    self.end();
                }
            }
            _ if is_late || !self.is_ours() => self.end(),
            _ if self.is_storing() => {}
            phase => {
                let reads_on = phase == Phase::Streaming && drain.read_to.is_some_and(|lsn| self.flow.received_end < lsn);
                if (!reads_on && self.window.events() == 0) || is_nearly_late {
                    self.phase = Phase::StoringLast;
                    self.store(RecordState::Stopped, self.window.frontier());
                }
            }
        }
    }

    pub(super) fn end(&mut self) {
        self.phase = Phase::Ended;
    }
}
