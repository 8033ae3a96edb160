//! A relay process that polls or reads the log: drives the session as the daemon does, and checks what it does on the way.

mod jobs;
mod reading;

use super::super::kafka::Producer;
use super::super::kafka::transactions::{Answer, At, Call, Control};
use super::super::oracle::{Excuse, Row, RowId};
use super::super::postgres::Item;
use super::server::Outbox;
use super::world::{Step, World};
use jobs::{Job, Storing};
use relay_core::checkpoint::{Guarantee, Reading, RecordState};
use relay_core::position::Position;
use relay_core::session::{Admission, Config, Fault, Input, Note, Order, Reads, Session, State, Work};
use relay_core::window::{Limits, Window};
use relay_core::{Acks, Kind, Lsn, Snapshot};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The work whose rows are being read.
#[derive(Debug)]
struct Current {
    work: Work,
    rows: VecDeque<Outbox>,
}

/// Rows that were claimed, by their keys.
#[derive(Debug, Default)]
struct Claim {
    keys: Vec<RowId>,
    marked: usize,
    has_ended: bool,
}

/// Published rows that are to be marked.
#[derive(Debug)]
enum Mark {
    Rows(Vec<RowId>),
    /// Whatever an earlier process had no time to mark.
    Left(Snapshot),
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: usize,
    pub(crate) session: Session,
    pub(crate) producer: usize,
    pub(crate) reads: Reads,
    pub(crate) has_ended: bool,
    connection: Option<u64>,
    last_connection: Option<u64>,
    job: Option<(u64, Job)>,
    storing: Option<Storing>,
    /// What the store held when it was last read.
    read: Reading,
    epoch: u64,
    /// Whether the claim of that epoch is known to be durable.
    is_claimed: bool,
    /// Rows given to the sink that are not below the frontier.
    flight: BTreeMap<RowId, Position>,
    published: Option<Snapshot>,
    // In log mode:
    at: Lsn,
    items: VecDeque<Item>,
    pair: Option<Snapshot>,
    // In poll mode:
    current: Option<Current>,
    /// What the new slot's snapshot sees, while that is kept.
    exported: Option<Snapshot>,
    /// Rows of ticks that were dealt with and are not marked yet.
    handled: VecDeque<(Position, RowId)>,
    claims: BTreeMap<Lsn, Claim>,
    marks: VecDeque<(u64, Mark)>,
    look_at_ms: u64,
    is_rewound: bool,
    /// A drain that first reads everything that is there.
    drain_by: Option<u64>,
    control: Control,
}

// === impl Process ===

impl Process {
    pub(crate) fn start(id: usize, reads: Reads, world: &mut World) -> Self {
        let acks = Acks::new(64);
        let config = Config {
            name: "orders".into(),
            instance: format!("{id:08x}"),
            reads,
            guarantee: world.guarantee,
            commit_interval_ms: 100,
            slot: "relay_orders".into(),
            publication: "relay_orders".into(),
            may_create: true,
            is_durable: true,
            snapshot: None,
            accept_gap: None,
            checkpoint_interval_ms: [30, 400][world.chance.below(2) as usize],
            idle_checkpoint_interval_ms: 2_000,
            config_fingerprint: "c".into(),
            relay_version: "0".into(),
            seed: world.chance.next(),
        };
        let producer = world.kafka.connect(Arc::clone(&acks));
        if world.guarantee == Guarantee::ExactlyOnce {
            world.kafka.producers[producer].use_transactions();
        }
        let mut session = Session::new(config, Window::new(acks, Limits { bytes: 300, events: 24 }));
        session.tick(world.now_ms, 0);
        Self {
            id,
            session,
            producer,
            reads,
            has_ended: false,
            connection: None,
            last_connection: None,
            job: None,
            storing: None,
            read: Reading::default(),
            epoch: 0,
            is_claimed: false,
            flight: BTreeMap::new(),
            published: None,
            at: Lsn::ZERO,
            items: VecDeque::new(),
            pair: None,
            current: None,
            exported: None,
            handled: VecDeque::new(),
            claims: BTreeMap::new(),
            marks: VecDeque::new(),
            look_at_ms: 0,
            is_rewound: false,
            drain_by: None,
            control: Control::default(),
        }
    }

    pub(crate) fn is_poll(&self) -> bool {
        self.reads != Reads::Log
    }

    pub(crate) fn ends_in_log(&self) -> bool {
        matches!(self.reads, Reads::Poll { ends_in_log: true, .. })
    }

    fn producer<'a>(&self, world: &'a mut World) -> &'a mut Producer {
        &mut world.kafka.producers[self.producer]
    }

    /// One turn of the loop.
    pub(crate) fn turn(&mut self, world: &mut World) -> Step {
        self.session.advance(|_| {});
        self.check(world);
        self.store_turn(world)?;
        self.call_turn(world)?;
        self.job_turn(world)?;
        let outstanding = self.producer(world).outstanding();
        self.session.tick(world.now_ms, outstanding);
        self.obey(world)?;
        self.confirm(world)?;
        if self.session.is_ended() {
            return self.finish(world);
        }
        self.mark_turn(world)?;
        if self.connection.is_some_and(|id| !world.primary.is_intact(id)) && world.chance.one_in(3) {
            return self.input(Input::Lost(Fault { kind: Kind::SourceLost, message: "lost".into() }), world);
        }
        for _ in 0..world.chance.between(1, 10) {
            let reads_on = match self.reads {
                _ if self.connection.is_none() || !self.session.is_streaming() => false,
                Reads::Log => self.read_log(world)?,
                Reads::Poll { .. } => self.read_poll(world)?,
            };
            if !reads_on {
                self.producer(world).nudge();
                self.session.idle();
                break;
            }
        }
        self.obey(world)
    }

    pub(crate) fn input(&mut self, input: Input, world: &mut World) -> Step {
        world.trace(|| format!("{} <- {input:?}", self.id));
        self.session.input(input);
        self.obey(world)
    }

    /// SIGTERM; with `--caught-up` in poll mode everything known is read first.
    pub(crate) fn drain(&mut self, reads_all: bool, world: &mut World) -> Step {
        let deadline_ms = world.now_ms + 25_000;
        if reads_all && self.is_poll() && self.session.is_streaming() {
            self.drain_by = Some(deadline_ms);
            return Ok(());
        }
        self.input(Input::Drain { deadline_ms, read_to: None }, world)
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
            Order::CreateSlot { .. } => self.job = Some((due_ms, Job::Slot { waits_for: None })),
            Order::Hold(start) => self.job = Some((due_ms, Job::Hold(start))),
            Order::Store(record) if world.guarantee == Guarantee::ExactlyOnce && record.state != RecordState::Bootstrapping => {
                self.check_claim(&record, world);
                self.call(Call::Commit(record), world);
            }
            Order::Store(record) => self.begin_store(*record, world),
            Order::Retire(keys) => world.store.retire(&keys),
            Order::Disconnect => {
                self.job = None;
                self.control.forget_fence(&mut world.kafka.coordinator, &mut world.chance);
                self.disconnect(world);
            }
            Order::Purge(scope) => {
                // What is not below the frontier will be read again.
                world.repeatable.extend(self.flight.keys());
                world.figures.rewinds += 1;
                self.producer(world).purge(scope);
            }
            Order::Fence => self.call(Call::Fence, world),
            Order::Abort => self.call(Call::Abort, world),
            Order::Replay => unreachable!("nothing is kept"),
            Order::Renew => {
                self.producer(world).renew();
                let result = if world.chance.one_in(4) { Err("no broker".into()) } else { Ok(()) };
                self.session.input(Input::Renewed(result));
            }
            Order::Note(note) => self.note(note, world),
            Order::ListTables(_) | Order::Look { .. } | Order::ReadChunk(_) | Order::Mark(_) => {
                unreachable!("nothing is captured")
            }
        }
        world.output()
    }

    fn note(&mut self, note: Note, world: &mut World) {
        match note {
            Note::Streaming { .. } => self.started(world),
            Note::Fault(fault, _) => {
                let is_alarm = match fault.kind {
                    Kind::SwitchRefused => {
                        // Too early, or a slot that the log left behind.
                        world.figures.refused += 1;
                        let newest = self.read.newest.as_ref();
                        let has_no_pair = newest.is_some_and(|record| record.frontier().is_some() && record.log_poll.is_none());
                        !(has_no_pair || (self.ends_in_log() && world.primary.slot.is_some()))
                    }
                    // The newest commit that a slot's snapshot saw is not visible yet: no other sign than that of a restored server.
                    Kind::CheckpointAhead => world.primary.running().is_empty(),
                    // Nothing but the mark of a slot's creation.
                    Kind::CheckpointMissing => self.read.highest_epoch > 0,
                    // What a test stops it with.
                    Kind::Unrouted => false,
                    Kind::SinkRejected => !world.kafka.weather.is_strict && world.kafka.refusals == 0,
                    kind => matches!(kind.directive().action, relay_core::error::Action::StopStream),
                };
                assert!(!is_alarm, "a false alarm: {:?}: {}", fault.kind, fault.message);
            }
            Note::Rewinding(_) => self.is_rewound = true,
            Note::FromLog(_) => {
                // What the log has published behind the pair comes again.
                world.oracle.is_exact = false;
                world.figures.to_poll += 1;
            }
            Note::LogTakesOver(_) => world.figures.to_log += 1,
            Note::PublicationChanged => panic!("nobody has changed the publication"),
            _ => {}
        }
    }

    /// What stands below the frontier is published, and so is what the session calls published and durable.
    fn check(&mut self, world: &mut World) {
        let frontier = self.session.durable();
        if matches!(self.session.state(), State::Streaming | State::Draining) {
            for (&row, _) in self.flight.iter().filter(|(_, position)| frontier.covers(**position)) {
                assert!(world.oracle.is_settled(row), "row {row} is below the frontier {frontier:?}, and is nowhere");
            }
            self.flight.retain(|_, position| !frontier.covers(*position));
        }
        if self.session.published() != self.published.as_ref() {
            self.published = self.session.published().cloned();
            if let Some(published) = &self.published {
                let is_stored = world.published.contains(&published.to_string());
                assert!(is_stored, "{published} is called published, and no record that says so was ever durable");
            }
        }
    }

    /// The row at hand: whether it is dealt with.
    fn offer(&mut self, row: &Row, world: &mut World) -> Result<bool, super::world::Crashed> {
        match self.session.admit() {
            Admission::Covered => {
                let is_known = world.oracle.is_settled(row.id) || self.flight.contains_key(&row.id);
                assert!(is_known, "row {} is passed by as seen, and is nowhere", row.id);
                self.session.passed();
                return Ok(true);
            }
            Admission::Fresh(position) if row.is_event => {
                if !self.session.has_room(row.bytes) || world.chance.one_in(world.kafka.weather.full) {
                    return Ok(false);
                }
                world.sends(row.id);
                let ticket = self.session.next_ticket();
                self.producer(world).enqueue(row, 0, ticket, false);
                self.session.sent(row.bytes);
                self.flight.insert(row.id, position);
            }
            Admission::Fresh(_) => {}
            Admission::Condemned(..) => {
                assert!(row.is_bad, "row {} is condemned for its neighbour", row.id);
                world.oracle.excuse(row.id, Excuse::Poison);
            }
        }
        self.session.passed();
        world.output()?;
        Ok(true)
    }

    fn call(&mut self, call: Call, world: &mut World) {
        let mut at = At { now_ms: world.now_ms, chance: &mut world.chance };
        let kafka = &mut world.kafka;
        let trouble = kafka.weather.trouble;
        self.control.begin(call, &kafka.producers[self.producer], &mut kafka.coordinator, trouble, &mut at);
    }

    fn call_turn(&mut self, world: &mut World) -> Step {
        let mut at = At { now_ms: world.now_ms, chance: &mut world.chance };
        let is_down = world.kafka.weather.is_down;
        if let Some(open) = self.control.lands(&mut world.kafka.coordinator, is_down, &mut at) {
            world.publish(open);
            world.output()?;
        }
        let kafka = &mut world.kafka;
        let Some(answer) = self.control.answer(&mut kafka.producers[self.producer], &kafka.coordinator, world.now_ms) else {
            return Ok(());
        };
        world.output()?;
        let input = match answer {
            Answer::Stored(result) => Input::Stored(result),
            Answer::Aborted(result) => Input::Aborted(result),
            Answer::Fenced(Ok(())) => {
                self.read = Reading::of(world.store.records().to_vec());
                Input::CheckpointRead(Ok(self.read.clone()))
            }
            Answer::Fenced(Err(error)) => Input::CheckpointRead(Err(error)),
        };
        self.input(input, world)
    }

    fn disconnect(&mut self, world: &mut World) {
        self.items.clear();
        (self.current, self.exported) = (None, None);
        if let Some(id) = self.connection.take() {
            let free_at_ms = world.now_ms + world.chance.below(2) * world.chance.below(300);
            world.primary.close(id, free_at_ms);
        }
    }

    fn finish(&mut self, world: &mut World) -> Step {
        // A clean end waits for its marks.
        self.give_marks(world);
        while let Some((_, mark)) = self.marks.pop_front() {
            mark.run(world);
            world.output()?;
        }
        if self.session.is_switch() {
            assert_eq!(self.producer(world).outstanding(), 0, "nothing is in flight at the switch");
        }
        self.has_ended = true;
        Ok(())
    }

    /// Killed: what it had sent is on its way, nothing else.
    pub(crate) fn die(mut self, world: &mut World) {
        self.producer(world).die();
        let mut at = At { now_ms: world.now_ms, chance: &mut world.chance };
        std::mem::take(&mut self.control).die(&mut world.kafka.coordinator, &mut at);
        self.ghost(world);
        if let Some((_, mark)) = self.marks.pop_front().filter(|_| world.chance.one_in(2)) {
            mark.run(world);
        }
        self.disconnect(world);
    }
}

// === impl Mark ===

impl Mark {
    fn run(self, world: &mut World) {
        let rows = match self {
            Mark::Rows(rows) => rows,
            Mark::Left(published) => world.primary.left(&published),
        };
        world.marks(&rows);
    }
}
