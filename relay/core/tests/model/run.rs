//! One run: a world with its processes, the faults that befall them, and the operator who cures what only people can.

use super::journal::Journal;
use super::kafka::Weather;
use super::oracle::Row;
use super::postgres::Postgres;
use super::process::{Crashed, Policy, Process};
use super::world::{Figures, World};
use relay_core::checkpoint::{Guarantee, Record, RecordState};
use relay_core::session::{Fault, Input, State};
use relay_core::{Kind, Lsn};

/// What happens to the world at a moment.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Start,
    Commit(u64),
    CommitBad,
    OtherWork,
    Cut,
    Crash {
        down_ms: u64,
    },
    Restart {
        down_ms: u64,
    },
    ShutDown {
        down_ms: u64,
    },
    FailOver {
        is_lossy: bool,
    },
    Kill,
    Freeze,
    Thaw,
    Drain,
    StopInput,
    DropSlot,
    AdvanceSlot,
    SaveSlot,
    AlterPublication,
    Impostor,
    Home,
    LoseCheckpoints,
    BrokersDown,
    BrokersUp,
    Strict(bool),
    /// Topics get more partitions.
    Grow,
    /// Partitions get other leaders.
    Elect,
    /// Processes that start from now on promise this.
    Promise(Guarantee),
}

/// A world with its processes.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) processes: Vec<Process>,
    pub(crate) policy: Policy,
    impostor: Option<Postgres>,
    is_at_impostor: bool,
    /// Changes become up to three records, and transactions have records beside them.
    has_parts: bool,
    next_process: usize,
    next_row: u64,
    starts: Vec<u64>,
}

// === impl Run ===

impl Run {
    pub(crate) fn new(seed: u64, policy: Policy, is_traced: bool) -> Self {
        let mut world = World::new(seed);
        world.journal = Journal::new(is_traced);
        Self {
            world,
            processes: Vec::new(),
            policy,
            impostor: Some(Postgres::new("6666")),
            is_at_impostor: false,
            has_parts: false,
            next_process: 1,
            next_row: 1,
            starts: Vec::new(),
        }
    }

    /// From now on changes have several records each, and transactions have BEGIN and END.
    pub(crate) fn capture(&mut self) {
        self.has_parts = true;
        self.world.oracle.has_marks = true;
    }

    /// Processes promise exactly-once.
    pub(crate) fn be_exact(&mut self) {
        self.world.guarantee = Guarantee::ExactlyOnce;
        self.world.oracle.is_exact = true;
        self.world.postgres.has_shapes = true;
    }

    pub(crate) fn commit(&mut self, count: u64, has_bad: bool) {
        let chance = &mut self.world.chance;
        let bad_at = chance.below(count.max(1));
        let rows: Vec<Row> = (0..count)
            .map(|at| Row {
                id: self.next_row + at,
                transaction: self.next_row,
                key: chance.below(5) as u8,
                is_event: (has_bad && at == bad_at) || chance.below(5) > 0,
                records: 1,
                is_bad: has_bad && at == bad_at,
                is_extra: false,
                bytes: if chance.one_in(40) { 500 } else { chance.between(5, 40) as usize },
            })
            .map(|row| Row { is_extra: !row.is_event && row.id % 2 == 0, ..row })
            // Not by a choice of its own: without parts an old seed stands for what it did.
            .map(|row| Row { records: if self.has_parts { 1 + (row.id * 7 / 3 % 3) as u8 } else { 1 }, ..row })
            .collect();
        self.next_row += count;
        if self.is_at_impostor || !self.world.postgres.is_up(self.world.now_ms) {
            return;
        }
        self.world.postgres.commit(rows, &mut self.world.chance, &mut self.world.oracle);
    }

    fn pick(&mut self) -> Option<usize> {
        (!self.processes.is_empty()).then(|| self.world.chance.below(self.processes.len() as u64) as usize)
    }

    fn kill(&mut self, at: usize) {
        let process = self.processes.remove(at);
        self.world.trace(|| format!("{} is killed", process.id));
        process.die(&mut self.world);
        self.world.figures.crashes += 1;
        self.world.may_duplicate = true;
        let delay_ms = self.world.chance.between(1, 2_500);
        self.starts.push(self.world.now_ms + delay_ms);
    }

    fn start(&mut self, accept_gap: Option<Lsn>) {
        let id = self.next_process;
        self.next_process += 1;
        let process = Process::start(id, self.policy, accept_gap, &mut self.world);
        self.processes.push(process);
    }

    pub(crate) fn happen(&mut self, event: &Event) {
        self.world.trace(|| format!("*** {event:?}"));
        let now_ms = self.world.now_ms;
        let World { postgres, chance, oracle, .. } = &mut self.world;
        match *event {
            Event::Start => {
                self.world.has_peers = self.next_process > 1;
                self.start(None);
            }
            Event::Commit(count) => self.commit(count, false),
            Event::CommitBad => self.commit(4, true),
            Event::OtherWork => postgres.other_work(chance.between(1, 300)),
            Event::Cut => {
                if let Some(holder) = postgres.holder() {
                    postgres.cut(holder, now_ms, chance);
                }
            }
            Event::Crash { down_ms } => postgres.restart(now_ms + down_ms, false, chance),
            Event::Restart { down_ms } => postgres.restart(now_ms + down_ms, true, chance),
            Event::ShutDown { down_ms } => {
                postgres.is_shutting_down = true;
                postgres.down_until_ms = now_ms + down_ms;
            }
            Event::FailOver { is_lossy } => {
                if !self.is_at_impostor {
                    postgres.fail_over(now_ms + chance.below(2_000), is_lossy, chance, oracle);
                    self.world.may_duplicate = true;
                }
            }
            Event::Kill => {
                if let Some(at) = self.pick() {
                    self.kill(at);
                }
            }
            Event::Freeze => {
                if let Some(at) = self.pick() {
                    self.freeze(at, true);
                }
            }
            Event::Thaw => (0..self.processes.len()).for_each(|at| self.freeze(at, false)),
            Event::Drain => {
                if let Some(at) = self.pick().filter(|&at| !self.processes[at].is_frozen) {
                    self.each(at, |process, world| {
                        let deadline_ms = world.now_ms + 25_000;
                        process.input(Input::Drain { deadline_ms, read_to: None }, world)
                    });
                }
            }
            Event::StopInput => {
                if let Some(at) = self.pick() {
                    self.world.may_duplicate = true;
                    let fault = Fault { kind: Kind::Unrouted, message: "a table without route".into() };
                    self.each(at, |process, world| process.input(Input::Stop(fault), world));
                }
            }
            Event::DropSlot => postgres.drop_slot(chance),
            Event::AdvanceSlot => {
                let to = Lsn(postgres.wal_end.0 - chance.below(200).min(postgres.wal_end.0 - 1));
                postgres.advance_slot(to, chance);
            }
            Event::SaveSlot => postgres.save_slot(),
            Event::AlterPublication => self.world.option = 3 - self.world.option,
            Event::Impostor => self.swap(true),
            Event::Home => self.swap(false),
            // At the impostor's, that start would be a first one there.
            Event::LoseCheckpoints if self.is_at_impostor => {}
            Event::LoseCheckpoints => {
                while !self.processes.is_empty() {
                    self.kill(0);
                }
                self.world.store.wipe();
                self.world.was_wiped = true;
                self.world.oracle.is_exact = false;
                self.world.may_duplicate = true;
            }
            Event::BrokersDown => self.world.kafka.weather.is_down = true,
            Event::BrokersUp => self.world.kafka.weather.is_down = false,
            Event::Promise(guarantee) => {
                // Processes of both kinds may be at it together, and only one kind is shut out.
                self.world.oracle.is_exact = false;
                self.world.may_duplicate = true;
                self.world.guarantee = guarantee;
            }
            Event::Grow => self.world.kafka.is_grown = true,
            Event::Elect => self.world.kafka.elect(&mut self.world.chance),
            Event::Strict(is_strict) => self.world.kafka.weather.is_strict = is_strict,
        }
    }

    /// The name of the server leads to another one for a while.
    fn swap(&mut self, is_impostor: bool) {
        let is_started = self.world.store.winner().is_some_and(|record| record.end_lsn.is_some());
        if self.is_at_impostor == is_impostor || (is_impostor && !is_started) {
            return;
        }
        self.world.has_impostor = true;
        self.is_at_impostor = is_impostor;
        let now_ms = self.world.now_ms;
        self.world.postgres.restart(now_ms, false, &mut self.world.chance);
        if let Some(mut other) = self.impostor.take() {
            if is_impostor {
                other.has_publication = true;
                other.other_work(self.world.chance.below(5_000));
                other.create_slot();
            }
            self.impostor = Some(std::mem::replace(&mut self.world.postgres, other));
        }
    }

    fn freeze(&mut self, at: usize, is_frozen: bool) {
        let process = &mut self.processes[at];
        if process.is_frozen == is_frozen {
            return;
        }
        process.is_frozen = is_frozen;
        // Somebody else may take over, and neither will see the other.
        self.world.may_duplicate = true;
        self.world.kafka.producers[process.producer].is_frozen = is_frozen;
        if is_frozen && self.world.chance.one_in(2) {
            // The server gives up on it before it wakes.
            if let Some(id) = process.connection {
                self.world.postgres.cut(id, self.world.now_ms, &mut self.world.chance);
            }
        }
    }

    /// Lets a process do something; if it crashes on the way, it is gone.
    fn each(&mut self, at: usize, act: impl FnOnce(&mut Process, &mut World) -> Result<(), Crashed>) {
        if act(&mut self.processes[at], &mut self.world).is_err() {
            self.kill(at);
        }
    }

    /// Time passes by a little.
    pub(crate) fn turn(&mut self) {
        let step_ms = self.world.chance.between(5, 40);
        self.turn_by(step_ms);
    }

    pub(crate) fn turn_by(&mut self, step_ms: u64) {
        self.world.now_ms += step_ms;
        let now_ms = self.world.now_ms;
        self.shutdown_ends();
        self.world.postgres.turn(now_ms);
        self.world.store.turn(now_ms);
        self.world.kafka.now_ms = now_ms;
        if !self.world.kafka.weather.is_down {
            for open in self.world.kafka.transactions_turn() {
                self.world.publish(open);
            }
            self.world.release();
        }
        let (before, duplicates) = (self.world.outputs, self.world.oracle.duplicates);
        self.world.outputs += self.world.kafka.turn(&mut self.world.chance, &mut self.world.oracle);
        if self.world.oracle.duplicates > duplicates {
            self.world.trace(|| "a duplicate".into());
        }
        let now = self.world.outputs;
        if self.world.crash_at.take_if(|at| before < *at && *at <= now).is_some()
            && let Some(at) = self.pick()
        {
            self.kill(at);
        }
        if self.starts.iter().any(|at_ms| *at_ms <= now_ms) {
            self.starts.retain(|at_ms| *at_ms > now_ms);
            self.start(None);
        }
        let first = self.pick().unwrap_or(0);
        for step in (0..self.processes.len()).rev() {
            if step >= self.processes.len() {
                continue;
            }
            let at = (first + step) % self.processes.len();
            if self.processes[at].is_frozen {
                self.processes[at].store_lands(&mut self.world);
            } else {
                self.each(at, Process::turn);
            }
        }
        while let Some(at) =
            self.processes.iter().position(|process| !process.is_frozen && process.session.exit_code() == Some(5))
        {
            let process = self.processes.remove(at);
            self.world.trace(|| format!("{} was shut out", process.id));
            self.world.figures.fenced += 1;
            process.die(&mut self.world);
            self.starts.push(now_ms + self.world.chance.between(1, 500));
        }
        while let Some(at) = self.processes.iter().position(|process| process.has_drained) {
            let process = self.processes.remove(at);
            let is_clean = self.world.kafka.producers[process.producer].outstanding() == 0;
            self.world.may_duplicate |= !is_clean || process.is_cut() || self.world.kafka.weather.store_fails > 0;
            self.world.trace(|| format!("{} has ended", process.id));
            self.world.figures.ends += 1;
            process.die(&mut self.world);
            self.starts.push(now_ms + self.world.chance.between(1, 500));
        }
        self.operate();
        self.world.figures.steps += 1;
    }

    /// A fast shutdown waits until everything sent is flushed; after two minutes the operator pulls the plug.
    fn shutdown_ends(&mut self) {
        let World { postgres, chance, now_ms, .. } = &mut self.world;
        if postgres.is_shutting_down {
            let is_flushed =
                postgres.holder().is_none() || postgres.slot.as_ref().is_some_and(|slot| slot.confirmed >= postgres.wal_end);
            if is_flushed || *now_ms > postgres.down_until_ms + 120_000 {
                postgres.restart(*now_ms + 300, is_flushed, chance);
            }
        }
    }

    /// What only people can cure.
    fn operate(&mut self) {
        for at in 0..self.processes.len() {
            let Some(fault) = self.processes[at].session.fault() else { continue };
            if self.processes[at].session.state() != State::Failed {
                continue;
            }
            match fault.kind {
                Kind::SlotMissing
                    if !self.is_at_impostor && self.world.postgres.slot.is_none() && self.world.chance.one_in(50) =>
                {
                    self.world.postgres.create_slot();
                }
                // `relay checkpoint init`.
                Kind::CheckpointMissing if !self.is_at_impostor && self.world.chance.one_in(50) => {
                    if let Some(record) = self.initial_record() {
                        if self.world.postgres.meddled > 0 {
                            // A slot without a position of ours was moved: nobody can know.
                            self.world.oracle.excuse_range(Lsn::ZERO, record.end_lsn.unwrap_or_default());
                        }
                        self.world.store.append(record);
                    }
                }
                Kind::Gap | Kind::TimelineDiverged => {
                    let slot = self.world.postgres.slot.as_ref().map(|slot| slot.confirmed);
                    let is_named = slot.is_some_and(|lsn| fault.message.ends_with(&format!("the LSN to accept is {lsn}")));
                    if !self.is_at_impostor && is_named && self.world.chance.one_in(50) {
                        let process = self.processes.remove(at);
                        process.die(&mut self.world);
                        self.world.may_duplicate = true;
                        self.start(slot);
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    fn initial_record(&self) -> Option<Record> {
        let text = include_bytes!("../../fixtures/checkpoint-v1.json").trim_ascii_end();
        let record = Record::from_json(text).ok()?;
        let postgres = &self.world.postgres;
        Some(Record {
            state: RecordState::Running,
            epoch: 1,
            system_id: postgres.system_id.into(),
            timeline: postgres.timeline,
            database: "shop".into(),
            slot: Some("relay_orders".into()),
            end_lsn: Some(postgres.slot.as_ref()?.confirmed),
            commit_lsn: None,
            seq: None,
            log_poll: None,
            snapshot: None,
            publication_fingerprint: String::new(),
            config_fingerprint: "c".into(),
            ..record
        })
    }

    /// Ends every fault; then everything must be published, stored and confirmed. Returns the milliseconds that took.
    pub(crate) fn heal(&mut self) -> u64 {
        self.world.trace(|| "*** heal".into());
        self.swap(false);
        self.happen(&Event::Thaw);
        self.world.kafka.weather = Weather::default();
        self.world.postgres.down_until_ms = 0;
        let from_ms = self.world.now_ms;
        while !self.is_quiet() {
            if self.processes.is_empty() && self.starts.is_empty() {
                self.start(None);
            }
            let step_ms = if self.world.kafka.has_ghosts() { 20 } else { self.world.chance.between(5, 90) };
            self.turn_by(step_ms);
            let took_ms = self.world.now_ms - from_ms;
            assert!(
                took_ms < 400_000,
                "L1: {} events are missing, slot {:?}, wal end {}",
                self.world.oracle.missing(),
                self.world.postgres.slot,
                self.world.postgres.wal_end
            );
        }
        self.world.now_ms - from_ms
    }

    fn is_quiet(&self) -> bool {
        let World { postgres, oracle, store, .. } = &self.world;
        oracle.missing() == 0
            && postgres.slot.as_ref().is_some_and(|slot| slot.confirmed == postgres.wal_end)
            && store.winner().and_then(|record| record.end_lsn) == Some(postgres.wal_end)
    }

    pub(crate) fn figures(&self) -> Figures {
        let strict = u64::from(!self.world.may_duplicate);
        let coordinator = &self.world.kafka.coordinator;
        Figures {
            runs: 1,
            strict,
            duplicates: self.world.oracle.duplicates,
            commits: coordinator.commits,
            aborts: coordinator.aborts,
            strays: coordinator.strays_landed,
            truncated: self.world.kafka.truncated,
            grown: u64::from(self.world.kafka.is_grown),
            ..self.world.figures
        }
    }
}
