//! Transactions, for exactly-once: a checkpoint record is committed together with the events that it covers.
//!
//! A client's transaction begins with the first event that its sink takes, and ends with [`Checkpoint::begin_store`] or
//! [`Transactional::begin_abort`]. Whatever blocks runs on the thread `relay-kafka-txn`; between an order and its outcome nothing may be
//! produced. Once an outcome is unknown the client is finished (`life::Phase::Finished`): the sink takes nothing, no call reaches Kafka,
//! and only [`Sink::renew`](relay_core::Sink::renew) followed by a fence goes on.

pub(crate) mod control;
pub(crate) mod life;

use crate::config::Config;
use crate::producer::{Current, Producer, spawn};
use crate::topics::Topic;
use control::{Job, Worker};
use relay_core::checkpoint::{Answer, Checkpoint, Record, RecordState, Transactional};
use relay_core::window::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// The transactions of one pipeline. Used by the thread that has the sink.
#[derive(Debug)]
pub struct Transactions {
    current: Arc<Current>,
    jobs: Sender<Job>,
    answers: Receiver<Answer>,
    /// Keys of records of older epochs: removed with the next commit.
    retired: Vec<String>,
    /// Number of the fence that somebody waits for.
    wanted: Arc<AtomicU64>,
}

/// Gives up a client's open transaction ahead of [`Transactional::begin_abort`].
#[derive(Debug)]
pub(crate) struct Surrender(Sender<Job>);

// === impl Surrender ===

impl Surrender {
    pub(crate) fn give_up(&self, producer: &Arc<Producer>) {
        // The thread ends at the process's end alone.
        let _ = self.0.send(Job::GiveUp(Arc::clone(producer)));
    }
}

// === impl Transactions ===

impl Transactions {
    pub(crate) fn start(config: Config, current: Arc<Current>, topic: Arc<Topic>) -> Result<Self, crate::Error> {
        let (jobs, ordered) = channel();
        let (report, answers) = channel();
        let wanted = Arc::new(AtomicU64::new(0));
        let worker = Worker::new(config, topic, Arc::clone(&wanted), report);
        // Not joined: what it waits for may take longer than a process that ends should.
        spawn("relay-kafka-txn", move || worker.serve(&ordered))?;
        Ok(Self { current, jobs, answers, retired: Vec::new(), wanted })
    }

    /// The way in which the sink gives up what is open.
    pub(crate) fn surrender(&self) -> Surrender {
        Surrender(self.jobs.clone())
    }

    fn order(&mut self, job: Job) {
        // The thread ends with this handle, not before.
        let _ = self.jobs.send(job);
    }
}

impl Checkpoint for Transactions {
    /// Commits `record` and all events since the last commit together. A record from before the slot was held stands alone: nothing may be
    /// fenced for its sake.
    fn begin_store(&mut self, record: &Record) {
        let producer = self.current.get();
        let job = if record.state == RecordState::Bootstrapping {
            Job::Alone(Box::new(record.clone()))
        } else {
            Job::Commit { producer, key: record.key(), value: record.to_json(), retired: std::mem::take(&mut self.retired) }
        };
        self.order(job);
    }

    fn outcome(&mut self) -> Option<Result<(), Failure>> {
        match self.answer()? {
            Answer::Ended(result) => Some(result),
            Answer::Fenced(_) => None,
        }
    }

    fn retire(&mut self, keys: &[String]) {
        self.retired = keys.to_vec();
    }
}

impl Transactional for Transactions {
    fn begin_fence(&mut self) {
        let number = self.wanted.fetch_add(1, Ordering::AcqRel) + 1;
        self.order(Job::Fence(self.current.get(), number));
    }

    fn forget_fence(&mut self) {
        self.wanted.fetch_add(1, Ordering::AcqRel);
    }

    fn answer(&mut self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    fn begin_abort(&mut self) {
        self.order(Job::Abort(self.current.get()));
    }
}
