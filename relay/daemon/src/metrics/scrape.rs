//! Renders everything at the moment somebody asks: the counters, and gauges copied from the shared status.

use std::sync::atomic::Ordering;
use std::time::Duration;

use relay_core::Lsn;
use relay_postgres::OutboxFacts;

use super::process::Process;
use super::sheet::Sheet;
use super::{Metrics, label, name};
use crate::status::{Peer, Progress, ServerFacts, SlotFacts, Status, unix_us};

/// A side unseen for so long is not connected.
const UNSEEN: Duration = Duration::from_secs(30);

/// How far each stage is behind the server, in bytes of WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct LagBytes {
    pub(crate) received: u64,
    pub(crate) queued: u64,
    pub(crate) produced: u64,
    pub(crate) confirmed: u64,
}

// === impl LagBytes ===

impl LagBytes {
    /// `None` while neither the slot nor the stream has told where the server stands.
    ///
    /// The slot's facts are some seconds old, the stream's are not: whichever is further is the server's end. A stage that this instance
    /// knows nothing of (it is a standby, or has just started) stands where the slot is confirmed.
    pub(crate) fn of(progress: &Progress, slot: Option<&SlotFacts>) -> Option<Self> {
        let floor = slot.map_or(Lsn::ZERO, |slot| slot.confirmed_lsn).max(progress.confirmed);
        let end = slot.map_or(Lsn::ZERO, |slot| slot.wal_end).max(progress.received);
        let behind = |stage: Lsn| end.bytes_since(stage.max(floor));
        (!end.is_zero()).then(|| Self {
            received: behind(progress.received.max(progress.frontier)),
            // Read, encoded and enqueued in one go: there is no queue in front of the sink where it could differ.
            queued: behind(progress.received.max(progress.frontier)),
            produced: behind(progress.frontier),
            confirmed: behind(progress.confirmed),
        })
    }
}

/// Age of the oldest commit that is not yet durable, on the server's clock; 0 when caught up.
pub(crate) fn lag_seconds(progress: &Progress, server: &ServerFacts, now_us: i64) -> f64 {
    let ahead_us = server.clock_ahead_us;
    progress.oldest_commit_us.map_or(0.0, |commit_us| seconds(now_us.saturating_add(ahead_us).saturating_sub(commit_us).max(0)))
}

// === impl Metrics ===

impl Metrics {
    /// Everything, in the text format of Prometheus.
    pub(crate) fn render(&self, status: &Status) -> String {
        let mut sheet = Sheet::after(self.recorder.handle().render(), &self.pipeline);
        self.write_setup(&mut sheet);
        write_process(&mut sheet);
        let progress = status.progress().clone();
        let slot = status.slot().clone();
        write_progress(&mut sheet, status, &progress);
        write_slot(&mut sheet, slot.as_ref(), status.unseen_for(Peer::Source).is_some());
        write_lag(&mut sheet, &progress, slot.as_ref());
        write_server(&mut sheet, status, &progress);
        write_outboxes(&mut sheet, &status.outboxes());
        self.write_own(&mut sheet);
        sheet.into_text()
    }

    fn write_setup(&self, sheet: &mut Sheet) {
        let (build, setup) = (&self.build, &self.setup);
        sheet.info(&name::BUILD_INFO, &[build.version, build.commit, &build.librdkafka]);
        sheet.info(&name::PIPELINE_INFO, &[setup.mode, setup.guarantee, &setup.slot, &setup.publication, setup.sink]);
        sheet.known(&name::SLOT_WAL_BUDGET, setup.wal_budget_bytes);
        sheet.one(&name::MEMORY_LIMIT, setup.memory_limit_bytes);
    }

    fn write_own(&self, sheet: &mut Sheet) {
        sheet.one(&name::LAST_EVENT, self.last_event.get());
        sheet.one(&name::LAST_COMMIT, self.last_commit.get());
        sheet.one(&name::LAST_CHECKPOINT, self.last_checkpoint.get());
        sheet.one(&name::BACKPRESSURE, self.backpressure_us.load(Ordering::Relaxed) as f64 / 1e6);
        sheet.histogram(&name::END_TO_END_LATENCY, &self.end_to_end.observed());
        sheet.histogram(&name::COMMIT_SECONDS, &self.commit_seconds.observed());
        let expiry = label::PEERS.iter().zip(&self.certificate_expiry).map(|(peer, at)| (*peer, at.get()));
        sheet.each(&name::CERTIFICATE_EXPIRY, expiry.filter(|(_, at)| *at > 0.0));
    }
}

fn write_process(sheet: &mut Sheet) {
    let process = Process::now();
    sheet.known(&name::PROCESS_START_TIME, process.start_seconds);
    sheet.known(&name::PROCESS_RESIDENT_MEMORY, process.resident_bytes);
    sheet.known(&name::PROCESS_CPU, process.cpu_seconds);
    sheet.known(&name::PROCESS_OPEN_FDS, process.open_fds);
}

fn write_progress(sheet: &mut Sheet, status: &Status, progress: &Progress) {
    let state = label::state(progress.state);
    sheet.each(&name::STATE, label::STATES.iter().map(|each| (*each, u8::from(*each == state))));
    sheet.one(&name::LEADER, u8::from(progress.is_leader));
    let is_seen = |peer| status.unseen_for(peer).is_some_and(|unseen| unseen < UNSEEN);
    let is_at_fault = |reason| progress.is_faulty && progress.fault_reason == Some(reason);
    sheet.one(&name::SOURCE_CONNECTED, u8::from(is_seen(Peer::Source) && !is_at_fault("source_unreachable")));
    sheet.one(&name::SINK_CONNECTED, u8::from(is_seen(Peer::Sink) && !is_at_fault("sink_unreachable")));
    sheet.one(&name::CONFIRMED_LSN, progress.confirmed.0);
    sheet.one(&name::CHECKPOINT_LSN, progress.checkpoint.0);
    sheet.one(&name::PRODUCE_INFLIGHT, progress.in_flight_events);
    // The sink's queue is the only buffer of events: what it has not had acknowledged fills it.
    sheet.one(&name::QUEUE_EVENTS, progress.in_flight_events);
    sheet.one(&name::QUEUE_BYTES, progress.in_flight_bytes);
    sheet.one(&name::SNAPSHOT_TABLES, progress.snapshot.as_ref().map_or(0, |snapshot| snapshot.tables_remaining));
    sheet.one(&name::SNAPSHOT_REREADS, progress.snapshot_rereads);
}

/// Nothing is claimed of a slot before the server was seen; one that it does not have is not active.
fn write_slot(sheet: &mut Sheet, slot: Option<&SlotFacts>, has_seen_server: bool) {
    let Some(slot) = slot else {
        sheet.known(&name::SLOT_ACTIVE, has_seen_server.then_some(0));
        return;
    };
    sheet.one(&name::SLOT_ACTIVE, u8::from(slot.active_pid.is_some()));
    let wal_status = slot.wal_status.as_deref();
    sheet.each(&name::SLOT_WAL_STATUS, label::WAL_STATUSES.iter().map(|each| (*each, u8::from(wal_status == Some(each)))));
    sheet.one(&name::SLOT_RETAINED_WAL, slot.retained_bytes);
    sheet.known(&name::SLOT_SAFE_WAL, slot.safe_wal_bytes);
    sheet.known(&name::SLOT_CATALOG_XMIN_AGE, slot.catalog_xmin_age);
    let inactive_since = if slot.active_pid.is_some() { Some(0.0) } else { slot.inactive_since };
    sheet.known(&name::SLOT_INACTIVE_SINCE, inactive_since);
}

fn write_lag(sheet: &mut Sheet, progress: &Progress, slot: Option<&SlotFacts>) {
    if let Some(lag) = LagBytes::of(progress, slot) {
        let stages =
            [("received", lag.received), ("queued", lag.queued), ("produced", lag.produced), ("confirmed", lag.confirmed)];
        sheet.each(&name::SOURCE_LAG_BYTES, stages);
    }
}

fn write_server(sheet: &mut Sheet, status: &Status, progress: &Progress) {
    let server = status.server().clone();
    sheet.one(&name::SOURCE_LAG_SECONDS, lag_seconds(progress, &server, unix_us()));
    let age = server.oldest_transaction.as_ref().map_or(0.0, |(age, _)| *age);
    sheet.known(&name::SOURCE_OLDEST_TRANSACTION, status.unseen_for(Peer::Source).map(|_| age));
}

fn write_outboxes(sheet: &mut Sheet, outboxes: &[OutboxFacts]) {
    let pending = || outboxes.iter().filter_map(|facts| Some((facts.table.as_str(), facts.pending?)));
    sheet.each(&name::OUTBOX_SIZE, outboxes.iter().map(|facts| (facts.table.as_str(), facts.size_bytes)));
    sheet.each(&name::OUTBOX_DEAD_ROWS, outboxes.iter().map(|facts| (facts.table.as_str(), facts.dead_rows)));
    sheet.each(&name::OUTBOX_PENDING_ROWS, pending().map(|(table, pending)| (table, pending.rows)));
    let oldest = pending()
        .filter_map(|(table, pending)| Some((table, if pending.rows == 0 { 0.0 } else { pending.oldest_seconds?.max(0.0) })));
    sheet.each(&name::OUTBOX_OLDEST_PENDING, oldest);
}

fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}
