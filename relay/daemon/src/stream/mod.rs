//! The wire thread: drives the session with what comes from the socket, the sink and the clock, and carries out its orders.
//!
//! From socket to enqueue is one chain of calls on this thread (`read`); anything that blocks runs as a job on a thread of its own
//! (`jobs`) and comes back as a message.

mod beside;
mod capture;
mod config;
mod confirm;
mod jobs;
mod mark;
mod marks;
mod note;
mod obey;
mod pace;
mod pass;
mod plans;
pub(crate) mod poll;
mod read;
mod replay;
mod ring;
mod routes;
mod shape;
pub(crate) mod snapshot;
#[cfg(test)]
mod steady;
mod store;
mod tally;
mod transaction;

pub(crate) use config::{Config, OnPoison, Parts};
pub(crate) use jobs::Control;
pub(crate) use routes::Routes;
pub(crate) use store::Store;

use crate::metrics::Metrics;
use crate::status::{LastError, Loop, Peer, Status};
use confirm::Confirm;
use jobs::{Done, Jobs};
use pace::Pace;
use pass::{Place, Suspicion};
use plans::Plans;
use relay_core::session::{Busy, Fault, Input, Session, State};
use relay_core::{Event, Kind, Lsn, Position, Sink};
use relay_failpoint::fail_point;
use relay_pgwire::CopyBoth;
use relay_postgres::poll::Hold;
use relay_postgres::{Assembler, Source};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tally::Tally;
use transaction::Open;

/// The wire thread's state.
pub(crate) struct Stream {
    config: Config,
    session: Session,
    source: Source,
    sink: Box<dyn Sink + Send>,
    store: Store,
    assembler: Assembler,
    routes: Arc<Routes>,
    plans: Plans,
    open: Open,
    event: Event,
    dlq_event: Event,
    tally: Tally,
    copy: Option<CopyBoth>,
    polling: Option<poll::Polling>,
    snapshots: Option<Box<snapshot::Snapshots>>,
    watch: snapshot::Watch,
    confirm: Confirm,
    jobs: Jobs,
    control: Receiver<Control>,
    metrics: Arc<Metrics>,
    status: Status,
    blocked: Option<Blocked>,
    /// Something was enqueued since the sink was last nudged.
    has_unnudged: bool,
    nudged_at: Instant,
    pace: Pace,
    /// The last read found less than the buffer could take.
    short_read: bool,
    /// Exactly-once, reading the log: what can be read again.
    ring: Option<Box<ring::Ring>>,
    /// A drain that waits for the server's WAL end, and its deadline.
    drain_by: Option<u64>,
    suspicion: Suspicion,
    /// Time of encoding, in nanoseconds since the Unix epoch: read once for everything that is there.
    now_ns: i64,
    heartbeat_at: Instant,
    /// Nothing was published from this slot before.
    is_first_start: bool,
    exit: Option<u8>,
}

/// How a stream ended.
pub(crate) enum Ended {
    /// With this exit code.
    Code(u8),
    /// For the other mode to go on, with whatever signals come.
    Switch(Receiver<Control>),
}

/// Why the next frame stays where it is for now.
#[derive(Clone, Debug)]
struct Blocked {
    why: Why,
    since: Instant,
    retry: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    /// The window or the sink is full.
    Full,
    /// The sink looks a topic up, or a table's place in a partition tree is being asked for.
    Lookup,
    /// A topic is missing or forbidden: (kind, reason for `/readyz`, message).
    Topic(Kind, String, String),
    /// An event that cannot be published, with `on_poison = "stop"`.
    Poison(Position),
}

/// What must be left of the grace when a drain stops waiting to hear where the server's WAL ends.
const WAL_END_MS: u64 = 5_000;
/// Longest wait for the socket while nothing is in flight: bounds how late a signal or a job's answer is seen.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// Wait while events are in flight: bounds how late an acknowledgement is counted.
const BUSY_WAIT: Duration = Duration::from_millis(2);
/// Wait while the sink is full.
const FULL_WAIT: Duration = Duration::from_micros(500);

// === impl Stream ===

impl Stream {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            config,
            session,
            source,
            sink,
            store,
            reader,
            routes,
            metrics,
            status,
            control,
            control_sender,
            window_events,
            snapshots,
            polling,
        } = parts;
        let polling = polling.map(|config| {
            let marker = mark::Marker::start(source.clone(), Arc::clone(&metrics));
            poll::Polling::new(config, marker)
        });
        Self {
            jobs: Jobs::new(source.clone(), reader, Arc::clone(&routes), control_sender),
            plans: Plans::new(Arc::clone(&routes), config.stops_on_unrouted),
            routes,
            open: Open::default(),
            tally: Tally::new(Arc::clone(&metrics), status.clone(), window_events),
            confirm: Confirm::new(&config),
            config,
            session,
            source,
            sink,
            ring: store.is_transactional().then(Box::default),
            store,
            assembler: Assembler::default(),
            event: Event::default(),
            dlq_event: Event::default(),
            copy: None,
            polling,
            snapshots: snapshots.map(|config| Box::new(snapshot::Snapshots::new(config))),
            watch: snapshot::Watch::default(),
            control,
            metrics,
            status,
            blocked: None,
            has_unnudged: false,
            nudged_at: Instant::now(),
            pace: Pace::new(Instant::now()),
            short_read: true,
            drain_by: None,
            suspicion: Suspicion::default(),
            now_ns: 0,
            heartbeat_at: Instant::now(),
            is_first_start: false,
            exit: None,
        }
    }

    /// Runs until the session has ended. Returns the exit code.
    pub(crate) fn run(mut self) -> Ended {
        let mut published = Instant::now();
        self.obey();
        while !self.session.is_ended() && self.exit.is_none() {
            self.turn();
            if published.elapsed() >= Duration::from_millis(100) {
                published = Instant::now();
                self.publish_status();
            }
        }
        let code = self.exit.or_else(|| self.session.exit_code()).unwrap_or(0);
        self.finish();
        self.publish_status();
        if self.exit.is_none() && self.session.is_switch() {
            return Ended::Switch(self.control);
        }
        Ended::Code(code)
    }

    /// One turn: acknowledgements, time, orders, then the socket or a wait.
    fn turn(&mut self) {
        let now = Instant::now();
        self.take_messages();
        self.tally.acknowledged(&mut self.session);
        self.checkpoint_outcome();
        self.session.tick(self.status.now_ms(), self.sink.outstanding());
        self.obey();
        if self.drain_by.is_some_and(|deadline_ms| self.status.now_ms() + WAL_END_MS >= deadline_ms)
            && let Some(deadline_ms) = self.drain_by
        {
            // The server did not say where its WAL ends: what is in flight must still be finished.
            self.drain(deadline_ms, None);
        }
        self.exit = self.exit.or_else(|| self.session.exit_code());
        if self.snapshots.is_some() {
            self.end_export();
            self.snapshot_turn();
        }
        self.confirm_turn(now);
        self.beat(now);
        self.status.beat(Loop::Reader);
        if self.sink.is_alive() {
            self.status.beat(Loop::Ack);
        }
        if self.sink.is_reachable() {
            self.status.saw(Peer::Sink);
        }
        self.wait_or_read(now);
    }

    /// Debezium's heartbeat, when it is time and nothing stands in its way.
    fn beat(&mut self, now: Instant) {
        let Some(interval) = self.config.heartbeat_interval else { return };
        if now < self.heartbeat_at || self.polling.is_some() || !self.session.takes_heartbeat() {
            return;
        }
        self.heartbeat_at = now + interval;
        self.now_ns = crate::status::unix_ns();
        let (_, _, mut pass) = self.split(Place::default());
        pass.heartbeat();
    }

    fn wait_or_read(&mut self, now: Instant) {
        if let Some(blocked) = &self.blocked
            && blocked.retry > now
            && (self.session.is_streaming() || self.session.is_exporting())
        {
            let wait = (blocked.retry - now).min(IDLE_WAIT);
            return self.wait(wait);
        }
        if let Some(mut polling) = self.polling.take() {
            let result = self.poll_turn(&mut polling);
            self.polling = Some(polling);
            return match result {
                Ok(wait) if wait.is_zero() => {}
                Ok(wait) => self.wait(wait),
                Err(input) => self.input(*input),
            };
        }
        if self.session.is_exporting() {
            let wait = self.export_turn();
            return if wait.is_zero() {
            } else {
                self.wait(wait)
            };
        }
        match self.copy.take() {
            Some(mut copy) if self.session.is_streaming() => {
                let lost = self.read(&mut copy);
                self.copy = Some(copy);
                if let Some(input) = lost {
                    let is_stop = matches!(input, Input::Stop(_));
                    self.input(input);
                    if is_stop && self.session.is_streaming() {
                        // It stops once what was sent before is committed; until then the same frame would stop it again and again.
                        self.block(Why::Full, FULL_WAIT);
                    }
                }
            }
            copy => {
                self.copy = copy;
                self.wait(self.patience());
            }
        }
    }

    /// The longest wait, as long as nothing comes.
    fn patience(&self) -> Duration {
        let is_pending = self.session.window().events() > 0
            || self.store.is_pending()
            || self.session.durable() != self.session.window().frontier();
        if is_pending { BUSY_WAIT } else { IDLE_WAIT }
    }

    /// Waits for a job's answer or a signal.
    fn wait(&mut self, limit: Duration) {
        // A full sink says nothing of the source: a flush would only cut its batches, and a commit would make it wait, too.
        if !matches!(self.blocked.as_ref().map(|blocked| &blocked.why), Some(Why::Full)) {
            self.nudge();
            self.session.idle();
        }
        match self.control.recv_timeout(limit) {
            Ok(message) => self.controlled(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(limit),
        }
    }

    fn take_messages(&mut self) {
        while let Ok(message) = self.control.try_recv() {
            self.controlled(message);
        }
    }

    fn controlled(&mut self, message: Control) {
        match message {
            Control::Drain { grace, caught_up } => {
                let deadline_ms = self.status.now_ms() + grace.as_millis() as u64;
                let in_flight = self.session.window().events();
                tracing::info!(event = "shutdown.draining", in_flight, "stopping: finishing what is in flight");
                self.jobs.abandon_slot_creation(&self.source);
                if caught_up && self.session.is_streaming() {
                    self.drain_by = Some(deadline_ms);
                    if self.polling.is_none() {
                        self.jobs.wal_end(deadline_ms);
                    }
                } else {
                    self.drain(deadline_ms, None);
                }
            }
            Control::Pair(pair) => self.session.input(Input::Pair(pair)),
            Control::Snapshot(request) => self.snapshot_requested(request),
            Control::Done(generation, done) => {
                if let Done::Held(Ok(copy)) = &done {
                    // Wanted or not: until the server notices its end, it holds the slot.
                    self.confirm.held_by(copy.backend_pid());
                }
                if let Some(done) = self.jobs.accept(generation, done) {
                    self.job_done(done);
                }
            }
        }
    }

    fn job_done(&mut self, done: Done) {
        match done {
            Done::Input(input) => self.input(*input),
            Done::Held(Ok(copy)) => {
                self.confirm.connected(copy.backend_pid());
                self.status.saw(Peer::Source);
                self.assembler.connected();
                self.open.connected();
                if let Some(server) = self.session.server() {
                    self.plans.connected(&server.database);
                }
                self.copy = Some(*copy);
                self.blocked = None;
                fail_point!("takeover-wait" if self.session.state() == State::Standby);
                self.input(Input::Held(Ok(())));
            }
            Done::Locked(result) => self.locked(result),
            Done::NewSlot(result) => {
                let result = result.map_err(|error| error.fault());
                // Without the lock, which the session hears of by itself, the slot is nobody's; the next attempt drops it.
                let exported = match (result, &mut self.polling) {
                    (Ok(slot), Some(polling)) => polling.end_at(*slot).map(|exported| Ok(Some(exported))),
                    (Ok(_), None) => None,
                    (Err(fault), _) => Some(Err(fault)),
                };
                if let Some(exported) = exported {
                    self.input(Input::SlotReady(exported));
                }
            }
            Done::Held(Err(error)) => {
                let busy = self.confirm.busy(&error);
                self.input(Input::Held(Err(busy)));
            }
            Done::SnapshotSlot(result) => self.slot_exported(result),
            Done::Tables(number, result) => self.tables_listed(number, result),
            Done::Exporting(number, result) => self.export_begun(number, result),
            Done::Chunk(chunk, result) => self.chunk_read(*chunk, result),
            Done::Checked(checked) => self.snapshot_checked(*checked),
            Done::Nothing => {}
            Done::WalEnd { deadline_ms, wal_end } => self.drain(deadline_ms, wal_end),
            Done::Probe(result) => self.probed(result),
            Done::Root(table, version, root) => self.plans.placed(table, version, root),
            Done::Catalog(table, version, catalog) => {
                let relation = self.assembler.relation(table);
                if self.plans.learned(table, version, relation, catalog) {
                    self.metrics.schema_change(&relation.to_string());
                }
            }
        }
    }

    /// The job that asked for the polling lock is done.
    fn locked(&mut self, result: Result<Hold, relay_postgres::Error>) {
        let result = match result {
            Ok(Hold::Held(poller)) => {
                self.confirm.connected(poller.backend_pid());
                self.status.saw(Peer::Source);
                self.blocked = None;
                fail_point!("takeover-wait" if self.session.state() == State::Standby);
                if let Some(polling) = &mut self.polling {
                    polling.held(poller, &self.session);
                }
                Ok(())
            }
            Ok(Hold::Busy(pid)) if pid.is_some() && self.confirm.is_ours(pid) => Err(Busy::OwnGhost),
            Ok(Hold::Busy(pid)) => {
                let holder = pid.map_or_else(String::new, |pid| format!(" by the session with pid {pid}"));
                let message = format!("the advisory lock of pipeline `{}` is held{holder}", self.config.name);
                Err(Busy::Other(Fault { kind: Kind::SlotBusy, message }))
            }
            Err(error) => Err(Busy::Fault(error.fault())),
        };
        self.input(Input::Held(result));
    }

    fn input(&mut self, input: Input) {
        self.session.input(input);
        self.obey();
    }

    fn drain(&mut self, deadline_ms: u64, read_to: Option<Lsn>) {
        self.drain_by = None;
        self.input(Input::Drain { deadline_ms, read_to });
    }

    /// Tells the rest of the process where things stand.
    fn publish_status(&mut self) {
        self.tally.flush();
        let session = &self.session;
        let window = session.window();
        let mut progress = self.status.progress();
        progress.state = session.state();
        progress.is_leader = session.is_leader();
        progress.has_tried |= session.server().is_some() || session.fault().is_some();
        let received = if self.polling.is_some() { session.newest_tick().wal_end } else { session.received() };
        progress.received = received.max(progress.received);
        progress.frontier = session.log_position(window.frontier());
        progress.checkpoint = session.log_position(session.stored());
        progress.confirmed = session.confirmed();
        if progress.published.as_ref() != session.published() {
            progress.published = session.published().cloned();
        }
        progress.in_flight_events = window.events() as u64;
        progress.in_flight_bytes = window.bytes();
        progress.oldest_commit_us = window.oldest_commit_time_us();
        progress.is_faulty = session.fault().is_some();
        progress.fault_reason = session.fault().map(|fault| fault.kind.directive().reason);
        progress.blocked = match self.blocked.as_ref().map(|blocked| &blocked.why) {
            Some(Why::Topic(_, reason, _)) => Some(reason.clone()),
            Some(Why::Poison(_)) => Some("poison_stopped".into()),
            Some(Why::Full | Why::Lookup) | None => None,
        };
        if let Some(server) = session.server() {
            progress.timeline = server.timeline;
            if progress.system_id != server.system_id {
                progress.system_id.clone_from(&server.system_id);
            }
        }
        drop(progress);
        if matches!(session.state(), State::Standby) {
            // The slot is held by a live peer and the retries reach the server.
            self.status.saw(Peer::Source);
        }
    }

    fn remember_error(&self, kind: Kind, message: &str) {
        let directive = kind.directive();
        self.metrics.error(directive.stage, directive.class);
        self.status.progress().last_error = Some(LastError {
            code: directive.code,
            message: message.to_owned(),
            hint: directive.hint,
            at: crate::clock::rfc3339(crate::status::unix_us()),
        });
    }
}
