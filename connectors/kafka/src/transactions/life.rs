//! What one transactional client may do next: a client whose outcome is unknown is finished, and has no way back.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The life of one transactional client. Its sink and the control thread share it, and use it by turns.
#[derive(Debug)]
pub(crate) struct Life {
    phase: AtomicU8,
    started: Instant,
    /// When the open transaction began, in milliseconds after `started`.
    began_ms: AtomicU64,
    /// Deliveries that had failed when it began.
    failed_before: AtomicUsize,
    /// Connections that were reported as lost, of whatever broker: which of them is the coordinator's, nobody says.
    losses: AtomicUsize,
    /// Those of them before the open transaction began.
    losses_before: AtomicUsize,
    /// Why the client gave the open transaction up, in its own words.
    reason: Mutex<Option<String>>,
    bounds: Bounds,
}

/// What a transaction may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// transaction.timeout.ms: after this the broker aborts it, and takes the client's epoch away.
    pub(crate) transaction: Duration,
    /// socket.timeout.ms: a commit or abort that took longer may have been sent twice.
    pub(crate) socket: Duration,
}

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// It has no epoch yet: nothing can be produced.
    New,
    /// No transaction is open; the next event begins one.
    Ready,
    /// Events may be produced.
    Open,
    /// The control thread has it.
    Busy,
    /// The open transaction cannot be committed any more; it must be aborted.
    Broken,
    /// Never to be used again: an outcome is unknown, or another instance has its place.
    Finished,
}

/// What a commit or an abort came to (kafka.md, section 12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done, and no copy of the request can be under way.
    Done,
    /// It is not done, and the transaction can only be aborted.
    Aborted(String),
    /// It is not known, or it is done and a second copy of the request may still arrive: the client is finished.
    Indefinite(String),
    /// Another instance has this client's place.
    Fenced(String),
}

/// The parts of a client's error that decide.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) is_retriable: bool,
    pub(crate) is_abortable: bool,
    pub(crate) message: String,
}

// === impl Life ===

impl Life {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            phase: AtomicU8::new(Phase::New as u8),
            started: Instant::now(),
            began_ms: AtomicU64::new(0),
            failed_before: AtomicUsize::new(0),
            losses: AtomicUsize::new(0),
            losses_before: AtomicUsize::new(0),
            reason: Mutex::new(None),
            bounds,
        }
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::New,
            1 => Phase::Ready,
            2 => Phase::Open,
            3 => Phase::Busy,
            4 => Phase::Broken,
            _ => Phase::Finished,
        }
    }

    /// Goes from one phase to another, if it stands there.
    pub(crate) fn turn(&self, from: Phase, to: Phase) -> bool {
        from != Phase::Finished && self.phase.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The end, from wherever it stands.
    pub(crate) fn finish(&self) {
        self.phase.store(Phase::Finished as u8, Ordering::Release);
    }

    /// A transaction was begun; so many deliveries had failed before it.
    pub(crate) fn began(&self, failed: usize) {
        self.failed_before.store(failed, Ordering::Relaxed);
        self.losses_before.store(self.losses.load(Ordering::Relaxed), Ordering::Relaxed);
        self.began_ms.store(self.now_ms(), Ordering::Relaxed);
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Keeps the line of the log in which the client gives a transaction up: the reports of its events do not say why.
    pub(crate) fn gave_up(&self, line: &str) {
        let reason = line.split_once("Current transaction failed in state ").and_then(|(_, rest)| rest.split_once(": "));
        if let Some((_, reason)) = reason {
            self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| reason.to_owned());
        }
    }

    /// Why the client gave the open transaction up, if it did.
    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn failed_before(&self) -> usize {
        self.failed_before.load(Ordering::Relaxed)
    }

    /// Whether the broker may have timed out the transaction last begun: relay was paused, and nobody need have taken over.
    pub(crate) fn is_expired(&self) -> bool {
        let age = Duration::from_millis(self.now_ms().saturating_sub(self.began_ms.load(Ordering::Relaxed)));
        age >= self.bounds.transaction
    }

    pub(crate) fn lost_connection(&self) {
        self.losses.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a connection was lost since the transaction began: the client may have sent AddPartitions or EndTxn again, and the first
    /// copy may still be under way.
    pub(crate) fn was_cut(&self) -> bool {
        self.losses.load(Ordering::Relaxed) != self.losses_before.load(Ordering::Relaxed)
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

// === impl Verdict ===

impl Verdict {
    /// Judges the answer to a commit or an abort that took so long; whether a connection was lost meanwhile, and whether the broker
    /// may have timed the transaction out.
    pub(crate) fn of(answer: Result<(), Fault>, took: Duration, limit: Duration, was_cut: bool, is_expired: bool) -> Self {
        match answer {
            Ok(()) if took >= limit => Verdict::Indefinite(format!("the answer took {} ms", took.as_millis())),
            Ok(()) if was_cut => Verdict::Indefinite("a connection was lost meanwhile".to_owned()),
            Ok(()) => Verdict::Done,
            // A broker that times a transaction out fences its producer just as a successor does.
            Err(fault) if fault.is_fenced() && !is_expired => Verdict::Fenced(fault.message),
            Err(fault) if fault.is_abortable => Verdict::Aborted(fault.message),
            Err(fault) => Verdict::Indefinite(fault.message),
        }
    }
}

// === impl Fault ===

impl Fault {
    pub(crate) fn of(error: KafkaError) -> Self {
        match error {
            KafkaError::Transaction(error) => Self {
                code: error.code(),
                is_retriable: error.is_retriable(),
                is_abortable: error.txn_requires_abort() && !error.is_fatal(),
                message: error.to_string(),
            },
            other => Self {
                code: other.rdkafka_error_code().unwrap_or(Code::Unknown),
                is_retriable: false,
                is_abortable: false,
                message: other.to_string(),
            },
        }
    }

    pub(crate) fn is_fenced(&self) -> bool {
        matches!(self.code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn fault(code: Code, is_retriable: bool, is_abortable: bool) -> Result<(), Fault> {
        Err(Fault { code, is_retriable, is_abortable, message: code.to_string() })
    }

    #[test]
    fn an_outcome_is_definite_only_where_no_second_copy_of_the_request_can_be_under_way() {
        let quick = Duration::from_millis(3);
        let judge = |answer, took, was_cut, is_expired| match Verdict::of(answer, took, LIMIT, was_cut, is_expired) {
            Verdict::Done => "done",
            Verdict::Aborted(_) => "aborted",
            Verdict::Indefinite(_) => "indefinite",
            Verdict::Fenced(_) => "fenced",
        };
        assert_eq!(judge(Ok(()), quick, false, false), "done");
        assert_eq!(judge(Ok(()), LIMIT, false, false), "indefinite");
        assert_eq!(judge(Ok(()), quick, true, false), "indefinite");
        assert_eq!(judge(fault(Code::OperationTimedOut, true, false), LIMIT, false, false), "indefinite");
        assert_eq!(judge(fault(Code::BrokerTransportFailure, false, false), quick, false, false), "indefinite");
        assert_eq!(judge(fault(Code::MessageTimedOut, false, true), quick, false, false), "aborted");
        assert_eq!(judge(fault(Code::Fenced, false, false), quick, false, false), "fenced");
        assert_eq!(judge(fault(Code::InvalidProducerEpoch, false, false), quick, false, false), "fenced");
        assert_eq!(judge(fault(Code::Fenced, false, false), quick, false, true), "indefinite", "the broker timed it out");
        assert_eq!(judge(fault(Code::Fatal, false, false), quick, false, false), "indefinite");
    }

    #[test]
    fn a_finished_client_stays_finished() {
        let life = Life::new(Bounds { transaction: LIMIT, socket: LIMIT });
        assert!(life.turn(Phase::New, Phase::Busy) && life.turn(Phase::Busy, Phase::Ready));
        life.finish();
        for to in [Phase::Ready, Phase::Open, Phase::Busy] {
            for from in [Phase::Ready, Phase::Open, Phase::Busy, Phase::Broken, Phase::Finished] {
                assert!(!life.turn(from, to));
            }
        }
        assert_eq!(life.phase(), Phase::Finished);
    }
}
