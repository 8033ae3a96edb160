//! Kafka transactions of the sink on a real broker: what is committed, aborted, fenced, and what an unknown outcome leaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use relay_core::checkpoint::{Answer, Checkpoint, ReadCheckpoint, ReadError, Reading, Record, Transactional};
use relay_core::conformance::event;
use relay_core::sink::{PurgeScope, Waiting};
use relay_core::window::{Failure, FailureKind};
use relay_core::{Acks, Enqueue, Lsn, Sink, Ticket};
use relay_tests::consumer::{Isolation, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::requests::{Api, Trap};
use relay_tests::topics::unique_topic;
use relay_tests::wait::{secs, try_until};

/// One pipeline's Kafka side, driven as the wire thread drives it.
struct Side {
    kafka: relay_kafka::Kafka,
    acks: Arc<Acks>,
    next: usize,
}

// === impl Side ===

impl Side {
    fn open(name: &str, brokers: &str, properties: &[(&str, &str)]) -> Side {
        let mut config = relay_kafka::Config::new(name, brokers);
        config.is_exactly_once = true;
        config.properties = properties.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let acks = Acks::new(1 << 16);
        let kafka = config.build(relay_kafka::Deps { acks: Arc::clone(&acks) }).expect("a Kafka side");
        Side { kafka, acks, next: 0 }
    }

    fn transactions(&mut self) -> &mut relay_kafka::Transactions {
        self.kafka.transactions.as_mut().expect("exactly-once")
    }

    fn fence(&mut self) -> Result<Reading, ReadError> {
        self.kafka.sink.renew().expect("a new client");
        self.transactions().begin_fence();
        match try_until(secs(60), || self.transactions().answer()) {
            Some(Answer::Fenced(reading)) => reading,
            other => panic!("{other:?} is no answer to a fence"),
        }
    }

    #[track_caller]
    fn send(&mut self, topic: &str, value: &str) {
        let answer = self.offer(topic, value);
        assert_eq!(answer, Enqueue::Accepted);
    }

    fn offer(&mut self, topic: &str, value: &str) -> Enqueue {
        let event = event(topic, "k", value);
        let answer = try_until(secs(60), || match self.kafka.sink.enqueue(&event, Ticket(self.next)) {
            Enqueue::Waiting(Waiting::Lookup) | Enqueue::Full => None,
            answer => Some(answer),
        })
        .expect("an answer");
        self.next += usize::from(answer == Enqueue::Accepted);
        answer
    }

    /// The checkpoint topic once its newest record ends there; see [`until_committed`].
    #[track_caller]
    fn until_stored(&mut self, lsn: u64) -> Reading {
        let reading = try_until(secs(60), || {
            let reading = self.kafka.reader.read().expect("a reading");
            let end_lsn = reading.newest.as_ref().and_then(|record| record.end_lsn);
            (end_lsn == Some(Lsn(lsn))).then_some(reading)
        });
        reading.unwrap_or_else(|| panic!("no record ends at {lsn}"))
    }

    fn commit(&mut self, record: &Record) -> Result<(), Failure> {
        self.transactions().begin_store(record);
        self.outcome()
    }

    fn abort(&mut self) -> Result<(), Failure> {
        self.kafka.sink.purge(PurgeScope::QueuedAndInFlight);
        self.transactions().begin_abort();
        let outcome = self.outcome();
        try_until(secs(60), || (self.kafka.sink.outstanding() == 0).then_some(())).expect("every report");
        let _ = self.acks.take_failures();
        outcome
    }

    fn outcome(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            if let Some(outcome) = self.transactions().outcome() {
                return outcome;
            }
            assert!(start.elapsed() < secs(100), "no outcome");
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

fn record(name: &str, epoch: u64, lsn: u64) -> Record {
    let text = include_bytes!("../../relay/core/fixtures/checkpoint-v1.json");
    let record = Record::from_json(text.trim_ascii_end()).expect("the fixture");
    Record { name: name.into(), epoch, guarantee: "exactly-once".into(), end_lsn: Some(Lsn(lsn)), ..record }
}

fn values(brokers: &str, topic: &str, isolation: Isolation) -> Vec<String> {
    read_all(brokers, &[topic], isolation).iter().map(|rec| rec.value_text().unwrap_or_default().to_owned()).collect()
}

/// Waits until a reader of committed records has these: a commit is answered before its markers have come to the partitions.
#[track_caller]
fn until_committed(brokers: &str, topic: &str, wanted: &[impl AsRef<str>]) {
    let (wanted, mut found) = (wanted.iter().map(AsRef::as_ref).collect::<Vec<_>>(), Vec::new());
    try_until(secs(60), || {
        found = values(brokers, topic, Isolation::Committed);
        (found == wanted).then_some(())
    });
    assert_eq!(found, wanted);
}

fn names() -> (String, String) {
    let topic = unique_topic("txn");
    (topic.clone(), topic.replace('.', "-"))
}

#[test]
fn events_and_their_checkpoint_become_visible_together_or_not_at_all() {
    let (kafka, (topic, name)) = (Kafka::shared(), names());
    kafka.create_topic(&topic, 2, &[]);
    let mut side = Side::open(&name, &kafka.brokers(), &[]);
    // Without a fence nothing is taken.
    let early = event(&topic, "k", "early");
    std::thread::sleep(secs(1));
    assert_eq!(side.kafka.sink.enqueue(&early, Ticket(0)), Enqueue::Waiting(Waiting::Lookup));
    assert_eq!(side.fence().expect("a reading").newest, None, "the marker is no record");

    side.send(&topic, "1");
    side.send(&topic, "2");
    try_until(secs(60), || (side.kafka.sink.outstanding() == 0).then_some(())).expect("delivered");
    assert_eq!(values(&kafka.brokers(), &topic, Isolation::Committed), Vec::<String>::new());
    assert_eq!(values(&kafka.brokers(), &topic, Isolation::Uncommitted), ["1", "2"]);
    assert_eq!(side.kafka.reader.read().expect("a reading").newest, None);
    assert_eq!(side.commit(&record(&name, 1, 100)), Ok(()));
    until_committed(&kafka.brokers(), &topic, &["1", "2"]);
    side.until_stored(100);

    // What is aborted is in the log and in nobody's view, the record with it; and the same client goes on.
    side.send(&topic, "3");
    try_until(secs(60), || (side.kafka.sink.outstanding() == 0).then_some(())).expect("delivered");
    assert_eq!(side.abort(), Ok(()));
    side.send(&topic, "4");
    assert_eq!(side.commit(&record(&name, 1, 200)), Ok(()));
    until_committed(&kafka.brokers(), &topic, &["1", "2", "4"]);
    assert_eq!(values(&kafka.brokers(), &topic, Isolation::Uncommitted), ["1", "2", "3", "4"]);

    // Idle progress: a record alone. Records of older epochs go with it.
    side.transactions().retire(&[record(&name, 1, 0).key()]);
    assert_eq!(side.commit(&record(&name, 2, 300)), Ok(()));
    let reading = side.until_stored(300);
    assert_eq!((reading.keys, reading.highest_epoch), (vec![record(&name, 2, 0).key()], 2));
    assert!(side.acks.take_failures().is_empty());
}

#[test]
fn an_abort_of_what_is_queued_and_in_flight_leaves_a_client_that_goes_on() {
    let (kafka, (topic, name)) = (Kafka::shared(), names());
    kafka.create_topic(&topic, 1, &[]);
    let mut side = Side::open(&name, &kafka.brokers(), &[]);
    side.fence().expect("a reading");
    for round in 0..5 {
        for at in 0..2_000 {
            side.send(&topic, &format!("lost {round} {at}"));
        }
        assert_eq!(side.abort(), Ok(()));
        side.send(&topic, &format!("kept {round}"));
        assert_eq!(side.commit(&record(&name, 1, 100 + round)), Ok(()), "round {round}");
    }
    until_committed(&kafka.brokers(), &topic, &[0, 1, 2, 3, 4].map(|round| format!("kept {round}")));
}

#[test]
fn a_second_instance_fences_the_first_at_its_next_commit_and_sees_all_that_it_committed() {
    let (kafka, (topic, name)) = (Kafka::shared(), names());
    kafka.create_topic(&topic, 1, &[]);
    let (mut old, mut new) = (Side::open(&name, &kafka.brokers(), &[]), Side::open(&name, &kafka.brokers(), &[]));
    old.fence().expect("a reading");
    old.send(&topic, "committed");
    assert_eq!(old.commit(&record(&name, 1, 100)), Ok(()));
    old.send(&topic, "open");
    try_until(secs(60), || (old.kafka.sink.outstanding() == 0).then_some(())).expect("delivered");

    let reading = new.fence().expect("a reading");
    assert_eq!(reading.newest.and_then(|record| record.end_lsn), Some(Lsn(100)));
    new.send(&topic, "new");
    assert_eq!(new.commit(&record(&name, 2, 200)), Ok(()));

    let failure = old.commit(&record(&name, 1, 150)).expect_err("fenced");
    assert_eq!(failure.kind, FailureKind::Fenced, "{failure:?}");
    let again = old.commit(&record(&name, 1, 160)).expect_err("finished");
    assert_eq!(again.kind, FailureKind::Indefinite, "a finished client takes no order: {again:?}");
    until_committed(&kafka.brokers(), &topic, &["committed", "new"]);
    assert_eq!(new.until_stored(200).newest.map(|record| record.epoch), Some(2));
}

#[test]
fn after_an_answer_that_came_too_late_only_a_new_client_goes_on_and_the_topic_tells_what_happened() {
    let (topic, name) = names();
    let kafka = Kafka::builder().proxied().start();
    kafka.create_topic(&topic, 1, &[]);
    let mut side = Side::open(&name, &kafka.proxied_brokers(), &[("socket.timeout.ms", "10000")]);
    side.fence().expect("a reading");
    side.send(&topic, "1");
    assert_eq!(side.commit(&record(&name, 1, 100)), Ok(()));

    side.send(&topic, "2");
    try_until(secs(60), || (side.kafka.sink.outstanding() == 0).then_some(())).expect("delivered");
    // The broker commits, and says so to somebody who waits no more.
    kafka.proxy().trap(Api::EndTxn, Trap::DropResponse, u64::MAX);
    let failure = side.commit(&record(&name, 1, 200)).expect_err("too late");
    assert!(kafka.proxy().trapped(Api::EndTxn, Trap::DropResponse) > 0, "an answer was late");
    assert!(matches!(failure.kind, FailureKind::Indefinite | FailureKind::Aborted), "{failure:?}");
    kafka.proxy().disarm();
    if failure.kind == FailureKind::Indefinite {
        let refused = event(&topic, "k", "3");
        assert_eq!(side.kafka.sink.enqueue(&refused, Ticket(side.next)), Enqueue::Waiting(Waiting::Lookup), "a finished client");
    }
    let stored = side.fence().expect("a reading").newest.and_then(|record| record.end_lsn);
    let visible = values(&kafka.brokers(), &topic, Isolation::Committed);
    match stored {
        Some(Lsn(100)) => assert_eq!(visible, ["1"]),
        Some(Lsn(200)) => assert_eq!(visible, ["1", "2"]),
        other => panic!("{other:?} was never stored"),
    }
    side.send(&topic, "4");
    assert_eq!(side.commit(&record(&name, 1, 300)), Ok(()));
    until_committed(&kafka.brokers(), &topic, &[visible, vec!["4".to_owned()]].concat());
}

#[test]
fn a_commit_costs_no_fixed_wait() {
    let (kafka, (topic, name)) = (Kafka::shared(), names());
    kafka.create_topic(&topic, 1, &[]);
    let mut side = Side::open(&name, &kafka.brokers(), &[]);
    side.fence().expect("a reading");
    let mut times: Vec<Duration> = (0..60)
        .map(|round| {
            for _ in 0..50 {
                side.send(&topic, "x");
            }
            let start = Instant::now();
            assert_eq!(side.commit(&record(&name, 1, 100 + round)), Ok(()));
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("commit of 50 events with its record: median {:.2?}, 95 % {:.2?}, worst {:.2?}", times[30], times[57], times[59]);
    // rdkafka's own flush would poll out 100 ms each time.
    assert!(times[0] < Duration::from_millis(60), "the quickest takes {:?}", times[0]);
}
