//! What each kill has cost: duplicates are counted and held against the in-flight window and one checkpoint interval.

use relay_tests::consumer::Rec;
use relay_tests::oracle::Event;
use std::collections::HashMap;

/// When relay died, by the clock that the broker stamps records with, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Death {
    pub(super) at_ms: i64,
    pub(super) point: &'static str,
}

/// What one death has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Records that came again.
    pub(super) duplicates: u64,
    /// Those of them that the checkpoint did not cover though it was stored later, and so must have been in the window.
    pub(super) old: u64,
}

/// A dead process's last requests may still be on their way into the log for so long, on a busy machine.
const LATE_MS: i64 = 30_000;

/// The costs of deaths in the order of time, from a topic whose timestamps are those of appending.
///
/// A record that comes again is charged to the death of the process that had sent it before: the first death after that. It is old if it
/// had been appended before the last record but one of the checkpoint was made, of which `stored_ms` tells in the order of time: by then
/// the one before it was durable, however long that took. Late ones are of the window, too.
pub(super) fn of(records: &[Rec], deaths: &[Death], stored_ms: &[i64]) -> Vec<Cost> {
    let covered_ms = |death: &Death| {
        let stored = stored_ms.partition_point(|stored| *stored <= death.at_ms);
        stored.checked_sub(2).map_or(i64::MIN, |at| stored_ms[at])
    };
    let mut costs = vec![Cost::default(); deaths.len()];
    let mut appended: HashMap<u64, i64> = HashMap::new();
    for record in records {
        let (Ok(event), Some(now_ms)) = (Event::of(record), record.timestamp_ms) else { continue };
        let Some(before_ms) = appended.insert(event.number, now_ms) else { continue };
        // The first death after it was appended, or, if it came again before that, it arrived after the death of its sender.
        let next = deaths.partition_point(|death| death.at_ms < before_ms);
        if deaths.get(next).is_some_and(|death| death.at_ms < now_ms) {
            costs[next].duplicates += 1;
            costs[next].old += u64::from(before_ms < covered_ms(&deaths[next]));
        } else {
            let last = next.checked_sub(1).filter(|&last| before_ms - deaths[last].at_ms < LATE_MS);
            let last = last.unwrap_or_else(|| panic!("event {} came again without a death between", event.number));
            costs[last].duplicates += 1;
            costs[last].old += 1;
        }
    }
    costs
}

#[test]
fn duplicates_are_charged_to_the_death_of_their_sender() {
    let record = |number: u64, timestamp_ms| Rec {
        topic: "t".into(),
        partition: 0,
        offset: 0,
        key: Some(b"k".to_vec()),
        value: Some(Event { number, key: "k".into(), place: number }.payload(1, "").into_bytes()),
        headers: Vec::new(),
        timestamp_ms: Some(timestamp_ms),
    };
    let deaths = [1_000, 2_000, 2_400].map(|at_ms| Death { at_ms, point: "x" });
    let records = [
        record(1, 100),
        record(2, 900),
        record(2, 1_200),
        record(1, 1_300),
        record(3, 1_900),
        record(3, 2_500),
        record(4, 2_600),
        record(4, 2_700),
    ];
    let costs = of(&records, &deaths, &[500, 850, 950, 1_100, 1_800]);
    assert_eq!(costs, [Cost { duplicates: 2, old: 1 }, Cost { duplicates: 1, old: 0 }, Cost { duplicates: 1, old: 1 }]);
}
