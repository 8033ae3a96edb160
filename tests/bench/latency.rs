//! Turns 1,000 events a second into the time from INSERT to consumer, beside a bare producer's from send to consumer.

use std::time::Duration;

use postgres::NoTls;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use relay_tests::{Relay, secs};

use crate::run::Contender;
use crate::servers::Servers;
use crate::settings::Settings;
use crate::watcher::Watcher;
use crate::{backlog, pace, producer, relay};

/// Ages of all rounds, ascending.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ages(Vec<Duration>);

/// Both contenders, with the rate that was held.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// From INSERT through relay.
    pub(crate) relay: Ages,
    /// From send through librdkafka with linger 0.
    pub(crate) bare: Ages,
    /// Events a second as written.
    pub(crate) rate: f64,
    /// relay's CPU time an event.
    pub(crate) relay_cpu_us: f64,
}

/// Seconds at the start of each round that do not count.
const WARM_UP: u64 = 3;

const PARTITIONS: i32 = 4;

// === impl Ages ===

impl Ages {
    /// The age that a share of the events does not exceed, in milliseconds.
    pub(crate) fn percentile_ms(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let at = ((self.0.len() as f64 * share).ceil() as usize).saturating_sub(1).min(last);
        self.0.get(at).map_or(f64::NAN, |age| age.as_secs_f64() * 1e3)
    }

    fn add(&mut self, ages: Vec<Duration>) {
        self.0.extend(ages);
        self.0.sort_unstable();
    }
}

/// Runs all rounds, in alternating order.
pub(crate) fn measure(settings: &Settings, servers: &Servers) -> Result<Measured, String> {
    println!("\n# latency");
    let events = (settings.seconds + WARM_UP) * pace::RATE;
    let (mut measured, mut took, mut cpu) = (Measured::default(), Duration::ZERO, Duration::ZERO);
    for round in 0..settings.rounds {
        let mut order = [Contender::Producer, Contender::Relay];
        if round % 2 == 1 {
            order.reverse();
        }
        for who in order {
            let ages = match who {
                Contender::Relay => {
                    let (ages, one_took, one_cpu) = through_relay(servers, events, round)?;
                    took += one_took;
                    cpu += one_cpu;
                    ages
                }
                _ => through_bare_producer(servers, events)?,
            };
            let into = if who == Contender::Relay { &mut measured.relay } else { &mut measured.bare };
            let mut one = Ages::default();
            one.add(ages.clone());
            println!("latency {}: {who}: p50 {:.2} ms, p99 {:.2} ms", round + 1, one.percentile_ms(0.5), one.percentile_ms(0.99));
            into.add(ages);
        }
    }
    let all = (events * settings.rounds) as f64;
    measured.rate = all / took.as_secs_f64();
    measured.relay_cpu_us = cpu.as_secs_f64() * 1e6 / all;
    Ok(measured)
}

fn through_relay(servers: &Servers, events: u64, round: u64) -> Result<(Vec<Duration>, Duration, Duration), String> {
    let name = format!("latency_{round}");
    let topic = format!("outbox.event.{name}");
    servers.fresh_topic(&topic, PARTITIONS);
    let outbox = servers.db.prepare_outbox(&name);
    let watcher = Watcher::start(&servers.kafka.brokers(), &topic, PARTITIONS)?;
    let mut relay = Relay::on(&servers.db, &servers.kafka, &outbox).binary(&servers.relay).spawn();
    let mut client = postgres::Client::connect(&servers.db.url("app"), NoTls).map_err(|e| format!("connect: {e:?}"))?;
    let insert =
        format!("INSERT INTO {} (aggregate_type, key, type, payload) VALUES ($1, $2, $3, $4::text::jsonb)", outbox.table);
    let insert = client.prepare(&insert).map_err(|e| format!("prepare the INSERT: {e:?}"))?;
    let mut send = |n: u64| {
        let (key, payload) = (key(n), pace::payload(n));
        let done = client.execute(&insert, &[&name, &key, &"order.placed", &payload]);
        done.map(drop).map_err(|e| format!("insert: {e:?}"))
    };
    let probe = || if relay.process().is_running() { send(0) } else { Err("relay has ended".to_owned()) };
    let flowing = watcher.until_flowing(secs(60), probe);
    flowing.map_err(|e| format!("{e}\n{}", relay.process().log_tail()))?;
    let before = relay.cpu_time();
    let took = pace::run(events, send)?;
    let ages = watcher.finish(events, WARM_UP * pace::RATE);
    let cpu = relay.cpu_time().saturating_sub(before);
    let tail = relay.process().log_tail();
    relay::stop(&mut relay);
    backlog::drop_slot(&servers.db, &outbox.slot);
    Ok((ages.map_err(|e| format!("{e}\n{tail}"))?, took, cpu))
}

fn through_bare_producer(servers: &Servers, events: u64) -> Result<Vec<Duration>, String> {
    servers.fresh_topic("bare-latency", PARTITIONS);
    let watcher = Watcher::start(&servers.kafka.brokers(), "bare-latency", PARTITIONS)?;
    let client = producer::client(&servers.kafka.brokers(), "0")?;
    let send = |n: u64| {
        let (key, position) = (key(n), format!("16B374D848.{n}"));
        let headers = [("id", "01890a5d-ac96-774b-bcce-b302099a8057"), ("type", "order.placed"), ("relay-pos", &position)];
        let headers = headers
            .into_iter()
            .fold(OwnedHeaders::new_with_capacity(3), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        let payload = pace::payload(n);
        let record = BaseRecord::with_opaque_to("bare-latency", 0).key(&key).payload(&payload).headers(headers);
        client.send(record).map_err(|(e, _)| format!("send a record: {e}"))?;
        client.poll(Duration::ZERO);
        Ok(())
    };
    watcher.until_flowing(secs(60), || send(0))?;
    pace::run(events, send)?;
    watcher.finish(events, WARM_UP * pace::RATE)
}

fn key(n: u64) -> String {
    format!("order-{:05}", n * 7919 % 100_000)
}
