//! Looks at the slot on a connection of its own, so that its metrics exist with and without a stream.

use crate::metrics::Metrics;
use crate::status::{Peer, ServerFacts, SlotFacts, Status, unix_us};
use crate::stream::{Control, Routes};
use relay_core::session::State;
use relay_encode::Order;
use relay_pgwire::Connection;
use relay_postgres::{OutboxFacts, Published, Source, Wanting, Watched};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// The running monitor.
pub(crate) struct Monitor {
    stop: Sender<()>,
}

/// How often a pair of snapshot and position is taken, in log mode: what is published twice after a switch to polling is what commits in
/// about so long, and in the checkpoint interval.
const PAIR_INTERVAL: Duration = Duration::from_secs(2);
/// How often the slot is looked at.
const INTERVAL: Duration = Duration::from_secs(15);
/// How often the tables are.
const TABLES: Duration = Duration::from_secs(60);
/// How soon after a failed look.
const RETRY: Duration = Duration::from_secs(5);
/// How often this process's own state is, which asks nobody: the slot is looked at again when that has changed.
const GLANCE: Duration = Duration::from_millis(250);

/// Starts looking.
///
/// `pairs` is for log mode, where polling may take over one day.
pub(crate) fn start(
    source: Source,
    status: Status,
    metrics: Arc<Metrics>,
    routes: Arc<Routes>,
    pairs: Option<Sender<Control>>,
) -> Monitor {
    let (stop, stopped) = mpsc::channel::<()>();
    let run = move || {
        let mut connection = None;
        let (mut look_at, mut outboxes_at, mut unlogged_at) = (Instant::now(), Instant::now(), Instant::now());
        let mut pair_at = Instant::now();
        let (mut unlogged, mut published) = (None, None);
        let mut seen = None;
        loop {
            let holding = holding(&status);
            // Whoever asks right behind a start or a takeover is to read who holds the slot now, not a quarter of a minute later.
            if Instant::now() >= look_at || connection.is_some() && seen != Some(holding) {
                seen = Some(holding);
                let is_done = look(&source, &mut connection, &status, &metrics, pairs.is_some());
                look_at = Instant::now() + if is_done { INTERVAL } else { RETRY };
                if pairs.is_some() {
                    tell_published(&source, &mut connection, &routes, &mut published);
                }
                if pairs.is_some() && Instant::now() >= unlogged_at && connection.is_some() {
                    unlogged_at = Instant::now() + TABLES;
                    warn_of_unlogged(&source, &mut connection, &routes, &mut unlogged);
                }
                // At the start nobody knows yet what is published: the next look need not be so far away.
                if Instant::now() >= outboxes_at && look_at_outboxes(&source, &mut connection, &status, &routes, pairs.is_some())
                {
                    outboxes_at = Instant::now() + TABLES;
                }
            }
            if let Some(pairs) = &pairs
                && Instant::now() >= pair_at
                && status.progress().state == State::Streaming
            {
                pair_at = Instant::now() + PAIR_INTERVAL;
                take_pair(&source, &mut connection, pairs);
            }
            if stopped.recv_timeout(GLANCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("relay-monitor".into()).spawn(run) {
        tracing::error!(event = "thread.failed", error = %error, "the monitor cannot be started");
    }
    Monitor { stop }
}

// === impl Monitor ===

impl Monitor {
    pub(crate) fn stop(self) {
        let _ = self.stop.send(());
    }
}

/// What the slot's facts depend on here.
fn holding(status: &Status) -> (State, bool) {
    let progress = status.progress();
    (progress.state, progress.is_leader)
}

/// One look; a lost connection is made anew at the next.
fn look(source: &Source, connection: &mut Option<Connection>, status: &Status, metrics: &Metrics, is_log: bool) -> bool {
    if connection.is_none() {
        let Ok(mut fresh) = source.connect() else { return false };
        if let Some(at) = fresh.peer_certificate_not_after() {
            metrics.certificate_expiry("source", at as f64);
        }
        if is_log {
            warn_of_synchronous_standby(&mut fresh);
        }
        // Somebody may want a table for himself and wait: a look that stood behind him would be left on the server.
        if fresh.query("SET lock_timeout = '2s'").is_err() {
            return false;
        }
        *connection = Some(fresh);
    }
    let Some(open) = connection else { return false };
    match source.watch(open) {
        Ok(watched) => {
            status.saw(Peer::Source);
            *status.server() = ServerFacts {
                oldest_transaction: watched.oldest_transaction.clone(),
                clock_ahead_us: watched.server_clock_us - unix_us(),
            };
            *status.slot() = watched.has_slot.then(|| facts(watched));
            true
        }
        Err(error) => {
            tracing::debug!(event = "monitor.failed", error = %error, "the slot cannot be looked at");
            *connection = None;
            false
        }
    }
}

/// How full the tables are that routes name; whether everything about them is known.
fn look_at_outboxes(
    source: &Source,
    connection: &mut Option<Connection>,
    status: &Status,
    routes: &Routes,
    is_log: bool,
) -> bool {
    let Some(open) = connection else { return false };
    let published = status.progress().published.clone();
    let mut facts = || -> Result<Vec<OutboxFacts>, relay_postgres::Error> {
        let mut found = Vec::new();
        for table in source.outbox_tables(open, &|name| routes.names_outbox(name))? {
            let timestamp = routes.retention(&table).and_then(|(_, timestamp)| timestamp);
            let wanting = routes.poll_rule(&table).filter(|_| !is_log).map(|rule| Wanting { rule, timestamp });
            found.push(source.outbox_facts(open, &table, wanting.as_ref().map(|wanting| (wanting, published.as_ref())))?);
        }
        Ok(found)
    };
    match facts() {
        Ok(found) => {
            *status.outboxes() = found;
            let has_ticks = routes.orders().any(|order| matches!(order, Order::Tick { .. }));
            is_log || published.is_some() || !has_ticks
        }
        Err(error) => {
            tracing::debug!(event = "monitor.failed", error = %error, "the outbox tables cannot be looked at");
            *connection = None;
            false
        }
    }
}

/// What a query sees now, and where WAL ends after that: once the log is published to there, polling could go on from the snapshot.
fn take_pair(source: &Source, connection: &mut Option<Connection>, pairs: &Sender<Control>) {
    let Some(open) = connection else { return };
    match source.snapshot_pair(open) {
        // Without a receiver the process is at its end.
        Ok(Some(pair)) => drop(pairs.send(Control::Pair(pair))),
        Ok(None) => {}
        Err(error) => {
            tracing::debug!(event = "monitor.failed", error = %error, "no snapshot can be taken");
            *connection = None;
        }
    }
}

fn facts(watched: Watched) -> SlotFacts {
    SlotFacts {
        active_pid: watched.active_pid,
        wal_status: watched.wal_status,
        safe_wal_bytes: watched.safe_wal_bytes,
        confirmed_lsn: watched.confirmed_lsn,
        restart_lsn: watched.restart_lsn,
        wal_end: watched.wal_end,
        retained_bytes: watched.wal_end.bytes_since(watched.restart_lsn),
        catalog_xmin_age: watched.catalog_xmin_age,
        inactive_since: watched.inactive_since,
    }
}

/// A table may become unlogged while its rows are streamed: from then on none of them come, and nothing else tells.
fn warn_of_unlogged(source: &Source, connection: &mut Option<Connection>, routes: &Arc<Routes>, told: &mut Option<String>) {
    let Some(open) = connection else { return };
    let routes = Arc::clone(routes);
    let wanted: relay_postgres::Wanted = Arc::new(move |name: &str| routes.names_table(name));
    let found = source.refuse_unlogged(open, &wanted, &*wanted).err().map(|error| error.fault());
    let found = found.filter(|fault| fault.kind == relay_core::Kind::SourceUnfit).map(|fault| fault.message);
    if found.is_some() && found != *told {
        tracing::warn!(
            event = "outbox.unlogged",
            hint = "after the cure, publish the rows written meanwhile again",
            "{}",
            found.as_deref().unwrap_or_default()
        );
    }
    *told = found;
}

/// The stream says nothing when a table leaves the publication, or is dropped: its rows only cease to come.
fn tell_published(source: &Source, connection: &mut Option<Connection>, routes: &Routes, told: &mut Option<Vec<Published>>) {
    let Some(open) = connection else { return };
    let Ok(now) = source.published_tables(open) else { return };
    // A first start has not created the publication yet: what it will have is no news then.
    let Some(now) = now.or_else(|| told.as_ref().map(|_| Vec::new())) else { return };
    if let Some(before) = told {
        // One that was renamed is there under another name, and one that was made anew under its own.
        let is_there = |one: &Published| now.iter().any(|other| other.oid == one.oid || other.name == one.name);
        for Published { name: table, .. } in before.iter().filter(|one| !is_there(one) && routes.names_table(&one.name)) {
            tracing::warn!(
                event = "publication.table_gone",
                table,
                hint = "`relay doctor` prints what brings it back: ALTER PUBLICATION … ADD TABLE …",
                "the publication does not have {table} any more: what is written to it now is not published"
            );
        }
        for Published { oid, name: table } in now.iter().filter(|one| before.iter().all(|other| other.name != one.name)) {
            match routes.names_table(table) {
                // The stream tells of the new name.
                true if before.iter().any(|other| other.oid == *oid) => {}
                true => tracing::info!(event = "publication.table_added", table, "the publication has {table} from now on"),
                false => tracing::warn!(
                    event = "publication.table_unrouted",
                    table,
                    "the publication has {table} from now on, and no [[outbox]] and no [[capture]] names it"
                ),
            }
        }
    }
    *told = Some(now);
}

/// With `synchronous_standby_names` of `*`, or one that names us, relay is a synchronous standby, and every commit waits for Kafka.
fn warn_of_synchronous_standby(connection: &mut Connection) {
    let ask = "SELECT current_setting('synchronous_standby_names'), current_setting('application_name')";
    let Ok(rows) = connection.query(ask) else { return };
    let Some((names, ours)) = rows.first().and_then(|row| Some((row.get(0)?.to_owned(), row.get(1)?.to_owned()))) else { return };
    if relay_postgres::is_synchronous_standby(&names, &ours) {
        tracing::warn!(
            event = "source.synchronous_standby",
            hint = "name the real standbys in synchronous_standby_names, or set another application_name in source.url",
            "synchronous_standby_names makes relay a synchronous standby: every commit waits for Kafka"
        );
    }
}
