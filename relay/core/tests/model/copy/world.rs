//! Everything outside the process, and one run of it.

use super::super::chance::Chance;
use super::super::journal::Journal;
use super::super::kafka::Store;
use super::heap::Heap;
use super::process::Process;
use super::topic::Topic;
use relay_core::checkpoint::Reading;
use relay_core::session::{Fault, Input, SnapshotMode};
use relay_core::{Kind, Lsn};

/// The process was killed at this output.
#[derive(Debug)]
pub(crate) struct Crashed;

pub(crate) type Step = Result<(), Crashed>;

/// What happens to the world at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// So many steps of writers.
    Work(u64),
    Cut,
    Kill,
    Drain,
    /// A table gets a new file; `true`: it is emptied.
    Rewrite(usize, bool),
    /// A snapshot of one table is asked for.
    Request(usize),
    /// One row in so many is refused by the broker; 0: none.
    Refuse(u64),
    /// The answers to a chunk's questions are errors from now on, or no more.
    ChunksFail(bool),
    /// Somebody else has the slot from now on, once it is free, or no more.
    Occupy(bool),
}

/// What runs did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) runs: u64,
    pub(crate) crashes: u64,
    pub(crate) records: u64,
    pub(crate) snapshot_rows: u64,
    pub(crate) exported: u64,
    pub(crate) chunks: u64,
    pub(crate) dropped: u64,
    pub(crate) rereads: u64,
    pub(crate) restarts: u64,
    pub(crate) parked: u64,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now_ms: u64,
    pub(crate) chance: Chance,
    pub(crate) heap: Heap,
    pub(crate) topic: Topic,
    pub(crate) store: Store,
    pub(crate) mode: SnapshotMode,
    pub(crate) refuses: u64,
    pub(crate) fails: bool,
    pub(crate) is_occupied: bool,
    /// What reads a chunk goes on when the stream is left, and answers late.
    pub(crate) has_late_answers: bool,
    pub(crate) crash_at: Option<u64>,
    pub(crate) outputs: u64,
    pub(crate) figures: Figures,
    pub(crate) journal: Journal,
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) world: World,
    process: Option<Process>,
    start_at_ms: u64,
    next: usize,
    /// `only`: the process has ended by itself.
    pub(crate) has_ended: bool,
}

// === impl World ===

impl World {
    pub(crate) fn output(&mut self) -> Step {
        self.put_out(1)
    }

    /// So many outputs at once.
    pub(crate) fn put_out(&mut self, count: u64) -> Step {
        self.outputs += count;
        self.crash_at.take_if(|at| *at <= self.outputs).map_or(Ok(()), |_| Err(Crashed))
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        self.journal.note(self.now_ms, line);
    }
}

// === impl Run ===

impl Run {
    pub(crate) fn new(seed: u64, mode: SnapshotMode, has_slot: bool, is_traced: bool) -> Self {
        let mut chance = Chance::new(seed);
        let rows = chance.between(10, 24);
        let mut heap = Heap::new(&mut chance, rows);
        if has_slot {
            heap.has_publication = true;
            heap.slot = Some(heap.wal_end);
        }
        let world = World {
            now_ms: 0,
            chance,
            heap,
            topic: Topic::default(),
            store: Store::default(),
            mode,
            refuses: 0,
            fails: false,
            is_occupied: false,
            has_late_answers: false,
            crash_at: None,
            outputs: 0,
            figures: Figures { runs: 1, ..Figures::default() },
            journal: Journal::new(is_traced),
        };
        Self { world, process: None, start_at_ms: 0, next: 1, has_ended: false }
    }

    fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            self.world.trace(|| "killed".into());
            self.world.figures.crashes += 1;
            process.die(&mut self.world);
            self.start_at_ms = self.world.now_ms + self.world.chance.between(1, 300);
        }
    }

    fn act(&mut self, act: impl FnOnce(&mut Process, &mut World) -> Step) {
        if let Some(process) = &mut self.process
            && act(process, &mut self.world).is_err()
        {
            self.kill();
        }
    }

    pub(crate) fn happen(&mut self, event: Event) {
        self.world.trace(|| format!("*** {event:?}"));
        let World { heap, chance, now_ms, .. } = &mut self.world;
        match event {
            Event::Work(steps) => (0..steps).for_each(|_| heap.work(*now_ms, chance)),
            Event::Rewrite(table, is_truncate) => heap.rewrite(*now_ms, table, is_truncate, chance),
            Event::Refuse(refuses) => self.world.refuses = refuses,
            Event::ChunksFail(fails) => self.world.fails = fails,
            Event::Occupy(is_occupied) => self.world.is_occupied = is_occupied,
            Event::Kill => self.kill(),
            Event::Cut => {
                let fault = Fault { kind: Kind::SourceLost, message: "cut".into() };
                self.act(|process, world| process.lose(fault, world));
            }
            Event::Drain => self.act(|process, world| {
                let deadline_ms = world.now_ms + 25_000;
                process.input(Input::Drain { deadline_ms, read_to: None }, world)
            }),
            Event::Request(table) => self.act(|process, world| process.request(table, world)),
        }
    }

    pub(crate) fn turn(&mut self) {
        self.world.now_ms += self.world.chance.between(3, 25);
        let now_ms = self.world.now_ms;
        self.world.heap.turn(now_ms);
        self.world.store.turn(now_ms);
        if self.process.is_none() && now_ms >= self.start_at_ms && !self.has_ended {
            self.process = Some(Process::start(self.next, &mut self.world));
            self.next += 1;
        }
        self.act(Process::turn);
        if let Some(process) = self.process.take_if(|process| process.session.is_ended()) {
            self.world.trace(|| "ended".into());
            self.has_ended = self.world.mode == SnapshotMode::Only && self.is_snapshot_over();
            process.die(&mut self.world);
            self.start_at_ms = now_ms + 50;
        }
    }

    fn is_snapshot_over(&self) -> bool {
        let newest = Reading::of(self.world.store.records().to_vec()).newest;
        let position = newest.and_then(|record| record.snapshot);
        position.is_some_and(|position| position.jobs.is_empty() && position.is_initial_done)
    }

    fn is_quiet(&self) -> bool {
        let newest = Reading::of(self.world.store.records().to_vec()).newest;
        let is_stored = newest.is_some_and(|record| record.end_lsn == Some(self.world.heap.wal_end));
        self.is_snapshot_over() && is_stored && self.world.heap.slot == Some(self.world.heap.wal_end)
    }

    /// Ends every fault; then everything must be published and stored.
    pub(crate) fn heal(&mut self) {
        let World { heap, chance, now_ms, .. } = &mut self.world;
        heap.finish_writers(*now_ms, chance);
        (self.world.fails, self.world.is_occupied) = (false, false);
        let until_ms = self.world.now_ms + 400_000;
        while self.world.mode == SnapshotMode::Only && !self.has_ended {
            self.turn();
            assert!(self.world.now_ms < until_ms, "the snapshot does not end");
        }
        if self.has_ended {
            // What the log has had since is for another start.
            self.world.mode = SnapshotMode::Initial;
            self.has_ended = false;
        }
        if self.world.mode == SnapshotMode::Never {
            let is_streaming = |run: &Run| run.process.as_ref().is_some_and(|process| process.session.is_streaming());
            while !is_streaming(self) {
                self.turn();
            }
            [0, 1].into_iter().for_each(|table| self.happen(Event::Request(table)));
            while self.process.as_ref().is_some_and(|process| !process.session.are_snapshots_stored()) {
                self.turn();
            }
        }
        while !self.is_quiet() {
            self.turn();
            let progress = self.process.as_ref().map(|process| process.session.snapshot_progress());
            assert!(self.world.now_ms < until_ms, "it does not end: {progress:?}, slot {:?}", self.world.heap.slot);
        }
        self.world.topic.judge(&self.world.heap);
        let topic = &self.world.topic;
        let figures = &mut self.world.figures;
        (figures.records, figures.snapshot_rows, figures.parked) = (topic.count, topic.snapshot_rows, topic.parked.len() as u64);
        assert!(self.world.heap.slot >= Some(Lsn(1)));
    }
}

// === impl Figures ===

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, other: Figures) {
        self.runs += other.runs;
        self.crashes += other.crashes;
        self.records += other.records;
        self.snapshot_rows += other.snapshot_rows;
        self.exported += other.exported;
        self.chunks += other.chunks;
        self.dropped += other.dropped;
        self.rereads += other.rereads;
        self.restarts += other.restarts;
        self.parked += other.parked;
    }
}
