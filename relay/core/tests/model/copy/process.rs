//! A process that snapshots and streams: drives the session as the daemon does.

use super::heap::{Changed, Committed, Heap, KEYED, Kind, Logged, TABLES, Version};
use super::topic::{Producer, Record};
use super::world::{Crashed, Step, World};
use relay_core::checkpoint::{Guarantee, Reading, Record as Stored, RecordState};
use relay_core::position::Position;
use relay_core::session::{
    Admission, Begun, Busy, Chunk, ChunkRead, Config, Exported, Fault, Input, Listed, Look, Note, Order, RowAdmission, Session,
    SnapshotConfig, Tick, Watermark,
};
use relay_core::window::{FailureKind, Limits, Window};
use relay_core::{Acks, Failure, Lsn, Snapshot};
use std::collections::VecDeque;
use std::sync::Arc;

/// A job under way beside the loop.
#[derive(Debug)]
enum Job {
    Inspect,
    Read,
    Fence,
    Abort,
    Publication,
    /// Creates the slot: whom it waits for.
    Slot(bool, Option<Vec<u64>>),
    Hold(Lsn),
    List(u64, Vec<String>),
    Look(u64, bool),
    Low(Chunk),
    ReadRows(Chunk),
    ChunkDone(u64, ChunkRead, Option<Kept>),
    High(u64),
    HighDone(u64),
}

#[derive(Clone, Debug)]
enum Item {
    Begin(Committed),
    Change(Changed),
    Message(String),
    Commit(Lsn, Lsn),
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) session: Session,
    producer: Producer,
    jobs: Vec<(u64, Job)>,
    storing: Option<(u64, Stored)>,
    is_connected: bool,
    at: Lsn,
    items: VecDeque<Item>,
    /// The exported snapshot, and the tables' files when it was taken.
    exported: Option<(Snapshot, [u32; 2])>,
    /// What each reader of the export has: a chunk, and its rows that are not sent.
    readers: [Option<(Chunk, VecDeque<Version>)>; 2],
    kept: Option<Kept>,
}

/// A chunk read between watermarks: its number, table, rows and how many are dealt with.
type Kept = (u64, usize, Vec<Version>, usize);

fn table_of(name: &str) -> usize {
    TABLES.iter().position(|table| *table == name).expect("a known table")
}

// === impl Process ===

impl Process {
    pub(crate) fn start(id: usize, world: &mut World) -> Self {
        let acks = Acks::new(64);
        let config = Config {
            name: "orders".into(),
            instance: format!("{id:08x}"),
            reads: relay_core::session::Reads::Log,
            guarantee: if world.topic.is_exact { Guarantee::ExactlyOnce } else { Guarantee::AtLeastOnce },
            commit_interval_ms: 100,
            slot: "relay_orders".into(),
            publication: "relay_orders".into(),
            may_create: true,
            is_durable: true,
            snapshot: Some(SnapshotConfig { mode: world.mode, chunk_rows: world.chance.between(2, 9) }),
            accept_gap: None,
            checkpoint_interval_ms: [20, 150][world.chance.below(2) as usize],
            idle_checkpoint_interval_ms: 400,
            config_fingerprint: "c".into(),
            relay_version: "0".into(),
            seed: world.chance.next(),
        };
        let mut session = Session::new(config, Window::new(Arc::clone(&acks), Limits { bytes: 1_000_000, events: 16 }));
        session.tick(world.now_ms, 0);
        world.trace(|| format!("{id} starts"));
        Self {
            session,
            producer: Producer::new(acks),
            jobs: Vec::new(),
            storing: None,
            is_connected: false,
            at: Lsn::ZERO,
            items: VecDeque::new(),
            exported: None,
            readers: [None, None],
            kept: None,
        }
    }

    pub(crate) fn die(mut self, world: &mut World) {
        if let Some((_, record)) = self.storing.take()
            && world.chance.one_in(2)
        {
            world.topic.commit();
            world.store.append(record);
        }
        world.topic.abort();
        world.heap.is_locked = false;
        let refuses = world.refuses;
        self.producer.die(&mut world.topic, refuses, &mut world.chance);
    }

    pub(crate) fn turn(&mut self, world: &mut World) -> Step {
        let refuses = world.refuses;
        let reports = self.producer.turn(&mut world.topic, refuses, &mut world.chance);
        world.put_out(reports)?;
        self.session.advance(|_| {});
        if self.storing.as_ref().is_some_and(|(at_ms, _)| world.now_ms >= *at_ms)
            && let Some((_, record)) = self.storing.take()
        {
            let result = self.store(record, world);
            world.output()?;
            self.input(Input::Stored(result), world)?;
        }
        while let Some(at) = self.jobs.iter().position(|(at_ms, _)| world.now_ms >= *at_ms) {
            let (_, job) = self.jobs.remove(at);
            self.work(job, world)?;
        }
        self.session.tick(world.now_ms, self.producer.outstanding);
        self.obey(world)?;
        let flushed = self.session.confirmation().flushed;
        if self.is_connected && !flushed.is_zero() {
            world.heap.slot = world.heap.slot.max(Some(flushed));
        }
        if world.chance.one_in(6) {
            let pair = relay_core::checkpoint::LogPoll { snapshot: world.heap.snapshot(), lsn: world.heap.wal_end };
            self.session.input(Input::Pair(pair));
        }
        self.export(world)?;
        self.stream(world)
    }

    /// In a transaction it may be aborted instead, or nobody may know; then the next fence tells.
    fn store(&mut self, record: Stored, world: &mut World) -> Result<(), Failure> {
        let is_exact = world.topic.is_exact && record.state != RecordState::Bootstrapping;
        let fate = if is_exact { world.chance.below(16) } else { 15 };
        if fate != 0 && fate != 1 {
            world.topic.commit();
            world.store.append(record);
        }
        let kind = if fate == 0 { FailureKind::Aborted } else { FailureKind::Indefinite };
        if fate > 2 { Ok(()) } else { Err(Failure { kind, message: "as the test has it".into() }) }
    }

    pub(crate) fn input(&mut self, input: Input, world: &mut World) -> Step {
        world.trace(|| format!("<- {input:?}"));
        self.session.input(input);
        self.obey(world)
    }

    pub(crate) fn lose(&mut self, fault: Fault, world: &mut World) -> Step {
        if !self.is_connected {
            return Ok(());
        }
        self.is_connected = false;
        self.items.clear();
        self.input(Input::Lost(fault), world)
    }

    pub(crate) fn request(&mut self, table: usize, world: &mut World) -> Step {
        if self.session.is_streaming() {
            self.session.request_snapshot(vec![TABLES[table].into()], None);
        }
        self.obey(world)
    }

    fn obey(&mut self, world: &mut World) -> Step {
        loop {
            let orders: Vec<Order> = self.session.orders().collect();
            if orders.is_empty() {
                return Ok(());
            }
            for order in orders {
                world.trace(|| format!("-> {order:?}"));
                self.carry_out(order, world)?;
            }
        }
    }

    fn later(&mut self, job: Job, world: &mut World) {
        self.jobs.push((world.now_ms + world.chance.below(40), job));
    }

    fn carry_out(&mut self, order: Order, world: &mut World) -> Step {
        match order {
            Order::Inspect => self.later(Job::Inspect, world),
            Order::ReadCheckpoint => self.later(Job::Read, world),
            Order::CreatePublication => self.later(Job::Publication, world),
            Order::CreateSlot { exports } => self.later(Job::Slot(exports, None), world),
            Order::Hold(start) => self.later(Job::Hold(start), world),
            Order::Store(record) => {
                assert!(self.storing.is_none(), "one store at a time");
                self.storing = Some((world.now_ms + world.chance.below(60), *record));
            }
            Order::Retire(keys) => world.store.retire(&keys),
            Order::Disconnect => {
                // An abort is always answered, and a question by a connection of its own may be long after.
                let is_late = world.has_late_answers;
                let late_ms = if is_late { 200 + world.chance.below(600) } else { 0 };
                self.jobs.retain_mut(|(at_ms, job)| {
                    let is_question = matches!(job, Job::Low(_) | Job::ReadRows(_) | Job::ChunkDone(..));
                    *at_ms += if is_question { late_ms } else { 0 };
                    matches!(job, Job::Abort) || (is_question && is_late)
                });
                self.items.clear();
                self.is_connected = false;
                self.exported = self.exported.take().filter(|_| self.session.needs_export());
                (self.kept, self.readers) = (None, [None, None]);
                world.heap.is_locked = false;
            }
            Order::Purge(scope) => self.producer.purge(scope),
            Order::Fence => self.later(Job::Fence, world),
            Order::Abort => self.later(Job::Abort, world),
            Order::Replay => unreachable!("nothing is kept"),
            Order::Renew => self.session.input(Input::Renewed(Ok(()))),
            Order::ListTables(listing) => {
                assert!(!listing.is_export || self.exported.is_some());
                self.later(Job::List(listing.number, listing.tables), world);
            }
            Order::Look { number, takes_id } => self.later(Job::Look(number, takes_id), world),
            Order::ReadChunk(chunk) => {
                self.kept = None;
                self.later(Job::Low(chunk), world);
            }
            Order::Mark(number) => self.later(Job::High(number), world),
            Order::Note(Note::SnapshotTableAgain(_)) => {
                world.topic.repeats = true;
                world.figures.restarts += 1;
            }
            Order::Note(_) => {}
        }
        world.output()
    }

    fn work(&mut self, job: Job, world: &mut World) -> Step {
        world.output()?;
        let fault = || Fault { kind: relay_core::Kind::SourceLost, message: "as the test has it".into() };
        let input = match job {
            Job::Inspect => Input::Inspected(Ok(world.heap.inspect())),
            Job::Abort => {
                world.topic.abort();
                Input::Aborted(Ok(()))
            }
            Job::Fence => {
                world.topic.abort();
                Input::CheckpointRead(Ok(Reading::of(world.store.records().to_vec())))
            }
            Job::Read => Input::CheckpointRead(Ok(Reading::of(world.store.records().to_vec()))),
            Job::Publication => {
                world.heap.has_publication = true;
                Input::PublicationReady(Ok(()))
            }
            Job::Slot(exports, waits_for) => {
                if world.heap.slot.is_some() {
                    return self.input(Input::SlotReady(Ok(None)), world);
                }
                let waits_for = waits_for.unwrap_or_else(|| world.heap.open());
                if world.heap.open().iter().any(|xid| waits_for.contains(xid)) {
                    world.heap.work(world.now_ms, &mut world.chance);
                    self.later(Job::Slot(exports, Some(waits_for)), world);
                    return Ok(());
                }
                let (snapshot, consistent) = world.heap.create_slot();
                let files = [0, 1].map(|table: usize| world.heap.tables[table].file);
                self.exported = exports.then(|| (snapshot.clone(), files));
                let tick = Tick { snapshot, wal_end: consistent, time_us: 0 };
                Input::SlotReady(Ok(exports.then_some(Exported { tick, consistent })))
            }
            Job::Hold(_) if world.is_occupied => {
                Input::Held(Err(Busy::Other(Fault { kind: relay_core::Kind::SlotBusy, message: "active".into() })))
            }
            // No connection left for the stream, at the first start too.
            Job::Hold(_) if world.fails => Input::Held(Err(Busy::Fault(fault()))),
            Job::Hold(start) => {
                self.is_connected = true;
                self.at = start.max(world.heap.slot.unwrap_or_default());
                self.items.clear();
                Input::Held(Ok(()))
            }
            Job::List(number, _) if world.fails => Input::Listed(number, Err(fault())),
            Job::List(number, wanted) => {
                // The export's readers keep the tables locked.
                world.heap.is_locked = self.exported.is_some();
                let is_wanted = |name: &&&str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == **name);
                let listed = TABLES.iter().filter(is_wanted).map(|name| {
                    let table = &world.heap.tables[table_of(name)];
                    let (file, blocks) = (table.file, table.blocks);
                    let files = self.exported.as_ref().map(|(_, files)| files);
                    let is_rewritten = files.is_some_and(|files| files[table_of(name)] != file);
                    Listed { name: (*name).into(), stream: (*name).into(), file, blocks, rows_per_block: Some(2.0), is_rewritten }
                });
                Input::Listed(number, Ok(listed.collect()))
            }
            Job::Look(number, takes_id) => {
                let id = takes_id.then(|| world.heap.take_id());
                Input::Looked(number, Ok(Look { snapshot: world.heap.snapshot(), id }))
            }
            Job::Low(chunk) if world.fails => Input::ChunkRead(chunk.number, Err(fault())),
            Job::Low(chunk) => {
                world.heap.message(self.session.watermark_text(chunk.number, false), &mut world.chance);
                self.later(Job::ReadRows(chunk), world);
                return Ok(());
            }
            Job::ReadRows(chunk) => {
                let number = chunk.number;
                let (read, kept) = self.read_rows(&chunk, world);
                self.later(Job::ChunkDone(number, read, kept), world);
                return Ok(());
            }
            Job::ChunkDone(number, read, kept) => {
                if self.session.awaits(number) {
                    self.kept = kept;
                }
                Input::ChunkRead(number, Ok(read))
            }
            Job::High(number) if world.fails => Input::Marked(number, Err(fault())),
            Job::High(number) => {
                world.heap.message(self.session.watermark_text(number, true), &mut world.chance);
                self.later(Job::HighDone(number), world);
                return Ok(());
            }
            Job::HighDone(number) => Input::Marked(number, Ok(())),
        };
        self.input(input, world)
    }

    fn read_rows(&mut self, chunk: &Chunk, world: &mut World) -> (ChunkRead, Option<Kept>) {
        world.figures.chunks += 1;
        let table = table_of(&chunk.table);
        let stored = &world.heap.tables[table];
        if stored.file != chunk.file {
            return (ChunkRead::Rewritten { file: stored.file, blocks: stored.blocks }, None);
        }
        let snapshot = world.heap.snapshot();
        let mut rows = world.heap.rows(table, chunk.from, chunk.to, &snapshot);
        let mut end = chunk.to;
        let budget = world.chance.between(1, 12) as usize;
        if rows.len() > budget {
            rows.truncate(budget);
            end = rows.last().map_or(end, |row| row.tid.next());
        }
        let count = rows.len() as u64;
        (ChunkRead::Rows { end, rows: count, snapshot }, Some((chunk.number, table, rows, 0)))
    }

    fn export(&mut self, world: &mut World) -> Step {
        if !self.session.is_exporting() {
            self.readers = [None, None];
            if self.session.is_streaming() {
                (self.exported, world.heap.is_locked) = (None, false);
            }
            return Ok(());
        }
        assert_eq!(self.session.window().frontier().inside, None, "an export moves no frontier");
        let Some((snapshot, _)) = self.exported.clone() else { return Ok(()) };
        for _ in 0..world.chance.between(1, 8) {
            let at = world.chance.below(2) as usize;
            if self.readers[at].is_none() {
                let Some(chunk) = self.session.next_export() else { continue };
                let rows = world.heap.rows(table_of(&chunk.table), chunk.from, chunk.to, &snapshot);
                self.readers[at] = Some((chunk, rows.into()));
            }
            let Some((chunk, rows)) = &mut self.readers[at] else { continue };
            let Some(version) = rows.front().copied() else {
                self.session.export_sent(chunk.number);
                self.readers[at] = None;
                continue;
            };
            if !self.session.has_room(1) {
                return Ok(());
            }
            let table = table_of(&chunk.table);
            rows.pop_front();
            self.enqueue(record(table, &version));
            self.session.sent(1);
            world.figures.exported += 1;
            world.output()?;
        }
        Ok(())
    }

    fn enqueue(&mut self, record: Record) {
        let ticket = self.session.next_ticket();
        self.producer.enqueue(ticket, record);
    }

    fn next_item(&mut self, world: &mut World) -> Option<Item> {
        if self.items.is_empty() {
            let committed = world.heap.log.iter().find(|committed| committed.commit_lsn >= self.at)?.clone();
            self.at = committed.end_lsn;
            self.items.push_back(Item::Begin(committed.clone()));
            self.items.extend(committed.changes.iter().map(|change| match change {
                Logged::Change(change) => Item::Change(*change),
                Logged::Message(text) => Item::Message(text.clone()),
            }));
            self.items.push_back(Item::Commit(committed.commit_lsn, committed.end_lsn));
        }
        self.items.front().cloned()
    }

    fn stream(&mut self, world: &mut World) -> Step {
        for _ in 0..world.chance.between(1, 10) {
            if !self.is_connected || !self.session.is_streaming() {
                return Ok(());
            }
            let Some(item) = self.next_item(world) else {
                self.session.keepalive(world.heap.wal_end, world.chance.one_in(3));
                return Ok(());
            };
            world.output()?;
            if !self.handle(&item, world)? {
                return self.obey(world);
            }
            self.items.pop_front();
        }
        Ok(())
    }

    fn handle(&mut self, item: &Item, world: &mut World) -> Result<bool, Crashed> {
        match item {
            Item::Begin(committed) => {
                self.session.streams(Heap::xid(committed));
                let begun = self.session.begin(committed.commit_lsn, 0).expect("the model keeps the protocol");
                Ok(begun == Begun::Read)
            }
            Item::Commit(commit_lsn, end_lsn) => {
                self.session.commit(*commit_lsn, *end_lsn).expect("the model keeps the protocol");
                Ok(true)
            }
            Item::Message(text) => match self.session.admit() {
                Admission::Covered => {
                    self.session.passed();
                    Ok(true)
                }
                _ => self.message(text, world),
            },
            Item::Change(change) => {
                if self.session.watched_table().is_some_and(|table| table_of(table) == change.table) {
                    match change.kind {
                        Kind::Truncate => self.session.supersede_all(),
                        _ if change.table == KEYED => self.session.supersede(&change.row.to_be_bytes()),
                        _ => {}
                    }
                }
                let Changed { table, row, image, kind } = *change;
                match self.session.admit() {
                    Admission::Covered => {}
                    Admission::Fresh(Position { .. }) => {
                        if !self.session.has_room(1) {
                            return Ok(false);
                        }
                        self.enqueue(Record { table, row, image, kind, is_snapshot: false });
                        self.session.sent(1);
                    }
                    Admission::Condemned(..) => {
                        world.topic.park(table, row, image);
                    }
                }
                self.session.passed();
                world.output()?;
                Ok(true)
            }
        }
    }

    fn message(&mut self, text: &str, world: &mut World) -> Result<bool, Crashed> {
        if let Watermark::Publish(number) = self.session.watermark(text.as_bytes()) {
            let (kept, table, rows, mut at) = self.kept.take().expect("the rows are kept until then");
            assert_eq!(kept, number);
            while let Some(row) = rows.get(at) {
                let key = row.row.to_be_bytes();
                if self.session.is_superseded((table == KEYED).then_some(&key)) {
                    world.figures.dropped += 1;
                    at += 1;
                    continue;
                }
                if let RowAdmission::Condemned(_) = self.session.admit_row(row.tid) {
                    world.topic.park(table, row.row, row.image);
                } else if self.session.has_room(1) {
                    self.enqueue(record(table, row));
                    self.session.sent_part(1);
                } else {
                    self.kept = Some((kept, table, rows, at));
                    return Ok(false);
                }
                at += 1;
                world.output()?;
            }
            self.session.chunk_sent();
        }
        self.session.passed();
        world.figures.rereads = world.figures.rereads.max(self.session.snapshot_rereads());
        Ok(true)
    }
}

fn record(table: usize, version: &Version) -> Record {
    Record { table, row: version.row, image: version.image, kind: Kind::Write, is_snapshot: true }
}
