//! Rows are written and published without a pause while relay dies at one point after the other.

use super::cost::{self, Death};
use super::{Book, Kill, die};
use crate::story::{Mode, QUICK, load};
use relay_tests::consumer::{Isolation, Reader, Rec, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::oracle::Report;
use relay_tests::postgres::Postgres;
use relay_tests::relay::Builder;
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, try_until};
use std::time::{SystemTime, UNIX_EPOCH};

/// `delivery.in_flight_events`.
const WINDOW: u64 = 500;
/// `delivery.checkpoint_interval`, and what storing a record may take on a busy machine.
const GAP_MS: i64 = 200 + 800;

pub(super) fn run(mode: Mode, kills: &[Kill], book: &mut Book) {
    let number = Seed::fresh();
    let mut seed = Seed::new(number);
    let db = Postgres::start(if seed.chance(0.5) { Version::V15 } else { Version::V18 });
    let outbox = db.prepare_outbox(&format!("matrix{}", mode.name()));
    db.prepare_for_poll(&outbox);
    let kafka = Kafka::shared();
    let topic = format!("matrix.{}", mode.name());
    kafka.create_topic(&topic, 4, &[("message.timestamp.type", "LogAppendTime")]);
    let builder = Builder::new(&outbox.pipeline).url(&db.url("relay")).brokers(&kafka.brokers()).table(&outbox.table);
    let mut relay = mode.apply(builder.toml(QUICK)).toml(&format!("delivery.in_flight_events = {WINDOW}")).spawn();
    relay.until_state("streaming", secs(90));
    let mut load = load(&db, &outbox, &topic, number);
    let mut deaths = Vec::new();
    for kill in kills {
        let fired = die(&mut relay, kill.point, seed.between(1, kill.passes));
        deaths.push(Death { at_ms: now_ms(), point: kill.point });
        book.killed(mode, kill.point, &fired);
    }
    relay.plan("").start_again().until_state("streaming", secs(90));
    load.stop();
    let reader = Reader::new(&kafka.brokers());
    let mut records = Vec::new();
    let mut read = || {
        records = reader.read_all(&[&topic], Isolation::Committed);
        load.oracle().check(&records)
    };
    let complete = try_until(secs(240), || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        Some(read()).filter(Report::is_complete)
    });
    let report = complete.unwrap_or_else(read);
    println!("seed {number}, {}: {report}", mode.name());
    book.lost += report.missing.len() as u64;
    book.reordered += report.reordered.len() as u64;
    if mode == Mode::ExactlyOnce {
        report.assert_exactly_once();
    }
    report.assert_at_least_once();
    let stored = stored(&kafka.brokers(), &outbox.pipeline);
    let stored_ms: Vec<i64> = stored.iter().map(|(at_ms, _)| *at_ms).collect();
    let gap_ms = usual_gap_ms(&stored);
    println!("{}: {} records of the checkpoint, {gap_ms:?} ms from one to the next", mode.name(), stored.len());
    assert!(
        mode == Mode::ExactlyOnce || gap_ms.is_none_or(|gap_ms| gap_ms <= GAP_MS),
        "the checkpoint interval is kept: {gap_ms:?}"
    );
    for (death, cost) in deaths.iter().zip(cost::of(&records, &deaths, &stored_ms)) {
        book.cost(mode, death.point, cost.duplicates);
        assert!(cost.old <= WINDOW, "{death:?} cost more than the window and a checkpoint interval: {cost:?}");
    }
}

/// When each record of the checkpoint was made, and in which epoch, in the order of time; tombstones and markers are none.
fn stored(brokers: &str, pipeline: &str) -> Vec<(i64, u64)> {
    let made = |record: &Rec| {
        let value: serde_json::Value = serde_json::from_slice(record.value.as_deref()?).ok()?;
        Some((record.timestamp_ms?, value["epoch"].as_u64()?))
    };
    let records = read_all(brokers, &[&format!("{pipeline}.checkpoint")], Isolation::Committed);
    let mut stored: Vec<_> = records.iter().filter_map(made).collect();
    stored.sort_unstable();
    stored
}

/// The usual time from one record to the next of the same process, its claim left out: the median, which some long ones do not change.
fn usual_gap_ms(stored: &[(i64, u64)]) -> Option<i64> {
    let same = stored.windows(3).filter(|three| three[0].1 == three[2].1);
    let mut gaps: Vec<i64> = same.map(|three| three[2].0 - three[1].0).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied()
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_millis()).expect("the clock is sane")
}
