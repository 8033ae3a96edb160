//! Turns librdkafka's reports into acknowledgements, failures and log lines.

use crate::error::{Error, classify};
use crate::health::Health;
use crate::lookup::Ask;
use crate::producer::Client;
use crate::security::Security;
use crate::transactions::life::Life;
use rdkafka::Message;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, Producer as _, ProducerContext};
use relay_core::window::{Acks, Failure, FailureKind, Ticket};
use relay_failpoint::fail_point;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Where one client reports to. Shared by the client and the sink.
pub(crate) struct Context {
    pub(crate) acks: Arc<Acks>,
    pub(crate) stores: Arc<Stores>,
    pub(crate) health: Arc<Health>,
    pub(crate) asks: Sender<Ask>,
    pub(crate) security: Security,
    /// Events reported so far; what is outstanding is the difference to those accepted.
    pub(crate) reported: AtomicUsize,
    /// Bytes of their keys and values.
    pub(crate) reported_bytes: AtomicUsize,
    /// Those of them that failed.
    pub(crate) failed: AtomicUsize,
    /// Another client has taken its place: nobody waits for its reports, and its tickets may be given out again.
    pub(crate) is_replaced: AtomicBool,
    /// The client that reports here, while it lives.
    pub(crate) client: OnceLock<Weak<Client>>,
    /// Why the client is dead.
    pub(crate) fatal: OnceLock<String>,
    /// The last topic put in doubt: a whole batch fails with one code, and one question is enough.
    pub(crate) doubted: Mutex<Option<(String, FailureKind, Instant)>>,
    /// What a transactional client may do next; `None` where there are no transactions.
    pub(crate) life: Option<Life>,
}

/// The outcome of the checkpoint record under way, by its opaque.
#[derive(Debug, Default)]
pub(crate) struct Stores(Mutex<Option<(usize, Result<(), Failure>)>>);

/// The opaque of an event is its ticket; those of other records have the highest bit set.
const OURS: usize = 1 << (usize::BITS - 1);

/// What librdkafka calls its connection to the coordinator of transactions.
const COORDINATOR: &str = "TxnCoordinator";

/// A record whose fate is of no interest.
pub(crate) const FORGOTTEN: usize = usize::MAX;

/// The opaque of the checkpoint record with that number.
pub(crate) fn store_opaque(number: usize) -> usize {
    OURS | (number & (OURS >> 1))
}

// === impl Context ===

impl Context {
    /// Events that Kafka has acknowledged.
    pub(crate) fn delivered(&self) -> usize {
        self.reported.load(Ordering::Acquire) - self.failed.load(Ordering::Relaxed)
    }

    #[cold]
    fn fail(&self, error: &KafkaError, topic: &str, opaque: usize) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let mut kind = classify(code);
        // librdkafka purges by itself when it fails for good, and says why only afterwards.
        if kind == FailureKind::Purged
            && self.fatal.get().is_none()
            && let Some(client) = self.client.get().and_then(Weak::upgrade)
            && let Some((_, reason)) = client.client().fatal_error()
        {
            let _ = self.fatal.set(reason);
        }
        if self.fatal.get().is_some() && matches!(kind, FailureKind::Purged | FailureKind::Transient) {
            kind = FailureKind::Fatal;
        }
        // A broker that times a transaction out takes its epoch away, just as a successor does.
        if kind == FailureKind::Fenced && self.life.as_ref().is_some_and(Life::is_expired) {
            kind = FailureKind::Indefinite;
        }
        self.health.add_failed(kind);
        match kind {
            FailureKind::Denied | FailureKind::UnknownTopic | FailureKind::Rejected => self.doubt(topic, kind, code),
            FailureKind::Purged
            | FailureKind::Fatal
            | FailureKind::Transient
            | FailureKind::Fenced
            | FailureKind::Aborted
            | FailureKind::Indefinite => {}
        }
        let given_up = self.life.as_ref().filter(|_| kind == FailureKind::Purged).and_then(Life::reason);
        let message = match (kind, self.fatal.get(), given_up) {
            (FailureKind::Fatal, Some(reason), _) => reason.clone(),
            (_, _, Some(reason)) => {
                kind = FailureKind::Aborted;
                reason
            }
            _ => format!("topic {topic}: {code}"),
        };
        self.report(opaque, Err(Failure { kind, message }));
    }

    /// Has a topic looked at again.
    fn doubt(&self, topic: &str, kind: FailureKind, code: RDKafkaErrorCode) {
        let mut last = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_asked =
            last.as_ref().is_some_and(|(name, of, at)| name == topic && *of == kind && at.elapsed() < Duration::from_millis(20));
        if !is_asked {
            *last = Some((topic.to_owned(), kind, Instant::now()));
            let _ = self.asks.send(Ask::Again { topic: topic.to_owned(), kind, message: code.to_string() });
        }
    }

    /// Fails an event that a dead client does not take.
    pub(crate) fn fail_at_once(&self, ticket: Ticket, reason: &str) {
        let message = self.fatal.get_or_init(|| reason.to_owned()).clone();
        self.refuse(ticket, Failure { kind: FailureKind::Fatal, message });
    }

    /// Fails an event that cannot be taken, so that the caller learns of it where it learns of every failure.
    pub(crate) fn refuse(&self, ticket: Ticket, failure: Failure) {
        self.health.add_failed(failure.kind);
        self.report(ticket.0, Err(failure));
    }

    fn report(&self, opaque: usize, outcome: Result<(), Failure>) {
        if opaque & OURS != 0 {
            self.stores.finish(opaque, outcome);
            return;
        }
        if self.is_replaced.load(Ordering::Relaxed) {
            return;
        }
        match outcome {
            Ok(()) => self.acks.done(Ticket(opaque)),
            Err(failure) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.acks.failed(Ticket(opaque), failure);
            }
        }
        // Release: who sees the count sees the report before it.
        self.reported.fetch_add(1, Ordering::Release);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    #[inline]
    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        fail_point!("before-delivery-report");
        let (Ok(message) | Err((_, message))) = result;
        if opaque & OURS == 0 {
            // Before the report: who sees that the last event is done must not find its bytes still held.
            self.reported_bytes.fetch_add(message.payload_len() + message.key_len(), Ordering::Release);
        }
        match result {
            Ok(_) => self.report(opaque, Ok(())),
            // The log has it already, under this very sequence number.
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::DuplicateSequenceNumber), _)) => self.report(opaque, Ok(())),
            Err((error, message)) => self.fail(error, message.topic(), opaque),
        }
        fail_point!("after-delivery-report");
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // No error event tells of a connection that the peer closes, and its log line is left out when it is the same as the last one. But
        // librdkafka sends its requests again then, and so this must be known (kafka.md, section 12).
        if let Some(life) = &self.life
            && facility == "FAIL"
            && message.contains(COORDINATOR)
        {
            life.lost_connection();
        }
        if let Some(life) = self.life.as_ref().filter(|_| facility == "TXNERR") {
            life.gave_up(message);
        }
        log(level, facility, message);
    }

    fn stats(&self, statistics: rdkafka::Statistics) {
        self.health.update(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // A connection that did not come about carried no request.
        if let Some(life) = &self.life
            && !(reason.contains("Connect to ") && reason.contains(" failed"))
        {
            life.lost_connection();
        }
        let error = Error::global(error.rdkafka_error_code(), reason);
        // rdkafka reports each error twice to a producer's context, and librdkafka each failed connection attempt.
        if self.health.note(error.clone()) {
            tracing::warn!(event = "sink.client_error", %error, "the Kafka client reports an error");
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        Ok(self.security.oauth_token()?)
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("reported", &self.reported).field("fatal", &self.fatal).finish_non_exhaustive()
    }
}

/// Passes one of librdkafka's log lines on. Its configuration dump is left out: it may hold secrets.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    if facility == "CONF" {
        return;
    }
    match level {
        // Said by the error callback as well.
        _ if matches!(facility, "FAIL" | "FATAL") => {
            tracing::debug!(target: "librdkafka", event = "sink.librdkafka", facility, "{message}")
        }
        // It tries again by itself.
        _ if facility == "GETPID" => tracing::info!(target: "librdkafka", event = "sink.librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", event = "sink.librdkafka", facility, "{message}");
        }
        // A broken connection is an error to librdkafka and a matter of patience to relay.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", event = "sink.librdkafka", facility, "{message}")
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", event = "sink.librdkafka", facility, "{message}")
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", event = "sink.librdkafka", facility, "{message}"),
    }
}

// === impl Stores ===

impl Stores {
    fn finish(&self, opaque: usize, outcome: Result<(), Failure>) {
        if opaque != FORGOTTEN {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((opaque, outcome));
        }
    }

    /// The outcome of that record, once.
    pub(crate) fn take(&self, opaque: usize) -> Option<Result<(), Failure>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take_if(|(number, _)| *number == opaque).map(|(_, outcome)| outcome)
    }
}
