//! One run: a world with a process that polls or reads the log, the faults that befall it, and the operator who switches modes.

use super::super::kafka::Weather;
use super::process::Process;
use super::server::CLAIMED;
use super::world::{Figures, Step, World};
use relay_core::checkpoint::{Guarantee, Mode, PollPosition, Reading, Record, RecordState};
use relay_core::session::{Fault, Input, Reads, State};
use relay_core::{Kind, Lsn};

/// What happens to the world at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// So many steps of writers.
    Work(u64),
    FinishWriters,
    Cut,
    Restart,
    Kill,
    /// A second instance, which waits and takes over.
    Peer,
    Drain {
        reads_all: bool,
    },
    BrokersDown,
    BrokersUp,
    /// The session is told to stop, as by a table without a route.
    Stop,
    /// A clean stop, and the next start reads otherwise.
    Switch(Mode),
    /// The same by `kill -9`.
    KillAndSwitch(Mode),
}

/// A world with its processes.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) world: World,
    processes: Vec<Process>,
    mode: Mode,
    last_mode: Mode,
    next_process: usize,
    /// When processes start, and how.
    starts: Vec<(u64, bool)>,
    has_bad: bool,
    /// Where the operator goes after the next crash.
    pub(crate) after_crash: Option<Mode>,
}

// === impl Run ===

impl Run {
    pub(crate) fn new(seed: u64, mode: Mode, tables: &'static [usize], weather: &Weather, is_traced: bool) -> Self {
        let mut world = World::new(seed, tables, is_traced);
        world.kafka.weather = weather.clone();
        Self {
            world,
            processes: Vec::new(),
            mode,
            last_mode: mode,
            next_process: 1,
            starts: vec![(0, false)],
            has_bad: weather.is_strict,
            after_crash: None,
        }
    }

    /// Processes promise exactly-once. Polling begins with a record then, as `relay checkpoint init` writes it.
    pub(crate) fn be_exact(&mut self) {
        (self.world.guarantee, self.world.oracle.is_exact) = (Guarantee::ExactlyOnce, true);
        if self.mode == Mode::Poll {
            self.store_first();
        }
    }

    fn store_first(&mut self) {
        let text = include_bytes!("../../../fixtures/checkpoint-v1.json").trim_ascii_end();
        let record = Record::from_json(text).expect("the fixture is readable");
        let server = self.world.primary.inspect();
        self.world.store.append(Record {
            state: RecordState::Stopped,
            epoch: 1,
            mode: Mode::Poll.name().into(),
            system_id: server.system_id,
            timeline: server.timeline,
            database: server.database,
            slot: None,
            end_lsn: Some(Lsn::ZERO),
            poll: Some(PollPosition::start()),
            log_poll: None,
            config_fingerprint: "c".into(),
            ..record
        });
    }

    fn start(&mut self, ends_in_log: bool) {
        let tables = self.world.primary.tables;
        let has_ticks = tables.iter().any(|table| *table != CLAIMED);
        let polls = Reads::Poll { has_ticks, has_claims: tables.contains(&CLAIMED), ends_in_log };
        let reads = if self.mode == Mode::Poll || ends_in_log { polls } else { Reads::Log };
        if self.last_mode != self.mode {
            // An operator is slower than what a killed process had on its way to the store.
            self.world.store.turn(u64::MAX);
            self.last_mode = self.mode;
        }
        let id = self.next_process;
        self.next_process += 1;
        self.world.trace(|| format!("{id} starts: {reads:?}"));
        self.processes.push(Process::start(id, reads, &mut self.world));
    }

    fn pick(&mut self) -> Option<usize> {
        (!self.processes.is_empty()).then(|| self.world.chance.below(self.processes.len() as u64) as usize)
    }

    fn kill(&mut self, at: usize) {
        let process = self.processes.remove(at);
        self.world.trace(|| format!("{} is killed", process.id));
        process.die(&mut self.world);
        self.world.figures.crashes += 1;
        self.mode = self.after_crash.take().unwrap_or(self.mode);
        let at_ms = self.world.now_ms + self.world.chance.between(1, 800);
        self.starts.push((at_ms, false));
    }

    /// Lets a process do something; if it crashes on the way, it is gone.
    fn each(&mut self, at: usize, act: impl FnOnce(&mut Process, &mut World) -> Step) {
        if act(&mut self.processes[at], &mut self.world).is_err() {
            self.kill(at);
        }
    }

    fn kill_all(&mut self) {
        while !self.processes.is_empty() {
            self.kill(0);
        }
        self.starts.truncate(1);
    }

    pub(crate) fn happen(&mut self, event: Event) {
        self.world.trace(|| format!("*** {event:?}"));
        let World { primary, chance, oracle, .. } = &mut self.world;
        match event {
            Event::Work(steps) => (0..steps).for_each(|_| primary.work(chance, oracle, self.has_bad)),
            Event::FinishWriters => primary.finish_writers(chance, oracle),
            Event::Cut => primary.cut(),
            Event::Restart => primary.restart(chance),
            Event::BrokersDown => self.world.kafka.weather.is_down = true,
            Event::BrokersUp => self.world.kafka.weather.is_down = false,
            Event::Kill => {
                if let Some(at) = self.pick() {
                    self.kill(at);
                }
            }
            Event::Peer => self.start(false),
            Event::Drain { reads_all } => {
                if let Some(at) = self.pick() {
                    self.each(at, |process, world| process.drain(reads_all, world));
                }
            }
            Event::Stop => {
                if let Some(at) = self.pick() {
                    let fault = Fault { kind: Kind::Unrouted, message: "a table without a route".into() };
                    self.each(at, |process, world| process.input(Input::Stop(fault), world));
                }
            }
            Event::Switch(mode) => {
                self.mode = mode;
                for at in (0..self.processes.len()).rev() {
                    self.each(at, |process, world| process.drain(false, world));
                }
            }
            Event::KillAndSwitch(mode) => {
                self.kill_all();
                self.mode = mode;
            }
        }
    }

    /// Time passes by a little.
    pub(crate) fn turn(&mut self) {
        self.world.now_ms += self.world.chance.between(5, 40);
        let now_ms = self.world.now_ms;
        self.world.primary.turn(now_ms);
        self.world.store.turn(now_ms);
        self.world.kafka.now_ms = now_ms;
        if !self.world.kafka.weather.is_down {
            for open in self.world.kafka.transactions_turn() {
                self.world.publish(open);
            }
        }
        let before = self.world.outputs;
        self.world.outputs += self.world.kafka.turn(&mut self.world.chance, &mut self.world.oracle);
        let now = self.world.outputs;
        if self.world.crash_at.take_if(|at| before < *at && *at <= now).is_some()
            && let Some(at) = self.pick()
        {
            self.kill(at);
        }
        while let Some(at) = self.starts.iter().position(|(at_ms, _)| *at_ms <= now_ms) {
            let (_, ends_in_log) = self.starts.remove(at);
            self.start(ends_in_log);
        }
        for at in (0..self.processes.len()).rev() {
            self.each(at, Process::turn);
        }
        while let Some(at) = self.processes.iter().position(|process| process.session.exit_code() == Some(5)) {
            let process = self.processes.remove(at);
            self.world.trace(|| format!("{} was shut out", process.id));
            process.die(&mut self.world);
            self.starts.push((now_ms + 100, false));
        }
        while let Some(at) = self.processes.iter().position(|process| process.has_ended) {
            self.ended(at);
        }
        self.operate();
    }

    /// A process has ended by itself; at a switch the same one goes on, reading otherwise.
    fn ended(&mut self, at: usize) {
        let process = self.processes.remove(at);
        self.world.trace(|| format!("{} has ended", process.id));
        let is_switch = process.session.is_switch();
        let ends_in_log = is_switch && !process.ends_in_log();
        process.die(&mut self.world);
        let delay_ms = if is_switch { 0 } else { self.world.chance.between(1, 300) };
        self.starts.push((self.world.now_ms + delay_ms, ends_in_log));
    }

    /// What only people can cure: a switch that came too early, and the slot that log mode left behind.
    fn operate(&mut self) {
        let lacks_record = |process: &Process| process.session.fault().is_some_and(|fault| fault.kind == Kind::CheckpointMissing);
        if self.processes.iter().any(lacks_record) && self.world.store.records().iter().all(|record| record.epoch == 0) {
            self.store_first();
        }
        let is_refused = |process: &Process| {
            let is_failed = process.session.state() == State::Failed;
            is_failed && process.session.fault().is_some_and(|fault| fault.kind == Kind::SwitchRefused)
        };
        let Some(at) = self.processes.iter().position(is_refused) else { return };
        if self.processes[at].ends_in_log() {
            self.world.primary.slot = None;
        } else {
            self.mode = Mode::Log;
            self.kill_all();
        }
    }

    /// Ends every fault; then everything must be published, stored and marked.
    pub(crate) fn heal(&mut self) {
        self.world.trace(|| "*** heal".into());
        self.world.kafka.weather = Weather::default();
        self.happen(Event::FinishWriters);
        self.until(Run::is_published);
        // All end and start again: rows of a tick that was half published when a process died are marked by the start after the next.
        self.happen(Event::Switch(self.mode));
        self.until(|run| run.is_published() && (run.mode == Mode::Log || run.world.primary.is_marked()));
        self.world.figures.rows = self.world.primary.committed().count() as u64;
    }

    fn until(&mut self, is_reached: fn(&Run) -> bool) {
        let from_ms = self.world.now_ms;
        while !is_reached(self) {
            if self.processes.is_empty() && self.starts.is_empty() {
                self.start(false);
            }
            self.turn();
            let missing = self.world.oracle.missing();
            let took_ms = self.world.now_ms - from_ms;
            assert!(took_ms < 400_000, "{missing} events are missing, first {:?}", self.world.oracle.first_missing());
        }
    }

    fn is_published(&self) -> bool {
        let World { primary, oracle, store, .. } = &self.world;
        let Some(record) = Reading::of(store.records().to_vec()).newest.filter(|_| oracle.missing() == 0) else { return false };
        let is_running = record.state != RecordState::Bootstrapping;
        match self.mode {
            _ if !is_running || record.mode != self.mode.name() => false,
            Mode::Log => primary.slot == Some(primary.wal_end) && record.end_lsn == primary.slot,
            Mode::Poll => {
                let sees = |xid| record.published().is_none_or(|published| published.sees(xid));
                primary.committed().all(|row| row.table == CLAIMED || sees(row.xid))
            }
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        let coordinator = &self.world.kafka.coordinator;
        let (commits, aborts, late) = (coordinator.commits, coordinator.aborts, coordinator.strays_landed);
        Figures { commits, aborts, late, ..self.world.figures }
    }
}
