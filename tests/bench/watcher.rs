//! Turns a topic into the ages of its events at the moment a consumer receives them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use relay_tests::{secs, wait};

use crate::pace;

/// A consumer in a thread of its own.
pub(crate) struct Watcher {
    is_over: Arc<AtomicBool>,
    last: Arc<AtomicU64>,
    seen: Arc<AtomicU64>,
    thread: JoinHandle<Vec<(u64, Duration)>>,
}

// === impl Watcher ===

impl Watcher {
    /// Reads a topic from its beginning; answered as soon as data is there.
    pub(crate) fn start(brokers: &str, topic: &str, partitions: i32) -> Result<Watcher, String> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", "relay-bench").set("log_level", "0");
        config.set("enable.auto.commit", "false").set("fetch.min.bytes", "1").set("fetch.wait.max.ms", "20");
        config.set("isolation.level", "read_uncommitted");
        let consumer: BaseConsumer = config.create().map_err(|e| format!("create a consumer: {e}"))?;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning).map_err(|e| format!("name a partition: {e}"))?;
        }
        consumer.assign(&list).map_err(|e| format!("assign partitions: {e}"))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (last, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (over, newest, count) = (Arc::clone(&is_over), Arc::clone(&last), Arc::clone(&seen));
        let thread = std::thread::spawn(move || follow(&consumer, &over, &newest, &count));
        Ok(Watcher { is_over, last, seen, thread })
    }

    /// Waits until any event has come, by sending one at a time: then everything on the way is up.
    pub(crate) fn until_flowing(&self, limit: Duration, mut send: impl FnMut() -> Result<(), String>) -> Result<(), String> {
        let end = std::time::Instant::now() + limit;
        while self.seen.load(Ordering::Relaxed) == 0 {
            if std::time::Instant::now() > end {
                return Err(format!("no event came through within {limit:?}"));
            }
            send()?;
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Waits for the events up to `n`, and answers the ages of those behind `dropped`.
    pub(crate) fn finish(self, n: u64, dropped: u64) -> Result<Vec<Duration>, String> {
        let all = wait::try_until(secs(15), || (self.last.load(Ordering::Relaxed) >= n).then_some(()));
        // The last one may have overtaken some of other partitions.
        std::thread::sleep(Duration::from_millis(300));
        self.is_over.store(true, Ordering::Relaxed);
        let ages = self.thread.join().map_err(|_| "the consumer panicked".to_owned())?;
        let numbered = ages.iter().filter(|(number, _)| *number > 0).count() as u64;
        if all.is_none() || numbered < n {
            return Err(format!("{numbered} of {n} events came through"));
        }
        Ok(ages.into_iter().filter(|(number, _)| *number > dropped).map(|(_, age)| age).collect())
    }
}

fn follow(consumer: &BaseConsumer, is_over: &AtomicBool, last: &AtomicU64, seen: &AtomicU64) -> Vec<(u64, Duration)> {
    let mut ages = Vec::with_capacity(100_000);
    while !is_over.load(Ordering::Relaxed) {
        // Errors here pass by themselves; what they hide shows as events that never came.
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else { continue };
        if let Some((number, age)) = message.payload().and_then(pace::age) {
            ages.push((number, age));
            last.fetch_max(number, Ordering::Relaxed);
            seen.fetch_add(1, Ordering::Relaxed);
        }
    }
    ages
}
