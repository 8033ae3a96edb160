//! A relay process: drives the session as the daemon does, with jobs that take time, and checks what it does on the way.

use super::kafka::Producer;
use super::oracle::{Excuse, Row, RowId};
use super::postgres::Item;
use super::world::World;
use relay_core::checkpoint::{ReadError, Reading, Record, RecordState};
use relay_core::session::{Admission, Begun, Busy, Config, Fault, Input, Note, Order, Server, Session, State};
use relay_core::window::{FailureKind, Frontier, Limits, Window};
use relay_core::{Acks, Failure, Kind, Lsn};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The process was killed at this output.
#[derive(Debug)]
pub(crate) struct Crashed;

pub(crate) type Step = Result<(), Crashed>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Stop,
    Dlq,
    Skip,
}

#[derive(Clone, Copy, Debug)]
enum Job {
    Inspect,
    Read,
    Publication,
    Slot,
    Hold(Lsn),
}

/// A store under way.
#[derive(Debug)]
struct Storing {
    record: Record,
    durable_at_ms: Option<u64>,
    answer_at_ms: u64,
    result: Result<(), Failure>,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: usize,
    pub(crate) session: Session,
    pub(crate) producer: usize,
    pub(crate) policy: Policy,
    pub(crate) connection: Option<u64>,
    pub(crate) is_frozen: bool,
    pub(crate) has_drained: bool,
    last_connection: Option<u64>,
    job: Option<(u64, Job)>,
    storing: Option<Storing>,
    pending: Option<Item>,
    blocked_until_ms: u64,
    /// Rows handed to the sink since the last purge.
    sent: BTreeSet<RowId>,
    /// How its rows are sent, and so numbered.
    option: u8,
    /// How often slot and history had been meddled with at the last inspection, and at the last one that let it start.
    meddled: u64,
    started_after: u64,
    /// What the store held when it was last read.
    read: Option<(u64, Option<Frontier>, u32, String)>,
    has_claimed: bool,
    /// Positions of rows that this process sent, for the frontier inside a transaction.
    positions: HashMap<(Lsn, u64), RowId>,
    frontier: Frontier,
}

// === impl Process ===

impl Process {
    pub(crate) fn start(id: usize, policy: Policy, accept_gap: Option<Lsn>, world: &mut World) -> Self {
        let acks = Acks::new(64);
        let config = Config {
            name: "orders".into(),
            instance: format!("{id:08x}"),
            slot: "relay_orders".into(),
            publication: "relay_orders".into(),
            may_create: true,
            is_durable: true,
            accept_gap,
            checkpoint_interval_ms: 1_000,
            idle_checkpoint_interval_ms: 10_000,
            config_fingerprint: "c".into(),
            relay_version: "0".into(),
            seed: world.chance.next(),
        };
        let limits = Limits { bytes: 300, events: 24 };
        let producer = world.kafka.connect(Arc::clone(&acks));
        let mut session = Session::new(config, Window::new(acks, limits));
        session.tick(world.now_ms, 0);
        Self {
            id,
            session,
            producer,
            policy,
            connection: None,
            is_frozen: false,
            has_drained: false,
            last_connection: None,
            job: None,
            storing: None,
            pending: None,
            blocked_until_ms: 0,
            sent: BTreeSet::new(),
            option: world.option,
            meddled: 0,
            started_after: 0,
            read: None,
            has_claimed: false,
            positions: HashMap::new(),
            frontier: Frontier::default(),
        }
    }

    fn producer<'a>(&self, world: &'a mut World) -> &'a mut Producer {
        &mut world.kafka.producers[self.producer]
    }

    /// One turn of the loop.
    pub(crate) fn turn(&mut self, world: &mut World) -> Step {
        self.session.advance(|_| {});
        self.check_frontier(world);
        self.store_turn(world)?;
        self.job_turn(world)?;
        let outstanding = self.producer(world).outstanding();
        self.session.tick(world.now_ms, outstanding);
        self.obey(world)?;
        self.confirm(world)?;
        if self.session.is_ended() {
            return self.finish(world);
        }
        self.read_stream(world)
    }

    pub(crate) fn input(&mut self, input: Input, world: &mut World) -> Step {
        world.trace(|| format!("{} <- {input:?}", self.id));
        self.session.input(input);
        self.obey(world)
    }

    fn obey(&mut self, world: &mut World) -> Step {
        loop {
            let orders: Vec<Order> = self.session.orders().collect();
            if orders.is_empty() {
                return Ok(());
            }
            for order in orders {
                world.trace(|| format!("{} -> {order:?}", self.id));
                self.carry_out(order, world)?;
            }
        }
    }

    fn carry_out(&mut self, order: Order, world: &mut World) -> Step {
        let due_ms = world.now_ms + world.chance.below(60);
        match order {
            Order::Inspect => self.job = Some((due_ms, Job::Inspect)),
            Order::ReadCheckpoint => self.job = Some((due_ms, Job::Read)),
            Order::CreatePublication => self.job = Some((due_ms, Job::Publication)),
            Order::CreateSlot => self.job = Some((due_ms, Job::Slot)),
            Order::Hold(start) => self.job = Some((due_ms, Job::Hold(start))),
            Order::Store(record) => self.begin_store(*record, world),
            Order::Retire(keys) => world.store.retire(&keys),
            Order::Disconnect => {
                self.job = None;
                self.disconnect(world);
            }
            Order::Purge(scope) => {
                self.sent.clear();
                // What was acknowledged out of order comes again.
                world.may_duplicate = true;
                self.producer(world).purge(scope);
                world.figures.purges += 1;
            }
            Order::Renew => {
                self.producer(world).renew();
                let result = if world.chance.one_in(4) { Err("no broker".into()) } else { Ok(()) };
                self.session.input(Input::Renewed(result));
            }
            Order::Note(note) => self.note(note, world),
        }
        world.output(self.id)
    }

    fn disconnect(&mut self, world: &mut World) {
        self.pending = None;
        if let Some(id) = self.connection.take() {
            world.postgres.close(id, world.now_ms, &mut world.chance);
        }
    }

    fn note(&mut self, note: Note, world: &mut World) {
        match note {
            Note::Streaming { frontier, epoch } => {
                let (highest, stored, timeline, publication) = self.read.clone().expect("the store was read before the claim");
                assert!(epoch > highest, "I8: epoch {epoch} is claimed, {highest} was read");
                if let Some(stored) = stored
                    && !world.gap_accepted_by(self.id)
                {
                    assert_eq!(frontier.end_lsn, stored.end_lsn, "I8: the start takes the record that wins");
                    let is_same = publication == format!("v{}", self.option);
                    assert_eq!(frontier.inside, stored.inside.filter(|_| is_same), "D6: indexes count for one publication only");
                    let history = self.session.server().map(|server| server.switch_points.clone()).unwrap_or_default();
                    for (left, at) in history.into_iter().filter(|&(left, _)| left >= timeline) {
                        assert!(stored.end_lsn <= at, "published to {} of timeline {left}, left at {at}", stored.end_lsn);
                    }
                }
                // A peer may have been at it until now, or be still without having noticed.
                world.may_duplicate |= world.has_peers && epoch > 1;
                self.has_claimed = true;
                self.started_after = self.meddled;
                world.seen_meddling = world.seen_meddling.max(self.meddled);
            }
            Note::Resumed(lsn) => {
                world.figures.resumes += 1;
                if let Some((_, at)) = world.postgres.left_at() {
                    let begun = self.session.window().open_commit().map_or(Lsn::ZERO, |commit| Lsn(commit.0 + 1));
                    let is_old = self.session.server().is_some_and(|server| server.timeline < world.postgres.timeline);
                    assert!(!is_old || lsn.max(begun) <= at, "resumed past {at}, where the timeline was left");
                }
            }
            Note::Rewinding(_) => {
                world.figures.rewinds += 1;
            }
            Note::GapAccepted(gap) => {
                world.oracle.excuse_range(gap.from, gap.to);
                world.accept_gap(self.id);
            }
            Note::Fault(fault, _) => {
                let is_called_for = match fault.kind {
                    Kind::Gap => self.meddled > world.seen_meddling,
                    Kind::TimelineDiverged => self.meddled > world.seen_meddling || self.meddled > self.started_after,
                    Kind::SlotMissing => world.postgres.meddled > 0,
                    Kind::CheckpointForeign => world.has_impostor,
                    Kind::CheckpointAhead | Kind::CheckpointUnusable | Kind::SourceProtocol | Kind::Internal => false,
                    Kind::SinkRejected => world.kafka.weather.is_strict || world.kafka.refusals > 0,
                    _ => true,
                };
                assert!(is_called_for, "a false alarm: {:?}: {}", fault.kind, fault.message);
            }
            Note::Standby(_) => world.may_duplicate |= self.has_claimed,
            Note::PublicationChanged => world.may_duplicate = true,
            Note::Culprit(_) => world.figures.culprits += 1,
            _ => {}
        }
    }

    fn begin_store(&mut self, record: Record, world: &mut World) {
        assert!(self.storing.is_none(), "a checkpoint takes one store at a time");
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

    /// The record's way goes on without the process.
    pub(crate) fn store_lands(&mut self, world: &mut World) {
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
            world.store.append(record);
        }
    }

    fn store_turn(&mut self, world: &mut World) -> Step {
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

    fn job_turn(&mut self, world: &mut World) -> Step {
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
            Job::Read => {
                let winner = world.store.winner();
                let highest = world.store.records().iter().map(|record| record.epoch).max().unwrap_or(0);
                let timeline = winner.map_or(0, |record| record.timeline);
                let publication = winner.map(|record| record.publication_fingerprint.clone()).unwrap_or_default();
                self.read = Some((highest, winner.and_then(Record::frontier), timeline, publication));
                Input::CheckpointRead(Ok(Reading::of(world.store.records().to_vec())))
            }
            Job::Publication if is_up => {
                world.postgres.has_publication = true;
                Input::PublicationReady(Ok(()))
            }
            Job::Publication => Input::PublicationReady(Err(down())),
            Job::Slot if is_up => {
                world.create_slot();
                Input::SlotReady(Ok(()))
            }
            Job::Slot => Input::SlotReady(Err(down())),
            Job::Hold(start) => Input::Held(self.hold(start, is_up, world)),
        };
        world.output(self.id)?;
        self.input(input, world)
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

    fn confirm(&mut self, world: &mut World) -> Step {
        let Some(id) = self.connection else { return Ok(()) };
        let confirmation = self.session.confirmation();
        if world.chance.one_in(3) {
            return Ok(());
        }
        if !confirmation.flushed.is_zero() && world.postgres.is_intact(id) {
            let flushed = confirmation.flushed;
            let stored = world.store.winner().and_then(|record| record.end_lsn);
            assert!(Some(flushed) <= stored, "I4: {flushed} is confirmed, the record that wins is at {stored:?}");
            assert!(world.oracle.is_settled_below(flushed), "I4: {flushed} is confirmed, {:?}", world.oracle.first_missing());
        }
        if world.postgres.status(id, confirmation) {
            world.output(self.id)?;
        }
        Ok(())
    }

    fn finish(&mut self, world: &mut World) -> Step {
        self.confirm(world)?;
        self.has_drained = true;
        Ok(())
    }

    fn read_stream(&mut self, world: &mut World) -> Step {
        for _ in 0..world.chance.between(1, 12) {
            let Some(id) = self.connection.filter(|_| self.session.is_streaming()) else { return Ok(()) };
            if world.now_ms < self.blocked_until_ms {
                return Ok(());
            }
            let item = match self.pending.take() {
                Some(item) => Some(item),
                None => match world.postgres.read(id, &mut world.chance) {
                    Ok(item) => item,
                    Err(kind) => {
                        world.output(self.id)?;
                        return self.input(Input::Lost(Fault { kind, message: "lost".into() }), world);
                    }
                },
            };
            let Some(item) = item else {
                self.producer(world).nudge();
                return Ok(());
            };
            world.output(self.id)?;
            if !self.handle(&item, world)? {
                self.producer(world).nudge();
                if self.session.is_streaming() {
                    self.pending = Some(item);
                }
                return self.obey(world);
            }
        }
        Ok(())
    }

    /// Whether the item is dealt with.
    fn handle(&mut self, item: &Item, world: &mut World) -> Result<bool, Crashed> {
        world.trace(|| format!("{} reads {item:?}", self.id));
        match *item {
            Item::Begin(commit_lsn) => {
                let begun = self.session.begin(commit_lsn, 0).expect("the model keeps the protocol");
                return Ok(begun == Begun::Read);
            }
            Item::Commit(commit_lsn, end_lsn) => self.session.commit(commit_lsn, end_lsn).expect("the model keeps the protocol"),
            Item::Keepalive(wal_end, is_urgent) => self.session.keepalive(wal_end, is_urgent),
            Item::Change(row) => return self.change(&row, world),
        }
        Ok(true)
    }

    fn change(&mut self, row: &Row, world: &mut World) -> Result<bool, Crashed> {
        match self.session.admit() {
            Admission::Covered => {
                let is_mine = self.sent.contains(&row.id);
                assert!(world.oracle.is_settled(row.id) || is_mine, "row {} is passed by as seen, and is nowhere", row.id);
                self.session.passed();
                return Ok(true);
            }
            Admission::Fresh(position) if row.is_event => {
                if !self.session.has_room(row.bytes) || world.chance.one_in(world.kafka.weather.full) {
                    return Ok(false);
                }
                self.positions.insert((position.commit_lsn, position.seq), row.id);
                self.enqueue(row, false, world);
            }
            Admission::Fresh(_) => {}
            Admission::Condemned(..) => {
                assert!(row.is_bad, "B24: row {} is condemned for its neighbour", row.id);
                match self.policy {
                    Policy::Skip => world.oracle.excuse(row.id, Excuse::Poison),
                    Policy::Dlq if !self.session.has_room(row.bytes) => return Ok(false),
                    Policy::Dlq => self.enqueue(row, true, world),
                    Policy::Stop => {
                        self.blocked_until_ms = world.now_ms + 5_000;
                        return Ok(false);
                    }
                }
            }
        }
        self.session.passed();
        world.output(self.id)?;
        Ok(true)
    }

    fn enqueue(&mut self, row: &Row, is_dlq: bool, world: &mut World) {
        let id = self.connection.expect("events are read from a connection");
        let holds = world.postgres.holder() == Some(id) || !world.postgres.is_intact(id);
        assert!(holds && self.has_claimed, "only the holder of the slot publishes");
        let is_bad = row.is_bad;
        let ticket = self.session.next_ticket();
        self.producer(world).enqueue(row, ticket, is_dlq, is_bad);
        self.session.sent(row.bytes);
        self.sent.insert(row.id);
        world.figures.sent += 1;
    }

    fn check_frontier(&mut self, world: &mut World) {
        let frontier = self.session.window().frontier();
        if frontier == self.frontier || self.session.state() != State::Streaming {
            return;
        }
        self.frontier = frontier;
        if self.session.server().is_none_or(|server| server.timeline != world.oracle.timeline) {
            return;
        }
        assert!(world.oracle.is_settled_below(frontier.end_lsn), "I1: frontier {frontier:?}, {:?}", world.oracle.first_missing());
        if let Some(inside) = frontier.inside
            && let Some(&row) = self.positions.get(&(inside.commit_lsn, inside.seq))
        {
            assert!(world.oracle.is_settled(row), "I1: {inside} is called durable");
        }
    }

    /// Killed: what it had sent is on its way, nothing else.
    pub(crate) fn die(mut self, world: &mut World) {
        self.producer(world).die();
        if let Some(storing) = self.storing.take()
            && storing.durable_at_ms.is_some()
            && world.chance.one_in(2)
        {
            world.store.ghosts.push((world.now_ms + world.chance.below(1_500), storing.record));
        }
        self.disconnect(world);
    }
}
