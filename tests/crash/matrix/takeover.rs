//! An instance that waited dies the moment it has the slot or the lock: the next one takes over all the same.

use super::{Book, Kill, died};
use crate::story::{Mode, QUICK, judge, load, topic};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::Builder;
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::secs;

pub(super) fn run(mode: Mode, kills: &[Kill], book: &mut Book) {
    let number = Seed::fresh();
    let db = Postgres::start(Version::V15);
    let outbox = db.prepare_outbox(&format!("heir{}", mode.name()));
    db.prepare_for_poll(&outbox);
    let kafka = Kafka::shared();
    let topic = topic(kafka, &format!("matrix.heir.{}", mode.name()));
    let builder = Builder::new(&outbox.pipeline).url(&db.url("relay")).brokers(&kafka.brokers()).table(&outbox.table);
    let builder = mode.apply(builder.toml(QUICK));
    let mut leader = builder.clone().spawn();
    leader.until_state("streaming", secs(90));
    let mut heir = builder.spawn();
    heir.until_state("standby", secs(90));
    let mut load = load(&db, &outbox, &topic, number);
    for kill in kills {
        heir.plan(&format!("{}=abort@1", kill.point)).start_again().until_state("standby", secs(90));
        leader.kill_9();
        let fired = died(&mut heir, kill.point);
        book.killed(mode, kill.point, &fired);
        leader.start_again().until_state("streaming", secs(90));
    }
    heir.plan("").start_again().until_state("standby", secs(90));
    let report = judge(&mut load, &kafka.brokers(), &topic, &mut leader);
    book.lost += report.missing.len() as u64;
    if mode == Mode::ExactlyOnce {
        report.assert_exactly_once();
    }
}
