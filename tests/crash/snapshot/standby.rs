//! Commits that are in the log and not visible, because a synchronous standby is slow: D40 on a pair of servers, with a kill in between.

use super::{ROWS, Scene};
use relay_tests::kafka::Kafka;
use relay_tests::proxy::{Direction, Proxy};
use relay_tests::versions::Version;
use relay_tests::wait::{Finally, secs, until};

/// So many rows are of this story alone.
const HELD: i64 = 500;
/// The first of them: beyond every row that the writers reach, whose updates take some neighbours along.
const FIRST: i64 = 2 * ROWS;

#[test]
fn chunks_are_read_again_while_a_synchronous_standby_holds_a_commit_back() {
    for version in [Version::V15, Version::V18] {
        let kafka = Kafka::shared();
        let scene = Scene::new("kstandby", version, kafka);
        let db = &scene.db;
        let first = FIRST;
        db.sql(&format!("INSERT INTO t SELECT g, 0 FROM generate_series({first}, {first} + {HELD} - 1) g"));
        scene.make_slot();
        let link = Proxy::start(db.port());
        let _standby = db.standby("slow", link.port());
        db.set("synchronous_standby_names", "slow");
        let is_synchronous = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'slow' AND sync_state = 'sync'";
        until("a synchronous standby", secs(90), || (db.sql(is_synchronous).number() == 1).then_some(()));
        std::thread::scope(|scope| {
            // They commit without waiting for the standby, so that the stream goes on.
            let _writers = scene.start_writers(scope);
            let _end = Finally(|| link.heal());
            let mut relay = scene.relay(&kafka.brokers(), "[snapshot]\nmode = \"never\"\nchunk = 2000").spawn();
            relay.until_state("streaming", secs(90));
            let rereads = |relay: &relay_tests::relay::Relay| relay.metric("relay_snapshot_rereads_total").unwrap_or(0.0);
            // The standby does not get the commit; it gets it, and its answer does not come; and relay is killed meanwhile.
            for (round, held) in [(1, Direction::Down), (2, Direction::Up), (3, Direction::Up)] {
                relay.until_state("streaming", secs(90));
                let before = (rereads(&relay), link.counts().stalls);
                link.stall(held);
                let writer = scope.spawn(move || {
                    let sql = format!("UPDATE t SET v = {round} WHERE id >= {first}");
                    db.superuser().batch_execute(&sql).expect("an update that waits for the standby");
                });
                let is_image = |record: &relay_tests::consumer::Rec, op: &str| {
                    let value = record.value_text().map(|_| record.json());
                    value.is_some_and(|value| value["op"] == op && value["after"]["id"].as_i64() >= Some(first))
                };
                let count = |op: &str| scene.records(kafka).iter().filter(|record| is_image(record, op)).count() as i64;
                until("the update in the topic", secs(90), || (count("u") >= round * HELD).then_some(()));
                let unseen = format!("SELECT count(*) FROM t WHERE v = {round} AND id >= {first}");
                assert_eq!(db.sql(&unseen).number(), 0, "streamed before it is visible");
                assert!(link.counts().stalls > before.1, "the link to the standby is held");
                let images = count("r");
                let asked = relay.run(&["snapshot", "start", "public.t"]);
                assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
                let again = until("a chunk to be read again", secs(90), || Some(rereads(&relay) - before.0).filter(|n| *n > 2.0));
                if round == 3 {
                    let waits = |relay: &relay_tests::relay::Relay| relay.logs().matches("snapshot.waits").count();
                    let earlier = waits(&relay);
                    relay.kill_9();
                    relay.start_again().until_state("streaming", secs(90));
                    until("it to wait for what is open", secs(90), || (waits(&relay) > earlier).then_some(()));
                }
                assert_eq!(count("r"), images, "no image of a row whose newer one was streamed");
                assert_eq!(db.sql(&unseen).number(), 0, "it was held all the while");
                link.heal();
                writer.join().expect("the update");
                println!("{version}, {held:?} held: {again} chunks were read again, kills {}", u8::from(round == 3));
                until("the snapshot's end", secs(120), || relay.try_status()?["snapshot"].is_null().then_some(()));
                assert!(count("r") >= images + HELD, "every row of it was read");
            }
            scene.judge(relay, kafka);
        });
    }
}
