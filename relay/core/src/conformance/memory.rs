//! The simplest sink and checkpoint that keep their contracts, in memory: a reference, and a double for tests of what drives them.

use crate::checkpoint::{Checkpoint, ReadCheckpoint, ReadError, Reading, Record};
use crate::event::Event;
use crate::sink::{Enqueue, Poison, PoisonReason, PurgeScope, Sink};
use crate::window::{Acks, Failure, FailureKind, Ticket};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A record as a test reads it back: topic, key, value.
type Kept = (String, Vec<u8>, Vec<u8>);

/// Keeps events in a list that a test can read. They become durable when the sink is nudged.
#[derive(Debug)]
pub struct MemorySink {
    acks: Arc<Acks>,
    queue: VecDeque<(Ticket, Kept)>,
    kept: Arc<Mutex<Vec<Kept>>>,
}

/// The records of any number of pipelines.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    records: Arc<Mutex<BTreeMap<(String, String), Record>>>,
}

/// One pipeline's view of a [`MemoryStore`]: writer and reader.
#[derive(Debug)]
pub struct MemoryCheckpoint {
    store: MemoryStore,
    name: String,
    outcome: Option<Result<(), Failure>>,
}

// === impl MemorySink ===

impl MemorySink {
    /// Events that may wait.
    pub const CAPACITY: usize = 64;

    /// A sink that reports to `acks` and keeps its events in `kept`.
    #[must_use]
    pub fn new(acks: Arc<Acks>, kept: Arc<Mutex<Vec<Kept>>>) -> Self {
        Self { acks, queue: VecDeque::new(), kept }
    }

    fn write(&mut self) {
        for (ticket, record) in self.queue.drain(..) {
            lock(&self.kept).push(record);
            self.acks.done(ticket);
        }
    }
}

impl Sink for MemorySink {
    fn enqueue(&mut self, event: &Event, ticket: Ticket) -> Enqueue {
        if event.topic().is_empty() {
            return Enqueue::Poison(Poison::new(PoisonReason::Route, "the event has no topic"));
        }
        if self.queue.len() == Self::CAPACITY {
            return Enqueue::Full;
        }
        let record =
            (event.topic().to_owned(), event.key().unwrap_or_default().to_vec(), event.value().unwrap_or_default().to_vec());
        self.queue.push_back((ticket, record));
        Enqueue::Accepted
    }

    fn nudge(&mut self) {
        self.write();
    }

    fn purge(&mut self, _scope: PurgeScope) {
        let failure = Failure { kind: FailureKind::Purged, message: "purged".into() };
        self.queue.drain(..).for_each(|(ticket, _)| self.acks.failed(ticket, failure.clone()));
    }

    fn outstanding(&self) -> usize {
        self.queue.len()
    }

    fn renew(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn is_reachable(&self) -> bool {
        true
    }
}

// === impl MemoryStore ===

impl MemoryStore {
    /// The view of the pipeline `name`.
    #[must_use]
    pub fn of(&self, name: &str) -> MemoryCheckpoint {
        MemoryCheckpoint { store: self.clone(), name: name.to_owned(), outcome: None }
    }
}

// === impl MemoryCheckpoint ===

impl Checkpoint for MemoryCheckpoint {
    fn begin_store(&mut self, record: &Record) {
        lock(&self.store.records).insert((self.name.clone(), record.key()), record.clone());
        self.outcome = Some(Ok(()));
    }

    fn outcome(&mut self) -> Option<Result<(), Failure>> {
        self.outcome.take()
    }

    fn retire(&mut self, keys: &[String]) {
        lock(&self.store.records).retain(|(name, key), _| *name != self.name || !keys.contains(key));
    }
}

impl ReadCheckpoint for MemoryCheckpoint {
    fn read(&mut self) -> Result<Reading, ReadError> {
        let records = lock(&self.store.records);
        Ok(Reading::of(records.iter().filter(|((name, _), _)| *name == self.name).map(|(_, record)| record.clone())))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{CheckpointBench, SinkBench, check_checkpoint, check_sink};

    #[derive(Default)]
    struct Memory {
        kept: Arc<Mutex<Vec<Kept>>>,
        store: MemoryStore,
        /// Breaks the contract on purpose.
        flaw: Option<Flaw>,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Flaw {
        ReportsBeforeKeeping,
        ForgetsPurged,
        ReportsTwice,
        Reorders,
    }

    /// A sink with a flaw.
    struct Flawed(MemorySink, Flaw);

    impl Sink for Flawed {
        fn enqueue(&mut self, event: &Event, ticket: Ticket) -> Enqueue {
            let answer = self.0.enqueue(event, ticket);
            if self.1 == Flaw::ReportsBeforeKeeping && answer == Enqueue::Accepted && ticket.0 == 3 {
                self.0.queue.pop_back();
                self.0.acks.done(ticket);
            }
            answer
        }
        fn nudge(&mut self) {
            if self.1 == Flaw::Reorders {
                self.0.queue.make_contiguous().reverse();
            }
            let first = self.0.queue.front().map(|(ticket, _)| *ticket);
            self.0.nudge();
            if let Some(ticket) = first.filter(|_| self.1 == Flaw::ReportsTwice) {
                self.0.acks.failed(ticket, Failure { kind: FailureKind::Transient, message: String::new() });
            }
        }
        fn purge(&mut self, scope: PurgeScope) {
            if self.1 == Flaw::ForgetsPurged {
                self.0.queue.clear();
            }
            self.0.purge(scope);
        }
        fn outstanding(&self) -> usize {
            self.0.outstanding()
        }
        fn renew(&mut self) -> Result<(), String> {
            self.0.renew()
        }
        fn is_reachable(&self) -> bool {
            true
        }
    }

    impl SinkBench for Memory {
        fn open(&mut self, acks: Arc<Acks>) -> Box<dyn Sink> {
            lock(&self.kept).clear();
            let sink = MemorySink::new(acks, Arc::clone(&self.kept));
            match self.flaw {
                None => Box::new(sink),
                Some(flaw) => Box::new(Flawed(sink, flaw)),
            }
        }
        fn read_back(&mut self) -> Vec<Kept> {
            lock(&self.kept).clone()
        }
        fn poison(&self) -> Option<Event> {
            Some(Event::default())
        }
    }

    impl CheckpointBench for Memory {
        fn writer(&mut self, name: &str) -> Box<dyn Checkpoint> {
            Box::new(self.store.of(name))
        }
        fn reader(&mut self, name: &str) -> Box<dyn ReadCheckpoint> {
            Box::new(self.store.of(name))
        }
    }

    #[test]
    fn the_reference_keeps_both_contracts() {
        check_sink(&mut Memory::default(), "orders");
        check_checkpoint(&mut Memory::default());
    }

    #[test]
    fn each_flaw_is_found() {
        for flaw in [Flaw::ReportsBeforeKeeping, Flaw::ForgetsPurged, Flaw::ReportsTwice, Flaw::Reorders] {
            let check = || check_sink(&mut Memory { flaw: Some(flaw), ..Memory::default() }, "orders");
            assert!(std::panic::catch_unwind(check).is_err(), "{flaw:?} is not found");
        }
    }
}
