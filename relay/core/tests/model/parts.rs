//! Changes of up to three records, and transactions with BEGIN and END: a crash at every output, a lost connection inside a change.

use crate::model::kafka::Weather;
use crate::model::process::Policy;
use crate::model::run::Event;
use crate::model::scene::{check, crash_everywhere};
use crate::{Scenario, calm, changing, fresh, plan, random_calm, random_storm, steady};

fn with_parts(scenario: Scenario) -> Scenario {
    Scenario { has_parts: true, ..scenario }
}

#[test]
fn changes_of_several_records_survive_a_crash_at_every_output() {
    let events = plan([vec![(0, Event::Start), (700, Event::Commit(20)), (800, Event::SaveSlot)], steady(300, 1_100)]);
    let weather = Weather { full: 3, ..Weather::default() };
    let total = crash_everywhere(&with_parts(Scenario { weather, ..calm("parts", events) }), 100..103);
    assert!(total.pauses > 1_000, "the sink is full between two records of a change: {total:?}");
}

#[test]
fn a_connection_lost_inside_a_change_survives_a_crash_at_every_output() {
    let cuts = (350..1_200).step_by(60).map(|at_ms| (at_ms, Event::Cut)).collect();
    let events = plan([vec![(0, Event::Start), (400, Event::Commit(30))], cuts, steady(300, 900)]);
    let weather = Weather { full: 2, ..Weather::default() };
    let total = crash_everywhere(&with_parts(Scenario { weather, ..calm("parts, cut", events) }), 110..112);
    assert!(total.continued > 100, "changes go on behind their first records: {total:?}");
}

#[test]
fn a_refused_record_of_a_change_takes_its_whole_change_along_at_every_output() {
    for policy in [Policy::Dlq, Policy::Skip, Policy::Stop] {
        let events = plan([
            vec![(0, Event::Start), (500, Event::CommitBad), (700, Event::CommitBad)],
            vec![(6_000, Event::OtherWork)],
            steady(300, 900),
        ]);
        let weather = Weather { is_strict: true, ..Weather::default() };
        let scenario = Scenario { weather, policy, ..calm("parts, refused", events) };
        let total = crash_everywhere(&with_parts(scenario), 120..121);
        assert!(total.culprits > 50, "records are refused alone: {total:?}");
    }
}

#[test]
fn fresh_seeds_of_parts_in_calm_weather_give_no_duplicates() {
    fresh(|seed| with_parts(changing(seed, random_calm(seed))), 2.0);
}

#[test]
fn fresh_seeds_of_parts_in_a_storm_keep_every_invariant() {
    fresh(|seed| with_parts(changing(seed, random_storm(seed))), 3.0);
}

#[test]
fn old_seeds_of_parts_keep_every_invariant() {
    for seed in 0..200 {
        check(&with_parts(random_storm(seed)), seed);
        check(&with_parts(random_calm(seed)), seed);
    }
}
