//! Turns topics into the number of records written to them since a moment, in one request for all partitions.

use std::collections::HashSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use relay_tests::{secs, wait};

/// Topics and the records that were in them at the start.
pub(crate) struct Watermarks {
    consumer: BaseConsumer,
    topics: Vec<String>,
    partitions: i32,
    start: u64,
}

// === impl Watermarks ===

impl Watermarks {
    /// Of topics that all have so many partitions; counts from now on.
    pub(crate) fn of(brokers: &str, topics: &[String], partitions: i32) -> Result<Watermarks, String> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", "relay-bench").set("log_level", "0");
        // Where there are no transactions that is the end all the same; where there are, what is committed. Each commit adds a marker.
        config.set("isolation.level", "read_committed");
        let consumer = config.create().map_err(|e| format!("create a Kafka consumer: {e}"))?;
        let mut marks = Watermarks { consumer, topics: topics.to_vec(), partitions, start: 0 };
        // A topic just made has no leader for a moment, and librdkafka remembers one that it has asked for too early.
        let mut last = Err("not all topics have leaders after a minute".to_owned());
        wait::try_until(secs(60), || {
            if marks.have_leaders() {
                last = marks.total();
            }
            last.is_ok().then_some(())
        });
        marks.start = last?;
        Ok(marks)
    }

    /// Records written since the start; 0 when the broker did not answer for all partitions.
    pub(crate) fn gained(&self) -> u64 {
        self.total().map_or(0, |total| total.saturating_sub(self.start))
    }

    /// How often to ask: a thousand partitions cost the broker something each time.
    pub(crate) fn pause(&self) -> Duration {
        Duration::from_millis(if self.topics.len() > 100 { 100 } else { 20 })
    }

    fn have_leaders(&self) -> bool {
        let Ok(metadata) = self.consumer.fetch_metadata(None, secs(5)) else { return false };
        let led: HashSet<&str> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.partitions().iter().all(|p| p.leader() >= 0 && p.error().is_none()))
            .map(|topic| topic.name())
            .collect();
        self.topics.iter().all(|topic| led.contains(topic.as_str()))
    }

    fn total(&self) -> Result<u64, String> {
        let tell = |e: KafkaError| format!("ask for the ends of partitions: {e}");
        let mut list = TopicPartitionList::with_capacity(self.topics.len());
        for topic in &self.topics {
            for partition in 0..self.partitions {
                // In a question by time the protocol's -1 asks for the end of the partition.
                list.add_partition_offset(topic, partition, Offset::End).map_err(tell)?;
            }
        }
        let ends = self.consumer.offsets_for_times(list, secs(5)).map_err(tell)?;
        let end = |element: &TopicPartitionListElem<'_>| {
            element.error().map_err(|e| format!("{} [{}]: {}", element.topic(), element.partition(), tell(e)))?;
            let offset = element.offset().to_raw().and_then(|offset| u64::try_from(offset).ok());
            offset.ok_or_else(|| format!("{} [{}] told no end", element.topic(), element.partition()))
        };
        ends.elements().iter().map(end).sum()
    }
}
