//! Turns records into the cost of librdkafka alone: this program once more, as a child whose CPU time is its own.

use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use relay_tests::{Process, Scratch, secs, wait};
use serde::{Deserialize, Serialize};

use crate::cpu::Meter;
use crate::records::Records;
use crate::run::{Contender, Run};
use crate::servers::Servers;

/// The hidden argument that makes this program the child.
pub(crate) const CHILD: &str = "--bare-producer";

/// What the child tells on its last line. Reading the records is in none of the figures.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    rows: u64,
    seconds: f64,
    cpu_seconds: f64,
    broker_cpu_seconds: f64,
    headers: Vec<String>,
}

/// Counts what the broker has acknowledged and what it has not.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    done: AtomicU64,
    failed: AtomicU64,
}

/// A bare producer with relay's guarantees; the rest is what relay's defaults come to under load.
pub(crate) fn client(brokers: &str, linger_ms: &str) -> Result<BaseProducer<Deliveries>, String> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("client.id", "relay-bench").set("log_level", "3");
    config.set("acks", "all").set("enable.idempotence", "true").set("message.timeout.ms", "0");
    config.set("partitioner", "murmur2_random").set("compression.type", "lz4").set("linger.ms", linger_ms);
    // The bounds of relay's window, with its own margin for the queue.
    config.set("queue.buffering.max.messages", "100000").set("queue.buffering.max.kbytes", "81920");
    config.set("batch.size", "1000000").set("batch.num.messages", "10000");
    config.create_with_context(Deliveries::default()).map_err(|e| format!("create a producer: {e}"))
}

/// Sends `rows` records of a topic that relay wrote (`None`: made-up ones) to another topic.
pub(crate) fn run(servers: &Servers, from: Option<&str>, to: &str, rows: u64) -> Result<Run, String> {
    let scratch = Scratch::new("producer");
    let exe = std::env::current_exe().map_err(|e| format!("find this program: {e}"))?;
    let mut command = Command::new(exe);
    command.args([CHILD, &servers.kafka.brokers(), from.unwrap_or("-"), to, &rows.to_string(), &servers.broker_pid.to_string()]);
    let mut process = Process::start("bare producer", &mut command, &scratch.join("log"), "KILL");
    let limit = secs(180 + rows / 1_000);
    if wait::try_until(limit, || (!process.is_running()).then_some(())).is_none() {
        return Err(format!("the bare producer has not ended after {limit:?}\n{}", process.log_tail()));
    }
    let log = process.log();
    let told = log.lines().rev().find_map(|line| serde_json::from_str::<Told>(line).ok());
    let told = told.ok_or_else(|| format!("the bare producer failed\n{}", process.log_tail()))?;
    println!("bare producer: headers {}", told.headers.join(", "));
    let took = Duration::from_secs_f64(told.seconds);
    Ok(Run {
        who: Contender::Producer,
        rows: told.rows,
        whole: took,
        flow_rows: told.rows,
        flow: took,
        cpu: Duration::from_secs_f64(told.cpu_seconds),
        walsender: None,
        broker: Some(Duration::from_secs_f64(told.broker_cpu_seconds)),
        peak_rss_bytes: None,
    })
}

/// The child: `brokers from to rows broker-pid`.
pub(crate) fn child(args: &[String]) -> ExitCode {
    match send(args) {
        Ok(told) => {
            println!("{}", serde_json::to_string(&told).expect("figures can be written as JSON"));
            ExitCode::SUCCESS
        }
        Err(e) => {
            println!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn send(args: &[String]) -> Result<Told, String> {
    let [brokers, from, to, rows, broker_pid] = args else { return Err(format!("wanted five arguments, got {args:?}")) };
    let rows: u64 = rows.parse().map_err(|e| format!("rows: {e}"))?;
    let broker_pid: u32 = broker_pid.parse().map_err(|e| format!("broker's pid: {e}"))?;
    let records = if from == "-" { Records::synthetic(rows) } else { Records::of(brokers, from, rows)? };
    let producer = client(brokers, "5")?;
    // As relay does before it streams: metadata first, so that nothing waits for it later.
    producer.client().fetch_metadata(Some(to), secs(30)).map_err(|e| format!("look at {to}: {e}"))?;
    let (own, broker, start) = (Meter::start(std::process::id()), Meter::start(broker_pid), Instant::now());
    for i in 0..records.len() {
        push(&producer, &records, i, to)?;
        if i % 512 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    // The crate's flush polls a whole 100 ms at its end.
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
    }
    let (took, own, broker) = (start.elapsed(), own.spent(), broker.spent());
    let (done, failed) = producer.context().counts();
    if failed > 0 || done != rows {
        return Err(format!("{done} of {rows} records delivered, {failed} refused"));
    }
    Ok(Told {
        rows,
        seconds: took.as_secs_f64(),
        cpu_seconds: own.as_secs_f64(),
        broker_cpu_seconds: broker.as_secs_f64(),
        headers: records.header_names().into_iter().map(str::to_owned).collect(),
    })
}

/// A full queue is back-pressure: serve reports and offer the record again.
fn push(producer: &BaseProducer<Deliveries>, records: &Records, i: usize, topic: &str) -> Result<(), String> {
    let mut record = records.record(i, topic);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => record = back,
            Err((e, _)) => return Err(format!("send a record: {e}")),
        }
        producer.poll(Duration::from_millis(1));
    }
}

// === impl Deliveries ===

impl Deliveries {
    /// Delivered, and refused.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, _: usize) {
        let count = if result.is_ok() { &self.done } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
