//! Turns a rate into transactions of a little order service: an order changes, and its event goes into the outbox with it.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relay_pgwire::{Connection, quote_literal};
use relay_postgres::Source;

use super::PAUSE;
use super::desk::{Desk, Order};
use super::ledger::Ledger;
use super::names::Names;
use super::words::Words;
use crate::command::refusal::Refusal;
use crate::status::unix_us;

/// The running service; it ends with its value.
#[derive(Debug)]
pub(super) struct Service {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What its thread works with.
struct Shop {
    source: Source,
    connection: Option<Connection>,
    names: Names,
    ledger: Arc<Ledger>,
    words: Words,
    desk: Desk,
    next_event: u64,
    /// Whether the failure that lasts has been told.
    has_told: bool,
}

/// Rows of one transaction at most, when it has to catch up.
const ROWS_MAX: usize = 500;
/// From so many late rows on, transactions grow.
const ROWS_LATE: usize = 20;
/// How long the first event may take before the others follow.
const WARM_LIMIT: Duration = Duration::from_secs(5);
/// Wait after a failure.
const RETRY: Duration = Duration::from_millis(250);
/// Old rows are pruned, as a real service's would be.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

// === impl Service ===

impl Service {
    /// Starts to write `rate` events a second.
    pub(super) fn start(source: &Source, names: &Names, ledger: &Arc<Ledger>, rate: u32, words: Words) -> Result<Self, Refusal> {
        let mut shop = Shop {
            source: source.clone(),
            connection: None,
            names: names.clone(),
            ledger: Arc::clone(ledger),
            words,
            desk: Desk::new(),
            next_event: 0,
            has_told: false,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("demo-orders".into()).spawn(move || shop.work(f64::from(rate), &stopped));
        let thread = thread.map_err(|error| Refusal::refused(format!("start a thread: {error}"), ""))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends after the transaction under way.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

// === impl Shop ===

impl Shop {
    fn work(&mut self, rate: f64, stop: &AtomicBool) {
        // relay looks a topic up when its first event comes; that is a matter of the start and not of the pace.
        self.transaction(1, stop);
        let warm = Instant::now() + WARM_LIMIT;
        while self.ledger.behind() > 0 && Instant::now() < warm && !stop.load(Ordering::SeqCst) {
            std::thread::sleep(PAUSE);
        }
        let (mut began, mut done, mut pruned) = (Instant::now(), 0.0, Instant::now());
        while !stop.load(Ordering::SeqCst) {
            let late = began.elapsed().as_secs_f64() * rate - done;
            if late < 1.0 {
                std::thread::sleep(Duration::from_secs_f64(((1.0 - late) / rate).min(0.02)));
                continue;
            }
            if late > rate.max(10.0) {
                // The server cannot keep up, or was away: no burst afterwards.
                (began, done) = (Instant::now(), 0.0);
                continue;
            }
            let size = if late as usize > ROWS_LATE { (late as usize).min(ROWS_MAX) } else { self.desk.size() };
            done += size as f64;
            self.transaction(size, stop);
            if pruned.elapsed() > PRUNE_EVERY {
                pruned = Instant::now();
                self.prune();
            }
        }
    }

    /// One transaction, and what became of it.
    fn transaction(&mut self, size: usize, stop: &AtomicBool) {
        let orders = self.desk.plan(size);
        let is_kept = !self.desk.changes_its_mind();
        let first = self.next_event;
        self.next_event += size as u64;
        let sql = self.sql(&orders, first, if is_kept { "COMMIT" } else { "ROLLBACK" });
        let is_committed = match self.execute(&sql) {
            Ok(()) => is_kept,
            Err(is_lost) => {
                std::thread::sleep(RETRY);
                if is_lost { self.look_up(first, stop) } else { self.undo() }
            }
        };
        let events = first..self.next_event;
        if is_committed {
            self.ledger.committed(events)
        } else {
            self.ledger.rolled_back(events)
        }
        self.desk.settle(orders, is_committed);
    }

    fn sql(&self, orders: &[Order], first: u64, end: &str) -> String {
        let (mut rows, mut events) = (String::new(), String::new());
        let sent_us = unix_us();
        for (order, event) in orders.iter().zip(first..) {
            let comma = if rows.is_empty() { "" } else { ", " };
            let (id, kind) = (order.id(), order.stage().event_type());
            let payload = order.payload(&self.names.run, event, sent_us).to_string();
            let customer = quote_literal(order.customer());
            let _ = write!(rows, "{comma}('{id}', {customer}, {}, '{kind}')", order.total_cents());
            let _ = write!(events, "{comma}('{}', '{id}', '{kind}', {})", self.names.aggregate, quote_literal(&payload));
        }
        let (orders, outbox) = (self.names.orders(), self.names.outbox());
        format!(
            "BEGIN; INSERT INTO {orders} (id, customer, total_cents, status) VALUES {rows} \
             ON CONFLICT (id) DO UPDATE SET status = excluded.status, changed_at = now(); \
             INSERT INTO {outbox} (aggregate_type, key, type, payload) VALUES {events}; {end}"
        )
    }

    /// Whether the connection was lost is the error.
    fn execute(&mut self, sql: &str) -> Result<(), bool> {
        if self.connection.is_none() {
            match self.source.connect() {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => {
                    self.tell(&format!("the order service cannot connect: {error}"));
                    // Nothing was sent.
                    return Err(false);
                }
            }
        }
        let Some(connection) = &mut self.connection else { return Err(false) };
        let result = connection.execute(sql);
        let is_lost = connection.is_broken();
        match result {
            Ok(_) => {
                self.has_told = false;
                Ok(())
            }
            Err(error) => {
                if is_lost {
                    self.connection = None;
                }
                self.tell(&format!("the order service could not write: {error}"));
                Err(is_lost)
            }
        }
    }

    /// Leaves a failed transaction. Nothing of it is committed.
    fn undo(&mut self) -> bool {
        if let Some(connection) = &mut self.connection
            && connection.execute("ROLLBACK").is_err()
        {
            self.connection = None;
        }
        false
    }

    /// After a lost connection only the table knows whether the transaction was committed.
    fn look_up(&mut self, event: u64, stop: &AtomicBool) -> bool {
        let (outbox, run) = (self.names.outbox(), &self.names.run);
        let sql = format!("SELECT 1 FROM {outbox} WHERE payload->>'run' = '{run}' AND payload->>'event' = '{event}'");
        let give_up = Instant::now() + Duration::from_secs(5);
        loop {
            if let Ok(mut connection) = self.source.connect()
                && let Ok(rows) = connection.query(&sql)
            {
                self.connection = Some(connection);
                return !rows.is_empty();
            }
            if stop.load(Ordering::SeqCst) && Instant::now() > give_up {
                return false;
            }
            std::thread::sleep(RETRY);
        }
    }

    /// A demo may run for days; what was published long ago goes.
    fn prune(&mut self) {
        let (orders, outbox) = (self.names.orders(), self.names.outbox());
        let _ = self.execute(&format!(
            "DELETE FROM {outbox} WHERE created_at < now() - interval '10 minutes'; \
             DELETE FROM {orders} WHERE status = 'OrderShipped' AND changed_at < now() - interval '10 minutes'"
        ));
    }

    fn tell(&mut self, text: &str) {
        if !self.has_told {
            self.has_told = true;
            self.words.insist(text);
        }
    }
}
