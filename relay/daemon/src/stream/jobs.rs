//! What blocks runs here, each on a thread of its own; the answers come back to the wire thread as messages.

use super::routes::Routes;
use super::snapshot::{Checked, Request};
use relay_core::checkpoint::ReadCheckpoint;
use relay_core::session::{Chunk, ChunkRead, Fault, Input};
use relay_core::{Catalog, Kind, Lsn, Relation};
use relay_failpoint::fail_point;
use relay_pgwire::CopyBoth;
use relay_postgres::poll::{Hold, NewSlot, PollConfig};
use relay_postgres::snapshot::{ChunkRows, ExportedSlot, Exporting, Tables};
use relay_postgres::{Source, TableId};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A message to the wire thread.
pub(crate) enum Control {
    /// SIGTERM.
    Drain {
        /// How long it may take.
        grace: Duration,
        /// Read to the server's end of WAL first.
        caught_up: bool,
    },
    /// What a query saw, and where WAL ended after that.
    Pair(relay_core::checkpoint::LogPoll),
    /// Somebody asks for a snapshot, or calls them off.
    Snapshot(Request),
    /// A job is done; the number tells whether anybody still waits for it.
    Done(u64, Done),
}

/// A job's answer.
pub(crate) enum Done {
    /// As the session takes it.
    Input(Box<Input>),
    /// The slot is held and its stream open.
    Held(Result<Box<CopyBoth>, relay_postgres::Error>),
    /// The polling lock was asked for, and the tables were listed.
    Locked(Result<Hold, relay_postgres::Error>),
    /// The slot that polling ends at.
    NewSlot(Result<Box<NewSlot>, relay_postgres::Error>),
    /// Where the server's WAL ended at the signal, if it said so.
    WalEnd {
        /// When the drain must be done.
        deadline_ms: u64,
        /// The position.
        wal_end: Option<Lsn>,
    },
    /// The server answered a probe.
    Probe(Result<(), Fault>),
    /// The partition root of a table without a route, if it has one; the number came with the question.
    Root(TableId, u64, Result<Option<String>, Fault>),
    /// The slot was made for a snapshot, or was there already.
    SnapshotSlot(Result<Option<Box<ExportedSlot>>, Fault>),
    /// Tables of a snapshot; the number came with the question.
    Tables(u64, Result<Tables, Fault>),
    /// The same in the snapshot that the new slot exported, with the connections that read there.
    Exporting(u64, Result<Box<Exporting>, Fault>),
    /// A chunk was read between watermarks.
    Chunk(Box<Chunk>, Result<(ChunkRead, ChunkRows), Fault>),
    /// The tables of a snapshot that somebody asks for were looked at.
    Checked(Box<Checked>),
    /// There is no answer.
    Nothing,
    /// The catalog's share of a captured table; the number came with the question.
    Catalog(TableId, u64, Result<Catalog, Fault>),
}

/// Starts jobs and tells late answers from those still wanted.
pub(super) struct Jobs {
    source: Source,
    reader: Arc<Mutex<Box<dyn ReadCheckpoint>>>,
    routes: Arc<Routes>,
    sender: Sender<Control>,
    /// The job of the session that is under way. There is one at a time; a newer one makes an older one's answer worthless.
    current: u64,
    /// Backend that creates the slot, while it does.
    creating: Arc<AtomicI32>,
}

/// Jobs beside the session's: their answers are always welcome.
const ASIDE: u64 = 0;
/// After so long relay says what a slot's creation waits for.
const SLOT_PATIENCE: Duration = Duration::from_secs(2);

// === impl Jobs ===

impl Jobs {
    pub(super) fn new(source: Source, reader: Box<dyn ReadCheckpoint>, routes: Arc<Routes>, sender: Sender<Control>) -> Self {
        Self {
            source,
            reader: Arc::new(Mutex::new(reader)),
            routes,
            sender,
            current: ASIDE,
            creating: Arc::new(AtomicI32::new(0)),
        }
    }

    /// The answer, unless it comes too late. A late stream is dropped, which closes its connection.
    pub(super) fn accept(&mut self, generation: u64, done: Done) -> Option<Done> {
        (generation == ASIDE || generation == self.current).then_some(done)
    }

    /// Nobody waits for the session's job any more.
    pub(super) fn forget(&mut self) {
        self.current += 1;
    }

    /// `held` is the backend of the stream that we hold, if we do: its connection may be dead without anybody having noticed.
    pub(super) fn inspect(&mut self, held: Option<i32>) {
        let (source, wanted, routes) = (self.source.clone(), self.wanted(), Arc::clone(&self.routes));
        self.start("relay-inspect", move || {
            Done::input(match source.inspect_for_stream(&wanted, &|table| routes.insists_on(table)) {
                Ok((_, holder)) if held.is_some() && holder != held => {
                    let message = "the slot is not held by this connection any more".into();
                    Input::Lost(Fault { kind: Kind::SourceLost, message })
                }
                Ok((server, _)) => Input::Inspected(Ok(server)),
                Err(error) => Input::Inspected(Err(error.fault())),
            })
        });
    }

    /// As [`Jobs::inspect`], for polling: `held` is the backend that holds the lock.
    pub(super) fn inspect_polling(&mut self, name: &str, held: Option<i32>, ends_in_log: bool) {
        let (source, name) = (self.source.clone(), name.to_owned());
        self.start("relay-inspect", move || {
            let inspect = || {
                let (polled, holder) = source.inspect_polling(&name)?;
                let server = if ends_in_log {
                    relay_core::session::Server { snapshot: polled.snapshot, ..source.inspect()? }
                } else {
                    polled
                };
                Ok((server, holder))
            };
            Done::input(match inspect() {
                Ok((_, holder)) if held.is_some() && holder != held => {
                    let message = "the lock is not held by this connection any more".into();
                    Input::Lost(Fault { kind: Kind::SourceLost, message })
                }
                Ok((server, _)) => Input::Inspected(Ok(server)),
                Err(error) => Input::Inspected(Err(relay_postgres::Error::fault(&error))),
            })
        });
    }

    /// Asks for the polling lock.
    pub(super) fn lock(&mut self, config: PollConfig, rule: super::poll::Rule) {
        let source = self.source.clone();
        self.start("relay-lock", move || {
            Done::Locked(source.hold_lock(&config).and_then(|mut hold| {
                if let Hold::Held(poller) = &mut hold {
                    poller.list_tables(&*rule)?;
                }
                Ok(hold)
            }))
        });
    }

    /// Asks where the server's WAL ends, for a drain that reads up to there.
    pub(super) fn wal_end(&self, deadline_ms: u64) {
        let source = self.source.clone();
        self.spawn("relay-wal-end", ASIDE, move || Done::WalEnd { deadline_ms, wal_end: source.wal_end().ok() });
    }

    pub(super) fn read_checkpoint(&mut self) {
        let reader = Arc::clone(&self.reader);
        self.start("relay-checkpoint", move || {
            let reading = reader.lock().unwrap_or_else(PoisonError::into_inner).read();
            Done::input(Input::CheckpointRead(reading))
        });
    }

    pub(super) fn create_publication(&mut self) {
        let (source, routes, wanted) = (self.source.clone(), Arc::clone(&self.routes), self.wanted());
        self.start("relay-publication", move || {
            let result = source.create_publication(&wanted, routes.has_tables());
            fail_point!("publication-create" if result.is_ok());
            Done::input(Input::PublicationReady(result.map_err(|error| error.fault())))
        });
    }

    /// `polls`: polling ends at the slot's snapshot; `exports`: captured tables are read in it.
    pub(super) fn create_slot(&mut self, polls: bool, exports: bool) {
        let (source, creating) = (self.source.clone(), Arc::clone(&self.creating));
        self.start("relay-slot", move || {
            let is_done = Arc::new(AtomicBool::new(false));
            let watch = |pid| {
                creating.store(pid, Ordering::Relaxed);
                watch_creation(source.clone(), pid, Arc::clone(&is_done));
            };
            let done = match (polls, exports) {
                (true, _) => Done::NewSlot(source.create_exporting_slot(watch).map(Box::new)),
                (false, true) => {
                    let slot = source.create_slot_for_snapshot(watch);
                    Done::SnapshotSlot(slot.map(|slot| slot.map(Box::new)).map_err(|error| error.fault()))
                }
                (false, false) => {
                    Done::input(Input::SlotReady(source.create_slot(watch).map(|()| None).map_err(|error| error.fault())))
                }
            };
            fail_point!("slot-create");
            is_done.store(true, Ordering::Relaxed);
            creating.store(0, Ordering::Relaxed);
            done
        });
    }

    pub(super) fn hold(&mut self, start: Lsn, max_message_bytes: usize) {
        let source = self.source.clone();
        self.start("relay-hold", move || Done::Held(source.stream(start, max_message_bytes).map(Box::new)));
    }

    /// Asks the server on a connection of its own whether it still takes connections.
    pub(super) fn probe(&self) {
        let source = self.source.clone();
        let probe = move || Done::Probe(source.connect().map(|_| ()).map_err(|error| error.fault()));
        self.spawn("relay-probe", ASIDE, probe);
    }

    /// Looks up the partition root of a table, once a relation version.
    pub(super) fn find_root(&self, table: TableId, version: u64, oid: relay_core::Oid) {
        let source = self.source.clone();
        let find = move || Done::Root(table, version, source.partition_root(oid).map_err(|error| error.fault()));
        self.spawn("relay-root", ASIDE, find);
    }

    /// Reads the catalog's share of a table, once a relation version.
    pub(super) fn read_catalog(&self, table: TableId, version: u64, relation: Relation) {
        let source = self.source.clone();
        let read = move || Done::Catalog(table, version, source.read_catalog(&relation).map_err(|error| error.fault()));
        self.spawn("relay-catalog", ASIDE, read);
    }

    /// A slot whose creation still waits must not appear after the process has ended.
    pub(super) fn abandon_slot_creation(&self, source: &Source) {
        let pid = self.creating.swap(0, Ordering::Relaxed);
        if pid != 0
            && let Err(error) = source.terminate(pid)
        {
            tracing::warn!(event = "slot.creation_not_ended", pid, error = %error, "the slot may still come; the next start adopts it");
        }
    }

    /// The tables that routes name.
    fn wanted(&self) -> relay_postgres::Wanted {
        let routes = Arc::clone(&self.routes);
        Arc::new(move |table: &str| routes.names_table(table))
    }

    /// A job beside the session's, whose answer names what it answers.
    pub(super) fn aside(&self, name: &str, job: impl FnOnce() -> Done + Send + 'static) {
        self.spawn(name, ASIDE, job);
    }

    fn start(&mut self, name: &str, job: impl FnOnce() -> Done + Send + 'static) {
        self.current += 1;
        self.spawn(name, self.current, job);
    }

    fn spawn(&self, name: &str, generation: u64, job: impl FnOnce() -> Done + Send + 'static) {
        let sender = self.sender.clone();
        let run = move || {
            // The receiver is gone only when the process ends.
            let _ = sender.send(Control::Done(generation, job()));
        };
        if let Err(error) = thread::Builder::new().name(name.into()).spawn(run) {
            tracing::error!(event = "thread.failed", error = %error, "a thread cannot be started");
        }
    }
}

// === impl Done ===

impl Done {
    fn input(input: Input) -> Self {
        Done::Input(Box::new(input))
    }
}

/// `CREATE_REPLICATION_SLOT` waits for every transaction that is open when it starts: after a while say which.
fn watch_creation(source: Source, pid: i32, is_done: Arc<AtomicBool>) {
    let watch = move || {
        thread::sleep(SLOT_PATIENCE);
        if is_done.load(Ordering::Relaxed) {
            return;
        }
        let holders = source.open_writers(pid).map(|holders| holders.join(", ")).unwrap_or_default();
        tracing::warn!(event = "slot.creation_waits", holders, "the slot's creation waits for transactions that are still open");
    };
    let _ = thread::Builder::new().name("relay-slot-watch".into()).spawn(watch);
}
