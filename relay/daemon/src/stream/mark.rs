//! Marks published rows, or deletes them: in bulk, behind the acknowledgement, on a connection and a thread of its own.

use crate::metrics::Metrics;
use relay_pgwire::Connection;
use relay_postgres::Source;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The running thread.
#[derive(Debug)]
pub(super) struct Marker {
    sender: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
    stop: Sender<()>,
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

/// Bounds of the wait before a statement that failed is run again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long a statement waits for a lock that somebody else has.
const LOCK_TIMEOUT: &str = "5s";

// === impl Marker ===

impl Marker {
    pub(super) fn start(source: Source, metrics: Arc<Metrics>) -> Self {
        let (sender, tasks) = mpsc::channel();
        let (stop, stopped) = mpsc::channel();
        let run = move || {
            let mut desk = Desk { source, metrics, connection: None, stopped };
            while let Ok(task) = tasks.recv() {
                if !desk.run(&task) {
                    return;
                }
                task.pending.fetch_sub(1, Ordering::Release);
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
            let _ = self.stop.send(());
        }
    }
}

/// What the thread has.
struct Desk {
    source: Source,
    metrics: Arc<Metrics>,
    connection: Option<Connection>,
    stopped: Receiver<()>,
}

// === impl Desk ===

impl Desk {
    /// Runs a task to its end, however often that takes; false when it was told to stop.
    fn run(&mut self, task: &Task) -> bool {
        for statement in &task.statements {
            let mut wait = RETRY.0;
            loop {
                match self.execute(statement) {
                    Ok(rows) => {
                        self.metrics.cleaned(&task.table, rows);
                        if !task.repeats || rows == 0 {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(
                            event = "mark.failed",
                            table = &*task.table,
                            retry_ms = wait.as_millis() as u64,
                            "published rows cannot be marked: {error}"
                        );
                        if self.stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                            return false;
                        }
                        wait = (wait * 2).min(RETRY.1);
                    }
                }
            }
        }
        true
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
