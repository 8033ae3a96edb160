//! Marks published rows, or deletes them: in bulk, behind the acknowledgement, on a connection and a thread of its own.

use crate::metrics::Metrics;
use relay_pgwire::Connection;
use relay_postgres::Source;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The running thread.
#[derive(Debug)]
pub(super) struct Marker {
    sender: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

/// Statements about published rows of one table.
#[derive(Debug)]
pub(super) struct Task {
    /// `schema.table`.
    pub(super) table: Arc<str>,
    /// In this order; done once each has run.
    pub(super) statements: Vec<String>,
    /// Run each again until it touches no row.
    pub(super) repeats: bool,
    /// Counted down when it is done.
    pub(super) pending: Arc<AtomicUsize>,
}

/// Bounds of the wait before a table whose statement failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long a statement waits for a lock that somebody else has.
const LOCK_TIMEOUT: &str = "5s";
/// How often a stop is looked for while tables wait.
const LOOK: Duration = Duration::from_millis(100);

// === impl Marker ===

impl Marker {
    pub(super) fn start(source: Source, metrics: Arc<Metrics>) -> Self {
        let (sender, tasks) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || {
            let mut desk = Desk { source, metrics, connection: None, queue: VecDeque::new(), resting: HashMap::new() };
            while !stopped.load(Ordering::Relaxed) && desk.take(&tasks) {
                desk.turn();
            }
        };
        let thread = thread::Builder::new().name("relay-mark".into()).spawn(run);
        if let Err(error) = &thread {
            tracing::error!(event = "thread.failed", error = %error, "a thread cannot be started");
        }
        Self { sender: Some(sender), thread: thread.ok(), stop }
    }

    pub(super) fn give(&self, task: Task) {
        task.pending.fetch_add(1, Ordering::Relaxed);
        if let Some(sender) = &self.sender {
            // The receiver ends with the process alone.
            let _ = sender.send(task);
        }
    }

    /// Lets the thread finish what it was given, at most so long.
    pub(super) fn finish(mut self, limit: Duration) {
        self.sender = None;
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + limit;
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        if !thread.is_finished() {
            tracing::warn!(
                event = "mark.late",
                "published rows could not be marked in time; unmarked ones may be published again"
            );
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// What the thread has.
struct Desk {
    source: Source,
    metrics: Arc<Metrics>,
    connection: Option<Connection>,
    queue: VecDeque<Task>,
    /// Tables whose statement failed: until when they wait, and how long the wait was. The others go on meanwhile.
    resting: HashMap<Arc<str>, (Instant, Duration)>,
}

// === impl Desk ===

impl Desk {
    /// Takes what was given; false when there is nothing more to do, ever.
    fn take(&mut self, tasks: &Receiver<Task>) -> bool {
        let now = Instant::now();
        let wait = match self.queue.iter().map(|task| self.rest_of(&task.table, now)).min() {
            Some(rest) => rest.min(LOOK),
            None => Duration::MAX,
        };
        let first = if wait.is_zero() {
            None
        } else if wait == Duration::MAX {
            match tasks.recv() {
                Ok(task) => Some(task),
                Err(_) => return false,
            }
        } else {
            match tasks.recv_timeout(wait) {
                Ok(task) => Some(task),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    thread::sleep(wait);
                    None
                }
            }
        };
        self.queue.extend(first);
        loop {
            match tasks.try_recv() {
                Ok(task) => self.queue.push_back(task),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return !self.queue.is_empty(),
            }
        }
    }

    fn rest_of(&self, table: &str, now: Instant) -> Duration {
        self.resting.get(table).map_or(Duration::ZERO, |(until, _)| until.saturating_duration_since(now))
    }

    /// Runs one statement of the first table that need not wait.
    fn turn(&mut self) {
        let now = Instant::now();
        let Some(at) = self.queue.iter().position(|task| self.rest_of(&task.table, now).is_zero()) else { return };
        let Some(mut task) = self.queue.remove(at) else { return };
        while let Some(statement) = task.statements.first() {
            match self.execute(statement) {
                Ok(rows) => {
                    self.metrics.cleaned(&task.table, rows);
                    self.resting.remove(&task.table);
                    if !task.repeats || rows == 0 {
                        task.statements.remove(0);
                    } else {
                        self.queue.push_back(task);
                        return;
                    }
                }
                Err(error) => {
                    let last = self.resting.get(&task.table).map(|(_, wait)| *wait);
                    let wait = last.map_or(RETRY.0, |last| (last * 2).min(RETRY.1));
                    tracing::warn!(
                        event = "mark.failed",
                        table = &*task.table,
                        retry_ms = wait.as_millis() as u64,
                        "published rows cannot be marked: {error}"
                    );
                    self.resting.insert(Arc::clone(&task.table), (Instant::now() + wait, wait));
                    self.queue.push_front(task);
                    return;
                }
            }
        }
        task.pending.fetch_sub(1, Ordering::Release);
    }

    fn execute(&mut self, statement: &str) -> Result<u64, relay_postgres::Error> {
        let connection = match self.connection.take().filter(|connection| !connection.is_broken()) {
            Some(connection) => self.connection.insert(connection),
            None => {
                let fresh = self.source.connect_polling(&[("lock_timeout", LOCK_TIMEOUT)])?;
                self.connection.insert(fresh)
            }
        };
        Ok(connection.execute(statement)?)
    }
}
