//! A relay process: drives the session as the daemon does, with jobs that take time, and checks what it does on the way.

mod changes;
mod exactly;
mod jobs;
mod notes;

use super::kafka::Producer;
use super::kafka::transactions::{At, Call, Control};
use super::oracle::{RecordId, Row};
use super::postgres::Item;
use super::world::World;
use relay_core::checkpoint::{Guarantee, Record, RecordState};
use relay_core::session::{Begun, Config, Fault, Input, Order, Session, State};
use relay_core::window::{Frontier, Limits, Window};
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
    /// Records handed to the sink since the last purge.
    sent: BTreeSet<RecordId>,
    /// The last record sent was not the last of its change.
    is_partial: bool,
    /// The connection was lost since then.
    is_cut: bool,
    /// The transaction being read, for the records beside its changes.
    marks: changes::Marks,
    /// How its rows are sent, and so numbered.
    option: u8,
    /// How often slot and history had been meddled with at the last inspection, and at the last one that let it start.
    meddled: u64,
    started_after: u64,
    /// What the store held when it was last read.
    read: Option<(u64, Option<Frontier>, u32, String)>,
    has_claimed: bool,
    /// Positions of rows that this process sent, for the frontier inside a transaction.
    positions: HashMap<(Lsn, u64), Row>,
    frontier: Frontier,
    pub(crate) guarantee: Guarantee,
    control: Control,
    ring: exactly::Frames,
    /// What the decoder knows of the tables.
    shape: Option<u64>,
}

// === impl Process ===

impl Process {
    pub(crate) fn start(id: usize, policy: Policy, accept_gap: Option<Lsn>, world: &mut World) -> Self {
        let acks = Acks::new(64);
        let guarantee = world.guarantee;
        let config = Config {
            name: "orders".into(),
            instance: format!("{id:08x}"),
            reads: relay_core::session::Reads::Log,
            guarantee,
            commit_interval_ms: 100,
            slot: "relay_orders".into(),
            publication: "relay_orders".into(),
            may_create: true,
            is_durable: true,
            snapshot: None,
            accept_gap,
            checkpoint_interval_ms: 1_000,
            idle_checkpoint_interval_ms: 10_000,
            config_fingerprint: "c".into(),
            relay_version: "0".into(),
            seed: world.chance.next(),
        };
        let limits = Limits { bytes: 300, events: 24 };
        let producer = world.kafka.connect(Arc::clone(&acks));
        let mut ring = exactly::Frames::default();
        if guarantee == Guarantee::ExactlyOnce {
            world.kafka.producers[producer].use_transactions();
            ring.is_used = world.chance.below(4) > 0;
        }
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
            is_partial: false,
            is_cut: false,
            marks: changes::Marks::default(),
            option: world.option,
            meddled: 0,
            started_after: 0,
            read: None,
            has_claimed: false,
            positions: HashMap::new(),
            frontier: Frontier::default(),
            guarantee,
            control: Control::default(),
            ring,
            shape: None,
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
        self.call_turn(world)?;
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
            Order::CreateSlot { .. } => self.job = Some((due_ms, Job::Slot)),
            Order::Hold(start) => self.job = Some((due_ms, Job::Hold(start))),
            Order::Store(record) if self.is_exact() && record.state != RecordState::Bootstrapping => self.commit(*record, world),
            Order::Store(record) => self.begin_store(*record, world),
            Order::Retire(keys) => world.store.retire(&keys),
            Order::Disconnect => {
                self.job = None;
                self.control.forget_fence(&mut world.kafka.coordinator, &mut world.chance);
                self.disconnect(world);
            }
            Order::Purge(scope) => {
                self.sent.clear();
                self.is_partial = false;
                // What was acknowledged out of order comes again.
                world.may_duplicate = true;
                self.producer(world).purge(scope);
                world.figures.purges += 1;
            }
            Order::Fence => self.call(Call::Fence, world),
            Order::Abort => self.call(Call::Abort, world),
            Order::Replay => self.replay(world),
            Order::Renew => {
                assert!(!self.control.is_busy(), "a client goes when its last call is answered");
                self.producer(world).renew();
                let result = if world.chance.one_in(4) { Err("no broker".into()) } else { Ok(()) };
                self.session.input(Input::Renewed(result));
            }
            Order::Note(note) => self.note(note, world),
            Order::ListTables(_) | Order::Look { .. } | Order::ReadChunk(_) | Order::Mark(_) => {
                unreachable!("nothing is captured")
            }
        }
        world.output(self.id)
    }

    fn disconnect(&mut self, world: &mut World) {
        self.pending = None;
        self.ring.clear();
        self.shape = None;
        self.is_cut = true;
        if let Some(id) = self.connection.take() {
            world.postgres.close(id, world.now_ms, &mut world.chance);
        }
    }

    fn read_stream(&mut self, world: &mut World) -> Step {
        for _ in 0..world.chance.between(1, 12) {
            let Some(id) = self.connection.filter(|_| self.session.is_streaming()) else { return Ok(()) };
            if world.now_ms < self.blocked_until_ms {
                return Ok(());
            }
            if self.pending.is_some() && self.loses_connection(id, world) {
                // Noticed by a status update, with a change waiting for room.
                world.output(self.id)?;
                return self.input(Input::Lost(Fault { kind: Kind::SourceLost, message: "lost".into() }), world);
            }
            let again = self.ring.head();
            let is_again = again.is_some();
            let item = match again.or_else(|| self.pending.take()) {
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
                self.session.idle();
                return Ok(());
            };
            world.output(self.id)?;
            if !self.handle(&item, world)? {
                self.producer(world).nudge();
                if !is_again && (self.session.is_streaming() || self.is_exact()) {
                    self.pending = Some(item);
                }
                return self.obey(world);
            }
            self.keep(item, world);
        }
        Ok(())
    }

    /// Whether the item is dealt with.
    fn handle(&mut self, item: &Item, world: &mut World) -> Result<bool, Crashed> {
        world.trace(|| format!("{} reads {item:?}", self.id));
        match *item {
            Item::Begin(commit_lsn) => {
                let begun = self.session.begin(commit_lsn, 0).expect("the model keeps the protocol");
                self.begins(world);
                return Ok(begun == Begun::Read);
            }
            Item::Commit(commit_lsn, end_lsn) => {
                if !self.end_record(world)? {
                    return Ok(false);
                }
                self.session.commit(commit_lsn, end_lsn).expect("the model keeps the protocol");
            }
            Item::Keepalive(wal_end, is_urgent) => {
                self.session.keepalive(wal_end, is_urgent);
                self.heartbeat(world);
            }
            Item::Relation(shape) => return Ok(self.relation(shape, world)),
            Item::Change(row) => {
                assert!(
                    !world.postgres.has_shapes || self.shape == Some(row.shape()),
                    "row {} is decoded by another shape",
                    row.id
                );
                return self.change(&row, world);
            }
        }
        Ok(true)
    }

    fn check_frontier(&mut self, world: &mut World) {
        let frontier = self.session.durable();
        if frontier == self.frontier || self.session.state() != State::Streaming {
            return;
        }
        self.frontier = frontier;
        if self.session.server().is_none_or(|server| server.timeline != world.oracle.timeline) {
            return;
        }
        assert!(world.oracle.is_settled_below(frontier.end_lsn), "I1: frontier {frontier:?}, {:?}", world.oracle.first_missing());
        if let Some(inside) = frontier.inside
            && let Some(row) = self.positions.get(&(inside.commit_lsn, inside.seq))
        {
            assert!(world.oracle.is_settled(row.id), "I1: {inside} is called durable");
            let begin = RecordId::Begin(row.transaction);
            assert!(world.oracle.is_record_settled(begin), "I1: {inside} is called durable, and not what stands before it");
        }
    }

    /// Whether it left a change, or a BEGIN without a change, behind a lost connection: a checkpoint cannot tell of those.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_partial && self.is_cut
    }

    /// Killed: what it had sent is on its way, nothing else.
    pub(crate) fn die(mut self, world: &mut World) {
        self.producer(world).die();
        let mut at = At { now_ms: world.now_ms, chance: &mut world.chance };
        std::mem::take(&mut self.control).die(&mut world.kafka.coordinator, &mut at);
        if let Some(storing) = self.storing.take()
            && storing.durable_at_ms.is_some()
            && world.chance.one_in(2)
        {
            world.store.ghosts.push((world.now_ms + world.chance.below(1_500), storing.record));
        }
        self.disconnect(world);
    }
}
