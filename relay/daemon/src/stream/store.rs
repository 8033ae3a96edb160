//! Where checkpoints go, whichever the guarantee, and what was ordered there and has not been answered.

use relay_core::checkpoint::{Answer, Checkpoint, Record, Transactional};
use relay_core::session::Input;
use relay_core::window::FailureKind;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The checkpoint store, as the wire thread drives it.
pub(crate) struct Store {
    kind: Kind,
    /// Orders without an answer, oldest first.
    wanted: VecDeque<(Wanted, Instant)>,
}

enum Kind {
    Plain(Box<dyn Checkpoint + Send>),
    Transactional(Box<dyn Transactional + Send>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Store,
    Abort,
    Fence,
    /// A fence that nobody waits for any more.
    Forgotten,
}

/// An order that has been answered.
#[derive(Debug)]
pub(super) struct Answered {
    /// For the session; `None` when it does not wait for that any more.
    pub(super) input: Option<Input>,
    /// What became of it, where it was exactly-once: label `outcome` of `relay_kafka_transactions_total`.
    pub(super) outcome: Option<&'static str>,
    /// How long it took.
    pub(super) took: Duration,
}

// === impl Store ===

impl Store {
    /// Records that are stored behind what they cover.
    pub(crate) fn plain(checkpoint: impl Checkpoint + Send + 'static) -> Self {
        Self { kind: Kind::Plain(Box::new(checkpoint)), wanted: VecDeque::new() }
    }

    /// Records that are committed with what they cover.
    pub(crate) fn transactional(transactions: impl Transactional + Send + 'static) -> Self {
        Self { kind: Kind::Transactional(Box::new(transactions)), wanted: VecDeque::new() }
    }

    pub(super) fn is_transactional(&self) -> bool {
        matches!(self.kind, Kind::Transactional(_))
    }

    /// Whether an answer of Kafka's transactions is waited for.
    pub(super) fn is_pending(&self) -> bool {
        self.is_transactional() && !self.wanted.is_empty()
    }

    pub(super) fn begin_store(&mut self, record: &Record) {
        self.want(Wanted::Store);
        match &mut self.kind {
            Kind::Plain(checkpoint) => checkpoint.begin_store(record),
            Kind::Transactional(transactions) => transactions.begin_store(record),
        }
    }

    pub(super) fn retire(&mut self, keys: &[String]) {
        match &mut self.kind {
            Kind::Plain(checkpoint) => checkpoint.retire(keys),
            Kind::Transactional(transactions) => transactions.retire(keys),
        }
    }

    pub(super) fn begin_fence(&mut self) {
        self.forget_fence();
        if let Kind::Transactional(transactions) = &mut self.kind {
            transactions.begin_fence();
            self.want(Wanted::Fence);
        }
    }

    pub(super) fn begin_abort(&mut self) {
        if let Kind::Transactional(transactions) = &mut self.kind {
            transactions.begin_abort();
            self.want(Wanted::Abort);
        }
    }

    /// The answer to a fence is not wanted any more.
    pub(super) fn forget_fence(&mut self) {
        for (wanted, _) in self.wanted.iter_mut().filter(|(wanted, _)| *wanted == Wanted::Fence) {
            *wanted = Wanted::Forgotten;
            if let Kind::Transactional(transactions) = &mut self.kind {
                transactions.forget_fence();
            }
        }
    }

    /// The oldest order without an answer, once there is one.
    pub(super) fn answer(&mut self) -> Option<Answered> {
        let &(wanted, since) = self.wanted.front()?;
        let answer = match &mut self.kind {
            Kind::Plain(checkpoint) => Answer::Ended(checkpoint.outcome()?),
            Kind::Transactional(transactions) => transactions.answer()?,
        };
        self.wanted.pop_front();
        let outcome = match &answer {
            Answer::Ended(Ok(())) if wanted == Wanted::Abort => "aborted",
            Answer::Ended(Ok(())) => "committed",
            Answer::Ended(Err(failure)) => match failure.kind {
                FailureKind::Fenced => "fenced",
                FailureKind::Indefinite => "unknown",
                // The abort that follows is counted.
                _ => "",
            },
            Answer::Fenced(_) => "",
        };
        let input = match (wanted, answer) {
            (Wanted::Store, Answer::Ended(result)) => Some(Input::Stored(result)),
            (Wanted::Abort, Answer::Ended(result)) => Some(Input::Aborted(result)),
            (Wanted::Fence, Answer::Fenced(result)) => Some(Input::CheckpointRead(result)),
            _ => None,
        };
        let outcome = (self.is_transactional() && !outcome.is_empty()).then_some(outcome);
        Some(Answered { input, outcome, took: since.elapsed() })
    }

    fn want(&mut self, wanted: Wanted) {
        self.wanted.push_back((wanted, Instant::now()));
    }
}
