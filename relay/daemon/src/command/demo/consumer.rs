//! Turns records that arrive in Kafka into entries of the ledger and lines of the display.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relay_kafka::{Arrival, Tail};
use serde::Deserialize;

use super::display::{Display, Line, Second};
use super::ending::Ending;
use super::latency::Latencies;
use super::ledger::Ledger;
use crate::command::refusal::Refusal;
use crate::status::unix_us;

/// The consumer on its thread.
#[derive(Debug)]
pub(super) struct Consumer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Latencies>>,
}

struct Reader {
    tail: Tail,
    topic: String,
    run: String,
    ledger: Arc<Ledger>,
    display: Display,
    ending: Ending,
    total: Latencies,
    second: Latencies,
    arrived: u64,
    since: Instant,
}

/// What the payload tells.
#[derive(Debug, Deserialize)]
struct Payload {
    order: String,
    customer: String,
    total: f64,
    currency: String,
    run: String,
    event: u64,
    sent_us: i64,
    items: Vec<serde::de::IgnoredAny>,
}

const WAIT: Duration = Duration::from_millis(50);
/// Once told to stop: silence for so long is the end of the topic.
const SILENCE: Duration = Duration::from_millis(300);
/// Numbers of events above this are not ours; it bounds the ledger.
const EVENT_MAX: u64 = 1 << 32;

// === impl Consumer ===

impl Consumer {
    pub(super) fn start(
        tail: Tail,
        topic: String,
        run: &str,
        ledger: &Arc<Ledger>,
        display: Display,
        ending: &Ending,
    ) -> Result<Self, Refusal> {
        let reader = Reader {
            tail,
            topic,
            run: run.to_owned(),
            ledger: Arc::clone(ledger),
            display,
            ending: ending.clone(),
            total: Latencies::default(),
            second: Latencies::default(),
            arrived: 0,
            since: Instant::now(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("demo-consumer".into()).spawn(move || reader.read(&stopped));
        let thread = thread.map_err(|error| Refusal::refused(format!("start a thread: {error}"), ""))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Reads what is there still, then ends. Returns how long all events took.
    pub(super) fn finish(&mut self) -> Latencies {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.finish();
    }
}

// === impl Reader ===

impl Reader {
    fn read(mut self, stop: &AtomicBool) -> Latencies {
        let mut last = Instant::now();
        while !stop.load(Ordering::SeqCst) || last.elapsed() < SILENCE {
            let mut next = self.tail.next(Duration::ZERO);
            if matches!(next, Ok(None)) {
                self.flush();
                next = self.tail.next(WAIT);
            }
            match next {
                Ok(Some(arrival)) => {
                    last = Instant::now();
                    self.arrived(&arrival);
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(event = "demo.consumer", error = %error, "reading the topic goes on after an error"),
            }
            self.tick();
        }
        self.display.end();
        self.total
    }

    fn arrived(&mut self, arrival: &Arrival) {
        let payload = arrival.value.as_deref().and_then(|value| serde_json::from_slice::<Payload>(value).ok());
        let Some(payload) = payload.filter(|payload| payload.run == self.run && payload.event < EVENT_MAX) else { return };
        let kind = arrival.header("type").unwrap_or_default();
        let latency_us = u64::try_from(unix_us() - payload.sent_us).unwrap_or(0);
        self.ledger.received(payload.event, &payload.order, kind == "OrderShipped");
        self.total.add(latency_us);
        self.second.add(latency_us);
        self.arrived += 1;
        let shown = self.display.event(&Line {
            topic: &self.topic,
            partition: arrival.partition,
            offset: arrival.offset,
            order: &payload.order,
            kind,
            customer: &payload.customer,
            items: payload.items.len(),
            total: payload.total,
            currency: &payload.currency,
            latency_us,
        });
        self.check(shown);
    }

    fn tick(&mut self) {
        let elapsed = self.since.elapsed();
        if elapsed < Duration::from_secs(1) {
            return;
        }
        let balance = self.ledger.balance();
        self.display.second(&Second {
            rate: self.arrived as f64 / elapsed.as_secs_f64(),
            total: balance.received,
            p50_us: self.second.percentile_us(50),
            p99_us: self.second.percentile_us(99),
            behind: balance.missing,
        });
        self.second.clear();
        self.arrived = 0;
        self.since = Instant::now();
    }

    fn flush(&mut self) {
        let flushed = self.display.flush();
        self.check(flushed);
    }

    /// Whoever read our events has gone: there is no one to show more.
    fn check(&mut self, written: std::io::Result<()>) {
        if written.is_err() {
            self.ending.ask();
        }
    }
}
