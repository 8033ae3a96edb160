//! The way back after a lost connection: the window is kept, and everything is checked again before a word is read or confirmed.

use super::start::{SETTLE_MS, unread};
use super::{AfterRewind, Next, Note, Order, Phase, Reads, Rewind, Server, Session};
use crate::checkpoint::{PollPosition, ReadError, Reading, Record};

/// A stream that went on for so long is healthy: the next failure starts with a short wait again.
const HEALTHY_MS: u64 = 10_000;

impl Session {
    /// Takes the stream up again where it was cut. Everything is checked with the slot held: before that, it may still be moved.
    pub(super) fn hold_again(&mut self) {
        self.hold(self.flow.received_end, Next::Resume);
    }

    pub(super) fn resume(&mut self, server: Server) {
        if let Err(fault) = self.check_resume(&server) {
            return self.failed(fault, Next::Resume);
        }
        // Past our checkpoint: somebody moved the slot, perhaps another relay that had it meanwhile. The full protocol tells.
        // Where a slot stands says nothing about polling: the log may have left it behind.
        let slot = server.slot.as_ref().filter(|_| self.config.reads == Reads::Log);
        let is_moved = slot.is_some_and(|slot| slot.confirmed_flush > self.progress.stored.end_lsn);
        let is_altered = self.server.as_ref().is_some_and(|before| before.publication != server.publication);
        // Indexes inside a transaction count what the publication sends; with another one they mean nothing.
        if is_moved || (is_altered && (self.flow.is_inside() || self.window.open_commit().is_some())) {
            self.note(Note::Rewinding(Rewind::Source));
            return self.rewind(AfterRewind::StartOver);
        }
        if is_altered {
            self.note(Note::PublicationChanged);
        }
        if let Some(slot) = slot {
            // Older servers let a lower position move the slot back.
            self.progress.confirmed = self.progress.confirmed.max(slot.confirmed_flush);
        }
        self.learn(server);
        // A claim of another instance may have been on its way to the store when it was read just now.
        // In exactly-once a claim shuts us out.
        let needs_proof = self.config.is_durable && !self.is_exactly_once();
        self.stream(needs_proof.then_some(self.now_ms + SETTLE_MS));
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
        self.copying_turn();
        if self.log_takes_over().is_some() && !(self.is_exactly_once() && self.progress.is_under_way()) {
            self.phase = Phase::StoringLast;
            self.store(self.last_state(), self.window.frontier());
        }
    }

    pub(super) fn proof_read(&mut self, result: Result<Reading, ReadError>) {
        match result {
            Ok(reading) if self.is_overtaken(&reading) => self.overtaken(),
            Ok(_) => self.proof_at_ms = None,
            Err(error) if error.is_final() => self.failed(unread(&error), Next::Resume),
            Err(_) => self.proof_at_ms = Some(self.now_ms + SETTLE_MS),
        }
    }

    pub(super) fn overtaken(&mut self) {
        self.was_standby = true;
        self.note(Note::Rewinding(Rewind::Source));
        self.rewind(AfterRewind::StartOver);
    }

    pub(super) fn is_overtaken(&self, reading: &Reading) -> bool {
        let epoch = self.progress.epoch;
        // Two instances may claim one epoch (kafka.md, section 8); then the greatest position wins.
        let stored = self.progress.stored;
        let polled = self.poll_position(stored).rank();
        let is_ahead = |record: &Record| {
            record.epoch == epoch
                && record.instance != self.config.instance
                && (record
                    .frontier()
                    .is_some_and(|frontier| (frontier.end_lsn, frontier.inside) > (stored.end_lsn, stored.inside))
                    || record.poll.as_ref().map(PollPosition::rank).is_some_and(|rank| rank > polled))
        };
        reading.highest_epoch > epoch || reading.newest.as_ref().is_some_and(is_ahead)
    }

    /// After a lost connection: another instance may have had the slot, claimed an epoch and gone again without our seeing it. Our records
    /// would lose against its record for ever.
    pub(super) fn check_epoch(&mut self, result: Result<Reading, ReadError>) {
        match result {
            Ok(reading) if self.is_overtaken(&reading) => self.overtaken(),
            Ok(_) => self.inspect(Next::Resume),
            Err(error) => self.failed(unread(&error), Next::Resume),
        }
    }
}
