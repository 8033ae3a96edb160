//! What a process does beside its stream: stores, jobs that take time, and status updates.

use super::super::world::World;
use super::{Job, Process, Step, Storing};
use relay_core::checkpoint::{ReadError, Reading, Record, RecordState};
use relay_core::session::{Busy, Fault, Input, Server};
use relay_core::window::FailureKind;
use relay_core::{Failure, Kind, Lsn};

impl Process {
    pub(super) fn begin_store(&mut self, record: Record, world: &mut World) {
        assert!(self.storing.is_none(), "a checkpoint takes one store at a time");
        self.check_store(&record, world);
        let durable_ms = world.now_ms + world.chance.below(40);
        let answer_at_ms = durable_ms + world.chance.below(40);
        let fails = world.chance.one_in(world.kafka.weather.store_fails);
        let is_hidden = fails && world.chance.one_in(2);
        let message = "time-out".into();
        self.storing = Some(Storing {
            record,
            durable_at_ms: (!fails || is_hidden).then_some(durable_ms),
            answer_at_ms,
            result: if fails { Err(Failure { kind: FailureKind::Transient, message }) } else { Ok(()) },
        });
    }

    pub(super) fn check_store(&self, record: &Record, world: &mut World) {
        let holds = self.connection.is_some_and(|id| world.postgres.holder() == Some(id) || !world.postgres.is_intact(id));
        let is_first = record.state == RecordState::Bootstrapping;
        let is_blind = self.read.as_ref().is_none_or(|(_, stored, ..)| stored.is_none());
        let confirmed = world.postgres.slot.as_ref().map(|slot| slot.confirmed);
        if is_blind && record.end_lsn == confirmed && world.postgres.meddled > 0 {
            // A slot without a position of ours was moved: nobody can know.
            world.oracle.excuse_range(Lsn::ZERO, record.end_lsn.unwrap_or_default());
        }
        assert!(is_first || holds || self.has_claimed, "a standby writes nothing");
        assert_eq!(record.system_id, world.system_id(), "a foreign server is never written down");
    }

    /// The record's way goes on without the process.
    pub(crate) fn store_lands(&mut self, world: &mut World) {
        self.call_lands(world);
        let Some(storing) = &mut self.storing else { return };
        if storing.durable_at_ms.is_some_and(|at_ms| world.now_ms >= at_ms) && !world.kafka.weather.is_down {
            storing.durable_at_ms = None;
            let record = storing.record.clone();
            if let Some(frontier) = record.frontier().filter(|_| record.timeline == world.oracle.timeline) {
                assert!(
                    world.oracle.is_settled_below(frontier.end_lsn),
                    "stored {frontier:?}, {:?}",
                    world.oracle.first_missing()
                );
            }
            let is_held = world.kafka.coordinator.holds_checkpoints();
            world.store.append_behind(record, is_held);
        }
    }

    pub(super) fn store_turn(&mut self, world: &mut World) -> Step {
        self.store_lands(world);
        let is_answered = |storing: &Storing| {
            world.now_ms >= storing.answer_at_ms && (storing.durable_at_ms.is_none() || storing.result.is_err())
        };
        if self.storing.as_ref().is_some_and(is_answered)
            && let Some(storing) = self.storing.take()
        {
            world.output(self.id)?;
            if let Some(at_ms) = storing.durable_at_ms {
                world.store.ghosts.push((at_ms, storing.record));
            }
            self.input(Input::Stored(storing.result), world)?;
        }
        Ok(())
    }

    pub(super) fn job_turn(&mut self, world: &mut World) -> Step {
        let Some((_, job)) = self.job.take_if(|(due_ms, _)| world.now_ms >= *due_ms) else { return Ok(()) };
        let is_up = world.postgres.is_up(world.now_ms);
        let down = || Fault { kind: Kind::SourceUnavailable, message: "down".into() };
        let input = match job {
            Job::Inspect if is_up && self.connection.is_some() && self.connection != world.postgres.holder() => {
                Input::Lost(Fault { kind: Kind::SourceLost, message: "the slot is not ours any more".into() })
            }
            Job::Inspect if is_up => {
                self.meddled = world.postgres.meddled;
                Input::Inspected(Ok::<Server, Fault>(world.postgres.inspect(self.option)))
            }
            Job::Inspect => Input::Inspected(Err(down())),
            Job::Read if world.kafka.weather.is_down => Input::CheckpointRead(Err(ReadError::Unreachable("down".into()))),
            Job::Read if world.kafka.coordinator.holds_checkpoints() && !self.is_exact() => {
                // Read to the end, not to where an open transaction begins.
                Input::CheckpointRead(Err(ReadError::Unreachable("held back".into())))
            }
            Job::Read => {
                self.note_reading(world);
                Input::CheckpointRead(Ok(Reading::of(world.store.records().to_vec())))
            }
            Job::Publication if is_up => {
                world.postgres.has_publication = true;
                Input::PublicationReady(Ok(()))
            }
            Job::Publication => Input::PublicationReady(Err(down())),
            Job::Slot if is_up => {
                world.create_slot();
                Input::SlotReady(Ok(None))
            }
            Job::Slot => Input::SlotReady(Err(down())),
            Job::Hold(start) => Input::Held(self.hold(start, is_up, world)),
        };
        world.output(self.id)?;
        self.input(input, world)
    }

    /// What was read is what a start must begin from.
    pub(super) fn note_reading(&mut self, world: &World) {
        let winner = world.store.winner();
        let highest = world.store.records().iter().map(|record| record.epoch).max().unwrap_or(0);
        let timeline = winner.map_or(0, |record| record.timeline);
        let publication = winner.map(|record| record.publication_fingerprint.clone()).unwrap_or_default();
        self.read = Some((highest, winner.and_then(Record::frontier), timeline, publication));
    }

    fn hold(&mut self, start: Lsn, is_up: bool, world: &mut World) -> Result<(), Busy> {
        if !is_up {
            return Err(Busy::Fault(Fault { kind: Kind::SourceUnavailable, message: "down".into() }));
        }
        assert!(self.connection.is_none(), "one connection at a time");
        match world.postgres.start(start, self.option) {
            Ok(id) => {
                self.connection = Some(id);
                self.last_connection = Some(id);
                Ok(())
            }
            Err(None) => Err(Busy::Fault(Fault { kind: Kind::SlotMissing, message: "no slot".into() })),
            Err(holder) if holder == self.last_connection => Err(Busy::OwnGhost),
            Err(_) => Err(Busy::Other(Fault { kind: Kind::SlotBusy, message: "active".into() })),
        }
    }

    pub(super) fn confirm(&mut self, world: &mut World) -> Step {
        let Some(id) = self.connection else { return Ok(()) };
        let confirmation = self.session.confirmation();
        if world.chance.one_in(3) {
            return Ok(());
        }
        if !confirmation.flushed.is_zero() && world.postgres.is_intact(id) {
            let flushed = confirmation.flushed;
            let stored = world.store.winner().and_then(|record| record.end_lsn);
            let stored = stored.max(world.store.held_back());
            assert!(Some(flushed) <= stored, "I4: {flushed} is confirmed, the record that wins is at {stored:?}");
            assert!(world.oracle.is_settled_below(flushed), "I4: {flushed} is confirmed, {:?}", world.oracle.first_missing());
        }
        if world.postgres.status(id, confirmation) {
            world.output(self.id)?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, world: &mut World) -> Step {
        self.confirm(world)?;
        self.has_drained = true;
        Ok(())
    }
}
