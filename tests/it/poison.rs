//! Events that cannot be published: found before they are sent, or refused by the broker; only they meet the policy.

use crate::scene::{Scene, number, records, sorted, until_counted};
use relay_tests::kafka::Kafka;
use relay_tests::topics::unique_topic;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};

#[test]
fn stop_holds_the_stream_in_front_of_the_event_and_names_it_without_its_payload() {
    let scene = Scene::new("poisonstop", Version::V18);
    let relay = scene.streaming();
    scene.write(1, 3);
    scene.db.sql(&format!(
        "INSERT INTO {} (topic, key, type, payload) VALUES ('not a topic', 'bad-key', 'T', '{{\"secret\": \"canary\"}}')",
        scene.outbox.table
    ));
    scene.write(4, 6);
    until("poison_stopped", secs(60), || relay.get("/readyz").body.contains("poison_stopped").then_some(()));
    assert_eq!(sorted(scene.numbers(3, secs(60))), [1, 2, 3]);
    let logs = relay.logs();
    assert!(logs.contains("R0401") && logs.contains("public.poisonstop_outbox") && logs.contains("bad-key"), "{logs}");
    assert!(!logs.contains("canary"), "no payload in a log");
    let status = relay.status();
    assert_eq!(status["last_error"]["code"], "R0401");
    // The way out that exists today: correct the route's input by skipping.
    let mut relay = relay;
    relay.terminate();
    relay.reconfigure("delivery.on_poison = \"skip\"").start_again();
    assert_eq!(sorted(scene.numbers(6, secs(60))), [1, 2, 3, 4, 5, 6]);
    until_counted(&relay, "relay_events_discarded_total{pipeline=\"poisonstop\",reason=\"route\"}", 1.0);
}

#[test]
fn dlq_parks_the_event_and_the_stream_goes_on() {
    let scene = Scene::new("parked", Version::V15);
    let mut relay = scene.relay().toml("delivery.on_poison = \"dlq\"").spawn();
    relay.until_state("streaming", secs(60));
    let table = &scene.outbox.table;
    scene.write(1, 2);
    scene.db.sql(&format!(
        "INSERT INTO {table} (topic, key, type, payload) VALUES \
         ('__consumer_offsets', 'k1', 'T', '{{\"n\": 91}}'), \
         ('parked.checkpoint', 'k2', 'T', '{{\"n\": 92}}'), \
         ('..', 'k3', 'T', '{{\"n\": 93}}')"
    ));
    scene.write(3, 4);
    assert_eq!(sorted(scene.numbers(4, secs(60))), [1, 2, 3, 4]);
    let parked = records("parked.dlq", 3, secs(60));
    for (record, topic) in parked.iter().zip(["__consumer_offsets", "parked.checkpoint", ".."]) {
        assert_eq!(record.header("relay-error-code"), Some("R0401"));
        assert_eq!(record.header("relay-error-class"), Some("poison"));
        assert_eq!(record.header("relay-origin-topic"), Some(topic));
        assert_eq!(record.header("relay-origin-table"), Some(table.as_str()));
        let position = record.header("relay-origin-pos").unwrap_or_default();
        assert_eq!(record.key_text(), Some(format!("parked/{position}").as_str()));
    }
    until_counted(&relay, "relay_dlq_events_total{pipeline=\"parked\",reason=\"route\"}", 3.0);
}

#[test]
fn one_record_that_the_broker_refuses_does_not_take_its_neighbours_along() {
    let scene = Scene::new("culprit", Version::V18);
    let kafka = Kafka::shared();
    let topic = unique_topic("culprit");
    kafka.create_topic(&topic, 1, &[]);
    let mut relay = scene.relay().toml("delivery.on_poison = \"dlq\"").spawn();
    relay.until_state("streaming", secs(60));
    scene.write_to(&topic, 1, 10);
    records(&topic, 10, secs(60));
    // Lowered after relay has read the topic's limits: the check before produce cannot know.
    kafka.alter_topic(&topic, &[("max.message.bytes", "20000")]);
    scene.db.sql(&format!(
        "INSERT INTO {} (topic, key, type, payload) SELECT '{topic}', 'k', 'T', \
         jsonb_build_object('n', n, 'pad', CASE WHEN n = 60 THEN \
           (SELECT string_agg(md5(i::text || n), '') FROM generate_series(1, 2000) i) ELSE '' END) \
         FROM generate_series(11, 110) n",
        scene.outbox.table
    ));
    let expected: Vec<u64> = (1..=110).filter(|n| *n != 60).collect();
    until("every neighbour to arrive, and the culprit not to", secs(120), || {
        // What a batch ahead of the refused one brought comes again, so their number says nothing.
        let mut numbers = sorted(records(&topic, 109, secs(60)).iter().map(number).collect());
        numbers.dedup();
        (numbers == expected).then_some(())
    });
    let parked = records("culprit.dlq", 1, secs(60));
    assert_eq!(parked.len(), 1, "the culprit alone is parked");
    assert_eq!(parked[0].header("relay-origin-topic"), Some(topic.as_str()));
    assert!(relay.metric("relay_rewinds_total{pipeline=\"culprit\",reason=\"rejected\"}").unwrap_or(0.0) >= 1.0);
}

#[test]
fn what_a_topic_cannot_take_is_known_before_it_is_sent() {
    let scene = Scene::new("limits", Version::V15);
    let kafka = Kafka::shared();
    kafka.create_topic("limits.small", 1, &[("max.message.bytes", "2000")]);
    kafka.create_topic("limits.compacted", 1, &[("cleanup.policy", "compact")]);
    let mut relay = scene.relay().toml("delivery.on_poison = \"dlq\"").spawn();
    relay.until_state("streaming", secs(60));
    scene.db.sql(&format!(
        "INSERT INTO {} (topic, key, type, payload, created_at) VALUES \
         ('limits.small', 'k', 'T', jsonb_build_object('n', 1, 'pad', repeat('x', 3000)), now()), \
         ('limits.compacted', NULL, 'T', '{{\"n\": 2}}', now()), \
         ('{topic}', 'k', 'T', '{{\"n\": 3}}', now() + interval '3 hours'), \
         ('{topic}', 'k', 'T', '{{\"n\": 4}}', now())",
        scene.outbox.table,
        topic = scene.topic
    ));
    assert_eq!(scene.numbers(1, secs(60)), [4]);
    kafka.until_topic_exists("limits.dlq", secs(60));
    records("limits.dlq", 3, secs(60));
    for reason in ["too_large", "null_key", "timestamp"] {
        let series = format!("relay_dlq_events_total{{pipeline=\"limits\",reason=\"{reason}\"}}");
        until_counted(&relay, &series, 1.0);
    }
    assert_eq!(relay.metric("relay_rewinds_total{pipeline=\"limits\",reason=\"rejected\"}"), Some(0.0));
}

#[test]
fn a_frame_above_max_message_is_drained_and_parked() {
    let scene = Scene::new("frames", Version::V18);
    let small = "delivery.on_poison = \"dlq\"\nsource.log.max_message = \"1MiB\"";
    let mut relay = scene.relay().toml(small).spawn();
    relay.until_state("streaming", secs(60));
    scene.write(1, 1);
    scene.db.sql(&format!(
        "INSERT INTO {} (topic, key, type, payload) SELECT '{}', 'k', 'T', jsonb_build_object('n', 2, 'pad', repeat('x', 20000000))",
        scene.outbox.table, scene.topic
    ));
    scene.write(3, 3);
    assert_eq!(sorted(scene.numbers(2, secs(60))), [1, 3]);
    let parked = records("frames.dlq", 1, secs(60));
    assert_eq!(parked[0].header("relay-origin-table"), Some(scene.outbox.table.as_str()));
    assert!(relay.peak_rss_bytes() < 200 << 20);
}

#[test]
fn a_missing_topic_is_waited_for_and_named() {
    let scene = Scene::new("absent", Version::V18);
    let mut relay = scene.relay().toml("sink.kafka.create_topics = \"never\"").spawn();
    let kafka = Kafka::shared();
    kafka.create_topic("absent.checkpoint", 1, &[("cleanup.policy", "compact")]);
    relay.until_state("streaming", secs(60));
    scene.write_to("absent.later", 1, 5);
    until("topic_missing", secs(60), || relay.get("/readyz").body.contains("topic_missing:absent.later").then_some(()));
    kafka.create_topic("absent.later", 2, &[]);
    assert_eq!(sorted(records("absent.later", 5, secs(60)).iter().map(number).collect()), [1, 2, 3, 4, 5]);
    relay.until_ready(secs(60));
}
