//! A model broker with idempotent producers: batches in order per partition, refused whole, timed out with or without effect.

use super::chance::Chance;
use super::oracle::{Excuse, Oracle, RecordId, Row};
use relay_core::checkpoint::Record;
use relay_core::sink::PurgeScope;
use relay_core::window::FailureKind;
use relay_core::{Acks, Failure, Ticket};
use std::collections::VecDeque;
use std::sync::Arc;

const LANES: usize = 3;
/// The dlq has a lane of its own.
const DLQ: usize = LANES;
/// The topic of records beside changes, where there are any.
const BESIDE: usize = LANES + 1;
const BATCH: usize = 4;
const IN_FLIGHT: usize = 3;

#[derive(Clone, Copy, Debug)]
struct Sending {
    ticket: Ticket,
    record: RecordId,
    /// What an END says.
    count: u64,
    is_bad: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Queued,
    Sent,
    Written,
    Refused,
}

#[derive(Debug)]
struct Batch {
    events: Vec<Sending>,
    state: State,
    /// Reported already: only its effect may still come.
    is_ghost: bool,
}

/// One client. It outlives its process: what it had sent is on the wire.
#[derive(Debug)]
pub(crate) struct Producer {
    acks: Option<Arc<Acks>>,
    lanes: Vec<VecDeque<Batch>>,
    /// Failures to report at the next turn.
    due: Vec<(Ticket, FailureKind)>,
    outstanding: usize,
    is_fatal: bool,
    is_nudged: bool,
    pub(crate) is_frozen: bool,
}

/// How bad the weather is: each a chance of one in so many, per turn and producer; 0 is never.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) time_out: u64,
    pub(crate) fatal: u64,
    pub(crate) store_fails: u64,
    pub(crate) full: u64,
    pub(crate) is_down: bool,
    /// Bad rows are refused.
    pub(crate) is_strict: bool,
    /// The dlq refuses too.
    pub(crate) is_dlq_strict: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Kafka {
    pub(crate) producers: Vec<Producer>,
    pub(crate) weather: Weather,
    pub(crate) refusals: u64,
    pub(crate) parked: u64,
}

/// The checkpoint topic.
#[derive(Debug, Default)]
pub(crate) struct Store {
    records: Vec<Record>,
    /// Records of dead or frozen processes that are still on the wire, and when they land.
    pub(crate) ghosts: Vec<(u64, Record)>,
}

// === impl Producer ===

impl Producer {
    fn report(&mut self, ticket: Ticket, failure: Option<FailureKind>) {
        self.outstanding -= 1;
        let Some(acks) = &self.acks else { return };
        match failure {
            None => acks.done(ticket),
            Some(kind) => acks.failed(ticket, Failure { kind, message: format!("{kind:?}") }),
        }
    }

    fn fail(&mut self, batch: &Batch, kind: FailureKind) {
        if !batch.is_ghost {
            for event in &batch.events {
                self.report(event.ticket, Some(kind));
            }
        }
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// One of the records of a row; the last one of a bad row is bad.
    pub(crate) fn enqueue(&mut self, row: &Row, part: u8, ticket: Ticket, is_dlq: bool) {
        let lane = if is_dlq { DLQ } else { row.key_of(part) as usize % LANES };
        let is_bad = row.is_bad && part + 1 == row.count();
        self.push(lane, Sending { ticket, record: RecordId::Part(row.id, part), count: 0, is_bad });
    }

    /// A record of no change; `count`: what an END says.
    pub(crate) fn enqueue_beside(&mut self, record: RecordId, count: u64, ticket: Ticket) {
        if self.lanes.len() == BESIDE {
            self.lanes.push(VecDeque::new());
        }
        self.push(BESIDE, Sending { ticket, record, count, is_bad: false });
    }

    fn push(&mut self, lane: usize, event: Sending) {
        let ticket = event.ticket;
        self.outstanding += 1;
        if self.is_fatal {
            self.due.push((ticket, FailureKind::Fatal));
            return;
        }
        let lane = &mut self.lanes[lane];
        match lane.back_mut().filter(|batch| batch.state == State::Queued && batch.events.len() < BATCH && !batch.is_ghost) {
            Some(batch) => batch.events.push(event),
            None => lane.push_back(Batch { events: vec![event], state: State::Queued, is_ghost: false }),
        }
    }

    pub(crate) fn nudge(&mut self) {
        self.is_nudged = true;
    }

    pub(crate) fn purge(&mut self, scope: PurgeScope) {
        for lane in 0..self.lanes.len() {
            let batches = std::mem::take(&mut self.lanes[lane]);
            for mut batch in batches {
                let is_given_up = match batch.state {
                    State::Queued => true,
                    State::Sent | State::Written | State::Refused => scope == PurgeScope::QueuedAndInFlight,
                };
                if is_given_up {
                    self.fail(&batch, FailureKind::Purged);
                    batch.is_ghost = true;
                }
                if !is_given_up || batch.state == State::Sent {
                    self.lanes[lane].push_back(batch);
                }
            }
        }
    }

    pub(crate) fn renew(&mut self) {
        assert_eq!(self.outstanding, 0, "renew comes when nothing is outstanding");
        self.is_fatal = false;
    }

    /// Its process is gone: what was queued is lost, what was sent may arrive.
    pub(crate) fn die(&mut self) {
        self.acks = None;
        self.is_frozen = false;
        for lane in &mut self.lanes {
            lane.retain_mut(|batch| {
                batch.is_ghost = true;
                batch.state == State::Sent
            });
        }
    }

    fn is_idle(&self) -> bool {
        self.acks.is_none() && self.lanes.iter().all(VecDeque::is_empty)
    }
}

// === impl Kafka ===

impl Kafka {
    pub(crate) fn connect(&mut self, acks: Arc<Acks>) -> usize {
        let lanes = (0..=LANES).map(|_| VecDeque::new()).collect();
        let producer = Producer {
            acks: Some(acks),
            lanes,
            due: Vec::new(),
            outstanding: 0,
            is_fatal: false,
            is_nudged: false,
            is_frozen: false,
        };
        self.producers.push(producer);
        self.producers.len() - 1
    }

    pub(crate) fn has_ghosts(&self) -> bool {
        self.producers.iter().any(|producer| producer.acks.is_none() && !producer.is_idle())
    }

    /// Moves batches on. Returns the number of reports.
    pub(crate) fn turn(&mut self, chance: &mut Chance, oracle: &mut Oracle) -> u64 {
        let mut reports = 0;
        for at in 0..self.producers.len() {
            if self.producers[at].is_idle() {
                continue;
            }
            reports += self.producer_turn(at, chance, oracle);
        }
        reports
    }

    fn producer_turn(&mut self, at: usize, chance: &mut Chance, oracle: &mut Oracle) -> u64 {
        let mut reports = 0;
        let weather = self.weather.clone();
        let is_live = self.producers[at].acks.is_some() && !self.producers[at].is_frozen;
        for lane in 0..self.producers[at].lanes.len() {
            if is_live {
                let producer = &mut self.producers[at];
                let is_nudged = producer.is_nudged;
                let in_flight = producer.lanes[lane].iter().filter(|batch| batch.state == State::Sent).count();
                if in_flight < IN_FLIGHT
                    && (is_nudged || chance.one_in(3))
                    && let Some(batch) = producer.lanes[lane].iter_mut().find(|batch| batch.state == State::Queued)
                {
                    batch.state = State::Sent;
                }
            }
            if !weather.is_down && chance.below(3) > 0 {
                self.serve(at, lane, chance, oracle);
            }
            if is_live && weather.time_out > 0 && chance.one_in(weather.time_out) {
                self.time_out(at, lane, chance, oracle);
            }
            if is_live && chance.one_in(2) {
                reports += self.answer(at, lane, chance);
            }
        }
        if is_live {
            let producer = &mut self.producers[at];
            producer.is_nudged &= chance.one_in(2);
            for (ticket, kind) in std::mem::take(&mut producer.due) {
                producer.report(ticket, Some(kind));
                reports += 1;
            }
            if weather.fatal > 0 && chance.one_in(weather.fatal) {
                self.break_down(at, chance, oracle);
            }
        }
        reports
    }

    /// The broker takes the next batch of a lane.
    fn serve(&mut self, at: usize, lane: usize, chance: &mut Chance, oracle: &mut Oracle) {
        let weather = &self.weather;
        let Some(place) = self.producers[at].lanes[lane].iter().position(|batch| batch.state == State::Sent) else { return };
        let batch = &mut self.producers[at].lanes[lane][place];
        let is_strict = if lane == DLQ { weather.is_dlq_strict } else { weather.is_strict };
        if is_strict && batch.events.iter().any(|event| event.is_bad) {
            self.refusals += 1;
            batch.state = State::Refused;
            if lane != DLQ {
                batch.events.iter().for_each(|event| oracle.excuse_record(event.record, Excuse::Refused));
            }
        } else if batch.is_ghost && chance.one_in(2) {
            // Lost on the way, and all behind it with it: the sequence has a hole.
            self.producers[at].lanes[lane].retain(|batch| !batch.is_ghost);
            return;
        } else {
            batch.state = State::Written;
            write(batch, lane, oracle, &mut self.parked);
        }
        if self.producers[at].lanes[lane][place].is_ghost {
            self.producers[at].lanes[lane].remove(place);
        }
    }

    /// Answers reach the client: some events of some batch that the broker has dealt with.
    fn answer(&mut self, at: usize, lane: usize, chance: &mut Chance) -> u64 {
        let producer = &mut self.producers[at];
        let done = |batch: &Batch| matches!(batch.state, State::Written | State::Refused) && !batch.is_ghost;
        let places: Vec<usize> = (0..producer.lanes[lane].len()).filter(|&place| done(&producer.lanes[lane][place])).collect();
        let Some(&place) = places.get(chance.below(places.len() as u64) as usize) else { return 0 };
        let batch = &mut producer.lanes[lane][place];
        let failure = (batch.state == State::Refused).then_some(FailureKind::Rejected);
        let count = chance.between(1, batch.events.len() as u64);
        let mut answered = Vec::new();
        for _ in 0..count {
            let event = batch.events.swap_remove(chance.below(batch.events.len() as u64) as usize);
            answered.push(event.ticket);
        }
        if batch.events.is_empty() {
            producer.lanes[lane].remove(place);
        }
        for ticket in answered {
            producer.report(ticket, failure);
        }
        count
    }

    /// The client gives a batch up; it may have been written all the same.
    fn time_out(&mut self, at: usize, lane: usize, chance: &mut Chance, oracle: &mut Oracle) {
        let producer = &mut self.producers[at];
        let Some(place) = producer.lanes[lane].iter().position(|batch| batch.state == State::Sent && !batch.is_ghost) else {
            return;
        };
        let batch = &mut producer.lanes[lane][place];
        let has_bad = self.weather.is_strict && batch.events.iter().any(|event| event.is_bad);
        if chance.one_in(2) && place == 0 && !has_bad {
            write(batch, lane, oracle, &mut self.parked);
            if let Some(batch) = producer.lanes[lane].remove(place) {
                producer.fail(&batch, FailureKind::Transient);
            }
            return;
        }
        // Not written: nothing behind it may be, or the sequence would have a hole.
        while producer.lanes[lane].len() > place {
            if let Some(batch) = producer.lanes[lane].pop_back() {
                let kind = if batch.state == State::Sent { FailureKind::Transient } else { FailureKind::Purged };
                match batch.state {
                    State::Sent | State::Queued => producer.fail(&batch, kind),
                    State::Written | State::Refused => unreachable!("a lane is served in order"),
                }
            }
        }
    }

    /// A fatal error: the client is useless until it is replaced.
    fn break_down(&mut self, at: usize, chance: &mut Chance, oracle: &mut Oracle) {
        for lane in 0..self.producers[at].lanes.len() {
            if chance.one_in(2) {
                self.serve(at, lane, chance, oracle);
            }
            let producer = &mut self.producers[at];
            for batch in std::mem::take(&mut producer.lanes[lane]) {
                let kind = match batch.state {
                    State::Refused => FailureKind::Rejected,
                    _ if chance.one_in(3) => FailureKind::Transient,
                    _ => FailureKind::Fatal,
                };
                producer.fail(&batch, kind);
            }
        }
        self.producers[at].is_fatal = true;
    }
}

fn write(batch: &Batch, lane: usize, oracle: &mut Oracle, parked: &mut u64) {
    for event in &batch.events {
        if lane == DLQ {
            *parked += 1;
            oracle.excuse_record(event.record, Excuse::Poison);
        } else {
            if let RecordId::End(transaction) = event.record {
                oracle.ends(transaction, event.count);
            }
            oracle.appears(event.record);
        }
    }
}

// === impl Store ===

impl Store {
    /// The record is durable. Compaction keeps the last one of a key.
    pub(crate) fn append(&mut self, record: Record) {
        self.records.retain(|old| old.key() != record.key());
        self.records.push(record);
    }

    pub(crate) fn turn(&mut self, now_ms: u64) {
        while let Some(at) = self.ghosts.iter().position(|(at_ms, _)| *at_ms <= now_ms) {
            let (_, record) = self.ghosts.remove(at);
            self.append(record);
        }
    }

    pub(crate) fn retire(&mut self, keys: &[String]) {
        self.records.retain(|record| !keys.contains(&record.key()));
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(crate) fn wipe(&mut self) {
        self.records.clear();
        self.ghosts.clear();
    }

    /// The record that must win: highest epoch, then greatest position. Written apart from `Reading::of` on purpose.
    pub(crate) fn winner(&self) -> Option<&Record> {
        let mut best: Option<&Record> = None;
        for record in &self.records {
            let is_better = best.is_none_or(|best| match record.epoch.cmp(&best.epoch) {
                std::cmp::Ordering::Greater => true,
                std::cmp::Ordering::Less => false,
                std::cmp::Ordering::Equal => {
                    (record.end_lsn, record.commit_lsn, record.seq) > (best.end_lsn, best.commit_lsn, best.seq)
                }
            });
            if is_better {
                best = Some(record);
            }
        }
        best
    }
}
