//! A model broker with idempotent producers: batches in order per partition, refused whole, timed out with or without effect.

pub(crate) mod transactions;

use super::chance::Chance;
use super::oracle::{Excuse, Oracle, RecordId, Row};
use relay_core::checkpoint::Record;
use relay_core::sink::PurgeScope;
use relay_core::window::FailureKind;
use relay_core::{Acks, Failure, Lsn, Ticket};
use std::collections::VecDeque;
use std::sync::Arc;
use transactions::{Coordinator, Trouble};

/// Partitions at first, and once somebody has added some.
const LANES: usize = 3;
const GROWN: usize = 5;
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
    /// In the leader's log, and not yet in those of its followers: nobody reads it, and the next leader may not have it.
    Appended,
    Written,
    Refused,
}

#[derive(Debug)]
struct Batch {
    events: Vec<Sending>,
    state: State,
    /// Reported already: only its effect may still come.
    is_ghost: bool,
    /// The producer epoch that it was made under, in a transaction.
    epoch: Option<u64>,
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
    /// Its events go into transactions.
    is_transactional: bool,
    /// That of its `init_transactions`.
    epoch: Option<u64>,
    /// Its transaction can only be aborted.
    is_abortable: bool,
    /// It knows of the partitions that came later.
    is_grown: bool,
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
    pub(crate) trouble: Trouble,
    /// Outside of transactions: a batch waits for the followers about so many turns; 0: not at all.
    pub(crate) lag: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Kafka {
    pub(crate) producers: Vec<Producer>,
    pub(crate) weather: Weather,
    pub(crate) refusals: u64,
    pub(crate) parked: u64,
    pub(crate) coordinator: Coordinator,
    pub(crate) now_ms: u64,
    /// Partitions were added: a key may have another one from now on.
    pub(crate) is_grown: bool,
    /// Batches that a new leader did not have.
    pub(crate) truncated: u64,
}

/// The checkpoint topic.
#[derive(Debug, Default)]
pub(crate) struct Store {
    records: Vec<Record>,
    /// Records of dead or frozen processes that are still on the wire, and when they land.
    pub(crate) ghosts: Vec<(u64, Record)>,
    /// Records that stand behind an open transaction of the topic: readers of committed records do not see them.
    held_back: Vec<Record>,
}

// === impl Batch ===

impl Batch {
    /// The client has sent it and has no answer.
    fn is_under_way(&self) -> bool {
        matches!(self.state, State::Sent | State::Appended)
    }
}

// === impl Producer ===

impl Producer {
    /// It learns of the new partitions. What a key has on its way to the old one may arrive behind what follows it to the new one.
    fn grow(&mut self, oracle: &mut Oracle) {
        self.is_grown = true;
        self.lanes.resize_with(BESIDE + 1 + GROWN - LANES, VecDeque::new);
        for event in self.lanes[..LANES].iter().flatten().flat_map(|batch| &batch.events) {
            oracle.excuse_record(event.record, Excuse::Refused);
        }
    }

    /// A batch in the leader's log alone took too long, and all that is behind it: whether it stays there is open.
    fn give_up_from(&mut self, lane: usize, place: usize) {
        let mut batches = std::mem::take(&mut self.lanes[lane]);
        let mut behind = batches.split_off(place);
        behind.retain_mut(|batch| {
            self.fail(batch, FailureKind::Transient);
            batch.is_ghost = true;
            batch.state == State::Appended
        });
        batches.append(&mut behind);
        self.lanes[lane] = batches;
    }

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
        let lane = if is_dlq { DLQ } else { lane_of(row.key_of(part), self.is_grown) };
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
        if self.is_fatal || self.is_abortable {
            let kind = if self.is_fatal { FailureKind::Fatal } else { FailureKind::Aborted };
            self.due.push((ticket, kind));
            return;
        }
        assert!(!self.is_transactional || self.epoch.is_some(), "a client that has not shut others out sends nothing");
        let epoch = self.epoch;
        let lane = &mut self.lanes[lane];
        match lane
            .back_mut()
            .filter(|batch| batch.state == State::Queued && batch.events.len() < BATCH && !batch.is_ghost && batch.epoch == epoch)
        {
            Some(batch) => batch.events.push(event),
            None => lane.push_back(Batch { events: vec![event], state: State::Queued, is_ghost: false, epoch }),
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
                    State::Sent | State::Appended | State::Written | State::Refused => scope == PurgeScope::QueuedAndInFlight,
                };
                if is_given_up {
                    self.fail(&batch, FailureKind::Purged);
                    batch.is_ghost = true;
                }
                if !is_given_up || matches!(batch.state, State::Sent | State::Appended) {
                    self.lanes[lane].push_back(batch);
                }
            }
        }
    }

    pub(crate) fn renew(&mut self) {
        assert_eq!(self.outstanding, 0, "renew comes when nothing is outstanding");
        self.is_fatal = false;
        (self.epoch, self.is_abortable) = (None, false);
    }

    /// From now on its events go into transactions.
    pub(crate) fn use_transactions(&mut self) {
        self.is_transactional = true;
    }

    /// Its process is gone: what was queued is lost, what was sent may arrive.
    pub(crate) fn die(&mut self) {
        self.acks = None;
        self.is_frozen = false;
        for lane in &mut self.lanes {
            lane.retain_mut(|batch| {
                batch.is_ghost = true;
                matches!(batch.state, State::Sent | State::Appended)
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
        let count = if self.is_grown { BESIDE + 1 + GROWN - LANES } else { LANES + 1 };
        let lanes = (0..count).map(|_| VecDeque::new()).collect();
        let producer = Producer {
            acks: Some(acks),
            lanes,
            due: Vec::new(),
            outstanding: 0,
            is_fatal: false,
            is_nudged: false,
            is_frozen: false,
            is_transactional: false,
            epoch: None,
            is_abortable: false,
            is_grown: self.is_grown,
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
        if is_live && self.is_grown && !self.producers[at].is_grown && chance.one_in(4) {
            self.producers[at].grow(oracle);
        }
        for lane in 0..self.producers[at].lanes.len() {
            if is_live {
                let producer = &mut self.producers[at];
                let is_nudged = producer.is_nudged;
                let in_flight = producer.lanes[lane].iter().filter(|batch| batch.is_under_way()).count();
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
            if !weather.is_down {
                self.replicate(at, lane, chance, oracle);
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
        let Some(place) = self.producers[at].lanes[lane].iter().position(|batch| batch.state == State::Sent) else { return };
        if let Some(epoch) = self.producers[at].lanes[lane][place].epoch.filter(|epoch| !self.coordinator.is_current(*epoch)) {
            return self.refuse_old(at, lane, place, epoch, chance);
        }
        // What a client has given up may come very late: behind its abort, if it goes on with one.
        let is_late = |batch: &Batch| batch.is_ghost && batch.epoch.is_some();
        if is_late(&self.producers[at].lanes[lane][place]) && chance.below(12) > 0 {
            return;
        }
        let weather = &self.weather;
        let waits = weather.lag > 0 || self.producers[at].lanes[lane].iter().any(|batch| batch.state == State::Appended);
        let batch = &mut self.producers[at].lanes[lane][place];
        let is_strict = if lane == DLQ { weather.is_dlq_strict } else { weather.is_strict };
        if is_strict && batch.events.iter().any(|event| event.is_bad) {
            self.refusals += 1;
            batch.state = State::Refused;
            if lane != DLQ && batch.epoch.is_none() {
                batch.events.iter().for_each(|event| oracle.excuse_record(event.record, Excuse::Refused));
            }
        } else if batch.is_ghost && chance.one_in(2) {
            // Lost on the way, and all behind it with it: the sequence has a hole.
            self.producers[at].lanes[lane].retain(|batch| !batch.is_ghost);
            return;
        } else {
            batch.state = State::Written;
            match batch.epoch {
                Some(_) => self.coordinator.write(lane, &batch.events, self.now_ms),
                None if waits => {
                    batch.state = State::Appended;
                    return;
                }
                None => write(batch, lane, oracle, &mut self.parked),
            }
        }
        if self.producers[at].lanes[lane][place].is_ghost {
            self.producers[at].lanes[lane].remove(place);
        }
    }

    /// The followers have the next batch, if they are that far.
    fn replicate(&mut self, at: usize, lane: usize, chance: &mut Chance, oracle: &mut Oracle) {
        let lane_batches = &mut self.producers[at].lanes[lane];
        let Some(place) = lane_batches.iter().position(|batch| batch.state == State::Appended) else { return };
        if chance.below(self.weather.lag + 1) > 0 {
            return;
        }
        let batch = &mut lane_batches[place];
        batch.state = State::Written;
        write(batch, lane, oracle, &mut self.parked);
        if batch.is_ghost {
            lane_batches.remove(place);
        }
    }

    /// Each partition gets another leader, which may lack the last of what is not in every log. The client sends that again, unless it has
    /// given it up.
    pub(crate) fn elect(&mut self, chance: &mut Chance) {
        for lane in self.producers.iter_mut().flat_map(|producer| &mut producer.lanes) {
            let appended = lane.iter().filter(|batch| batch.state == State::Appended).count() as u64;
            if appended == 0 {
                continue;
            }
            let lost = chance.below(appended + 1) as usize;
            if lost == 0 {
                continue;
            }
            lane.iter_mut()
                .rev()
                .filter(|batch| batch.state == State::Appended)
                .take(lost)
                .for_each(|batch| batch.state = State::Sent);
            // What nobody sends again is gone.
            let mut is_first = true;
            lane.retain(|batch| {
                let is_gone = batch.state == State::Sent && batch.is_ghost && is_first;
                is_first &= batch.state != State::Sent || batch.is_ghost;
                !is_gone
            });
            self.truncated += lost as u64;
        }
    }

    /// A batch of a client that was shut out: nothing of it is written, nor of what is behind it.
    fn refuse_old(&mut self, at: usize, lane: usize, place: usize, epoch: u64, chance: &mut Chance) {
        let kind = self.coordinator.refusal(epoch, chance);
        let producer = &mut self.producers[at];
        let refused: Vec<Batch> = producer.lanes[lane].drain(place..).collect();
        for batch in refused {
            if batch.epoch == Some(epoch) {
                producer.fail(&batch, kind);
                producer.is_fatal |= !batch.is_ghost;
            } else {
                producer.lanes[lane].push_back(batch);
            }
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
        producer.is_abortable |= failure.is_some() && producer.is_transactional;
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
        let Some(place) = producer.lanes[lane].iter().position(|batch| batch.is_under_way() && !batch.is_ghost) else {
            return;
        };
        if producer.lanes[lane][place].state == State::Appended {
            return producer.give_up_from(lane, place);
        }
        let batch = &mut producer.lanes[lane][place];
        let has_bad = self.weather.is_strict && batch.events.iter().any(|event| event.is_bad);
        if let Some(epoch) = batch.epoch {
            return self.time_out_inside(at, lane, place, epoch, chance);
        }
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
                    State::Appended | State::Written | State::Refused => unreachable!("a lane is served in order"),
                }
            }
        }
    }

    /// The same in a transaction, which can only be aborted then; or nobody knows of the partition's part in it.
    fn time_out_inside(&mut self, at: usize, lane: usize, place: usize, epoch: u64, chance: &mut Chance) {
        let producer = &mut self.producers[at];
        let is_spent = chance.one_in(4);
        let kind = if is_spent { FailureKind::Indefinite } else { FailureKind::Transient };
        if chance.one_in(2) && place == 0 && self.coordinator.is_current(epoch) {
            self.coordinator.write(lane, &producer.lanes[lane][place].events, self.now_ms);
            if let Some(batch) = producer.lanes[lane].remove(place) {
                producer.fail(&batch, kind);
            }
        } else {
            while producer.lanes[lane].len() > place
                && let Some(batch) = producer.lanes[lane].pop_back()
            {
                producer.fail(&batch, kind);
            }
        }
        producer.is_abortable = true;
        producer.is_fatal |= is_spent;
    }

    /// A fatal error: the client is useless until it is replaced.
    fn break_down(&mut self, at: usize, chance: &mut Chance, oracle: &mut Oracle) {
        for lane in 0..self.producers[at].lanes.len() {
            if chance.one_in(2) {
                self.serve(at, lane, chance, oracle);
            }
            let producer = &mut self.producers[at];
            let mut has_all = true;
            for batch in std::mem::take(&mut producer.lanes[lane]) {
                if batch.state == State::Appended {
                    has_all &= chance.one_in(2);
                    if has_all {
                        write(&batch, lane, oracle, &mut self.parked);
                    }
                }
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

/// The lane of a key. The partitions that came later stand behind the lanes that every run has.
fn lane_of(key: u8, is_grown: bool) -> usize {
    let partition = key as usize % if is_grown { GROWN } else { LANES };
    if partition < LANES { partition } else { partition + BESIDE + 1 - LANES }
}

fn write(batch: &Batch, lane: usize, oracle: &mut Oracle, parked: &mut u64) {
    batch.events.iter().for_each(|event| write_event(event, lane, oracle, parked));
}

fn write_event(event: &Sending, lane: usize, oracle: &mut Oracle, parked: &mut u64) {
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

// === impl Store ===

impl Store {
    /// The record is durable; readers see it unless a transaction is open before it.
    pub(crate) fn append_behind(&mut self, record: Record, is_held: bool) {
        if is_held {
            self.held_back.push(record);
        } else {
            self.append(record);
        }
    }

    /// The furthest of the records that are durable and cannot be read yet.
    pub(crate) fn held_back(&self) -> Option<Lsn> {
        self.held_back.iter().filter_map(|record| record.end_lsn).max()
    }

    /// No transaction is open any more.
    pub(crate) fn release(&mut self) {
        for record in std::mem::take(&mut self.held_back) {
            self.append(record);
        }
    }

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
        self.held_back.clear();
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
