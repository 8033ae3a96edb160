//! Every sink and checkpoint is held to its contract by the same suite: Kafka on a real broker, standard output on a buffer.

use relay_core::checkpoint::{Checkpoint, ReadCheckpoint, Record};
use relay_core::conformance::{CheckpointBench, SinkBench, check_checkpoint, check_sink, event};
use relay_core::window::Failure;
use relay_core::{Acks, Event, Sink};
use relay_tests::consumer::{Isolation, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::topics::unique_topic;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A broker that other stories share may take its time.
const PATIENCE: Duration = Duration::from_secs(60);

fn kafka(name: &str, acks: Arc<Acks>) -> relay_kafka::Kafka {
    let mut config = relay_kafka::Config::new(name, &Kafka::shared().brokers());
    config.checkpoint_topic = "conformance.checkpoint".into();
    config.build(relay_kafka::Deps { acks }).expect("a Kafka side")
}

struct KafkaBench {
    topic: String,
    /// Records that were there before the sink at hand.
    before: usize,
}

impl KafkaBench {
    fn all(&self) -> Vec<(String, Vec<u8>, Vec<u8>)> {
        let records = read_all(&Kafka::shared().brokers(), &[&self.topic], Isolation::Committed);
        records.into_iter().map(|r| (r.topic, r.key.unwrap_or_default(), r.value.unwrap_or_default())).collect()
    }
}

/// A Kafka side of which only the checkpoint is used; the rest must live, because it does the work.
struct Whole(relay_kafka::Kafka);

impl Checkpoint for Whole {
    fn begin_store(&mut self, record: &Record) {
        self.0.checkpoint.begin_store(record);
    }

    fn outcome(&mut self) -> Option<Result<(), Failure>> {
        self.0.checkpoint.outcome()
    }

    fn retire(&mut self, keys: &[String]) {
        self.0.checkpoint.retire(keys);
    }
}

impl SinkBench for KafkaBench {
    fn open(&mut self, acks: Arc<Acks>) -> Box<dyn Sink> {
        self.before = self.all().len();
        Box::new(kafka("conformance", acks).sink)
    }

    fn read_back(&mut self) -> Vec<(String, Vec<u8>, Vec<u8>)> {
        self.all().split_off(self.before)
    }

    fn poison(&self) -> Option<Event> {
        Some(event(&self.topic, "k", &"x".repeat(2_000_000)))
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

impl CheckpointBench for KafkaBench {
    fn writer(&mut self, name: &str) -> Box<dyn Checkpoint> {
        Box::new(Whole(kafka(name, Acks::new(64))))
    }

    fn reader(&mut self, name: &str) -> Box<dyn ReadCheckpoint> {
        Box::new(kafka(name, Acks::new(64)).reader)
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

#[test]
fn kafka_keeps_the_contract_of_a_sink() {
    let topic = unique_topic("conformance");
    Kafka::shared().create_topic(&topic, 1, &[]);
    check_sink(&mut KafkaBench { topic: topic.clone(), before: 0 }, &topic);
}

#[test]
fn the_checkpoint_topic_keeps_the_contract_of_a_checkpoint() {
    check_checkpoint(&mut KafkaBench { topic: String::new(), before: 0 });
}

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the page").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl SinkBench for Page {
    fn open(&mut self, acks: Arc<Acks>) -> Box<dyn Sink> {
        self.0.lock().expect("the page").clear();
        Box::new(relay_stdout::StdoutSink::new(self.clone(), acks))
    }

    fn read_back(&mut self) -> Vec<(String, Vec<u8>, Vec<u8>)> {
        let page = self.0.lock().expect("the page");
        let text = |line: &serde_json::Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let lines = page.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).expect("a line is JSON"))
            .map(|line: serde_json::Value| {
                (text(&line, "topic"), text(&line, "key").into_bytes(), text(&line, "value").into_bytes())
            })
            .collect()
    }
}

#[test]
fn standard_output_keeps_the_contract_of_a_sink() {
    check_sink(&mut Page::default(), "lines");
}
