//! The thread that waits for Kafka: fences, commits and aborts, one order at a time, and says what came of each.

use super::life::{Fault, Life, Phase, Verdict};
use crate::ack::{FORGOTTEN, store_opaque};
use crate::config::{Config, Deps};
use crate::error::{classify, is_denied};
use crate::native::{self, Parcel, TopicHandle};
use crate::producer::Producer;
use crate::reader::{CheckpointReader, Marker};
use crate::topics::{State, Topic};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::Producer as _;
use relay_core::Acks;
use relay_core::checkpoint::{Answer, Checkpoint as _, ReadError, Reading, Record};
use relay_core::window::{Failure, FailureKind};
use relay_failpoint::fail_point;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// What the thread is to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Take the pipeline's place at the coordinator, and read what is stored.
    Fence(Arc<Producer>, u64),
    /// Commit what is open together with a record, and with tombstones for old ones.
    Commit {
        producer: Arc<Producer>,
        key: String,
        value: String,
        retired: Vec<String>,
    },
    Abort(Arc<Producer>),
    /// Abort already; whoever orders the abort is told then what came of it.
    GiveUp(Arc<Producer>),
    /// Store a record outside transactions, with a client of its own.
    Alone(Box<Record>),
}

/// The thread's state.
#[derive(Debug)]
pub(super) struct Worker {
    config: Config,
    topic: Arc<Topic>,
    reader: CheckpointReader,
    /// Number of the fence that somebody waits for.
    wanted: Arc<AtomicU64>,
    report: Sender<Answer>,
    /// Number of the last record.
    number: usize,
    /// The end of the client that had our place last.
    before: Weak<()>,
    /// What came of an abort that nobody has asked for yet.
    given_up: Option<Result<(), Failure>>,
}

/// How long a fence may take before it is given up and tried with another client.
const FENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// One call of init_transactions, which is resumed until the fence's own time is over.
const INIT_TURN: Duration = Duration::from_secs(5);
/// How long ending the client before may take; librdkafka ends one within a second, behind a look-up of topics that nobody answers.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the checkpoint topic may stay unknown.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(10);
/// What is on its way is given so long before an abort gives it up.
const ABORT_DRAIN: Duration = Duration::from_millis(500);
/// One wait for reports; a client that has failed for good is noticed after it.
const DRAIN_TURN: Duration = Duration::from_millis(100);

// === impl Worker ===

impl Worker {
    pub(super) fn new(config: Config, topic: Arc<Topic>, wanted: Arc<AtomicU64>, report: Sender<Answer>) -> Self {
        let reader = CheckpointReader::of(&config);
        Self { reader, config, topic, wanted, report, number: 0, before: Weak::new(), given_up: None }
    }

    /// The life of the thread.
    pub(super) fn serve(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let answer = match job {
                Job::Fence(producer, number) => Answer::Fenced(self.fence(&producer, number)),
                Job::Commit { producer, key, value, retired } => Answer::Ended(self.commit(&producer, &key, &value, &retired)),
                Job::Abort(producer) => Answer::Ended(self.given_up.take().unwrap_or_else(|| abort(&producer))),
                Job::GiveUp(producer) => {
                    self.give_up(&producer);
                    continue;
                }
                Job::Alone(record) => Answer::Ended(self.store_alone(&record)),
            };
            // A client that has gone on has nothing given up any more.
            self.given_up = None;
            if self.report.send(answer).is_err() {
                return;
            }
        }
    }

    /// Aborts what is open. Once a record of it has failed librdkafka (2.12.1) sends none of the others, and reports them only with the
    /// abort, or when they time out: so whoever waits for the reports before he orders the abort would wait for a minute.
    fn give_up(&mut self, producer: &Producer) {
        let phase = producer.life().map(Life::phase);
        if matches!(phase, Some(Phase::Open | Phase::Broken)) {
            self.given_up = Some(abort(producer));
        }
        if producer.life().is_some_and(|life| life.phase() == Phase::Finished) {
            // Nothing of it counts any more: what it still holds is reported now.
            producer.purge(true);
        }
    }

    /// Kafka.md, section 12, start: a new epoch, a marker in a transaction of its own, and everything up to that marker.
    fn fence(&mut self, producer: &Producer, number: u64) -> Result<Reading, ReadError> {
        let life = life(producer).map_err(|failure| ReadError::Unusable(failure.message))?;
        let deadline = Instant::now() + FENCE_TIMEOUT;
        self.await_topic().map_err(read_error)?;
        if !life.turn(Phase::New, Phase::Busy) {
            return Err(ReadError::Unreachable("the client has been used before: a new one is needed".to_owned()));
        }
        self.await_end(number);
        self.before = producer.end();
        let outcome = self.take_over(producer, life, number, deadline);
        if outcome.is_err() {
            // What became of its requests is not known, and there is nothing to keep.
            life.finish();
        }
        let marker = outcome?;
        self.reader.read_to(&marker)
    }

    /// Waits until the client before is gone. Where records timed out librdkafka asks for a higher epoch by itself, again and again until
    /// it is answered, and a broker that finds a transaction open then fences whose it is: it does not look at the epoch that asks.
    fn await_end(&self, number: u64) {
        let deadline = Instant::now() + END_TIMEOUT;
        while self.before.strong_count() > 0 && Instant::now() < deadline && self.wanted.load(Ordering::Acquire) == number {
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn take_over(&mut self, producer: &Producer, life: &Life, number: u64, deadline: Instant) -> Result<Marker, ReadError> {
        loop {
            if self.wanted.load(Ordering::Acquire) != number {
                // The slot may be another instance's by now: it must not be shut out.
                return Err(ReadError::Unreachable("the fence was called off".to_owned()));
            }
            let turn = deadline.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(100), INIT_TURN);
            match producer.client.init_transactions(turn).map_err(Fault::of) {
                Ok(()) => break,
                Err(fault) if fault.is_retriable && Instant::now() < deadline => {}
                Err(fault) => return Err(refusal(&fault)),
            }
        }
        fail_point!("marker-write");
        let marker = Marker { key: format!("{}/marker", self.config.name), id: random_id() };
        begin(producer, life).map_err(read_error)?;
        match self.finish_with(producer, life, &marker.key, &marker.id, &[]) {
            Ok(()) if life.turn(Phase::Busy, Phase::Ready) => Ok(marker),
            Ok(()) => Err(ReadError::Unreachable("the client is finished".to_owned())),
            Err(failure) => Err(read_error(failure)),
        }
    }

    fn commit(&mut self, producer: &Producer, key: &str, value: &str, retired: &[String]) -> Result<(), Failure> {
        let life = life(producer)?;
        if life.turn(Phase::Ready, Phase::Busy) {
            if let Err(failure) = begin(producer, life) {
                life.finish();
                return Err(failure);
            }
        } else if !life.turn(Phase::Open, Phase::Busy) {
            return Err(unfit(life));
        }
        let result = self.finish_with(producer, life, key, value, retired);
        match &result {
            Ok(()) => life.turn(Phase::Busy, Phase::Ready),
            Err(failure) if failure.kind == FailureKind::Aborted => life.turn(Phase::Busy, Phase::Broken),
            Err(_) => {
                life.finish();
                true
            }
        };
        result
    }

    /// Adds the last records to the open transaction, waits until everything in it is in the log, and commits.
    fn finish_with(
        &mut self,
        producer: &Producer,
        life: &Life,
        key: &str,
        value: &str,
        retired: &[String],
    ) -> Result<(), Failure> {
        self.await_topic().map_err(aborted)?;
        self.number += 1;
        let opaque = store_opaque(self.number);
        let handle = TopicHandle::new(&producer.client, &self.topic.name).map_err(|code| self.unsent(producer, life, code))?;
        self.send(producer, life, &handle, key, Some(value), opaque)?;
        for key in retired {
            self.send(producer, life, &handle, key, None, FORGOTTEN)?;
        }
        self.await_reports(producer, life, opaque)?;
        fail_point!("before-commit");
        fail_point!("during-commit" beside);
        let result = conclude(life, || producer.client.commit_transaction(life.bounds().socket).map_err(Fault::of));
        fail_point!("after-commit" if result.is_ok());
        result
    }

    /// Waits until every record of the transaction is in the log, the checkpoint's, known by `opaque`, too.
    fn await_reports(&self, producer: &Producer, life: &Life, opaque: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + life.bounds().transaction;
        let mut stored = None;
        loop {
            // Native, and so woken by the last report: rdkafka's own flush would poll out its 100 ms (kafka.md, section 11).
            let is_done = native::flush(&producer.client, DRAIN_TURN);
            stored = stored.or_else(|| producer.context().stores.take(opaque));
            // Once a record has failed librdkafka keeps the others back until the abort, and a flush would wait for them in vain.
            if let Some(Err(failure)) = stored {
                return Err(self.in_transaction(producer, life, failure));
            }
            let failed = producer.context().failed.load(Ordering::Acquire);
            let lacking = match &stored {
                _ if failed != life.failed_before() => "events of the transaction were not delivered",
                Some(_) if is_done => return Ok(()),
                None if is_done => "the record's delivery was not reported",
                _ if Instant::now() > deadline => "records are still not in the log",
                _ => continue,
            };
            return Err(self.in_transaction(producer, life, fail(FailureKind::Transient, lacking.to_owned())));
        }
    }

    fn send(
        &self,
        producer: &Producer,
        life: &Life,
        handle: &TopicHandle,
        key: &str,
        value: Option<&str>,
        opaque: usize,
    ) -> Result<(), Failure> {
        let parcel =
            Parcel { key: Some(key.as_bytes()), value: value.map(str::as_bytes), timestamp_ms: 0, partition: Some(0), opaque };
        let deadline = Instant::now() + TOPIC_TIMEOUT;
        loop {
            match handle.produce(&parcel, std::iter::empty()) {
                Ok(()) => return Ok(()),
                // The events before it are on their way out.
                Err(Code::QueueFull) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
                Err(code) => return Err(self.unsent(producer, life, code)),
            }
        }
    }

    fn unsent(&self, producer: &Producer, life: &Life, code: Code) -> Failure {
        self.in_transaction(producer, life, fail(classify(code), format!("checkpoint topic {}: {code}", self.topic.name)))
    }

    /// What a failure within the open transaction means for it.
    fn in_transaction(&self, producer: &Producer, life: &Life, failure: Failure) -> Failure {
        match producer.client.client().fatal_error() {
            Some((code, reason)) => {
                let fault = Fault { code, is_retriable: false, is_abortable: false, message: reason };
                if fault.is_fenced() && !life.is_expired() {
                    fail(FailureKind::Fenced, fault.message)
                } else {
                    fail(FailureKind::Indefinite, fault.message)
                }
            }
            None => aborted(failure),
        }
    }

    /// Waits until the checkpoint topic can be written.
    fn await_topic(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + TOPIC_TIMEOUT;
        loop {
            let state = self.topic.state();
            let name = &self.topic.name;
            match state {
                State::Ready => return Ok(()),
                State::Denied => return Err(fail(FailureKind::Denied, format!("topic {name}: {}", self.topic.message()))),
                State::Missing if Instant::now() > deadline => {
                    return Err(fail(FailureKind::UnknownTopic, format!("topic {name}: {}", self.topic.message())));
                }
                State::Lookup if Instant::now() > deadline => {
                    return Err(fail(FailureKind::Transient, format!("topic {name} is not known yet")));
                }
                State::Missing | State::Lookup => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Before the slot is held nothing may be fenced, so the transactional client must not be used.
    fn store_alone(&self, record: &Record) -> Result<(), Failure> {
        let config = Config { is_exactly_once: false, ..self.config.clone() };
        let mut kafka =
            config.build(Deps { acks: Acks::new(64) }).map_err(|error| fail(FailureKind::Transient, error.to_string()))?;
        kafka.checkpoint.begin_store(record);
        let deadline = Instant::now() + FENCE_TIMEOUT;
        loop {
            if let Some(outcome) = kafka.checkpoint.outcome() {
                return outcome;
            }
            if Instant::now() > deadline {
                return Err(fail(FailureKind::Transient, "the record could not be stored in time".to_owned()));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Begins a transaction; local, no broker is asked.
pub(crate) fn begin(producer: &Producer, life: &Life) -> Result<(), Failure> {
    fail_point!("before-begin");
    producer.client.begin_transaction().map_err(Fault::of).map_err(|fault| {
        let kind = if fault.is_fenced() && !life.is_expired() { FailureKind::Fenced } else { FailureKind::Indefinite };
        fail(kind, fault.message)
    })?;
    life.began(producer.context().failed.load(Ordering::Acquire));
    fail_point!("after-begin");
    Ok(())
}

fn abort(producer: &Producer) -> Result<(), Failure> {
    let life = life(producer)?;
    if life.phase() == Phase::Ready || life.phase() == Phase::New {
        // No transaction is open, and so there is nothing to abort.
        return Ok(());
    }
    if !life.turn(Phase::Open, Phase::Busy) && !life.turn(Phase::Broken, Phase::Busy) {
        return Err(unfit(life));
    }
    if life.is_expired() {
        // The broker has ended it, or is about to, and takes the client's epoch away: there is nothing to wait for.
        life.finish();
        return Err(fail(FailureKind::Indefinite, "the transaction is older than transaction.timeout.ms".to_owned()));
    }
    // librdkafka may end a transaction whose first partition it is still adding, which the broker refuses and the client does not survive.
    native::flush(&producer.client, ABORT_DRAIN);
    let result = conclude(life, || producer.client.abort_transaction(life.bounds().socket).map_err(Fault::of));
    match result {
        Ok(()) if life.turn(Phase::Busy, Phase::Ready) => Ok(()),
        Err(failure) if failure.kind == FailureKind::Fenced => {
            life.finish();
            Err(failure)
        }
        // An abort that cannot be aborted: whatever it was, only a new client can go on.
        Err(failure) => {
            life.finish();
            Err(Failure { kind: FailureKind::Indefinite, ..failure })
        }
        Ok(()) => Err(unfit(life)),
    }
}

/// Makes the call that ends a transaction, and judges its answer.
fn conclude(life: &Life, call: impl FnOnce() -> Result<(), Fault>) -> Result<(), Failure> {
    let start = Instant::now();
    let answer = call();
    match Verdict::of(answer, start.elapsed(), life.bounds().socket, life.was_cut(), life.is_expired()) {
        Verdict::Done => Ok(()),
        Verdict::Aborted(message) => Err(fail(FailureKind::Aborted, message)),
        Verdict::Indefinite(message) => Err(fail(FailureKind::Indefinite, message)),
        Verdict::Fenced(message) => Err(fail(FailureKind::Fenced, message)),
    }
}

fn life(producer: &Producer) -> Result<&Life, Failure> {
    producer.life().ok_or_else(|| fail(FailureKind::Fatal, "the client is not transactional".to_owned()))
}

/// The answer where a client cannot take the order.
fn unfit(life: &Life) -> Failure {
    match life.phase() {
        Phase::Broken => fail(FailureKind::Aborted, "the transaction can only be aborted".to_owned()),
        _ => fail(FailureKind::Indefinite, "the client is finished: a new one is needed".to_owned()),
    }
}

fn fail(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message }
}

/// A failure that leaves a transaction to be aborted, whatever else it is.
fn aborted(failure: Failure) -> Failure {
    Failure { kind: FailureKind::Aborted, ..failure }
}

fn read_error(failure: Failure) -> ReadError {
    match failure.kind {
        FailureKind::Fenced => ReadError::Fenced(failure.message),
        FailureKind::Denied => ReadError::Denied(failure.message),
        _ => ReadError::Unreachable(failure.message),
    }
}

fn refusal(fault: &Fault) -> ReadError {
    let message = format!("take the transactional id: {}", fault.message);
    match fault.code {
        _ if fault.is_fenced() => ReadError::Fenced(message),
        code if is_denied(code) => ReadError::Denied(message),
        Code::InvalidTransactionTimeout => ReadError::Unusable(format!(
            "{message}; the brokers' transaction.max.timeout.ms is below relay's transaction.timeout.ms"
        )),
        _ => ReadError::Unreachable(message),
    }
}

/// Sixteen hexadecimal digits that nobody has used before.
fn random_id() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}
