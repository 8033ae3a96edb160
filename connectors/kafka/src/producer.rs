//! One running producer: the client, the thread that serves its reports, the thread that flushes it.

use crate::ack::Context;
use crate::error::Error;
use crate::flush::Nudge;
use crate::transactions::life::Life;
use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::producer::{BaseProducer, Producer as _, PurgeConfig};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub(crate) type Client = BaseProducer<Context>;

/// A producer and its threads; dropping it ends both. Records still queued are purged and reported then.
pub(crate) struct Producer {
    pub(crate) client: Arc<Client>,
    pub(crate) nudge: Arc<Nudge>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Last, and so dropped when librdkafka has ended the client.
    end: Arc<()>,
}

/// The producer in use. A sink replaces it; everyone else looks whether it did.
pub(crate) struct Current {
    producer: Mutex<Arc<Producer>>,
    generation: AtomicU64,
}

// === impl Producer ===

impl Producer {
    pub(crate) fn start(config: &ClientConfig, context: Context, linger: Duration) -> Result<Self, Error> {
        let client = Arc::new(Client::from_config_and_context(config, context)?);
        let _ = client.client().context().client.set(Arc::downgrade(&client));
        let nudge = Arc::new(Nudge::default());
        let stop = Arc::new(AtomicBool::new(false));
        let mut producer = Self { client, nudge, stop, threads: Vec::new(), end: Arc::new(()) };
        let (client, stop) = (Arc::clone(&producer.client), Arc::clone(&producer.stop));
        producer.threads.push(spawn("relay-kafka-ack", move || serve_reports(&client, &stop))?);
        let (client, nudge) = (Arc::clone(&producer.client), Arc::clone(&producer.nudge));
        producer.threads.push(spawn("relay-kafka-flush", move || nudge.serve(&client, linger))?);
        Ok(producer)
    }

    pub(crate) fn context(&self) -> &Context {
        self.client.client().context()
    }

    /// What a transactional client may do next.
    #[inline]
    pub(crate) fn life(&self) -> Option<&Life> {
        self.context().life.as_ref()
    }

    /// Gone as soon as the client sends nothing more.
    pub(crate) fn end(&self) -> Weak<()> {
        Arc::downgrade(&self.end)
    }

    pub(crate) fn purge(&self, in_flight: bool) {
        let scope = PurgeConfig::default().queue();
        self.client.purge(if in_flight { scope.inflight() } else { scope });
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.nudge.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("context", self.context()).finish_non_exhaustive()
    }
}

/// Length of one turn of the poll thread. rdkafka's poll spins through the last millisecond of its time, so that short turns would make an
/// idle relay visible; a stop waits for the turn to end.
const POLL_TURN: Duration = Duration::from_millis(500);

/// The life of `relay-kafka-ack`.
fn serve_reports(client: &Client, stop: &AtomicBool) {
    let context = Arc::clone(client.client().context());
    let mut before = 0;
    while !stop.load(Ordering::Acquire) {
        client.poll(POLL_TURN);
        context.health.tick();
        let delivered = context.delivered();
        if delivered != before {
            context.health.add_delivered((delivered - before) as u64);
            context.health.seen();
            before = delivered;
        }
        if context.fatal.get().is_none()
            && let Some((_, reason)) = client.client().fatal_error()
        {
            tracing::warn!(event = "sink.client_failed", reason, "the Kafka client has failed for good");
            let _ = context.fatal.set(reason);
        }
        // After a fatal error librdkafka sends nothing more, and with no time-out it would keep its records for ever.
        if context.fatal.get().is_some() && client.in_flight_count() > 0 {
            client.purge(PurgeConfig::default().queue().inflight());
        }
    }
}

pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| Error::Client(format!("start thread {name}: {error}")))
}

// === impl Current ===

impl Current {
    pub(crate) fn new(producer: Arc<Producer>) -> Self {
        Self { producer: Mutex::new(producer), generation: AtomicU64::new(0) }
    }

    pub(crate) fn get(&self) -> Arc<Producer> {
        Arc::clone(&self.producer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes whenever the producer does.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn replace(&self, producer: Arc<Producer>) -> Arc<Producer> {
        let old = std::mem::replace(&mut *self.producer.lock().unwrap_or_else(PoisonError::into_inner), producer);
        self.generation.fetch_add(1, Ordering::Release);
        old
    }
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("generation", &self.generation).finish_non_exhaustive()
    }
}
