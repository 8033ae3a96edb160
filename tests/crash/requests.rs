//! Single Kafka requests are lost, refused, answered into nothing, or come too late; brokers go away for a while.

use crate::story::{Mode, QUICK, judge, load, topic};
use relay_tests::consumer::{Isolation, Reader};
use relay_tests::kafka::Kafka;
use relay_tests::load::Load;
use relay_tests::oracle::Report;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::requests::{Api, Trap};
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, try_until, until};
use std::time::{Duration, Instant};

/// A pipeline whose requests go through the broker's proxy, under load.
struct Scene {
    db: Postgres,
    topic: String,
    relay: Relay,
    load: Load,
}

impl Scene {
    fn start(kafka: &Kafka, name: &str, mode: Mode, toml: &str) -> Scene {
        let db = Postgres::start(Version::V18);
        let outbox = db.prepare_outbox(&format!("{name}{}", mode.name()));
        db.prepare_for_poll(&outbox);
        let topic = topic(kafka, &format!("{name}.{}", mode.name()));
        let builder = Builder::new(&outbox.pipeline).url(&db.url("relay")).brokers(&kafka.proxied_brokers()).table(&outbox.table);
        let mut relay = mode.apply(builder.toml(QUICK)).toml(toml).spawn();
        relay.until_state("streaming", secs(90));
        let load = load(&db, &outbox, &topic, Seed::fresh());
        load.until_committed(500, secs(90));
        Scene { db, topic, relay, load }
    }

    /// Has the broker, or the proxy for it, answer that many writes so, and waits until consumers see more events: for an unknown
    /// error in less than a transaction's time-out.
    fn answer(&self, kafka: &Kafka, trap: Trap, times: u64) {
        let start = Instant::now();
        let trapped = || kafka.proxy().trapped(Api::Produce, trap);
        let before = trapped();
        kafka.proxy().trap(Api::Produce, trap, times);
        until("the answers", secs(90), || (trapped() >= before + times).then_some(()));
        // A topic that is denied is looked at again with growing patience.
        let limit = if matches!(trap, Trap::Refuse(-1) | Trap::Disown(_)) { secs(50) } else { secs(120) };
        self.until_more(kafka, 100, limit);
        println!("{} {trap:?}: {} rewinds so far, {:.1?}", self.topic, self.rewinds(), start.elapsed());
    }

    fn rewinds(&self) -> f64 {
        let of = |reason| self.relay.metric(&format!("relay_rewinds_total{{reason=\"{reason}\"}}")).unwrap_or_default();
        ["rejected", "unknown_topic", "producer"].map(of).iter().sum()
    }

    /// Waits until consumers see `n` more events than now: it goes on.
    fn until_more(&self, kafka: &Kafka, n: usize, limit: Duration) {
        let count = || Reader::new(&kafka.brokers()).read_all(&[&self.topic], Isolation::Committed).len();
        let before = count();
        if try_until(limit, || (count() >= before + n).then_some(())).is_none() {
            panic!(
                "waited {limit:?} in vain for {n} events more in {}: {:?}; {}",
                self.topic,
                self.relay.try_status(),
                self.relay.logs()
            );
        }
    }
}

/// The error code in the answer to an EndTxn of version 0 or 1, which is what librdkafka sends: it follows throttle_time_ms.
fn code_of_end(answer: &[u8]) -> i16 {
    let &[_, _, _, _, high, low] = answer else { panic!("no answer to an EndTxn of version 0 or 1: {answer:?}") };
    i16::from_be_bytes([high, low])
}

/// B15.
#[test]
fn a_write_whose_answer_is_lost_is_in_the_log_once() {
    let kafka = Kafka::builder().proxied().start();
    for mode in Mode::all() {
        let mut scene = Scene::start(&kafka, "unanswered", mode, "");
        for _ in 0..5 {
            let before = kafka.proxy().trapped(Api::Produce, Trap::CutAfter);
            kafka.proxy().trap(Api::Produce, Trap::CutAfter, 1);
            until("the lost answer", secs(90), || (kafka.proxy().trapped(Api::Produce, Trap::CutAfter) > before).then_some(()));
            scene.until_more(&kafka, 100, secs(120));
        }
        let report = judge(&mut scene.load, &kafka.brokers(), &scene.topic, &mut scene.relay);
        println!("{mode:?}: {} answers were lost", kafka.proxy().trapped(Api::Produce, Trap::CutAfter));
        assert_eq!(report.duplicates, 0, "{mode:?}: the broker knows the sequence numbers");
    }
}

/// B2, B4, B13, by the answer alone: what librdkafka sends again by itself is in the log once.
#[test]
fn a_write_that_the_client_repeats_is_in_the_log_once() {
    let kafka = Kafka::builder().proxied().start();
    // UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER, NOT_ENOUGH_REPLICAS, KAFKA_STORAGE_ERROR; and of what is done:
    // REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS_AFTER_APPEND.
    let answers = [3, 6, 19, 56].map(Trap::Refuse).into_iter().chain([7, 20].map(Trap::Disown));
    for mode in Mode::all() {
        let mut scene = Scene::start(&kafka, "repeated", mode, "");
        answers.clone().for_each(|trap| scene.answer(&kafka, trap, 3));
        // A transaction is aborted where librdkafka has lost count of its sequence.
        assert!(mode == Mode::ExactlyOnce || scene.rewinds() == 0.0, "{mode:?}: {}", scene.relay.logs());
        let report = judge(&mut scene.load, &kafka.brokers(), &scene.topic, &mut scene.relay);
        assert_eq!(report.duplicates, 0, "{mode:?}");
    }
}

/// B11, B19, B24, by the answer alone: what librdkafka gives up is read again, soon; in exactly-once nobody sees that.
#[test]
fn a_write_that_failed_for_good_is_read_again() {
    let kafka = Kafka::builder().proxied().start();
    for mode in [Mode::Log, Mode::ExactlyOnce] {
        let mut scene = Scene::start(&kafka, "failed", mode, "");
        // UNKNOWN_SERVER_ERROR before and behind the write, OUT_OF_ORDER_SEQUENCE_NUMBER, UNKNOWN_PRODUCER_ID, TOPIC_AUTHORIZATION_FAILED.
        for trap in [Trap::Refuse(-1), Trap::Disown(-1), Trap::Refuse(45), Trap::Refuse(59), Trap::Refuse(29)] {
            scene.answer(&kafka, trap, 3);
        }
        // MESSAGE_TOO_LARGE; more of them would condemn an event.
        scene.answer(&kafka, Trap::Refuse(10), 1);
        assert!(scene.rewinds() >= 3.0, "{mode:?}: {} rewinds", scene.rewinds());
        if mode == Mode::ExactlyOnce {
            judge(&mut scene.load, &kafka.brokers(), &scene.topic, &mut scene.relay).assert_exactly_once();
            continue;
        }
        // Of order nothing is asked: what was on its way behind the failed batch may have come first (guarantees, "Order in detail").
        scene.load.stop();
        let report = until("every event", secs(120), || {
            let records = Reader::new(&kafka.brokers()).read_all(&[&scene.topic], Isolation::Committed);
            Some(scene.load.oracle().check(&records)).filter(Report::is_complete)
        });
        println!("{report}");
        assert!(report.aborted.is_empty() && report.foreign.is_empty(), "{report}");
    }
}

/// B3, shortened: no broker for longer than the server waits for a word.
#[test]
fn without_any_broker_reading_stops_and_the_slot_is_kept() {
    let kafka = Kafka::builder().proxied().start();
    for mode in Mode::all().filter(|mode| *mode != Mode::Poll) {
        let mut scene =
            Scene::start(&kafka, "brokerless", mode, "source.log.wal_sender_timeout = \"12s\"\ndelivery.in_flight_events = 2000");
        let backend = "SELECT coalesce(max(active_pid), 0) FROM pg_replication_slots";
        let pid = scene.db.sql(backend).number();
        kafka.proxy().refuse();
        let start = Instant::now();
        while start.elapsed() < secs(15) {
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(scene.db.sql(backend).number(), pid, "{mode:?}: status updates go on: {}", scene.relay.logs());
        }
        let in_flight = scene.relay.status()["in_flight"]["events"].as_u64().unwrap_or(0);
        let rss = scene.relay.peak_rss_bytes() >> 20;
        assert!(in_flight <= 2_000, "{in_flight} events in flight");
        kafka.proxy().heal();
        scene.until_more(&kafka, 1, secs(120));
        let report = judge(&mut scene.load, &kafka.brokers(), &scene.topic, &mut scene.relay);
        let counts = kafka.proxy().counts();
        println!(
            "{mode:?}: {} connections refused, {in_flight} in flight, peak {rss} MiB, {} duplicates",
            counts.refused, report.duplicates
        );
        assert!(counts.refused > 0, "brokers were away: {counts:?}");
        if mode == Mode::ExactlyOnce {
            report.assert_exactly_once();
        }
    }
}

/// B16: the commit's request is lost, or only its answer, with the connection or without.
#[test]
fn a_commit_of_unknown_outcome_is_looked_up_and_nothing_is_lost_or_repeated() {
    let kafka = Kafka::builder().proxied().start();
    let mut scene = Scene::start(&kafka, "endtxn", Mode::ExactlyOnce, "[sink.kafka.properties]\n\"socket.timeout.ms\" = 1000");
    for trap in [Trap::CutBefore, Trap::CutAfter, Trap::DropRequest, Trap::DropResponse] {
        let inits = kafka.proxy().seen(Api::InitProducerId);
        kafka.proxy().trap(Api::EndTxn, trap, 1);
        until("the trap", secs(90), || (kafka.proxy().trapped(Api::EndTxn, trap) > 0).then_some(()));
        let is_new = || (kafka.proxy().seen(Api::InitProducerId) > inits).then_some(());
        let renewed = try_until(secs(90), is_new);
        assert!(renewed.is_some(), "{trap:?}: no new producer after an unknown outcome\n{}", scene.relay.process().log_tail());
        scene.until_more(&kafka, 100, secs(120));
    }
    judge(&mut scene.load, &kafka.brokers(), &scene.topic, &mut scene.relay).assert_exactly_once();
}

/// B16: a commit that the network gave up for lost arrives while a later transaction is open.
#[test]
fn a_late_commit_does_not_end_a_later_transaction() {
    let kafka = Kafka::builder().proxied().start();
    let mut scene = Scene::start(&kafka, "lateend", Mode::ExactlyOnce, "[sink.kafka.properties]\n\"socket.timeout.ms\" = 1000");
    for is_cut in [false, true, true] {
        let inits = kafka.proxy().seen(Api::InitProducerId);
        kafka.proxy().trap(Api::EndTxn, Trap::Hold, 1);
        until("a commit on its way", secs(90), || (kafka.proxy().held() == 1).then_some(()));
        if is_cut {
            // librdkafka sends the commit again by itself, which succeeds; the first copy is still under way.
            assert!(kafka.proxy().cut() > 0);
        }
        // relay gives it up, fences itself off and goes on; then a later transaction is caught before its own end: it is open now.
        until("a new producer", secs(120), || (kafka.proxy().seen(Api::InitProducerId) > inits).then_some(()));
        scene.until_more(&kafka, 50, secs(120));
        kafka.proxy().trap(Api::EndTxn, Trap::Hold, 1);
        until("a later transaction's end", secs(90), || (kafka.proxy().held() == 2).then_some(()));
        let code = code_of_end(&kafka.proxy().release_alone());
        println!("the late commit was answered with {code}");
        assert_ne!(code, 0, "the broker takes no commit of an epoch that is over");
        kafka.proxy().release();
        scene.until_more(&kafka, 50, secs(120));
    }
    assert_eq!(kafka.proxy().trapped(Api::EndTxn, Trap::Hold), 6);
    judge(&mut scene.load, &kafka.brokers(), &scene.topic, &mut scene.relay).assert_exactly_once();
}

/// B18.
#[test]
fn a_transaction_that_times_out_while_relay_stands_still_is_sent_again_once() {
    let kafka = Kafka::builder().proxied().start();
    // Long enough for a busy machine to freeze relay before it gives the request up, and to look at the transaction before it is over.
    let properties = "[sink.kafka.properties]\n\"transaction.timeout.ms\" = 15000\n\"socket.timeout.ms\" = 8000";
    let mut scene = Scene::start(&kafka, "expired", Mode::ExactlyOnce, properties);
    for _ in 0..2 {
        // Open for sure: its end is on its way and does not arrive.
        kafka.proxy().trap(Api::EndTxn, Trap::Hold, 1);
        until("an open transaction", secs(90), || (kafka.proxy().held() == 1).then_some(()));
        scene.relay.pause();
        let end = |isolation| Reader::new(&kafka.brokers()).end(&scene.topic, isolation);
        let hidden = end(Isolation::Uncommitted) - end(Isolation::Committed);
        assert!(hidden > 0, "a transaction is open");
        let open = Instant::now();
        let is_over = || (end(Isolation::Uncommitted) == end(Isolation::Committed)).then_some(());
        until("the broker to end it", secs(120), is_over);
        println!("{hidden} records of an open transaction were aborted after {:.1?}", open.elapsed());
        let code = code_of_end(&kafka.proxy().release_alone());
        assert_ne!(code, 0, "the transaction is over at the broker: its end is refused");
        scene.relay.resume();
        scene.until_more(&kafka, 100, secs(120));
    }
    judge(&mut scene.load, &kafka.brokers(), &scene.topic, &mut scene.relay).assert_exactly_once();
    scene.relay.until_state("streaming", secs(90));
}
