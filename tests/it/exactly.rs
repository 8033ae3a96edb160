//! Exactly-once, with a real relay between real servers: what readers of committed records see, and when.

use std::time::Duration;

use relay_tests::consumer::{Isolation, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::relay::Builder;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};

use crate::scene::{Scene, number, sorted};

const EXACTLY: &str = "delivery.guarantee = \"exactly-once\"\n";

fn exactly(scene: &Scene) -> Builder {
    scene.relay().toml(EXACTLY)
}

#[track_caller]
fn metric(relay: &relay_tests::relay::Relay, series: &str) -> f64 {
    relay.metric(series).unwrap_or_else(|| panic!("no {series} in\n{}", relay.metrics()))
}

#[test]
fn a_first_start_publishes_commits_and_confirms_what_is_committed() {
    let scene = Scene::new("exactly_first", Version::V18);
    let mut relay = exactly(&scene).spawn();
    relay.until_state("streaming", secs(60));
    scene.write(1, 500);
    assert_eq!(sorted(scene.numbers(500, secs(30))), (1..=500).collect::<Vec<_>>());
    // Idle, so that the position is confirmed.
    until("nothing in flight", secs(20), || (relay.status()["in_flight"]["events"] == 0).then_some(()));
    assert!(metric(&relay, "relay_kafka_transactions_total{outcome=\"committed\"}") >= 1.0);
    relay.terminate();
    assert_eq!(scene.numbers(500, secs(5)).len(), 500);
}
