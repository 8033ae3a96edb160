//! What a process does beside its rows: stores, jobs that take time, and status updates.

use super::super::world::{Step, World};
use super::Process;
use relay_core::checkpoint::{Mode, ReadError, Reading, Record, RecordState};
use relay_core::session::{Busy, Exported, Fault, Input, Reads};
use relay_core::window::FailureKind;
use relay_core::{Failure, Kind, Lsn};

#[derive(Clone, Debug)]
pub(super) enum Job {
    Inspect,
    Read,
    Publication,
    Slot {
        /// Transactions that were open when its creation began.
        waits_for: Option<Vec<u64>>,
    },
    Hold(Lsn),
}

/// A store under way.
#[derive(Debug)]
pub(super) struct Storing {
    record: Record,
    durable_at_ms: Option<u64>,
    answer_at_ms: u64,
    result: Result<(), Failure>,
}

impl Process {
    pub(super) fn begin_store(&mut self, record: Record, world: &mut World) {
        assert!(self.storing.is_none(), "a checkpoint takes one store at a time");
        self.check_claim(&record, world);
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

    pub(super) fn check_claim(&mut self, record: &Record, world: &mut World) {
        if (record.epoch != self.epoch || !self.is_claimed) && record.state != RecordState::Bootstrapping {
            assert!(record.epoch > self.read.highest_epoch, "epoch {} is claimed, {:?} was read", record.epoch, self.read);
            (self.epoch, self.is_claimed) = (record.epoch, false);
            world.starts_from(self.read.newest.as_ref(), record, self.is_poll());
        }
        if self.is_poll() && record.mode == Mode::Log.name() {
            assert!(self.ends_in_log() && world.primary.slot == record.end_lsn, "the log goes on where its slot stands");
        }
    }

    pub(super) fn store_turn(&mut self, world: &mut World) -> Step {
        let Some(storing) = &mut self.storing else { return Ok(()) };
        if storing.durable_at_ms.is_some_and(|at_ms| world.now_ms >= at_ms) && !world.kafka.weather.is_down {
            storing.durable_at_ms = None;
            let record = storing.record.clone();
            world.lands(record);
            world.output()?;
        }
        let is_answered = world.now_ms >= storing.answer_at_ms && (storing.durable_at_ms.is_none() || storing.result.is_err());
        if is_answered && let Some(storing) = self.storing.take() {
            world.output()?;
            if let Some(at_ms) = storing.durable_at_ms {
                world.store.ghosts.push((at_ms, storing.record));
            }
            self.input(Input::Stored(storing.result), world)?;
        }
        Ok(())
    }

    /// Of a store under way when the process dies, the record may still arrive.
    pub(super) fn ghost(&mut self, world: &mut World) {
        if let Some(storing) = self.storing.take()
            && storing.durable_at_ms.is_some()
            && world.chance.one_in(2)
        {
            let at_ms = world.now_ms + world.chance.below(1_500);
            world.store.ghosts.push((at_ms, storing.record));
        }
    }

    pub(super) fn job_turn(&mut self, world: &mut World) -> Step {
        self.pair_turn(world);
        let Some((_, job)) = self.job.take_if(|(due_ms, _)| world.now_ms >= *due_ms) else { return Ok(()) };
        let input = match job {
            Job::Inspect if self.connection.is_some_and(|id| !world.primary.is_intact(id)) => {
                Input::Lost(Fault { kind: Kind::SourceLost, message: "not ours any more".into() })
            }
            Job::Inspect => Input::Inspected(Ok(world.primary.inspect())),
            Job::Read if world.kafka.weather.is_down => Input::CheckpointRead(Err(ReadError::Unreachable("down".into()))),
            Job::Read => {
                self.read = Reading::of(world.store.records().to_vec());
                Input::CheckpointRead(Ok(self.read.clone()))
            }
            Job::Publication => {
                world.primary.has_publication = true;
                Input::PublicationReady(Ok(()))
            }
            Job::Slot { .. } if !self.ends_in_log() => {
                if world.primary.slot.is_none() {
                    let born = world.primary.create_slot().consistent;
                    world.oracle.excuse_range(Lsn::ZERO, born);
                }
                Input::SlotReady(Ok(None))
            }
            Job::Slot { waits_for } => match self.new_slot(waits_for, world) {
                Some(exported) => Input::SlotReady(Ok(Some(exported))),
                None => return world.output(),
            },
            Job::Hold(start) => Input::Held(self.hold(start, world)),
        };
        world.output()?;
        self.input(input, world)
    }

    /// Drops a slot that is left over, then waits for every transaction that is open, and makes a new one.
    fn new_slot(&mut self, waits_for: Option<Vec<u64>>, world: &mut World) -> Option<Exported> {
        let waits_for = waits_for.unwrap_or_else(|| {
            world.primary.slot = None;
            world.primary.running()
        });
        // Even then it takes a while: who began and committed meanwhile is in its snapshot.
        if !world.primary.are_over(&waits_for) || world.chance.one_in(2) {
            self.job = Some((world.now_ms + 20, Job::Slot { waits_for: Some(waits_for) }));
            return None;
        }
        let exported = world.primary.create_slot();
        self.exported = Some(exported.tick.snapshot.clone());
        Some(exported)
    }

    fn hold(&mut self, start: Lsn, world: &mut World) -> Result<(), Busy> {
        assert!(self.connection.is_none(), "one connection at a time");
        if !self.is_poll() && world.primary.slot.is_none() {
            return Err(Busy::Fault(Fault { kind: Kind::SlotMissing, message: "no slot".into() }));
        }
        match world.primary.hold(!self.is_poll(), world.now_ms) {
            Ok(id) => {
                self.connection = Some(id);
                self.last_connection = Some(id);
                if std::mem::take(&mut self.is_rewound) {
                    // What is read again is noted again.
                    let frontier = self.session.durable();
                    self.handled.retain(|(position, _)| frontier.covers(*position));
                }
                self.at = start.max(world.primary.slot.unwrap_or_default());
                Ok(())
            }
            Err(holder) if Some(holder) == self.last_connection => Err(Busy::OwnGhost),
            Err(_) => Err(Busy::Other(Fault { kind: Kind::SlotBusy, message: "held".into() })),
        }
    }

    /// Log mode: a query says what it sees, and a little later where WAL ends.
    fn pair_turn(&mut self, world: &mut World) {
        if self.reads != Reads::Log {
            return;
        }
        if let Some(snapshot) = self.pair.take_if(|_| world.chance.one_in(3)) {
            let lsn = world.primary.wal_end;
            self.session.input(Input::Pair(relay_core::checkpoint::LogPoll { snapshot, lsn }));
        } else if self.pair.is_none() && world.chance.one_in(8) {
            self.pair = Some(world.primary.snapshot());
        }
    }

    pub(super) fn confirm(&mut self, world: &mut World) -> Step {
        let Some(id) = self.connection.filter(|_| self.reads == Reads::Log) else { return Ok(()) };
        let flushed = self.session.confirmation().flushed;
        if flushed.is_zero() || !world.primary.is_intact(id) || world.chance.one_in(3) {
            return Ok(());
        }
        assert!(world.oracle.is_settled_below(flushed), "{flushed} is confirmed, {:?}", world.oracle.first_missing());
        world.primary.slot = world.primary.slot.max(Some(flushed));
        world.output()
    }
}
