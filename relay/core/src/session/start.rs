//! The start protocol (kafka.md, section 8): from nothing to a held slot, checked against the checkpoint, with an epoch of our own.

use super::check::since;
use super::{AfterRewind, Busy, Exported, Fault, Input, Next, Note, Order, Phase, Reads, Server, Session};
use crate::checkpoint::{Mode, ReadError, Reading, Record, RecordState};
use crate::error::{Action, Kind};
use crate::lsn::Lsn;
use crate::window::{Failure, Frontier};

/// How long an instance that was a standby waits, the slot being held, before it reads the checkpoint: what the last holder had
/// on its way to Kafka has arrived by then.
pub(super) const SETTLE_MS: u64 = 2_000;
/// Wait before asking again for a slot that our own lost connection still holds.
const GHOST_MS: u64 = 100;
/// A standby asks again after one second, give or take.
const STANDBY_MS: u64 = 1_000;

impl Session {
    pub(super) fn start_over(&mut self) {
        self.disown();
        self.inspect(Next::Start);
    }

    /// No epoch is ours until the next claim: what was stored under the last one is not confirmed to a slot held anew, and what became of
    /// its last commit is in what the claim is read from.
    fn disown(&mut self) {
        self.progress.epoch = 0;
        self.transaction.start_over();
    }

    pub(super) fn inspect(&mut self, next: Next) {
        self.phase = Phase::Inspecting(next);
        self.order(Order::Inspect);
    }

    pub(super) fn hold(&mut self, start: Lsn, next: Next) {
        self.phase = Phase::Holding(next);
        self.order(Order::Hold(start));
    }

    pub(super) fn inspected(&mut self, result: Result<Server, Fault>) {
        let Phase::Inspecting(next) = self.phase else { return };
        let server = match result {
            Ok(server) => server,
            Err(fault) => return self.failed(fault, next),
        };
        match next {
            Next::Start => {
                self.learn(server);
                self.read(Phase::ReadingFirst);
            }
            Next::SurelyMissing => {
                self.learn(server);
                self.choose_slot(true);
            }
            Next::Checks => {
                self.learn(server);
                self.claim();
            }
            Next::Resume => self.resume(server),
            Next::Replay => match self.check_resume(&server) {
                Ok(()) => self.fence(Next::Replay),
                Err(fault) => self.failed(fault, Next::Resume),
            },
        }
    }

    /// What the server says of itself now. Positions that were refused mean nothing in another history: it may give them out again.
    pub(super) fn learn(&mut self, server: Server) {
        if self.server.as_ref().is_some_and(|before| before.timeline != server.timeline) {
            self.condemned.clear();
        }
        self.server = Some(server);
    }

    fn read(&mut self, phase: Phase) {
        self.phase = phase;
        self.order(Order::ReadCheckpoint);
    }

    pub(super) fn checkpoint_read(&mut self, result: Result<Reading, ReadError>) {
        match self.phase {
            Phase::Rereading => return self.check_epoch(result),
            Phase::Fencing(next) => return self.fenced(next, result),
            Phase::Streaming if self.proof_at_ms.is_some() => return self.proof_read(result),
            _ => {}
        }
        if !matches!(self.phase, Phase::ReadingFirst | Phase::ReadingAgain) {
            return;
        }
        let reading = match result {
            Ok(reading) => reading,
            Err(error) => return self.failed(unread(&error), Next::Start),
        };
        let is_first = self.phase == Phase::ReadingFirst;
        self.reading = reading;
        // Compared before anything that writes: a second configuration with our name must not disturb the rightful one.
        if let Err(fault) = self.check_identity() {
            return self.failed(fault, Next::Start);
        }
        let stored = self.reading.newest.as_ref().filter(|record| record.end_lsn.is_some() || record.mode == Mode::Poll.name());
        let is_polled = stored.map(|record| record.mode == Mode::Poll.name());
        match (self.config.reads, is_polled) {
            (Reads::Log, Some(true)) => {
                self.note(Note::ToLog);
                self.switch();
            }
            // Another instance has brought the log on its way.
            (Reads::Poll { ends_in_log: true, .. }, Some(false) | None) => self.switch(),
            (Reads::Log, _) if is_first => self.choose_slot(false),
            (Reads::Poll { .. }, _) if is_first => match self.check_log_has_ended(self.reading.newest.as_ref()) {
                Ok(()) => self.hold(Lsn::ZERO, Next::Start),
                Err(fault) => self.failed(fault, Next::Start),
            },
            _ => self.inspect(Next::Checks),
        }
    }

    /// Ends, so that a session that reads otherwise goes on.
    fn switch(&mut self) {
        self.disconnect();
        self.is_switch = true;
        self.end();
    }

    /// Before the slot is held: is there one, and may we create it?
    fn choose_slot(&mut self, is_sure: bool) {
        let Some(server) = self.server.clone() else { return };
        let newest = self.reading.newest.clone();
        let newest = newest.as_ref();
        let is_first_start = newest.is_none_or(|record| record.state == RecordState::Bootstrapping);
        let slot = self.config.slot.clone();
        let fault = match &server.slot {
            Some(found) if found.is_lost => {
                Some(Fault { kind: Kind::SlotLost, message: format!("slot `{slot}` was invalidated{}", since(newest)) })
            }
            Some(found) if found.unfit.is_some() => Some(Fault {
                kind: Kind::SlotUnfit,
                message: format!("slot `{slot}` cannot be used: {}", found.unfit.as_deref().unwrap_or_default()),
            }),
            Some(found) if self.is_exactly_once() && newest.is_none() => Some(unrecorded(&slot, found.confirmed_flush)),
            Some(_) if server.publication.is_none() => Some(Fault {
                kind: Kind::PublicationMissing,
                message: format!("publication `{}` does not exist, but slot `{slot}` does", self.config.publication),
            }),
            Some(_) => None,
            None if is_first_start && self.config.may_create => {
                self.is_bootstrap = true;
                self.note(Note::Bootstrapping);
                return if newest.is_some() {
                    self.create_publication();
                } else {
                    self.phase = Phase::StoringBootstrap;
                    let record = self.record(RecordState::Bootstrapping, 0, None);
                    self.order_store(record);
                };
            }
            None if is_first_start => Some(Fault {
                kind: Kind::SlotMissing,
                message: format!(
                    "slot `{slot}` does not exist and source.log.create is \"never\"; its owner creates it, publication first, with: \
                     SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput');"
                ),
            }),
            // Another instance's first start may have come between the look at the server and the look at the store.
            None if !is_sure => return self.inspect(Next::SurelyMissing),
            None => Some(Fault { kind: Kind::SlotMissing, message: format!("slot `{slot}` does not exist{}", since(newest)) }),
        };
        match fault {
            Some(fault) => self.failed(fault, Next::Start),
            None => self.hold(Lsn::ZERO, Next::Start),
        }
    }

    pub(super) fn bootstrap_stored(&mut self, result: Result<(), Failure>) {
        match result {
            Ok(()) => self.create_publication(),
            Err(failure) => self.failed(Fault { kind: Kind::CheckpointUnreachable, message: failure.message }, Next::Start),
        }
    }

    fn create_publication(&mut self) {
        // Publication first: the slot's decoding looks it up as of the WAL it reads (postgres.md, section 8).
        // One that its owner made is taken as it is; the role may have no right to create another.
        if self.server.as_ref().is_some_and(|server| server.publication.is_some()) {
            return self.create_slot();
        }
        self.phase = Phase::CreatingPublication;
        self.order(Order::CreatePublication);
    }

    pub(super) fn publication_ready(&mut self, result: Result<(), Fault>) {
        if self.phase != Phase::CreatingPublication {
            return;
        }
        match result {
            Ok(()) => self.create_slot(),
            Err(fault) => self.failed(fault, Next::Start),
        }
    }

    fn create_slot(&mut self) {
        self.phase = Phase::CreatingSlot;
        // An export's chunks end at no point that the stream could be cut at: in exactly-once they are read between watermarks.
        let exports = self.config.reads != Reads::Log || (self.copying.wants_export() && !self.is_exactly_once());
        self.order(Order::CreateSlot { exports });
    }

    pub(super) fn slot_ready(&mut self, result: Result<Option<Exported>, Fault>) {
        if self.phase != Phase::CreatingSlot {
            return;
        }
        match result {
            Ok(exported) if self.config.reads == Reads::Log => {
                if let Some(exported) = exported {
                    self.copying.exported(exported);
                }
                self.hold(Lsn::ZERO, Next::Start);
            }
            Ok(Some(Exported { tick, consistent })) => {
                self.book.end_with(tick);
                self.consistent = Some(consistent);
                self.stream(None);
            }
            Ok(None) => self.hold(Lsn::ZERO, Next::Start),
            Err(fault) => self.failed(fault, Next::Start),
        }
    }

    pub(super) fn held(&mut self, result: Result<(), Busy>) {
        let Phase::Holding(next) = self.phase else { return };
        match (result, next) {
            (Ok(()), Next::Resume) => {
                self.connected();
                if self.transaction.needs_fence && self.is_exactly_once() {
                    self.fence(Next::Resume);
                } else {
                    self.read(Phase::Rereading);
                }
            }
            (Ok(()), _) => {
                self.connected();
                // A holder that is shut out cannot be late.
                let is_shut_out = |record: &Record| self.is_exactly_once() && record.guarantee == self.config.guarantee.name();
                if self.was_standby && !self.reading.newest.as_ref().is_some_and(is_shut_out) {
                    let wait_ms = if self.config.is_durable { SETTLE_MS } else { 0 };
                    self.phase = Phase::Settling { until_ms: self.now_ms + wait_ms };
                } else {
                    self.settled();
                }
            }
            (Err(Busy::OwnGhost), _) => self.phase = Phase::Waiting { until_ms: self.now_ms + GHOST_MS, then: next },
            (Err(Busy::Other(fault)), Next::Resume) => {
                // Somebody else may have published past us: nothing in our window counts any more.
                self.standby_note(&fault);
                self.rewind(AfterRewind::StandBy);
            }
            (Err(Busy::Other(fault)), _) => {
                self.standby_note(&fault);
                self.stand_by();
            }
            (Err(Busy::Fault(fault)), _) => self.failed(fault, next),
        }
    }

    fn standby_note(&mut self, fault: &Fault) {
        if !self.was_standby {
            self.note(Note::Standby(fault.message.clone()));
        }
        self.was_standby = true;
        self.fault = None;
    }

    pub(super) fn stand_by(&mut self) {
        // The other one reads the slot now.
        self.copying.restore_export(None);
        self.attempts = 0;
        self.disown();
        let retry_ms = self.now_ms + STANDBY_MS * 3 / 4 + self.random(STANDBY_MS / 2);
        self.phase = Phase::Standby { retry_ms };
    }

    fn connected(&mut self) {
        self.flow.connected();
        self.progress.connected();
        let is_clean = self.window.is_empty() && self.window.frontier() == self.progress.stored && !self.transaction.is_open();
        self.transaction.connected(is_clean);
    }

    /// The slot is held, and nothing of its last holder is on its way any more: what does the store say now?
    pub(super) fn settled(&mut self) {
        if self.is_exactly_once() {
            self.fence(Next::Start);
        } else {
            self.read(Phase::ReadingAgain);
        }
    }

    /// The slot is held and the store read: check one against the other, then claim an epoch before any event is sent.
    fn claim(&mut self) {
        // Again: the slot may have been held on another server than the one inspected first.
        let checked = self.check_identity().and_then(|()| match self.config.reads {
            Reads::Log => self.check_start(),
            Reads::Poll { ends_in_log, .. } => self.check_poll_start(ends_in_log),
        });
        let frontier = match checked {
            Ok(frontier) => frontier,
            Err(fault) => return self.failed(fault, Next::Start),
        };
        if self.config.reads == Reads::Log {
            let record = self.reading.newest.as_ref().filter(|record| record.frontier().is_some());
            self.copying.start(record, frontier);
        }
        let confirmed = self.server.as_ref().and_then(|s| s.slot.as_ref()).map_or(Lsn::ZERO, |slot| slot.confirmed_flush);
        self.progress.start(self.reading.highest_epoch + 1, confirmed);
        if let Some(record) = self.reading.newest.as_ref().filter(|record| record.guarantee != self.config.guarantee.name()) {
            self.note(Note::GuaranteeChanged(record.guarantee.clone()));
        }
        self.phase = Phase::Claiming(frontier);
        let record = self.record(RecordState::Running, self.progress.epoch, Some(frontier));
        self.copying.store();
        self.order_store(record);
    }

    pub(super) fn claimed(&mut self, result: Result<(), Failure>, frontier: Frontier) {
        match result {
            Ok(()) => {
                self.was_standby = false;
                self.is_bootstrap = false;
                // Good for one use: a second gap in the life of this process must be looked at again.
                self.config.accept_gap = None;
                // Only now, together with the note: a new frontier calls the numbers of an older life's work durable, and a driver that
                // still keeps such work would mark rows as published that are not.
                self.window.start_at(frontier);
                self.flow.resume_from(frontier);
                self.frontier_stored(frontier);
                self.copying.begun();
                self.transaction.connected(true);
                let stale = std::mem::take(&mut self.reading.keys);
                self.order(Order::Retire(stale));
                self.note(Note::Streaming { frontier, epoch: self.progress.epoch });
                if matches!(self.config.reads, Reads::Poll { ends_in_log: true, .. }) {
                    return self.create_publication();
                }
                self.stream(None);
            }
            Err(failure) => self.failed(Fault { kind: Kind::CheckpointUnreachable, message: failure.message }, Next::Start),
        }
    }

    /// An order failed, or a check did: the policy table decides how it goes on.
    pub(super) fn failed(&mut self, fault: Fault, next: Next) {
        match fault.kind.directive().action {
            Action::Retry | Action::Poison | Action::Standby => {
                let wait_ms = self.backoff_ms();
                self.note(Note::Fault(fault.clone(), wait_ms));
                self.fault = Some(fault);
                // Nobody has read from the new slot: what it exported is as good for the next attempt.
                let goes_on = matches!(next, Next::Resume | Next::Replay);
                let spared = if goes_on { None } else { self.copying.spare_export() };
                self.disconnect();
                self.copying.restore_export(spared);
                let then = if goes_on { Next::Resume } else { Next::Start };
                self.phase = Phase::Waiting { until_ms: self.now_ms + wait_ms, then };
            }
            Action::StopStream | Action::StopProcess(_) => self.input(Input::Stop(fault)),
        }
    }
}

/// Exactly-once does not take a slot's word for what was published.
pub(super) fn unrecorded(slot: &str, confirmed_flush: Lsn) -> Fault {
    Fault {
        kind: Kind::CheckpointMissing,
        message: format!(
            "there is no checkpoint, but slot `{slot}` stands at {confirmed_flush}: what was published behind that is not known; \
             `relay checkpoint init` stores it as the place to start from"
        ),
    }
}

pub(super) fn unread(error: &ReadError) -> Fault {
    let kind = match error {
        ReadError::Unreachable(_) => Kind::CheckpointUnreachable,
        ReadError::Denied(_) => Kind::SinkPermission,
        ReadError::Unusable(_) => Kind::CheckpointUnusable,
        ReadError::Fenced(_) => Kind::Fenced,
    };
    Fault { kind, message: error.to_string() }
}
