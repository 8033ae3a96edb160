//! Prunes published rows of outboxes with a `retention` while relay runs, on a thread and a connection of its own.

use crate::metrics::Metrics;
use crate::status::Status;
use crate::stream::Routes;
use relay_core::Snapshot;
use relay_core::session::State;
use relay_pgwire::Connection;
use relay_postgres::Source;
use relay_postgres::poll::PollOrder;
use relay_postgres::prune::{Proof, Prune};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// How one table is pruned.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What to run; its age is still to be set.
    pub(crate) prune: Prune,
    /// `retention` of its route.
    pub(crate) retention: Option<Duration>,
    /// The column that tells how old a row is.
    pub(crate) timestamp: Option<String>,
}

/// The running thread.
pub(crate) struct Retention {
    stop: Option<Sender<()>>,
}

/// Rows a statement.
const BATCH: u64 = 5_000;
/// Pause between two statements: an outbox is pruned beside its writers, not in their way.
const PAUSE: Duration = Duration::from_millis(50);
/// About how often the tables are looked at.
const INTERVAL_MS: u64 = 60_000;
/// The first look, which a short test need not wait a minute for.
const FIRST_MS: u64 = 2_000;

/// How the table is pruned; the reason where it cannot be.
pub(crate) fn plans(routes: &Routes, table: &str, published: Option<&Snapshot>, is_log: bool) -> Result<Plan, String> {
    let (rule, facts) = routes.poll_rule(table).zip(routes.retention(table)).ok_or("no [[outbox]] with an order takes it")?;
    let proof = Proof::of(&rule, published)?;
    if is_log && matches!(proof, Proof::Marked(_)) {
        return Err("in log mode published rows are known by an xid8 column, and its order is `claim`".to_owned());
    }
    let (retention, timestamp) = facts;
    let prune = Prune {
        table: table.to_owned(),
        proof,
        older_than: None,
        condition: rule.was_event(),
        batch: BATCH,
        pause: PAUSE,
        is_dry: false,
    };
    Ok(Plan { prune, retention, timestamp })
}

/// Starts pruning, if any outbox has a `retention`.
pub(crate) fn start(source: Source, routes: Arc<Routes>, status: Status, metrics: Arc<Metrics>, is_log: bool) -> Retention {
    if !routes.has_retention() {
        return Retention { stop: None };
    }
    let (stop, stopped) = mpsc::channel::<()>();
    let run = move || {
        let mut wait = FIRST_MS;
        loop {
            if stopped.recv_timeout(Duration::from_millis(wait)) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            // Two relays that start together need not prune together.
            wait = INTERVAL_MS / 2 + RandomState::new().hash_one(wait) % INTERVAL_MS;
            let (published, state) = {
                let progress = status.progress();
                (progress.published.clone(), progress.state)
            };
            if state != State::Streaming {
                wait = FIRST_MS;
                continue;
            }
            match look(&source, &routes, &metrics, published.as_ref(), is_log, &stopped) {
                Ok(true) => {}
                Ok(false) => wait = FIRST_MS,
                Err(error) => tracing::warn!(event = "retention.failed", "published rows cannot be pruned now: {error}"),
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("relay-retention".into()).spawn(run) {
        tracing::error!(event = "thread.failed", error = %error, "a thread cannot be started");
    }
    Retention { stop: Some(stop) }
}

/// One look at every table; whether what is published is known of each. Without ticks it always is: claimed rows carry marks.
fn look(
    source: &Source,
    routes: &Routes,
    metrics: &Metrics,
    published: Option<&Snapshot>,
    is_log: bool,
    stopped: &mpsc::Receiver<()>,
) -> Result<bool, relay_postgres::Error> {
    let mut are_known = true;
    let mut connection: Connection = source.connect_polling(&[])?;
    let has_retention = |name: &str| routes.retention(name).is_some_and(|(retention, _)| retention.is_some());
    for table in source.outbox_tables(&mut connection, &has_retention)? {
        let is_tick = routes.poll_rule(&table).is_some_and(|rule| matches!(rule.order, PollOrder::Tick { .. }));
        if is_tick && published.is_none() {
            are_known = false;
            continue;
        }
        let mut plan = match plans(routes, &table, published, is_log) {
            Ok(plan) => plan,
            Err(why) => {
                tracing::warn!(event = "retention.refused", table, "published rows are not pruned: {why}");
                continue;
            }
        };
        plan.prune.older_than = plan.timestamp.zip(plan.retention);
        let pruned = plan.prune.run(&mut connection, |rows| {
            metrics.cleaned(&table, rows);
            stopped.try_recv().is_err_and(|error| error == mpsc::TryRecvError::Empty)
        });
        let pruned = match pruned {
            Ok(pruned) => pruned,
            Err(error) if connection.is_broken() => return Err(error),
            // One table that is locked, or that we may not delete from, keeps no other from being pruned.
            Err(error) => {
                tracing::warn!(event = "retention.failed", table, "published rows cannot be pruned now: {error}");
                continue;
            }
        };
        for (partition, reason) in &pruned.kept {
            tracing::info!(event = "retention.kept", partition, "the partition stays as it is, or as a whole: {reason}");
        }
        if pruned.rows > 0 || !pruned.partitions.is_empty() {
            let partitions = pruned.partitions.join(", ");
            tracing::info!(event = "retention.pruned", table, rows = pruned.rows, partitions, "old published rows are gone");
        }
    }
    Ok(are_known)
}

// === impl Retention ===

impl Retention {
    pub(crate) fn stop(self) {
        if let Some(stop) = self.stop {
            let _ = stop.send(());
        }
    }
}
