//! Feeds the oracle one fault at a time and shows that it finds that fault and no other.

use super::{Event, Oracle, Outcome, Report};
use crate::consumer::Rec;

fn event(number: u64, key: &str, place: u64) -> Event {
    Event { number, key: key.to_owned(), place }
}

/// Two keys of three events each; 7 and 8 were rolled back, 9 and 10 are one transaction of unknown outcome.
fn oracle() -> Oracle {
    let oracle = Oracle::new();
    oracle.tell(Outcome::Committed, [event(1, "a", 1), event(2, "a", 2), event(3, "b", 1)]);
    oracle.tell(Outcome::Committed, [event(4, "b", 2), event(5, "a", 3)]);
    oracle.tell(Outcome::Aborted, [event(7, "b", 3), event(8, "a", 4)]);
    oracle.tell(Outcome::Committed, [event(6, "b", 4)]);
    oracle.tell(Outcome::Unknown, [event(9, "a", 5), event(10, "a", 6)]);
    oracle
}

fn clean() -> Vec<(i32, Event)> {
    let a = [(1, 1), (2, 2), (5, 3)].map(|(n, place)| (0, event(n, "a", place)));
    let b = [(3, 1), (4, 2), (6, 4)].map(|(n, place)| (1, event(n, "b", place)));
    a.into_iter().chain(b).collect()
}

fn check(events: Vec<(i32, Event)>) -> Report {
    let report = oracle().check_events(events.into_iter().map(|(partition, event)| (partition, Ok(event))));
    println!("{report}");
    report
}

#[test]
fn a_clean_topic_is_clean() {
    let report = check(clean());
    report.assert_exactly_once();
    assert_eq!((report.told.committed, report.told.aborted, report.told.unknown), (6, 2, 2));
    assert_eq!((report.seen, report.unknown_seen), (6, 0));
}

#[test]
fn a_lost_event_is_missing() {
    let mut events = clean();
    events.remove(1);
    let report = check(events);
    assert_eq!(report.missing, [event(2, "a", 2)]);
    assert!(!report.is_complete() && report.reordered.is_empty());
    assert!(report.to_string().contains("1 missing:\n    Event { number: 2"), "{report}");
}

#[test]
fn swapped_events_of_a_key_are_reordered() {
    let mut events = clean();
    events.swap(0, 1);
    let report = check(events);
    assert_eq!(report.reordered, [event(1, "a", 1)]);
    assert!(!report.is_clean() && report.is_complete());
}

#[test]
fn a_key_in_two_partitions_is_reordered() {
    let mut events = clean();
    events[2].0 = 1;
    assert_eq!(check(events).reordered, [event(5, "a", 3)]);
}

#[test]
fn events_of_two_keys_have_no_order() {
    let mut events = clean();
    events.rotate_left(3);
    check(events).assert_exactly_once();
}

#[test]
fn a_doubled_event_is_a_duplicate_and_no_more() {
    let mut events = clean();
    // A replay after a crash: everything again from the second event on.
    events.extend(clean().into_iter().skip(1));
    let report = check(events);
    assert_eq!(report.duplicates, 5);
    report.assert_at_least_once();
    assert!(std::panic::catch_unwind(|| report.assert_exactly_once()).is_err());
}

#[test]
fn a_foreign_event_is_found_by_number_key_or_place() {
    for stranger in [event(99, "a", 9), event(1, "b", 1), event(1, "a", 2)] {
        let mut events = clean();
        events.push((0, stranger));
        let report = check(events);
        assert_eq!((report.foreign.len(), report.missing.len(), report.duplicates), (1, 0, 0));
        assert!(!report.is_clean());
    }
}

#[test]
fn an_aborted_event_is_found() {
    let mut events = clean();
    events.insert(3, (0, event(8, "a", 4)));
    let report = check(events);
    assert_eq!(report.aborted, [event(8, "a", 4)]);
    assert!(report.foreign.is_empty() && report.reordered.is_empty() && !report.is_clean());
}

#[test]
fn an_unknown_transaction_may_be_there_whole_but_not_in_part() {
    let mut events = clean();
    events.insert(3, (0, event(9, "a", 5)));
    let report = check(events.clone());
    assert_eq!(report.torn, [(event(9, "a", 5), event(10, "a", 6))]);
    assert!(!report.is_clean());
    events.insert(4, (0, event(10, "a", 6)));
    let report = check(events);
    report.assert_exactly_once();
    assert_eq!(report.unknown_seen, 2);
}

#[test]
fn a_record_is_read_back_and_one_with_another_key_is_foreign() {
    let event = event(5, "a", 3);
    let mut record = Rec {
        topic: "t".into(),
        partition: 0,
        offset: 0,
        key: Some(b"a".to_vec()),
        value: Some(event.payload(3, "xyz").into_bytes()),
        headers: Vec::new(),
        timestamp_ms: None,
    };
    assert_eq!(Event::of(&record).unwrap(), event);
    record.key = Some(b"b".to_vec());
    assert_eq!(oracle().check(&[record.clone()]).foreign.len(), 1);
    record.value = None;
    assert_eq!(oracle().check(&[record]).foreign.len(), 1);
}

#[test]
#[should_panic(expected = "told twice")]
fn an_event_is_told_once() {
    oracle().tell(Outcome::Committed, [event(1, "a", 1)]);
}
