//! Transactions, for exactly-once: a checkpoint record is committed together with the events that it covers.
//!
//! A client's transaction begins with the first event that its sink takes, and ends with [`Checkpoint::begin_store`] or
//! [`Transactional::begin_abort`]. Whatever blocks runs on the thread `relay-kafka-txn`; between an order and its outcome nothing may be
//! produced. Once an outcome is unknown the client is finished ([`Phase::Finished`]): the sink takes nothing, no call reaches Kafka,
//! and only [`Sink::renew`](relay_core::Sink::renew) followed by a fence goes on.

pub(crate) mod control;
pub(crate) mod life;

use crate::config::Config;
use crate::producer::{Current, spawn};
use crate::topics::Topic;
use control::{Job, Outcome, Worker};
use life::Phase;
use relay_core::checkpoint::{Checkpoint, ReadError, Reading, Record, Transactional};
use relay_core::window::Failure;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// The transactions of one pipeline. Used by the thread that has the sink.
#[derive(Debug)]
pub struct Transactions {
    current: Arc<Current>,
    jobs: Sender<Job>,
    outcomes: Receiver<Outcome>,
    /// Keys of records of older epochs: removed with the next commit.
    retired: Vec<String>,
    /// An order is under way.
    is_busy: bool,
}

// === impl Transactions ===

impl Transactions {
    pub(crate) fn start(config: Config, current: Arc<Current>, topic: Arc<Topic>) -> Result<Self, crate::Error> {
        let (jobs, ordered) = channel();
        let (report, outcomes) = channel();
        let worker = Worker::new(config, topic, report);
        // Not joined: what it waits for may take longer than a process that ends should.
        spawn("relay-kafka-txn", move || worker.serve(&ordered))?;
        Ok(Self { current, jobs, outcomes, retired: Vec::new(), is_busy: false })
    }

    fn order(&mut self, job: Job) {
        debug_assert!(!self.is_busy, "one order at a time");
        self.is_busy = self.jobs.send(job).is_ok();
    }

    /// What the thread has answered, once.
    fn answer(&mut self) -> Option<Outcome> {
        let outcome = self.outcomes.try_recv().ok()?;
        self.is_busy = false;
        Some(outcome)
    }
}

impl Checkpoint for Transactions {
    /// Commits `record` and all events since the last commit together. A record from before the slot was held stands alone: nothing may be
    /// fenced for its sake.
    fn begin_store(&mut self, record: &Record) {
        let producer = self.current.get();
        let is_before_fence = record.state == relay_core::checkpoint::RecordState::Bootstrapping;
        let job = if is_before_fence {
            Job::Alone(Box::new(record.clone()))
        } else {
            Job::Commit { producer, key: record.key(), value: record.to_json(), retired: std::mem::take(&mut self.retired) }
        };
        self.order(job);
    }

    fn outcome(&mut self) -> Option<Result<(), Failure>> {
        match self.answer()? {
            Outcome::Ended(result) => Some(result),
            Outcome::Fenced(_) => None,
        }
    }

    fn retire(&mut self, keys: &[String]) {
        self.retired = keys.to_vec();
    }
}

impl Transactional for Transactions {
    fn must_renew(&self) -> bool {
        self.current.get().life().is_some_and(|life| life.phase() != Phase::New)
    }

    fn begin_fence(&mut self) {
        self.order(Job::Fence(self.current.get()));
    }

    fn reading(&mut self) -> Option<Result<Reading, ReadError>> {
        match self.answer()? {
            Outcome::Fenced(result) => Some(result),
            Outcome::Ended(_) => None,
        }
    }

    fn begin_abort(&mut self) {
        self.order(Job::Abort(self.current.get()));
    }
}
