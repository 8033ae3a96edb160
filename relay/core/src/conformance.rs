//! Holds implementations of [`Sink`] and [`Checkpoint`] to the prose of their contracts, by what a test can observe.
//!
//! Each check panics with a sentence of the contract that was broken. An implementation's own test builds a [`SinkBench`] or a
//! [`CheckpointBench`] over a real or faked destination and calls [`check_sink`] or [`check_checkpoint`].

mod memory;

pub use memory::{MemoryCheckpoint, MemorySink, MemoryStore};

use crate::checkpoint::{Checkpoint, ReadCheckpoint, Reading, Record, RecordState};
use crate::event::Event;
use crate::lsn::Lsn;
use crate::sink::{Enqueue, PurgeScope, Sink};
use crate::window::{Acks, Failure, FailureKind, Ticket};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A sink under test and a view of its destination.
pub trait SinkBench {
    /// A new sink that reports to `acks`, over an empty destination.
    fn open(&mut self, acks: Arc<Acks>) -> Box<dyn Sink>;

    /// What the destination holds, in its own order per topic and key: (topic, key, value).
    fn read_back(&mut self) -> Vec<(String, Vec<u8>, Vec<u8>)>;

    /// An event that the sink refuses as poison, if there is such a thing.
    fn poison(&self) -> Option<Event> {
        None
    }

    /// Until when a report or a topic may be waited for.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

/// A checkpoint under test: stores and readers of one destination.
pub trait CheckpointBench {
    /// A writer of the records of pipeline `name`.
    fn writer(&mut self, name: &str) -> Box<dyn Checkpoint>;

    /// A reader of the records of pipeline `name`.
    fn reader(&mut self, name: &str) -> Box<dyn ReadCheckpoint>;

    /// Until when an outcome may be waited for.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

/// A sink with its acknowledgements, and what became of each ticket.
struct Watched {
    sink: Box<dyn Sink>,
    acks: Arc<Acks>,
    patience: Duration,
    next: usize,
    /// Accepted and not yet reported.
    open: BTreeMap<usize, Vec<u8>>,
    done: Vec<Vec<u8>>,
    failed: HashMap<usize, Failure>,
}

/// Capacity of the acknowledgements: small, so that a sink that does not bound itself is met by `Full` from the test.
const TICKETS: usize = 256;
const KEYS: usize = 5;

/// An event for `topic` with that key and value.
#[must_use]
pub fn event(topic: &str, key: &str, value: &str) -> Event {
    let mut event = Event::default();
    event.out().extend_from_slice(topic.as_bytes());
    event.end_topic();
    event.out().extend_from_slice(key.as_bytes());
    event.end_key();
    event.out().extend_from_slice(value.as_bytes());
    event.end_value();
    event
}

/// Holds a sink to the contract of [`Sink`]. `topic` is one that it may write to.
pub fn check_sink(bench: &mut dyn SinkBench, topic: &str) {
    everything_accepted_is_reported_once_and_kept_in_order(bench, topic);
    a_purge_reports_what_it_gives_up(bench, topic);
    what_is_not_accepted_is_not_reported(bench, topic);
    a_renewed_sink_goes_on(bench, topic);
}

fn everything_accepted_is_reported_once_and_kept_in_order(bench: &mut dyn SinkBench, topic: &str) {
    let mut watched = Watched::open(bench);
    let total = 3 * TICKETS;
    for number in 0..total {
        watched.offer(&event(topic, &format!("k{}", number % KEYS), &number.to_string()));
    }
    watched.settle();
    assert!(watched.failed.is_empty(), "nothing stands in the way, yet {:?} failed", watched.failed.values().next());
    assert_eq!(watched.done.len(), total, "each accepted event is reported exactly once");
    let mut last: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut seen = 0;
    for (found, key, value) in bench.read_back() {
        assert_eq!(found, topic, "an event goes to its topic");
        let number: usize = String::from_utf8_lossy(&value).parse().expect("the destination holds what was offered");
        let before = last.insert(key, number);
        assert!(before.is_none_or(|before| before < number), "events of one key are kept in the order accepted");
        seen += 1;
    }
    assert_eq!(seen, total, "done means durable: every event is in the destination, once");
}

fn a_purge_reports_what_it_gives_up(bench: &mut dyn SinkBench, topic: &str) {
    for scope in [PurgeScope::Queued, PurgeScope::QueuedAndInFlight] {
        let mut watched = Watched::open(bench);
        for number in 0..TICKETS / 2 {
            watched.offer(&event(topic, &format!("k{}", number % KEYS), &number.to_string()));
        }
        watched.sink.purge(scope);
        watched.settle();
        let wrong = watched.failed.values().find(|failure| failure.kind != FailureKind::Purged);
        assert!(wrong.is_none(), "a purge fails events as purged, not as {wrong:?}");
        assert_eq!(watched.done.len() + watched.failed.len(), TICKETS / 2, "after a purge each event is reported exactly once");
        let kept: Vec<Vec<u8>> = bench.read_back().into_iter().map(|(_, _, value)| value).collect();
        let missing = watched.done.iter().find(|value| !kept.contains(value));
        assert!(missing.is_none(), "done means durable, also around a purge");
        // The sink is of use afterwards, from the same window.
        watched.offer(&event(topic, "k0", "after"));
        watched.settle();
        assert!(watched.done.contains(&b"after".to_vec()), "a purged sink goes on");
    }
}

fn what_is_not_accepted_is_not_reported(bench: &mut dyn SinkBench, topic: &str) {
    let mut watched = Watched::open(bench);
    if let Some(poison) = bench.poison() {
        let answer = watched.final_answer(&poison);
        assert!(matches!(answer, Enqueue::Poison(_)), "the bench's poison is poison, not {answer:?}");
        assert_eq!(watched.sink.outstanding(), 0, "poison is not taken");
    }
    // A ticket that was refused is offered again with the next event.
    watched.offer(&event(topic, "k", "one"));
    watched.settle();
    assert_eq!(watched.done, [b"one".to_vec()], "only the accepted event is reported");
    assert_eq!(bench.read_back().len(), 1, "only the accepted event is in the destination");
}

fn a_renewed_sink_goes_on(bench: &mut dyn SinkBench, topic: &str) {
    let mut watched = Watched::open(bench);
    watched.offer(&event(topic, "k", "before"));
    watched.settle();
    assert_eq!(watched.sink.renew(), Ok(()), "a sink whose destination is well can be renewed");
    watched.offer(&event(topic, "k", "after"));
    watched.settle();
    let values: Vec<Vec<u8>> = bench.read_back().into_iter().map(|(_, _, value)| value).collect();
    assert_eq!(values, [b"before".to_vec(), b"after".to_vec()], "nothing is lost or doubled by renewing");
}

/// Holds a checkpoint store to the contracts of [`Checkpoint`] and [`ReadCheckpoint`], starting from nothing stored.
pub fn check_checkpoint(bench: &mut dyn CheckpointBench) {
    let mut reader = bench.reader("first");
    assert_eq!(reader.read(), Ok(Reading::default()), "an empty store reads as empty");
    let running = |name: &str, epoch, instance: &str, end_lsn| record(name, RecordState::Running, epoch, instance, Some(end_lsn));
    let mut writer = bench.writer("first");

    let bootstrapping = record("first", RecordState::Bootstrapping, 0, "aaaaaaaa", None);
    store(bench, writer.as_mut(), &bootstrapping);
    let reading = reader.read().expect("the store can be read");
    assert_eq!(reading.newest.as_ref(), Some(&bootstrapping), "what was stored is read back to the letter");
    assert_eq!(reading.highest_epoch, 0);

    for end_lsn in [Lsn(100), Lsn(200), Lsn(300)] {
        let record = running("first", 1, "aaaaaaaa", end_lsn);
        store(bench, writer.as_mut(), &record);
        assert_eq!(newest(reader.as_mut()), record, "the newest record of an epoch is read");
    }

    let mut other = bench.writer("first");
    let next = running("first", 2, "bbbbbbbb", Lsn(250));
    store(bench, other.as_mut(), &next);
    assert_eq!(newest(reader.as_mut()), next, "the highest epoch wins, whatever its position");
    store(bench, writer.as_mut(), &running("first", 1, "aaaaaaaa", Lsn(900)));
    assert_eq!(newest(reader.as_mut()), next, "a late record of a lower epoch does not win");
    let rival = running("first", 2, "cccccccc", Lsn(260));
    store(bench, other.as_mut(), &rival);
    assert_eq!(newest(reader.as_mut()), rival, "of one epoch the greatest position wins");
    store(bench, other.as_mut(), &running("first", 2, "bbbbbbbb", Lsn(255)));
    assert_eq!(newest(reader.as_mut()), rival, "of one epoch the greatest position wins, whenever it was written");

    let mut neighbour = bench.writer("first_2");
    store(bench, neighbour.as_mut(), &running("first_2", 9, "dddddddd", Lsn(999)));
    assert_eq!(newest(reader.as_mut()), rival, "another pipeline's records are invisible");

    let keys = reader.read().expect("the store can be read").keys;
    let stale: Vec<String> = keys.into_iter().filter(|key| *key != rival.key()).collect();
    assert!(stale.len() >= 3, "every record's key is told: {stale:?}");
    other.retire(&stale);
    let end = Instant::now() + bench.patience();
    while reader.read().expect("the store can be read").keys != [rival.key()] {
        assert!(Instant::now() < end, "what is retired goes, and nothing else");
        std::thread::sleep(Duration::from_millis(5));
    }
    let reading = reader.read().expect("the store can be read");
    assert_eq!((reading.newest, reading.highest_epoch), (Some(rival), 2), "the newest record outlives the old ones");
    assert_eq!(newest(bench.reader("first_2").as_mut()).epoch, 9, "another pipeline's records are not retired");
}

fn store(bench: &dyn CheckpointBench, writer: &mut dyn Checkpoint, record: &Record) {
    let end = Instant::now() + bench.patience();
    writer.begin_store(record);
    loop {
        match writer.outcome() {
            Some(outcome) => {
                assert_eq!(outcome, Ok(()), "nothing stands in the way of a store");
                assert_eq!(writer.outcome(), None, "a store has one outcome");
                return;
            }
            None => assert!(Instant::now() < end, "a store has an outcome"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn newest(reader: &mut dyn ReadCheckpoint) -> Record {
    reader.read().expect("the store can be read").newest.expect("a record is stored")
}

fn record(name: &str, state: RecordState, epoch: u64, instance: &str, end_lsn: Option<Lsn>) -> Record {
    Record {
        v: Record::VERSION,
        state,
        name: name.into(),
        epoch,
        instance: instance.into(),
        guarantee: "at-least-once".into(),
        mode: "log".into(),
        system_id: "7389115302113408123".into(),
        timeline: 1,
        database: "shop".into(),
        slot: Some("relay_first".into()),
        end_lsn,
        commit_lsn: None,
        seq: None,
        snapshot: None,
        poll: None,
        log_poll: None,
        publication_fingerprint: "5d41402abc4b2a76".into(),
        config_fingerprint: "7d793037a0760186".into(),
        accepted_gaps: Vec::new(),
        written_at: "2026-03-01T09:30:00.123Z".into(),
        relay_version: "0.1.0".into(),
    }
}

// === impl Watched ===

impl Watched {
    fn open(bench: &mut dyn SinkBench) -> Self {
        let acks = Acks::new(TICKETS);
        let sink = bench.open(Arc::clone(&acks));
        let patience = bench.patience();
        Self { sink, acks, patience, next: 0, open: BTreeMap::new(), done: Vec::new(), failed: HashMap::new() }
    }

    fn answer(&mut self, event: &Event) -> Enqueue {
        let began = Instant::now();
        let answer = self.sink.enqueue(event, Ticket(self.next));
        // A call that waits for its destination takes longer than a busy machine keeps a thread from running.
        assert!(began.elapsed() < Duration::from_secs(10), "no call blocks");
        answer
    }

    /// What the sink says once it does not wait any more for what it must know of the topic.
    fn final_answer(&mut self, event: &Event) -> Enqueue {
        let end = Instant::now() + self.patience;
        loop {
            match self.answer(event) {
                Enqueue::Waiting(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(1)),
                answer => return answer,
            }
        }
    }

    /// Offers until it is accepted.
    fn offer(&mut self, event: &Event) {
        let end = Instant::now() + self.patience;
        loop {
            self.collect();
            let has_room = self.next < TICKETS + self.open.keys().next().copied().unwrap_or(self.next);
            let answer = if has_room { self.answer(event) } else { Enqueue::Full };
            match answer {
                Enqueue::Accepted => {
                    self.open.insert(self.next, event.value().unwrap_or_default().to_vec());
                    self.next += 1;
                    return;
                }
                Enqueue::Full | Enqueue::Waiting(_) => {
                    assert!(Instant::now() < end, "a full or waiting sink is ready in the end")
                }
                other => panic!("an ordinary event is taken, not {other:?}"),
            }
            self.sink.nudge();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes the reports that have come in.
    fn collect(&mut self) {
        for (ticket, failure) in self.acks.take_failures() {
            assert!(self.open.remove(&ticket.0).is_some(), "{ticket:?} is reported, but was not open");
            self.failed.insert(ticket.0, failure);
        }
        let acknowledged: Vec<usize> = self.open.keys().copied().filter(|&ticket| self.acks.take(ticket)).collect();
        for ticket in acknowledged {
            self.done.extend(self.open.remove(&ticket));
        }
    }

    /// Waits until everything accepted is reported; a nudge is all that it takes. Then looks whether anything is reported twice.
    fn settle(&mut self) {
        self.sink.nudge();
        let end = Instant::now() + self.patience;
        loop {
            let is_over = self.sink.outstanding() == 0;
            self.collect();
            if is_over {
                break;
            }
            assert!(Instant::now() < end, "{} accepted events are never reported", self.open.len());
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(self.open.is_empty(), "nothing is outstanding, but {:?} were not reported", self.open.keys());
        self.collect();
        let extra = (0..TICKETS).find(|&slot| self.acks.take(slot));
        assert_eq!(extra, None, "a report came for a ticket that was not open");
    }
}
