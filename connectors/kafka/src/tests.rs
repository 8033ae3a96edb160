//! Stories of the whole sink against librdkafka's mock cluster: every accepted event is reported once, whatever happens.

use crate::config::{Config, Deps, Kafka, Plan};
use crate::mock::Mock;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys::{RDKafkaApiKey, RDKafkaRespErr};
use relay_core::checkpoint::{Answer, Checkpoint, ReadCheckpoint, Record, RecordState, Transactional};
use relay_core::sink::{PurgeScope, Waiting};
use relay_core::window::{Acks, FailureKind, Limits, Window};
use relay_core::{Enqueue, Event, Lsn, PoisonReason, Sink, Ticket};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Bench {
    mock: Mock,
    acks: Arc<Acks>,
    kafka: Kafka,
}

// === impl Bench ===

impl Bench {
    fn start(topics: &[(&str, u16)]) -> Self {
        Self::with(topics, |_| {})
    }

    fn with(topics: &[(&str, u16)], adjust: impl FnOnce(&mut Config)) -> Self {
        let mock = Mock::start(1).expect("a mock cluster");
        mock.create_topic("orders.checkpoint", 1).expect("a topic");
        for (name, partitions) in topics {
            mock.create_topic(name, *partitions).expect("a topic");
        }
        let acks = Acks::new(4096);
        let mut config = Config::new("orders", &mock.bootstrap_servers().expect("addresses"));
        config.create_topics = "never".to_owned();
        adjust(&mut config);
        let kafka = config.build(Deps { acks: Arc::clone(&acks) }).expect("a sink");
        Self { mock, acks, kafka }
    }

    /// Offers an event until the sink no longer says that it is looking the topic up.
    fn offer(&mut self, event: &Event, ticket: usize) -> Enqueue {
        let mut answer = None;
        wait_for("an answer", || {
            answer = Some(self.kafka.sink.enqueue(event, Ticket(ticket)));
            !matches!(answer, Some(Enqueue::Waiting(Waiting::Lookup)))
        });
        answer.expect("an answer")
    }

    fn drain(&mut self) {
        self.kafka.sink.nudge();
        wait_for("every report", || self.kafka.sink.outstanding() == 0);
    }
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < Duration::from_secs(15), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn event(topic: &str, key: Option<&str>, value: &str) -> Event {
    let mut event = Event::default();
    event.out().extend_from_slice(topic.as_bytes());
    event.end_topic();
    if let Some(key) = key {
        event.out().extend_from_slice(key.as_bytes());
        event.end_key();
    }
    event.out().extend_from_slice(value.as_bytes());
    event.end_value();
    event.header("relay-pos", Some(b"0/10/1"));
    event.header("none", None);
    event
}

fn code(code: RDKafkaErrorCode) -> RDKafkaRespErr {
    // The mock takes the raw enumeration; these are the few that the tests inject.
    match code {
        RDKafkaErrorCode::MessageSizeTooLarge => RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        RDKafkaErrorCode::TopicAuthorizationFailed => RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        RDKafkaErrorCode::InvalidProducerIdMapping => RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING,
        other => panic!("{other:?} is not mapped"),
    }
}

fn poison(answer: Enqueue) -> (PoisonReason, String) {
    match answer {
        Enqueue::Poison(poison) => (poison.reason, poison.message),
        other => panic!("{other:?} is not poison"),
    }
}

#[test]
fn the_frontier_follows_the_acknowledgements() {
    let mut bench = Bench::start(&[("shop", 4), ("audit", 1)]);
    let mut window = Window::new(Arc::clone(&bench.acks), Limits { bytes: 1 << 20, events: 4096 });
    for transaction in 1..=200u64 {
        window.begin(Lsn(transaction * 100), 0);
        for seq in 0..5 {
            let event = event(if seq == 4 { "audit" } else { "shop" }, Some(&format!("k{seq}")), "{}");
            assert_eq!(bench.offer(&event, window.next_ticket().0), Enqueue::Accepted);
            window.sent(seq, true, event.size_bytes());
        }
        window.commit(Lsn(transaction * 100 + 50));
    }
    bench.drain();
    let mut transactions = 0;
    window.advance(|_| transactions += 1);
    assert_eq!((transactions, window.frontier().end_lsn), (200, Lsn(20_050)));
    assert!(bench.acks.take_failures().is_empty());
    assert!(bench.kafka.sink.is_reachable());
    assert_eq!(bench.kafka.sink.partitions("shop"), Some(4));
}

#[test]
fn a_nudge_sends_at_once_what_linger_would_hold_back() {
    let mut bench = Bench::with(&[("shop", 1)], |config| {
        config.properties.insert("linger.ms".to_owned(), "5000".to_owned());
    });
    assert_eq!(bench.offer(&event("shop", Some("k"), "1"), 0), Enqueue::Accepted);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(bench.kafka.sink.outstanding(), 1, "linger holds");
    for ticket in 1..50 {
        let start = Instant::now();
        bench.kafka.sink.nudge();
        wait_for("the report", || bench.kafka.sink.outstanding() == 0);
        assert!(start.elapsed() < Duration::from_secs(1));
        assert_eq!(bench.offer(&event("shop", Some("k"), "1"), ticket), Enqueue::Accepted);
    }
    bench.drain();
}

#[test]
fn what_lingers_holds_no_window_back() {
    let linger = |mib: u64, events| {
        let config = Config { in_flight_bytes: mib << 20, ..Config::new("shop", "localhost:9092") };
        Plan::new(config, events).expect("legal").linger_ms
    };
    assert_eq!([linger(64, 131_072), linger(64, 15_000), linger(12, 131_072), linger(1, 131_072)], [20.0, 15.0, 12.0, 10.0]);
    let mut config = Config::new("shop", "localhost:9092");
    config.properties.insert("linger.ms".to_owned(), "0.5".to_owned());
    assert_eq!(Plan::new(config, 1).expect("legal").linger_ms, 0.5);
}

#[test]
fn a_purge_reports_every_ticket_once() {
    // One partition: what was delivered before the purge is a prefix of what was sent, so the window can tell each ticket's fate.
    let mut bench = Bench::with(&[("shop", 1)], |config| {
        config.properties.insert("linger.ms".to_owned(), "5000".to_owned());
    });
    let mut window = Window::new(Arc::clone(&bench.acks), Limits { bytes: 1 << 20, events: 4096 });
    let mut lsn = 0;
    let mut send = |bench: &mut Bench, window: &mut Window| {
        let ticket = window.next_ticket().0;
        lsn += 10;
        let event = event("shop", Some(&ticket.to_string()), "x");
        assert_eq!(bench.offer(&event, ticket), Enqueue::Accepted);
        window.begin(Lsn(lsn), 0);
        window.sent(0, true, event.size_bytes());
        window.commit(Lsn(lsn + 5));
        ticket
    };
    let delivered = |window: &mut Window| {
        let mut events = 0;
        window.advance(|transaction| events += transaction.events);
        usize::try_from(events).expect("a small number")
    };
    send(&mut bench, &mut window);
    bench.drain();
    assert_eq!(delivered(&mut window), 1);
    for scope in [PurgeScope::QueuedAndInFlight, PurgeScope::Queued] {
        // A flush lasts 100 ms at most; one that were still under way would send what is to be purged.
        std::thread::sleep(Duration::from_millis(200));
        let tickets: Vec<_> = (0..500).map(|_| send(&mut bench, &mut window)).collect();
        bench.kafka.sink.purge(scope);
        bench.drain();
        let delivered = delivered(&mut window);
        assert!(delivered < tickets.len(), "the purge came too late to be tested");
        let failures = bench.acks.take_failures();
        let mut failed: Vec<_> = failures.iter().map(|(ticket, _)| ticket.0).collect();
        failed.sort_unstable();
        assert_eq!(failed, tickets[delivered..], "each ticket is either delivered or failed, once");
        assert!(failures.iter().all(|(_, failure)| failure.kind == FailureKind::Purged));
        window.rewind();
    }
    // The client goes on after a purge.
    send(&mut bench, &mut window);
    bench.drain();
    assert_eq!((delivered(&mut window), bench.acks.take_failures().len()), (1, 0));
}

#[test]
fn a_topic_is_waited_for_until_it_exists() {
    let mut bench = Bench::start(&[]);
    let event = event("late", Some("k"), "{}");
    let mut answer = None;
    wait_for("a verdict", || {
        answer = Some(bench.kafka.sink.enqueue(&event, Ticket(0)));
        !matches!(answer, Some(Enqueue::Waiting(Waiting::Lookup)))
    });
    let Some(Enqueue::Waiting(Waiting::TopicMissing { topic, message })) = answer else { panic!("{answer:?}") };
    assert!(topic == "late" && message.contains("never"), "{message}");
    bench.mock.create_topic("late", 3).expect("a topic");
    wait_for("the topic", || bench.kafka.sink.enqueue(&event, Ticket(0)) == Enqueue::Accepted);
    bench.drain();
    assert!(bench.acks.take_failures().is_empty());
}

#[test]
fn what_the_broker_would_refuse_is_poison_before_anything_is_sent() {
    let mut bench = Bench::with(&[("shop", 2), ("hashed", 2)], |config| {
        config.max_topics = 4;
        config.properties.insert("linger.ms".to_owned(), "5000".to_owned());
    });
    let mut explicit = event("shop", Some("k"), "{}");
    explicit.partition = Some(1);
    assert_eq!(bench.offer(&explicit, 0), Enqueue::Accepted);
    explicit.partition = Some(2);
    let (reason, text) = poison(bench.offer(&explicit, 1));
    assert!(reason == PoisonReason::Route && text.contains("2 partitions"), "{text}");
    assert_eq!(poison(bench.offer(&event("shop", Some("k"), "{}"), 1)).0, PoisonReason::Route, "no partition named");

    assert_eq!(poison(bench.offer(&event("hashed", Some("k"), &"x".repeat(1_000_000)), 1)).0, PoisonReason::TooLarge);
    let mut early = event("hashed", Some("k"), "{}");
    early.timestamp_ms = 4_102_444_800_000;
    assert_eq!(poison(bench.offer(&early, 1)).0, PoisonReason::Timestamp);
    assert_eq!(poison(bench.offer(&event("orders.checkpoint", Some("orders/9/0"), "{}"), 1)).0, PoisonReason::Route);
    assert_eq!(poison(bench.offer(&event("not a topic", Some("k"), "{}"), 1)).0, PoisonReason::Route);
    assert_eq!(bench.kafka.sink.outstanding(), 1, "only what was accepted counts");
    bench.drain();
}

#[test]
fn a_refused_batch_fails_as_rejected_and_the_topic_is_looked_at_again() {
    let mut bench = Bench::start(&[("shop", 1)]);
    assert_eq!(bench.offer(&event("shop", Some("k"), "{}"), 0), Enqueue::Accepted);
    bench.drain();
    bench
        .mock
        .cluster()
        .expect("a cluster")
        .request_errors(RDKafkaApiKey::Produce, &[code(RDKafkaErrorCode::MessageSizeTooLarge)]);
    for ticket in 1..=3 {
        assert_eq!(bench.offer(&event("shop", Some("k"), "{}"), ticket), Enqueue::Accepted);
    }
    bench.drain();
    let failures = bench.acks.take_failures();
    assert!(!failures.is_empty() && failures.iter().all(|(_, failure)| failure.kind == FailureKind::Rejected), "{failures:?}");
    assert_eq!(bench.offer(&event("shop", Some("k"), "{}"), 4), Enqueue::Accepted);
    bench.drain();
}

#[test]
fn a_missing_acl_makes_the_topic_wait() {
    let mut bench = Bench::start(&[("shop", 1)]);
    assert_eq!(bench.offer(&event("shop", Some("k"), "{}"), 0), Enqueue::Accepted);
    bench.drain();
    bench
        .mock
        .cluster()
        .expect("a cluster")
        .request_errors(RDKafkaApiKey::Produce, &[code(RDKafkaErrorCode::TopicAuthorizationFailed)]);
    assert_eq!(bench.offer(&event("shop", Some("k"), "{}"), 1), Enqueue::Accepted);
    bench.drain();
    assert_eq!(bench.acks.take_failures()[0].1.kind, FailureKind::Denied);
    let event = event("shop", Some("k"), "{}");
    wait_for("the verdict", || matches!(bench.kafka.sink.enqueue(&event, Ticket(2)), Enqueue::Waiting(Waiting::Denied { .. })));
    wait_for("another try", || bench.kafka.sink.enqueue(&event, Ticket(2)) == Enqueue::Accepted);
    bench.drain();
    assert!(bench.acks.take_failures().is_empty());
}

#[test]
fn a_renewed_client_goes_on_where_the_old_one_stopped() {
    let mut bench = Bench::start(&[("shop", 2)]);
    for round in 0..3 {
        for ticket in 0..20 {
            assert_eq!(bench.offer(&event("shop", Some("k"), "{}"), ticket), Enqueue::Accepted);
        }
        bench.drain();
        bench.kafka.checkpoint.begin_store(&record(round + 1));
        wait_for("the record", || bench.kafka.checkpoint.outcome().is_some_and(|outcome| outcome.is_ok()));
        bench.kafka.sink.renew().expect("a new client");
        assert_eq!(bench.kafka.sink.outstanding(), 0);
    }
    assert!(bench.acks.take_failures().is_empty());
}

#[test]
fn a_dead_client_fails_what_it_holds_and_whatever_is_offered_until_it_is_renewed() {
    let mut bench = Bench::with(&[("shop", 1)], |config| {
        config.properties.insert("linger.ms".to_owned(), "5000".to_owned());
    });
    assert_eq!(bench.offer(&event("shop", Some("k"), "{}"), 0), Enqueue::Accepted);
    bench.drain();
    assert_eq!(bench.offer(&event("shop", Some("k"), "{}"), 1), Enqueue::Accepted);
    bench.kafka.sink.kill();
    assert_eq!(bench.offer(&event("shop", Some("k"), "{}"), 2), Enqueue::Accepted);
    wait_for("every report", || bench.kafka.sink.outstanding() == 0);
    let mut failures = bench.acks.take_failures();
    failures.sort_by_key(|(ticket, _)| ticket.0);
    let kinds: Vec<_> = failures.iter().map(|(ticket, failure)| (ticket.0, failure.kind)).collect();
    assert_eq!(kinds, [(1, FailureKind::Fatal), (2, FailureKind::Fatal)]);
    assert!(bench.kafka.sink.fatal().is_some());
    bench.kafka.sink.renew().expect("a new client");
    assert_eq!(bench.kafka.sink.fatal(), None);
    assert_eq!(bench.offer(&event("shop", Some("k"), "{}"), 3), Enqueue::Accepted);
    bench.drain();
    assert!(bench.acks.take_failures().is_empty());
}

/// The client purges its queue then, and the report of an event says no more than that.
#[test]
fn an_event_of_a_transaction_that_the_client_gives_up_comes_back_with_the_reason() {
    let mut bench = Bench::with(&[("shop", 1)], |config| config.is_exactly_once = true);
    let transactions = bench.kafka.transactions.as_mut().expect("exactly-once");
    transactions.begin_fence();
    wait_for("the fence", || matches!(transactions.answer(), Some(Answer::Fenced(Ok(_)))));
    // What a broker says that has not heard of this id for transactional.id.expiration.ms.
    let errors = [code(RDKafkaErrorCode::InvalidProducerIdMapping)];
    bench.mock.cluster().expect("a cluster").request_errors(RDKafkaApiKey::AddPartitionsToTxn, &errors);
    assert_eq!(bench.offer(&event("shop", Some("k"), "{}"), 0), Enqueue::Accepted);
    bench.drain();
    let failures = bench.acks.take_failures();
    let (kind, message) = (failures[0].1.kind, &failures[0].1.message);
    assert!(kind == FailureKind::Aborted && message.contains("INVALID_PRODUCER_ID_MAPPING"), "{kind:?}: {message}");
}

/// One that lives on may fence its successor: librdkafka asks for a new epoch by itself where records timed out.
#[test]
fn a_fence_begins_when_the_client_before_has_ended() {
    let mut bench = Bench::with(&[("shop", 1)], |config| config.is_exactly_once = true);
    let transactions = bench.kafka.transactions.as_mut().expect("exactly-once");
    let fenced = |answer: Option<Answer>| matches!(answer, Some(Answer::Fenced(Ok(_))));
    transactions.begin_fence();
    wait_for("the first fence", || fenced(transactions.answer()));
    let before = bench.kafka.sink.producer();
    bench.kafka.sink.renew().expect("a new client");
    transactions.begin_fence();
    std::thread::sleep(Duration::from_secs(2));
    assert!(transactions.answer().is_none(), "the client before could still ask for an epoch");
    drop(before);
    wait_for("the second fence", || fenced(transactions.answer()));
}

#[test]
fn checkpoint_records_are_stored_read_and_retired() {
    let mut bench = Bench::start(&[]);
    assert_eq!(bench.kafka.reader.read().expect("an empty topic").newest, None);
    for epoch in [1, 2, 2] {
        bench.kafka.checkpoint.begin_store(&record(epoch));
        let mut outcome = None;
        wait_for("the record", || {
            outcome = bench.kafka.checkpoint.outcome();
            outcome.is_some()
        });
        assert_eq!(outcome, Some(Ok(())));
    }
    let reading = bench.kafka.reader.read().expect("two records");
    assert_eq!((reading.highest_epoch, reading.keys.len()), (2, 2));
    assert_eq!(reading.newest, Some(record(2)));
    bench.kafka.checkpoint.retire(&[record(1).key()]);
    wait_for("the tombstone", || bench.kafka.reader.read().expect("one record").keys == [record(2).key()]);
    assert!(bench.acks.take_failures().is_empty(), "records are no events");
}

#[test]
fn nobody_there_is_said_within_the_time_of_the_contract() {
    let config = Config::new("orders", "127.0.0.1:1");
    let acks = Acks::new(64);
    let mut kafka = config.build(Deps { acks }).expect("a sink without brokers");
    let start = Instant::now();
    assert_eq!(kafka.sink.enqueue(&event("shop", None, "{}"), Ticket(0)), Enqueue::Waiting(Waiting::Lookup));
    kafka.checkpoint.begin_store(&record(1));
    assert_eq!(kafka.checkpoint.outcome(), None);
    kafka.sink.nudge();
    kafka.sink.purge(PurgeScope::QueuedAndInFlight);
    assert!(start.elapsed() < Duration::from_millis(100), "no call may block");
    assert!(!kafka.sink.is_reachable());
}

fn record(epoch: u64) -> Record {
    Record {
        v: Record::VERSION,
        state: RecordState::Running,
        name: "orders".to_owned(),
        epoch,
        instance: "9f3a61c2".to_owned(),
        guarantee: "at-least-once".to_owned(),
        mode: "log".to_owned(),
        system_id: "1".to_owned(),
        timeline: 1,
        database: "shop".to_owned(),
        slot: None,
        end_lsn: Some(Lsn(epoch * 100)),
        commit_lsn: None,
        seq: None,
        snapshot: None,
        poll: None,
        log_poll: None,
        publication_fingerprint: String::new(),
        config_fingerprint: String::new(),
        accepted_gaps: Vec::new(),
        written_at: String::new(),
        relay_version: String::new(),
    }
}

#[test]
fn the_doctor_names_what_is_missing() {
    use crate::doctor::{Severity, examine};
    let mock = Mock::start(1).expect("a mock cluster");
    mock.create_topic("orders.checkpoint", 1).expect("a topic");
    mock.create_topic("shop", 4).expect("a topic");
    let mut config = Config::new("orders", &mock.bootstrap_servers().expect("addresses"));
    config.create_topics = "never".to_owned();
    let findings = examine(&config, &["shop".to_owned(), "absent".to_owned()]);
    let worst = |id: &str| findings.iter().filter(|finding| finding.id == id).map(|finding| finding.severity).max();
    assert_eq!(worst("KF001"), Some(Severity::Ok));
    assert_eq!(worst("KF003"), Some(Severity::Fail), "{findings:#?}");
    assert!(findings.iter().any(|finding| finding.severity == Severity::Fail && finding.observed.contains("absent")));
    assert_eq!(worst("KF009"), Some(Severity::Ok));

    let findings = examine(&Config::new("orders", "127.0.0.1:1"), &[]);
    let severities: Vec<_> = findings.iter().map(|finding| (finding.id, finding.severity)).collect();
    let skipped = ["KF002", "KF003", "KF009", "KF012"].map(|id| (id, Severity::Skip));
    assert_eq!(severities, [&[("KF001", Severity::Fail)][..], &skipped].concat());
}

#[test]
fn a_reading_waits_for_the_partition_to_have_a_leader_again() {
    let mut bench = Bench::start(&[]);
    let lead = |leader| bench.mock.cluster().expect("the cluster").partition_leader("orders.checkpoint", 0, leader);
    lead(None).expect("nobody leads");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(700));
            lead(Some(1)).expect("the broker leads again");
        });
        let reading = bench.kafka.reader.read().expect("a short time without a leader is waited for");
        assert_eq!(reading.highest_epoch, 0);
    });
}
