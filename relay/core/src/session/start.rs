//! The start protocol (kafka.md, section 8): from nothing to a held slot, checked against the checkpoint, with an epoch of our own.

use super::{AfterRewind, Busy, Fault, Input, Next, Note, Order, Phase, Rewind, Server, Session};
use crate::checkpoint::{AcceptedGap, ReadError, Reading, Record, RecordState};
use crate::error::{Action, Kind};
use crate::lsn::Lsn;
use crate::window::{Failure, Frontier};

/// A stream that went on for so long is healthy: the next failure starts with a short wait again.
const HEALTHY_MS: u64 = 10_000;
/// How long an instance that was a standby waits, the slot being held, before it reads the checkpoint: what the last holder had
/// on its way to Kafka has arrived by then.
const SETTLE_MS: u64 = 2_000;
/// Wait before asking again for a slot that our own lost connection still holds.
const GHOST_MS: u64 = 100;
/// A standby asks again after one second, give or take.
const STANDBY_MS: u64 = 1_000;

impl Session {
    pub(super) fn start_over(&mut self) {
        // No epoch is ours until the next claim: what was stored under the last one is not confirmed to a slot held anew.
        self.progress.epoch = 0;
        self.inspect(Next::Start);
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
                self.server = Some(server);
                self.read(Phase::ReadingFirst);
            }
            Next::SurelyMissing => {
                self.server = Some(server);
                self.choose_slot(true);
            }
            Next::Checks => {
                self.server = Some(server);
                self.claim();
            }
            Next::Resume => self.resume(server),
        }
    }

    fn read(&mut self, phase: Phase) {
        self.phase = phase;
        self.order(Order::ReadCheckpoint);
    }

    /// Takes the stream up again where it was cut. Everything is checked with the slot held: before that, it may still be moved.
    pub(super) fn hold_again(&mut self) {
        self.hold(self.flow.received_end, Next::Resume);
    }

    fn resume(&mut self, server: Server) {
        if let Err(fault) = self.check_resume(&server) {
            return self.failed(fault, Next::Resume);
        }
        // Past our checkpoint: somebody moved the slot, perhaps another relay that had it meanwhile. The full protocol tells.
        let is_moved = server.slot.as_ref().is_some_and(|slot| slot.confirmed_flush > self.progress.stored.end_lsn);
        let is_altered = self.server.as_ref().is_some_and(|before| before.publication != server.publication);
        // Indexes inside a transaction count what the publication sends; with another one they mean nothing.
        if is_moved || (is_altered && (self.flow.is_inside() || self.window.open_commit().is_some())) {
            self.note(Note::Rewinding(Rewind::Source));
            return self.rewind(AfterRewind::StartOver);
        }
        if is_altered {
            self.note(Note::PublicationChanged);
        }
        if let Some(slot) = &server.slot {
            // Older servers let a lower position move the slot back.
            self.progress.confirmed = self.progress.confirmed.max(slot.confirmed_flush);
        }
        self.server = Some(server);
        // A claim of another instance may have been on its way to the store when it was read just now.
        self.stream(self.config.is_durable.then_some(self.now_ms + SETTLE_MS));
        self.note(Note::Resumed(self.flow.received_end));
    }

    pub(super) fn streaming(&mut self) {
        if self.now_ms >= self.streaming_since_ms + HEALTHY_MS {
            self.attempts = 0;
        }
        if self.proof_at_ms.is_some_and(|at_ms| self.now_ms >= at_ms) {
            self.proof_at_ms = Some(u64::MAX);
            self.order(Order::ReadCheckpoint);
        }
    }

    fn proof_read(&mut self, result: Result<Reading, ReadError>) {
        match result {
            Ok(reading) if self.is_overtaken(&reading) => self.overtaken(),
            Ok(_) => self.proof_at_ms = None,
            Err(error) if error.is_final() => self.failed(unread(&error), Next::Resume),
            Err(_) => self.proof_at_ms = Some(self.now_ms + SETTLE_MS),
        }
    }

    fn overtaken(&mut self) {
        self.was_standby = true;
        self.note(Note::Rewinding(Rewind::Source));
        self.rewind(AfterRewind::StartOver);
    }

    fn is_overtaken(&self, reading: &Reading) -> bool {
        let epoch = self.progress.epoch;
        // Two instances may claim one epoch (kafka.md, section 8); then the greatest position wins.
        let stored = self.progress.stored;
        let is_ahead = |record: &Record| {
            record.epoch == epoch
                && record.instance != self.config.instance
                && record.frontier().is_some_and(|frontier| (frontier.end_lsn, frontier.inside) > (stored.end_lsn, stored.inside))
        };
        reading.highest_epoch > epoch || reading.newest.as_ref().is_some_and(is_ahead)
    }

    /// After a lost connection: another instance may have had the slot, claimed an epoch and gone again without our seeing it. Our records
    /// would lose against its record for ever.
    fn check_epoch(&mut self, result: Result<Reading, ReadError>) {
        match result {
            Ok(reading) if self.is_overtaken(&reading) => self.overtaken(),
            Ok(_) => self.inspect(Next::Resume),
            Err(error) => self.failed(unread(&error), Next::Resume),
        }
    }

    pub(super) fn checkpoint_read(&mut self, result: Result<Reading, ReadError>) {
        match self.phase {
            Phase::Rereading => return self.check_epoch(result),
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
        if is_first { self.choose_slot(false) } else { self.inspect(Next::Checks) }
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
            self.phase = Phase::CreatingSlot;
            return self.order(Order::CreateSlot);
        }
        self.phase = Phase::CreatingPublication;
        self.order(Order::CreatePublication);
    }

    pub(super) fn publication_ready(&mut self, result: Result<(), Fault>) {
        if self.phase != Phase::CreatingPublication {
            return;
        }
        match result {
            Ok(()) => {
                self.phase = Phase::CreatingSlot;
                self.order(Order::CreateSlot);
            }
            Err(fault) => self.failed(fault, Next::Start),
        }
    }

    pub(super) fn slot_ready(&mut self, result: Result<(), Fault>) {
        if self.phase != Phase::CreatingSlot {
            return;
        }
        match result {
            Ok(()) => self.hold(Lsn::ZERO, Next::Start),
            Err(fault) => self.failed(fault, Next::Start),
        }
    }

    pub(super) fn held(&mut self, result: Result<(), Busy>) {
        let Phase::Holding(next) = self.phase else { return };
        match (result, next) {
            (Ok(()), Next::Resume) => {
                self.flow.connected();
                self.progress.connected();
                self.read(Phase::Rereading);
            }
            (Ok(()), _) => {
                self.flow.connected();
                self.progress.connected();
                if self.was_standby {
                    let wait_ms = if self.config.is_durable { SETTLE_MS } else { 0 };
                    self.phase = Phase::Settling { until_ms: self.now_ms + wait_ms };
                } else {
                    self.read_again();
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
        self.attempts = 0;
        self.progress.epoch = 0;
        let retry_ms = self.now_ms + STANDBY_MS * 3 / 4 + self.random(STANDBY_MS / 2);
        self.phase = Phase::Standby { retry_ms };
    }

    pub(super) fn read_again(&mut self) {
        self.read(Phase::ReadingAgain);
    }

    /// The slot is held and the store read: check one against the other, then claim an epoch before any event is sent.
    fn claim(&mut self) {
        // Again: the slot may have been held on another server than the one inspected first.
        let frontier = match self.check_identity().and_then(|()| self.check_start()) {
            Ok(frontier) => frontier,
            Err(fault) => return self.failed(fault, Next::Start),
        };
        self.window.start_at(frontier);
        self.flow.resume_from(frontier);
        let confirmed = self.server.as_ref().and_then(|s| s.slot.as_ref()).map_or(Lsn::ZERO, |slot| slot.confirmed_flush);
        self.progress.start(self.reading.highest_epoch + 1, frontier, confirmed);
        self.phase = Phase::Claiming;
        let record = self.record(RecordState::Running, self.progress.epoch, Some(frontier));
        self.order_store(record);
    }

    pub(super) fn claimed(&mut self, result: Result<(), Failure>) {
        match result {
            Ok(()) => {
                self.was_standby = false;
                self.is_bootstrap = false;
                // Good for one use: a second gap in the life of this process must be looked at again.
                self.config.accept_gap = None;
                self.stream(None);
                let frontier = self.window.frontier();
                self.progress.stored(frontier, self.now_ms);
                let stale = std::mem::take(&mut self.reading.keys);
                self.order(Order::Retire(stale));
                self.note(Note::Streaming { frontier, epoch: self.progress.epoch });
            }
            Err(failure) => self.failed(Fault { kind: Kind::CheckpointUnreachable, message: failure.message }, Next::Start),
        }
    }

    fn check_identity(&self) -> Result<(), Fault> {
        let (Some(server), Some(record)) = (&self.server, &self.reading.newest) else { return Ok(()) };
        let foreign = |what: &str, stored: &str, ours: &str| {
            Err(Fault {
                kind: Kind::CheckpointForeign,
                message: format!(
                    "the checkpoint of pipeline `{}` belongs to {what} {stored}, this is {what} {ours}",
                    self.config.name
                ),
            })
        };
        if record.system_id != server.system_id {
            return foreign("the server with system id", &record.system_id, &server.system_id);
        }
        if record.database != server.database {
            return foreign("database", &record.database, &server.database);
        }
        if let Some(slot) = record.slot.as_ref().filter(|slot| **slot != self.config.slot) {
            return foreign("slot", slot, &self.config.slot);
        }
        if record.mode != "log" {
            return Err(Fault {
                kind: Kind::CheckpointForeign,
                message: format!("the checkpoint was written in mode {}; this version cannot switch from it", record.mode),
            });
        }
        Ok(())
    }

    /// Where to start, if slot and checkpoint agree (postgres.md, section 7).
    fn check_start(&mut self) -> Result<Frontier, Fault> {
        let server = self.server.clone().ok_or_else(|| internal("no server was inspected"))?;
        let slot = server.slot.as_ref().ok_or_else(|| Fault {
            kind: Kind::SlotMissing,
            message: format!("slot `{}` vanished while it was held", self.config.slot),
        })?;
        let record = self.reading.newest.clone();
        let stored = record.as_ref().and_then(Record::frontier);
        let (Some(record), Some(mut stored)) = (record, stored) else {
            if !self.is_bootstrap && self.reading.newest.is_none() {
                self.note(Note::Adopted(slot.confirmed_flush));
            }
            self.progress.accepted_gaps.clear();
            return Ok(Frontier { end_lsn: slot.confirmed_flush, inside: None });
        };
        self.progress.accepted_gaps.clone_from(&record.accepted_gaps);
        let published = published(stored.end_lsn, stored.inside.map(|inside| inside.commit_lsn));
        let accepted = |gap: Option<Lsn>| gap == Some(slot.confirmed_flush);
        if let Err(mut fault) = check_timeline(&server, record.timeline, published) {
            if !accepted(self.config.accept_gap) {
                fault.message.push_str(&format!("; the LSN to accept is {}", slot.confirmed_flush));
                return Err(fault);
            }
            // What the new history holds from where it parted on was never published.
            let parted = parting(&server, record.timeline, published).map_or(stored.end_lsn, |(_, at)| at.min(stored.end_lsn));
            self.accept_gap(parted, slot.confirmed_flush);
            return Ok(Frontier { end_lsn: slot.confirmed_flush, inside: None });
        }
        if stored.end_lsn > server.wal_end {
            let kind = if server.is_standby { Kind::SourceUnavailable } else { Kind::CheckpointAhead };
            return Err(Fault {
                kind,
                message: format!("the checkpoint stands at {}, the server's WAL ends at {}", stored.end_lsn, server.wal_end),
            });
        }
        if slot.confirmed_flush > stored.end_lsn {
            if !accepted(self.config.accept_gap) {
                return Err(Fault {
                    kind: Kind::Gap,
                    message: format!(
                        "slot `{}` stands at {}, {} bytes of WAL past the checkpoint at {}; the LSN to accept is {}",
                        self.config.slot,
                        slot.confirmed_flush,
                        slot.confirmed_flush.bytes_since(stored.end_lsn),
                        stored.end_lsn,
                        slot.confirmed_flush
                    ),
                });
            }
            self.accept_gap(stored.end_lsn, slot.confirmed_flush);
            return Ok(Frontier { end_lsn: slot.confirmed_flush, inside: None });
        }
        if record.publication_fingerprint != server.publication.clone().unwrap_or_default() {
            self.note(Note::PublicationChanged);
            // Indexes inside a transaction count what the publication sends; with another one they mean nothing.
            stored.inside = None;
        }
        if record.config_fingerprint != self.config.config_fingerprint {
            self.note(Note::RoutesChanged(record.config_fingerprint, self.config.config_fingerprint.clone()));
        }
        Ok(stored)
    }

    fn accept_gap(&mut self, from: Lsn, to: Lsn) {
        let gap = AcceptedGap { from, to, at: String::new() };
        self.progress.accepted_gaps.push(gap.clone());
        self.note(Note::GapAccepted(gap));
    }

    /// After a lost connection: is it still our server, our history, our slot?
    fn check_resume(&self, server: &Server) -> Result<(), Fault> {
        let before = self.server.as_ref().ok_or_else(|| internal("no server was inspected"))?;
        if before.system_id != server.system_id {
            return Err(Fault {
                kind: Kind::CheckpointForeign,
                message: format!("the server's system id changed from {} to {}", before.system_id, server.system_id),
            });
        }
        check_timeline(server, before.timeline, published(self.flow.received_end, self.window.open_commit()))?;
        let slot = server.slot.as_ref().ok_or_else(|| Fault {
            kind: Kind::SlotMissing,
            message: format!("slot `{}` does not exist any more", self.config.slot),
        })?;
        if slot.is_lost {
            return Err(Fault { kind: Kind::SlotLost, message: format!("slot `{}` was invalidated", self.config.slot) });
        }
        if self.flow.received_end > server.wal_end {
            let kind = if server.is_standby { Kind::SourceUnavailable } else { Kind::CheckpointAhead };
            return Err(Fault {
                kind,
                message: format!("{} was received, but the server's WAL ends at {}", self.flow.received_end, server.wal_end),
            });
        }
        Ok(())
    }

    /// An order failed, or a check did: the policy table decides how it goes on.
    pub(super) fn failed(&mut self, fault: Fault, next: Next) {
        match fault.kind.directive().action {
            Action::Retry | Action::Poison | Action::Standby => {
                let wait_ms = self.backoff_ms();
                self.note(Note::Fault(fault.clone(), wait_ms));
                self.fault = Some(fault);
                self.disconnect();
                let then = if next == Next::Resume { Next::Resume } else { Next::Start };
                self.phase = Phase::Waiting { until_ms: self.now_ms + wait_ms, then };
            }
            Action::StopStream | Action::StopProcess(_) => self.input(Input::Stop(fault)),
        }
    }
}

/// The end of what may have been published: of a transaction begun, at least the first byte of its commit record.
fn published(end_lsn: Lsn, begun: Option<Lsn>) -> Lsn {
    begun.map_or(end_lsn, |commit_lsn| end_lsn.max(Lsn(commit_lsn.0 + 1)))
}

/// The history of the server's timelines must contain everything that was published.
fn check_timeline(server: &Server, timeline: u32, published: Lsn) -> Result<(), Fault> {
    if server.timeline < timeline {
        return Err(Fault {
            kind: Kind::TimelineDiverged,
            message: format!("the checkpoint is of timeline {timeline}, the server is on timeline {}", server.timeline),
        });
    }
    match parting(server, timeline, published) {
        None => Ok(()),
        Some((ended, at)) => Err(Fault {
            kind: Kind::TimelineDiverged,
            message: format!(
                "the server left timeline {ended} at {at}; what was published from {at} to {published} is not in its history"
            ),
        }),
    }
}

/// Where the server's history parts from the one that was published, if it does: the lowest of the later switches.
fn parting(server: &Server, timeline: u32, published: Lsn) -> Option<(u32, Lsn)> {
    server.switch_points.iter().copied().filter(|&(ended, at)| ended >= timeline && at < published).min_by_key(|&(_, at)| at)
}

fn since(record: Option<&Record>) -> String {
    match record.and_then(|record| record.end_lsn) {
        Some(lsn) => format!("; the checkpoint stands at {lsn}"),
        None => String::new(),
    }
}

fn unread(error: &ReadError) -> Fault {
    let kind = match error {
        ReadError::Unreachable(_) => Kind::CheckpointUnreachable,
        ReadError::Denied(_) => Kind::SinkPermission,
        ReadError::Unusable(_) => Kind::CheckpointUnusable,
    };
    Fault { kind, message: error.to_string() }
}

fn internal(message: &str) -> Fault {
    Fault { kind: Kind::Internal, message: message.into() }
}
