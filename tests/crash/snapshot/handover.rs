//! kill -9 in the hand-over of a first snapshot: every row is on its way, the stream has begun, and not all of it is acknowledged.

use super::{Scene, THIN, stored_job};
use relay_tests::kafka::Kafka;
use relay_tests::proxy::Direction;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, try_until, until};

#[test]
fn a_kill_between_the_last_row_and_its_acknowledgement_loses_nothing() {
    let kafka = Kafka::builder().proxied().start();
    for version in [Version::V15, Version::V18] {
        let scene = Scene::new("khandover", version, &kafka);
        std::thread::scope(|scope| {
            let _writers = scene.start_writers(scope);
            scene.proxy.bandwidth(THIN);
            // Batches so large that the client has room for every row while the broker says nothing; the topic must take them, too.
            kafka.alter_topic(&scene.topic, &[("max.message.bytes", "8000000")]);
            let toml = "[snapshot]\nchunk = 500\nthreads = 2\n[sink.kafka.properties]\n\"batch.size\" = 4000000";
            let mut relay = scene.relay(&kafka.proxied_brokers(), toml).spawn();
            let work = |relay: &relay_tests::relay::Relay| relay.try_status().map(|status| status["snapshot"].clone());
            until("some rows of the slot's snapshot", secs(120), || {
                let work = work(&relay)?;
                (work["exported"] == true && work["blocks_done"].as_u64() > Some(0)).then_some(())
            });
            // From here on the broker takes what it is sent, and says nothing.
            kafka.proxy().stall(Direction::Down);
            scene.proxy.heal();
            let last = try_until(secs(90), || work(&relay).filter(|work| work["exported"] == false));
            let last =
                last.unwrap_or_else(|| panic!("no stream behind the last row: {:?}; {}", relay.try_status(), relay.logs()));
            relay.pause();
            kafka.proxy().heal();
            let job = stored_job(&relay);
            println!("{version}: killed in the hand-over: {last}, stored {}", job["progress"]);
            assert!(last["blocks_done"].as_u64() < last["blocks"].as_u64(), "not all is acknowledged: {last}");
            assert!(job["is_initial"] == true && job["progress"]["public.t"] != "done", "the checkpoint owes it: {job}");
            assert!(relay.logs().lines().all(|line| !line.contains("snapshot.done")), "{}", relay.logs());
            relay.kill_9();
            relay.start_again();
            scene.judge(relay, &kafka);
        });
    }
}
