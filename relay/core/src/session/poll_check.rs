//! Whether server and checkpoint agree in poll mode, where to start if they do, and what is stored there (postgres.md, section 15).

use super::check::{check_same_system, check_timeline, internal};
use super::{Fault, Note, Reads, Server, Session};
use crate::checkpoint::{LogPoll, Mode, PollPosition, Record, RecordState};
use crate::error::Kind;
use crate::lsn::Lsn;
use crate::snapshot::Snapshot;
use crate::window::Frontier;

/// Why a pipeline with such a table cannot switch.
const CLAIMS: &str = "a table with order `claim` has no position that the other mode could go on from; give it an xid8 column for order \
                      `tick` (`relay preset sql NAME --mode poll` prints how)";

impl Session {
    /// Where to start, if server and checkpoint agree.
    pub(super) fn check_poll_start(&mut self, ends_in_log: bool) -> Result<Frontier, Fault> {
        let server = self.server.clone().ok_or_else(|| internal("no server was inspected"))?;
        check_primary(&server)?;
        self.progress.accepted_gaps.clear();
        let has_ticks = matches!(self.config.reads, Reads::Poll { has_ticks: true, .. });
        let stored = self.reading.newest.clone().filter(|record| record.state != RecordState::Bootstrapping);
        let Some(record) = stored else {
            if self.is_exactly_once() {
                let message = "there is no checkpoint: which of the rows were published before is not known";
                return Err(Fault { kind: Kind::CheckpointMissing, message: message.to_owned() });
            }
            if has_ticks {
                self.note(Note::PublishesAll);
            }
            return Ok(self.book.start(PollPosition::start(), Lsn::ZERO));
        };
        self.progress.accepted_gaps.clone_from(&record.accepted_gaps);
        let (position, wal_end) = self.stored_position(&record, has_ticks)?;
        if let Err(fault) = check_history(&server, record.timeline, &position.tick, wal_end) {
            if self.config.accept_gap.is_none_or(|accepted| accepted != wal_end) {
                let message = format!("{}; the LSN to accept is {wal_end}", fault.message);
                return Err(Fault { message, ..fault });
            }
            // What the server gave ids below the tick's again is taken for seen.
            self.accept_gap(wal_end, server.wal_end);
            let now = server.snapshot.clone().unwrap_or_else(|| position.tick.clone());
            let tick = if position.tick.rank() > now.rank() { now } else { position.tick };
            return Ok(self.book.start(PollPosition::at(tick), server.wal_end));
        }
        if record.config_fingerprint != self.config.config_fingerprint {
            self.note(Note::RoutesChanged(record.config_fingerprint.clone(), self.config.config_fingerprint.clone()));
        }
        if ends_in_log {
            self.check_switch_to_log(&record, &server)?;
        } else if record.mode == Mode::Poll.name()
            && let Some(slot) = record.slot.filter(|_| server.slot.is_some())
        {
            self.note(Note::SlotLeft(slot));
        }
        Ok(self.book.start(position, wal_end))
    }

    /// The position that a record stands for: its own, or at a switch from the log what its pair saw.
    fn stored_position(&mut self, record: &Record, has_ticks: bool) -> Result<(PollPosition, Lsn), Fault> {
        let stored_end = record.end_lsn.unwrap_or_default();
        if record.mode == Mode::Poll.name() {
            let position = record.poll.clone().unwrap_or_else(|| {
                if has_ticks {
                    self.note(Note::PublishesAll);
                }
                PollPosition::start()
            });
            return Ok((position, stored_end));
        }
        let refused = |message: String| Err(Fault { kind: Kind::SwitchRefused, message });
        if self.has_claims() {
            return refused(format!("the checkpoint was written in log mode; {CLAIMS}"));
        }
        self.check_log_has_ended(Some(record))?;
        let Some(pair) = record.log_poll.clone() else {
            return refused(
                "the checkpoint was written in log mode and knows no snapshot to poll from yet; run in log mode until it has stored one \
                 (some seconds with events, or ten without)"
                    .into(),
            );
        };
        self.note(Note::FromLog(pair.clone()));
        Ok((PollPosition::at(pair.snapshot), stored_end))
    }

    /// An instance that reads the log does not know the polling lock, so its slot tells of it. Asked before anything that would shut it
    /// out.
    ///
    /// # Errors
    /// It is at work.
    pub(super) fn check_log_has_ended(&self, stored: Option<&Record>) -> Result<(), Fault> {
        let slot = self.server.as_ref().and_then(|server| server.slot.as_ref());
        let is_log = stored.is_some_and(|record| record.mode == Mode::Log.name());
        if !is_log || !slot.is_some_and(|slot| slot.is_active) {
            return Ok(());
        }
        let message = "the pipeline's slot is in use: another instance still reads the log; polling begins when it has ended";
        Err(Fault { kind: Kind::SlotBusy, message: message.into() })
    }

    /// The way from polling to the log begins with a slot that nobody has used.
    fn check_switch_to_log(&self, record: &Record, server: &Server) -> Result<(), Fault> {
        let slot = &self.config.slot;
        let refused = |message: String| Err(Fault { kind: Kind::SwitchRefused, message });
        if self.has_claims() {
            return refused(format!("the checkpoint was written in poll mode; {CLAIMS}"));
        }
        match &server.slot {
            Some(found) if found.is_active => {
                Err(Fault { kind: Kind::SlotBusy, message: format!("slot `{slot}` is in use by another instance") })
            }
            Some(_) if record.slot.as_ref() != Some(slot) => refused(format!(
                "slot `{slot}` exists already, and where it stands has nothing to do with where polling stands; when nobody needs it, \
                 drop it with `relay slot drop`"
            )),
            _ if !self.config.may_create => refused(format!(
                "the switch from polling to the log creates slot `{slot}` itself, for its snapshot; source.log.create is \"never\""
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn check_poll_resume(&self, before: &Server, server: &Server) -> Result<(), Fault> {
        check_same_system(before, server)?;
        check_primary(server)?;
        let newest = self.book.newest();
        check_history(server, before.timeline, &newest.snapshot, newest.wal_end)
    }

    fn has_claims(&self) -> bool {
        matches!(self.config.reads, Reads::Poll { has_claims: true, .. })
    }

    pub(super) fn poll_position(&self, frontier: Frontier) -> PollPosition {
        self.book.position(frontier).0
    }

    pub(super) fn poll_record(&self, state: RecordState, epoch: u64, frontier: Option<Frontier>, has_ticks: bool) -> Record {
        let blank = self.blank_record(state, epoch);
        if let Some((consistent, snapshot)) = self.log_takes_over() {
            let log_poll = Some(LogPoll { snapshot, lsn: consistent });
            return Record { end_lsn: Some(consistent), log_poll, ..blank };
        }
        let (position, wal_end) = self.book.position(frontier.unwrap_or_default());
        // Kept as it is until a switch to the log has made another one: a slot of that name is known as ours.
        let left = self.reading.newest.as_ref().filter(|record| record.mode == Mode::Poll.name());
        let left = left.and_then(|record| record.slot.clone());
        let is_switching = matches!(self.config.reads, Reads::Poll { ends_in_log: true, .. });
        Record {
            mode: Mode::Poll.name().into(),
            slot: if is_switching { Some(self.config.slot.clone()) } else { left },
            end_lsn: Some(wal_end).filter(|_| has_ticks),
            poll: has_ticks.then_some(position),
            publication_fingerprint: String::new(),
            ..blank
        }
    }

    /// Where the log goes on and what was published by then, once polling has nothing left to do.
    pub(super) fn log_takes_over(&self) -> Option<(Lsn, Snapshot)> {
        let consistent = self.consistent.filter(|_| self.window.is_empty() && self.book.is_through(self.window.frontier()))?;
        Some((consistent, self.book.newest().snapshot.clone()))
    }

    /// The state that the last record has: after a switch the pipeline runs on.
    pub(super) fn last_state(&self) -> RecordState {
        if self.log_takes_over().is_some() { RecordState::Running } else { RecordState::Stopped }
    }
}

/// A standby's snapshot leaves out who is in progress: rows would be taken for seen before they are visible.
fn check_primary(server: &Server) -> Result<(), Fault> {
    if !server.is_standby {
        return Ok(());
    }
    let message =
        "this server is a standby, whose snapshots do not tell which transactions are in progress; polling needs the primary";
    Err(Fault { kind: Kind::SourceUnavailable, message: message.into() })
}

/// Whether what a record calls published is this server's past: after a restore it gives the same transaction ids out again, and rows
/// that nobody has published look as if they were.
///
/// # Errors
/// The difference.
pub fn check_published(server: &Server, record: &Record) -> Result<(), Fault> {
    let nothing = Snapshot::nothing();
    check_history(server, record.timeline, record.published().unwrap_or(&nothing), record.end_lsn.unwrap_or_default())
}

/// What a tick saw must be in the server's history, and its transaction ids must not be given out again.
fn check_history(server: &Server, timeline: u32, tick: &Snapshot, wal_end: Lsn) -> Result<(), Fault> {
    if server.timeline > timeline && server.switch_points.is_empty() && !wal_end.is_zero() {
        let message = format!(
            "the checkpoint is of timeline {timeline}, the server is on timeline {}, and relay's role may not read its history (it needs \
             REPLICATION): what was published up to {wal_end} may not be in it",
            server.timeline
        );
        return Err(Fault { kind: Kind::TimelineDiverged, message });
    }
    check_timeline(server, timeline, wal_end)?;
    if wal_end > server.wal_end {
        let message = format!("the checkpoint stands at {wal_end}, the server's WAL ends at {}", server.wal_end);
        return Err(Fault { kind: Kind::CheckpointAhead, message });
    }
    let Some(now) = &server.snapshot else { return Ok(()) };
    if tick.xmax() > now.xmax() {
        let message = format!(
            "the checkpoint's snapshot {tick} is ahead of the server's, {now}: transaction ids that were published are given out again"
        );
        return Err(Fault { kind: Kind::CheckpointAhead, message });
    }
    // A new slot's snapshot sees a commit as soon as it is written, queries see it once it has been waited for (a synchronous standby).
    // Read before that, the tick would be left behind without its rows.
    if let Some(xid) = now.xip().iter().find(|&&xid| tick.sees(xid)) {
        let message = format!("the checkpoint's snapshot {tick} sees transaction {xid}, which is in progress on the server");
        return Err(Fault { kind: Kind::SourceUnavailable, message });
    }
    Ok(())
}
