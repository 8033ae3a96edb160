//! Counts what passes, in plain numbers, and hands them to the metrics once a turn.

use crate::metrics::{Metrics, TableMetrics};
use crate::status::{RouteCount, Status, unix_us};
use relay_core::session::Session;
use relay_core::{Change, Relation};
use std::collections::HashMap;
use std::sync::Arc;

/// Counters of the wire thread. Nothing here allocates or locks for an event.
pub(super) struct Tally {
    metrics: Arc<Metrics>,
    status: Status,
    tables: Vec<Option<TableTally>>,
    lanes: Vec<Lane>,
    by_topic: HashMap<Box<str>, usize>,
    last_topic: usize,
    /// What each ticket in flight was: a ring beside the window's.
    ring: Box<[Sent]>,
    received_bytes: u64,
    last_event_us: Option<i64>,
}

/// The way to one topic.
struct Lane {
    topic: Box<str>,
    /// The table of its latest event; none for messages.
    table: Option<usize>,
    acknowledged: u64,
    total: u64,
    counter: metrics::Counter,
}

struct TableTally {
    metrics: TableMetrics,
    inserts: u64,
    updates: u64,
    deletes: u64,
    name: String,
}

#[derive(Clone, Copy, Default)]
struct Sent {
    lane: u32,
    bytes: u32,
}

// === impl Tally ===

impl Tally {
    pub(super) fn new(metrics: Arc<Metrics>, status: Status, window_events: usize) -> Self {
        Self {
            metrics,
            status,
            tables: Vec::new(),
            lanes: Vec::new(),
            by_topic: HashMap::new(),
            last_topic: usize::MAX,
            ring: vec![Sent::default(); window_events.next_power_of_two()].into_boxed_slice(),
            received_bytes: 0,
            last_event_us: None,
        }
    }

    /// A change of table number `table` was decoded and is new.
    #[inline]
    pub(super) fn received(&mut self, table: usize, change: &Change<'_>) {
        if self.tables.get(table).is_none_or(Option::is_none)
            && let Some(relation) = change.relation()
        {
            self.meet(table, relation);
        }
        if let Some(Some(tally)) = self.tables.get_mut(table) {
            match change {
                Change::Insert { .. } => tally.inserts += 1,
                Change::Update { .. } => tally.updates += 1,
                Change::Delete { .. } => tally.deletes += 1,
                Change::Truncate { .. } | Change::Message { .. } => {}
            }
        }
    }

    /// A table was truncated.
    pub(super) fn truncated(&mut self, table: usize, relation: &Relation) {
        if self.tables.get(table).is_none_or(Option::is_none) {
            self.meet(table, relation);
        }
        if let Some(Some(tally)) = self.tables.get(table) {
            tally.metrics.truncate(1);
        }
    }

    #[cold]
    fn meet(&mut self, table: usize, relation: &Relation) {
        let name = relation.to_string();
        if self.tables.len() <= table {
            self.tables.resize_with(table + 1, || None);
        }
        let metrics = self.metrics.table(&name);
        self.tables[table] = Some(TableTally { metrics, inserts: 0, updates: 0, deletes: 0, name });
    }

    /// Bytes came from the server.
    pub(super) fn received_bytes(&mut self, bytes: usize) {
        self.received_bytes += bytes as u64;
    }

    /// The event for `topic` was accepted under `ticket`.
    #[inline]
    pub(super) fn sent(&mut self, ticket: usize, table: Option<usize>, topic: &str, bytes: usize) {
        let lane = match self.lanes.get(self.last_topic) {
            Some(lane) if &*lane.topic == topic => self.last_topic,
            _ => self.lane(topic),
        };
        self.last_topic = lane;
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.table = table;
        }
        let slot = ticket & (self.ring.len() - 1);
        self.ring[slot] = Sent { lane: lane as u32, bytes: bytes.min(u32::MAX as usize) as u32 };
    }

    fn lane(&mut self, topic: &str) -> usize {
        if let Some(&lane) = self.by_topic.get(topic) {
            return lane;
        }
        let lane = self.lanes.len();
        self.by_topic.insert(topic.into(), lane);
        self.lanes.push(Lane { topic: topic.into(), table: None, acknowledged: 0, total: 0, counter: self.metrics.topic(topic) });
        lane
    }

    /// Lets the session read its acknowledgements and counts them.
    pub(super) fn acknowledged(&mut self, session: &mut Session) {
        let before = session.window().first_unacknowledged().0;
        let now_us = unix_us();
        let mut transactions = 0;
        let mut commit_us = None;
        let metrics = &self.metrics;
        session.advance(|delivered| {
            transactions += 1;
            commit_us = Some(delivered.commit_time_us);
            if delivered.events > 0 {
                metrics.end_to_end(((now_us - delivered.commit_time_us) as f64 / 1e6).max(0.0));
            }
        });
        let mut bytes = 0;
        for ticket in before..session.window().first_unacknowledged().0 {
            let sent = self.ring[ticket & (self.ring.len() - 1)];
            bytes += u64::from(sent.bytes);
            if let Some(lane) = self.lanes.get_mut(sent.lane as usize) {
                lane.acknowledged += 1;
            }
        }
        if bytes > 0 {
            self.metrics.produced_bytes(bytes);
            self.last_event_us = Some(now_us);
        }
        if transactions > 0 {
            self.metrics.transactions(transactions);
        }
        if let Some(commit_us) = commit_us {
            self.metrics.last_commit(commit_us as f64 / 1e6);
        }
    }

    /// Hands the numbers over.
    pub(super) fn flush(&mut self) {
        if self.received_bytes > 0 {
            self.metrics.received_bytes(std::mem::take(&mut self.received_bytes));
        }
        if let Some(at_us) = self.last_event_us.take() {
            self.metrics.last_event(at_us as f64 / 1e6);
        }
        for tally in self.tables.iter_mut().flatten() {
            tally.metrics.insert(std::mem::take(&mut tally.inserts));
            tally.metrics.update(std::mem::take(&mut tally.updates));
            tally.metrics.delete(std::mem::take(&mut tally.deletes));
        }
        for lane in &mut self.lanes {
            if lane.acknowledged > 0 {
                lane.counter.increment(lane.acknowledged);
                lane.total += std::mem::take(&mut lane.acknowledged);
            }
        }
        let mut routes = self.status.routes();
        routes.clear();
        for lane in &self.lanes {
            let table = lane.table.and_then(|table| self.tables.get(table)?.as_ref());
            let source = table.map_or("message", |tally| &tally.name);
            routes.push(RouteCount { source: source.to_owned(), topic: lane.topic.to_string(), events: lane.total });
        }
    }
}
