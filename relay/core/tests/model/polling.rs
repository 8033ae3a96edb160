//! Polling and both switches in a model world: a crash at every output, fresh seeds, and every promise watched at each step.

use crate::model::chance::Chance;
use crate::model::journal::Journal;
use crate::model::kafka::Weather;
use crate::model::kafka::transactions::Trouble;
use crate::model::poll::run::{Event, Run};
use crate::model::poll::world::Figures;
use crate::model::scene::{Scene, check, crash_everywhere, fresh};
use relay_core::checkpoint::Mode;

const TICKS: &[usize] = &[0, 1];
const CLAIMS: &[usize] = &[2];
const ALL: &[usize] = &[0, 1, 2];

/// A plan: what happens when, in milliseconds.
type Plan = Vec<(u64, Event)>;

#[derive(Clone)]
struct Scenario {
    name: &'static str,
    mode: Mode,
    tables: &'static [usize],
    weather: Weather,
    plan: Plan,
    /// After the crash nobody writes for a while, and the operator has gone to this mode.
    after_crash: Option<Mode>,
    is_exact: bool,
}

impl Scene for Scenario {
    type Run = Run;
    type Figures = Figures;

    fn name(&self) -> &'static str {
        self.name
    }

    fn plan(&self) -> &dyn std::fmt::Debug {
        &self.plan
    }

    fn world(&self, seed: u64, is_traced: bool) -> Run {
        let mut run = Run::new(seed, self.mode, self.tables, &self.weather, is_traced);
        if self.is_exact {
            run.be_exact();
        }
        run.after_crash = self.after_crash;
        run
    }

    fn happen(&self, run: &mut Run) {
        for &(at_ms, event) in &self.plan {
            while run.world.now_ms < at_ms {
                run.turn();
            }
            let is_over = self.after_crash.is_some() && run.after_crash.is_none();
            if !is_over {
                run.happen(event);
            }
        }
        if self.after_crash.is_some() {
            let until_ms = run.world.now_ms + 3_000;
            while run.world.now_ms < until_ms {
                run.turn();
            }
        }
        run.heal();
        let figures = run.figures();
        assert!(
            self.name != "polling, calm" || figures.crashes > 0 || figures.repeated == 0 && figures.rewinds == 0,
            "{figures:?} without a crash"
        );
    }

    fn figures(run: &Run) -> Figures {
        run.figures()
    }

    fn outputs(run: &Run) -> u64 {
        run.world.outputs
    }

    fn crash_at(run: &mut Run) -> &mut Option<u64> {
        &mut run.world.crash_at
    }

    fn journal(run: &Run) -> &Journal {
        &run.world.journal
    }
}

fn steady(until_ms: u64) -> Plan {
    (0..until_ms).step_by(60).map(|at_ms| (at_ms, Event::Work(1 + at_ms / 60 % 4))).collect()
}

fn calm(name: &'static str, mode: Mode, tables: &'static [usize], more: &[(u64, Event)], until_ms: u64) -> Scenario {
    let mut plan = steady(until_ms);
    plan.extend_from_slice(more);
    plan.sort_by_key(|(at_ms, _)| *at_ms);
    Scenario { name, mode, tables, weather: Weather::default(), plan, after_crash: None, is_exact: false }
}

#[test]
fn polling_in_ticks_survives_a_crash_at_every_output() {
    crash_everywhere(&calm("ticks", Mode::Poll, TICKS, &[(500, Event::Work(30))], 1_200), 0..2);
}

#[test]
fn ticks_beside_claims_survive_a_crash_at_every_output() {
    crash_everywhere(&calm("ticks and claims", Mode::Poll, ALL, &[(500, Event::Work(30))], 1_000), 10..12);
}

#[test]
fn claims_alone_survive_a_crash_at_every_output() {
    crash_everywhere(&calm("claims", Mode::Poll, CLAIMS, &[(500, Event::Work(30)), (700, Event::Cut)], 1_000), 20..21);
}

#[test]
fn a_lost_lock_a_stop_and_a_drain_survive_a_crash_at_every_output() {
    let more = [
        (300, Event::Cut),
        (550, Event::BrokersDown),
        (560, Event::Work(20)),
        (700, Event::Stop),
        (800, Event::BrokersUp),
        (5_900, Event::Drain { reads_all: true }),
        (6_100, Event::Restart),
    ];
    crash_everywhere(&calm("interrupted", Mode::Poll, ALL, &more, 800), 30..32);
}

#[test]
fn the_switch_to_polling_survives_a_crash_at_every_output() {
    let total = crash_everywhere(&calm("to polling", Mode::Log, TICKS, &[(900, Event::Switch(Mode::Poll))], 1_400), 40..42);
    assert!(total.to_poll > 0);
}

/// The slot that the log left behind stands somewhere; polling has nothing to do with where.
#[test]
fn polling_resumes_beside_the_slot_that_the_log_left() {
    let cuts = (3_000..6_000).step_by(500).map(|at_ms| (at_ms, Event::Cut));
    let more: Plan = [(1_500, Event::Switch(Mode::Poll))].into_iter().chain(cuts).collect();
    for seed in 0..10 {
        let figures = check(&calm("left slot", Mode::Log, TICKS, &more, 6_000), seed);
        assert!(figures.to_poll > 0 && figures.rewinds == 0, "seed {seed}: {figures:?}");
    }
}

#[test]
fn the_switch_to_the_log_survives_a_crash_at_every_output() {
    let scenario = calm("to the log", Mode::Poll, TICKS, &[(600, Event::Switch(Mode::Log))], 1_400);
    for seed in 50..60 {
        assert_eq!(check(&scenario, seed).repeated, 0, "nothing comes twice");
    }
    let total = crash_everywhere(&scenario, 50..52);
    assert!(total.to_log > 0);
    assert_eq!(total.refused, 0, "a slot that a crash leaves behind is known as ours");
}

#[test]
fn a_switch_that_is_called_off_at_any_output_loses_nothing() {
    for (name, mode, back) in [("not to the log", Mode::Poll, Mode::Log), ("not to polling", Mode::Log, Mode::Poll)] {
        let mut scenario = calm(name, mode, TICKS, &[(700, Event::Switch(back))], 700);
        scenario.plan.extend((700..1_700).step_by(15).map(|at_ms| (at_ms, Event::Work(1))));
        scenario.after_crash = Some(mode);
        // Slow enough for checkpoints inside the last tick.
        scenario.weather.full = 2;
        crash_everywhere(&scenario, 89..90);
    }
}

/// The connection that keeps the slot's snapshot is lost while the last tick is being published.
#[test]
fn a_last_tick_that_is_cut_survives_a_crash_at_every_output() {
    let scenario = |cut_ms| {
        let more = [
            (600, Event::KillAndSwitch(Mode::Log)),
            (1_700, Event::FinishWriters),
            // Some of these commit before the slot is there, and are visible long after.
            (1_710, Event::Work(25)),
            (1_850, Event::BrokersDown),
            (cut_ms, Event::Cut),
            (2_600, Event::BrokersUp),
            (4_000, Event::Work(5)),
        ];
        calm("last tick cut", Mode::Poll, TICKS, &more, 1_600)
    };
    for seed in 0..100 {
        check(&scenario(1_720 + seed % 25 * 20), seed);
    }
    let total = crash_everywhere(&scenario(2_000), 60..61);
    assert!(total.to_log > 0);
}

/// Without kills and refusals: lost connections, restarts of the server, drains, the switch to the log. Not one row is sent twice.
fn random_calm(seed: u64) -> Scenario {
    let mut chance = Chance::new(seed ^ 0xCA19);
    let is_switching = chance.one_in(2);
    let mut plan = Plan::new();
    let mut at_ms = 0;
    for _ in 0..chance.between(10, 50) {
        at_ms += chance.below(150);
        plan.push(match chance.below(12) {
            0 if !is_switching => (at_ms, Event::Cut),
            1 => (at_ms, Event::Drain { reads_all: chance.one_in(2) }),
            2 if !is_switching => (at_ms, Event::Restart),
            3 => (at_ms, Event::FinishWriters),
            _ => (at_ms, Event::Work(chance.below(12))),
        });
    }
    if is_switching {
        plan.push((at_ms / 2, Event::Switch(Mode::Log)));
        plan.sort_by_key(|(at_ms, _)| *at_ms);
    }
    let tables = if is_switching { TICKS } else { [TICKS, ALL][chance.below(2) as usize] };
    let weather = Weather { full: chance.below(2) * 10, ..Weather::default() };
    Scenario { name: "polling, calm", mode: Mode::Poll, tables, weather, plan, after_crash: None, is_exact: false }
}

/// Everything at once.
fn random_storm(seed: u64) -> Scenario {
    let mut chance = Chance::new(seed ^ 0x5719);
    let tables = [TICKS, TICKS, ALL, CLAIMS][chance.below(4) as usize];
    let mut mode = if tables == TICKS && chance.one_in(2) { Mode::Log } else { Mode::Poll };
    let first = mode;
    let mut plan = Plan::new();
    let mut at_ms = 0;
    // Each run has a few kinds of trouble, not a bit of each.
    let troubles: Vec<u64> = (0..chance.between(1, 4)).map(|_| chance.below(10)).collect();
    for _ in 0..chance.between(10, 60) {
        at_ms += chance.below(200);
        if chance.below(3) > 0 {
            plan.push((at_ms, Event::Work(if chance.one_in(6) { chance.between(20, 60) } else { chance.below(10) })));
            continue;
        }
        let event = match troubles[chance.below(troubles.len() as u64) as usize] {
            0 => Event::Cut,
            1 => Event::Restart,
            2 | 3 => Event::Kill,
            4 => Event::Drain { reads_all: chance.one_in(2) },
            5 => Event::Stop,
            6 => Event::FinishWriters,
            7 if tables != TICKS => Event::Peer,
            7 | 8 if tables == TICKS => {
                mode = if mode == Mode::Log { Mode::Poll } else { Mode::Log };
                // Some operators wait until it has happened.
                at_ms += chance.below(3) * chance.below(1_500);
                if chance.one_in(2) { Event::Switch(mode) } else { Event::KillAndSwitch(mode) }
            }
            _ => Event::Work(5),
        };
        plan.push((at_ms, event));
    }
    let mut pick = |n: u64| if chance.one_in(3) { n } else { 0 };
    let weather = Weather {
        time_out: pick(60),
        fatal: pick(120),
        store_fails: pick(4),
        full: pick(8),
        is_strict: pick(1) == 1,
        ..Weather::default()
    };
    Scenario { name: "polling, storm", mode: first, tables, weather, plan, after_crash: None, is_exact: false }
}

#[test]
fn fresh_seeds_of_calm_polling_give_no_duplicates() {
    fresh(random_calm, 1.5, |_| true);
}

#[test]
fn fresh_seeds_of_polling_in_a_storm_keep_every_promise() {
    fresh(random_storm, 3.0, |_| true);
}

#[test]
fn old_seeds_of_polling_keep_every_promise() {
    let mut total = Figures::default();
    for seed in 0..200 {
        total += check(&random_storm(seed), seed);
        total += check(&random_calm(seed), seed);
    }
    println!("polling, old seeds: {total:?}");
    assert!(total.to_poll > 0 && total.to_log > 0 && total.refused > 0 && total.crashes > 0);
}

/// Exactly-once: without claims, and with troubles of the coordinator's own.
fn exact(scenario: Scenario, calls: u64) -> Scenario {
    let weather = Weather { trouble: Trouble { calls }, store_fails: 0, ..scenario.weather };
    Scenario { name: "polling, exactly", tables: TICKS, weather, is_exact: true, ..scenario }
}

fn random_exact(seed: u64) -> Scenario {
    exact(random_storm(seed), [0, 3, 9][(seed % 3) as usize])
}

#[test]
fn ticks_in_transactions_survive_a_crash_at_every_output() {
    for calls in [0, 5] {
        let plan = vec![(0, Event::Work(30)), (900, Event::Work(30)), (1_300, Event::Work(20)), (1_700, Event::FinishWriters)];
        let weather = Weather::default();
        let scenario = Scenario { name: "", mode: Mode::Poll, tables: TICKS, weather, plan, after_crash: None, is_exact: false };
        let total = crash_everywhere(&exact(scenario, calls), 500..502);
        assert!(total.commits > 1_000 && total.crashes > 100, "{total:?}");
    }
}

#[test]
fn fresh_seeds_of_polling_exactly_once_keep_every_promise() {
    fresh(random_exact, 3.0, |_| true);
}

#[test]
fn old_seeds_of_polling_exactly_once_keep_every_promise() {
    let mut total = Figures::default();
    for seed in 0..300 {
        total += check(&random_exact(seed), seed);
    }
    println!("polling, exactly: {total:?}");
    assert!(total.to_poll > 0 && total.to_log > 0 && total.aborts > 0 && total.late > 0);
}
