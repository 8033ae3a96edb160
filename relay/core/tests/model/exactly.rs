//! Exactly-once over the log: a crash at every output, requests to Kafka lost, late or done twice, and peers that shut each other out.

use crate::model::chance::Chance;
use crate::model::kafka::Weather;
use crate::model::kafka::transactions::Trouble;
use crate::model::process::Policy;
use crate::model::run::Event;
use crate::model::scene::{check, crash_everywhere};
use crate::model::world::Figures;
use crate::{Plan, Scenario, changing, fresh, plan, random_storm, steady};
use relay_core::checkpoint::Guarantee;

fn scenario(name: &'static str, calls: u64, events: Plan) -> Scenario {
    let weather = Weather { trouble: Trouble { calls }, ..Weather::default() };
    // A start takes longer than in at-least-once; nothing shall happen before it is through.
    let events = events.into_iter().map(|(at_ms, event)| (if at_ms == 0 { 0 } else { at_ms + 600 }, event)).collect();
    Scenario { is_exact: true, weather, ..crate::calm(name, events) }
}

fn crash(scenario: &Scenario, seeds: std::ops::Range<u64>) -> Figures {
    let total = crash_everywhere(scenario, seeds);
    assert_eq!(total.duplicates, 0, "{total:?}");
    total
}

#[test]
fn a_start_from_nothing_survives_a_crash_at_every_output() {
    crash(&scenario("exactly, bootstrap", 0, plan([vec![(0, Event::Start)], steady(300, 800)])), 300..302);
}

#[test]
fn split_transactions_survive_a_crash_at_every_output() {
    let events = plan([vec![(0, Event::Start), (900, Event::Commit(40)), (1_000, Event::SaveSlot)], steady(300, 1_300)]);
    let total = crash(&scenario("exactly, split", 0, events), 310..312);
    assert!(total.splits > 1_000, "{total:?}");
}

#[test]
fn commits_of_unknown_outcome_survive_a_crash_at_every_output() {
    let events = plan([vec![(0, Event::Start), (600, Event::Commit(30))], steady(300, 1_200)]);
    let total = crash(&scenario("exactly, doubt", 3, events), 320..323);
    assert!(total.hidden > 500 && total.doubts > total.hidden + 500, "both outcomes: {total:?}");
    assert!(total.strays > 20 && total.replayed > 1_000, "late requests and kept frames: {total:?}");
}

#[test]
fn lost_connections_survive_a_crash_at_every_output() {
    let cuts = (400..1_300).step_by(130).map(|at_ms| (at_ms, Event::Cut)).collect();
    let events = plan([vec![(0, Event::Start), (500, Event::Commit(30))], cuts, steady(300, 1_000)]);
    crash(&scenario("exactly, cut", 9, events), 330..331);
}

/// A server that goes silent: what is on the wire is given up, and may arrive behind an abort.
#[test]
fn what_was_given_up_on_the_wire_does_not_come_twice_despite_a_crash_at_every_output() {
    let cuts = (400..1_600).step_by(200).map(|at_ms| (at_ms, Event::Cut)).collect();
    let events = plan([vec![(0, Event::Start), (500, Event::Commit(30))], cuts, steady(300, 1_500)]);
    crash(&Scenario { silence: 1, ..scenario("exactly, silent", 0, events) }, 380..383);
}

#[test]
fn a_refused_event_is_parked_once_despite_a_crash_at_every_output() {
    for policy in [Policy::Dlq, Policy::Skip] {
        let events = plan([
            vec![(0, Event::Start), (500, Event::CommitBad), (700, Event::CommitBad), (4_000, Event::OtherWork)],
            steady(300, 900),
        ]);
        let calm = scenario("exactly, refused", 0, events);
        let weather = Weather { is_strict: true, ..calm.weather };
        let total = crash(&Scenario { policy, weather, ..calm }, 340..341);
        assert!(total.culprits > 50, "{total:?}");
    }
}

#[test]
fn a_frozen_leader_is_shut_out_at_every_output() {
    let events = plan([
        vec![(0, Event::Start), (400, Event::Start), (700, Event::Freeze), (720, Event::Cut), (2_600, Event::Thaw)],
        steady(300, 1_500),
    ]);
    let total = crash(&scenario("exactly, frozen", 0, events), 350..353);
    assert!(total.fenced > 20, "{total:?}");
}

#[test]
fn a_server_crash_and_a_drain_survive_a_crash_at_every_output() {
    let events = plan([
        vec![
            (0, Event::Start),
            (500, Event::SaveSlot),
            (700, Event::Crash { down_ms: 150 }),
            (1_100, Event::Commit(20)),
            (1_130, Event::Drain),
        ],
        steady(300, 1_000),
    ]);
    crash(&scenario("exactly, server crash", 9, events), 360..362);
}

/// SIGTERM while no broker answers: the process ends within its grace, and what it leaves open is nobody's.
#[test]
fn a_drain_without_brokers_ends_in_time_at_every_output() {
    let events = plan([
        vec![
            (0, Event::Start),
            (600, Event::BrokersDown),
            (650, Event::Commit(9)),
            (700, Event::Drain),
            (27_000, Event::BrokersUp),
        ],
        steady(300, 500),
    ]);
    let total = crash(&scenario("exactly, no brokers", 0, events), 370..371);
    assert!(total.ends > 0, "{total:?}");
}

/// Everything that a storm has, and troubles of the coordinator's own.
fn random(seed: u64) -> Scenario {
    let mut chance = Chance::new(seed ^ 0xE0E0);
    let storm = random_storm(seed);
    let calls = [0, 2, 4, 12][chance.below(4) as usize];
    let weather = Weather { trouble: Trouble { calls }, store_fails: 0, ..storm.weather };
    let mut events = storm.plan;
    if chance.one_in(5) {
        // Longer than a transaction may be open.
        let at = chance.below(events.len() as u64) as usize;
        let from_ms = events[at].0;
        events[at..].iter_mut().for_each(|(at_ms, _)| *at_ms += 70_000);
        events.insert(at, (from_ms, Event::Freeze));
    }
    if chance.one_in(6) {
        let end_ms = events.last().map_or(0, |(at_ms, _)| *at_ms);
        events.push((chance.below(end_ms), Event::Promise(Guarantee::AtLeastOnce)));
        events.push((chance.below(end_ms), Event::Promise(Guarantee::ExactlyOnce)));
        events.push((chance.below(end_ms), Event::Start));
        events.sort_by_key(|(at_ms, _)| *at_ms);
    }
    Scenario { name: "exactly", weather, plan: events, has_parts: chance.one_in(3), is_exact: true, ..storm }
}

#[test]
fn fresh_seeds_of_exactly_once_keep_every_invariant() {
    fresh(|seed| changing(seed, random(seed)), 4.0);
}

/// Seeds that failed once, or that fail when a rule is taken out; then some more.
#[test]
fn old_seeds_of_exactly_once_keep_every_invariant() {
    let kept = include_str!("seeds.txt").lines().filter_map(|line| line.split('#').next()?.trim().parse().ok());
    for seed in kept.chain(0..200) {
        check(&random(seed), seed);
    }
}
