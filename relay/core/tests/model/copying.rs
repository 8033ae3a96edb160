//! Snapshots in a model world: a crash at every output, commits that are visible late, and every record judged as it arrives.

use crate::model::chance::Chance;
use crate::model::copy::world::{Event, Figures, Run};
use crate::model::journal::Journal;
use crate::model::scene::{Scene, check, crash_everywhere, fresh};
use relay_core::session::SnapshotMode;

type Plan = Vec<(u64, Event)>;

struct Scenario {
    name: &'static str,
    mode: SnapshotMode,
    /// Somebody made slot and publication before the first start.
    has_slot: bool,
    lag_ms: u64,
    plan: Plan,
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
        let mut run = Run::new(seed, self.mode, self.has_slot, is_traced);
        run.world.heap.lag_ms = self.lag_ms;
        run.world.has_late_answers = seed.is_multiple_of(2);
        run.world.topic.is_exact = self.is_exact;
        run.world.topic.repeats =
            self.mode == SnapshotMode::Always || self.plan.iter().any(|(_, event)| matches!(event, Event::Request(_)));
        run
    }

    fn happen(&self, run: &mut Run) {
        for &(at_ms, event) in &self.plan {
            while run.world.now_ms < at_ms {
                run.turn();
            }
            run.happen(event);
        }
        run.heal();
    }

    fn figures(run: &Run) -> Figures {
        run.world.figures
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

fn steady(until_ms: u64, more: &[(u64, Event)]) -> Plan {
    let mut plan: Plan = (0..until_ms).step_by(20).map(|at_ms| (at_ms, Event::Work(1 + at_ms / 20 % 3))).collect();
    plan.extend_from_slice(more);
    plan.sort_by_key(|(at_ms, _)| *at_ms);
    plan
}

fn scenario(name: &'static str, mode: SnapshotMode, has_slot: bool, more: &[(u64, Event)]) -> Scenario {
    Scenario { name, mode, has_slot, lag_ms: 0, plan: steady(900, more), is_exact: false }
}

#[test]
fn an_exported_snapshot_survives_a_crash_at_every_output() {
    let total = crash_everywhere(&scenario("export", SnapshotMode::Initial, false, &[]), 0..3);
    assert!(total.exported > 0 && total.chunks > 0 && total.dropped > 0);
}

/// As without a connection left for the stream, and with a deadlock when the tables are locked.
#[test]
fn an_export_outlives_failures_on_the_way_to_its_first_row() {
    let more = [(0, Event::ChunksFail(true)), (900, Event::ChunksFail(false))];
    for seed in 15..25 {
        let total = check(&scenario("way", SnapshotMode::Initial, false, &more), seed);
        assert!(total.exported > 0 && total.chunks == 0, "{total:?}");
    }
}

#[test]
fn a_snapshot_between_watermarks_survives_a_crash_at_every_output() {
    let total = crash_everywhere(&scenario("watermarks", SnapshotMode::Initial, true, &[]), 10..13);
    assert!(total.exported == 0 && total.chunks > 0 && total.dropped > 0);
}

/// As with a synchronous standby that is slow: an old image must not follow the event that outdates it.
#[test]
fn commits_that_are_visible_late_are_waited_for() {
    for (has_slot, lag_ms) in [(false, 250), (true, 250)] {
        let plan = steady(2_000, &[(500, Event::Kill)]);
        let slow = Scenario { name: "late", mode: SnapshotMode::Initial, has_slot, lag_ms, plan, is_exact: false };
        let total = crash_everywhere(&slow, 20..21);
        assert!(total.rereads > 0);
    }
}

/// What the killed process had streamed, and stored as published, becomes visible long after the next one has begun.
#[test]
fn what_an_earlier_process_streamed_is_waited_for() {
    let mut plan = steady(600, &[(600, Event::Kill)]);
    plan.push((3_500, Event::Work(1)));
    let slow = Scenario { name: "earlier", mode: SnapshotMode::Always, has_slot: true, lag_ms: 3_000, plan, is_exact: false };
    crash_everywhere(&slow, 25..26);
}

#[test]
fn only_a_snapshot_ends_by_itself_wherever_it_crashed() {
    crash_everywhere(&scenario("only", SnapshotMode::Only, false, &[]), 30..32);
}

#[test]
fn always_begins_again_at_each_start() {
    let more = [(300, Event::Drain), (600, Event::Kill)];
    crash_everywhere(&scenario("always", SnapshotMode::Always, true, &more), 40..42);
}

#[test]
fn a_requested_snapshot_survives_a_crash_at_every_output() {
    let more = [(150, Event::Request(0)), (200, Event::Request(1)), (500, Event::Request(0))];
    crash_everywhere(&scenario("requested", SnapshotMode::Never, true, &more), 50..52);
}

#[test]
fn a_table_that_gets_another_file_starts_again() {
    for (seed, has_slot) in [(60, true), (61, false)] {
        let more = [
            (150, Event::Rewrite(0, false)),
            (260, Event::Rewrite(1, false)),
            (330, Event::Rewrite(0, true)),
            (420, Event::Rewrite(0, false)),
        ];
        let total = crash_everywhere(&scenario("rewritten", SnapshotMode::Initial, has_slot, &more), seed..seed + 1);
        assert!(total.restarts > 0);
    }
}

#[test]
fn lost_connections_failed_questions_and_refused_rows_survive_a_crash_at_every_output() {
    let more = [
        (120, Event::Cut),
        (180, Event::Refuse(7)),
        (300, Event::ChunksFail(true)),
        (340, Event::Cut),
        (500, Event::ChunksFail(false)),
        (700, Event::Cut),
    ];
    for (seed, has_slot) in [(70, true), (71, false)] {
        let total = crash_everywhere(&scenario("interrupted", SnapshotMode::Initial, has_slot, &more), seed..seed + 1);
        assert!(total.parked > 0);
    }
}

fn random(seed: u64) -> Scenario {
    let mut chance = Chance::new(seed ^ 0x5A9);
    let mode = [SnapshotMode::Initial, SnapshotMode::Always, SnapshotMode::Only, SnapshotMode::Never][chance.below(4) as usize];
    let mut more = Plan::new();
    let mut at_ms = 0;
    for _ in 0..chance.between(0, 12) {
        at_ms += chance.below(200);
        let table = chance.below(2) as usize;
        more.push((
            at_ms,
            match chance.below(12) {
                0 => Event::Cut,
                1 | 2 => Event::Kill,
                3 => Event::Drain,
                4 => Event::Rewrite(table, chance.one_in(3)),
                5 | 6 => Event::Request(table),
                7 => Event::Refuse(chance.below(2) * 11),
                8 => Event::Work(20),
                9 | 10 => Event::Occupy(chance.one_in(2)),
                _ => Event::ChunksFail(chance.one_in(3)),
            },
        ));
    }
    let lag_ms = chance.below(2) * chance.below(300);
    Scenario { name: "random", mode, has_slot: chance.one_in(2), lag_ms, plan: steady(at_ms + 300, &more), is_exact: false }
}

/// Fresh seeds at each run; `RELAY_SIM_SEED` and `RELAY_SIM_SECONDS` as with the storms.
#[test]
fn random_snapshots_keep_every_promise() {
    fresh(random, 6.0, |total| total.rereads > 0 && total.dropped > 0 && total.exported > 0);
}

/// Exactly-once refuses a slot without a checkpoint, so there is none.
fn exact(scenario: Scenario) -> Scenario {
    Scenario { is_exact: true, has_slot: false, ..scenario }
}

#[test]
fn a_snapshot_in_transactions_survives_a_crash_at_every_output() {
    let total = crash_everywhere(&exact(scenario("exactly", SnapshotMode::Initial, false, &[])), 80..82);
    assert!(total.exported == 0 && total.chunks > 0 && total.dropped > 0);
    let more = [(120, Event::Cut), (180, Event::Refuse(7)), (500, Event::Cut), (620, Event::Rewrite(0, false))];
    let total = crash_everywhere(&exact(scenario("exactly, interrupted", SnapshotMode::Initial, false, &more)), 83..84);
    assert!(total.parked > 0 && total.restarts > 0);
}

/// Seeds that failed once, and what was wrong.
const KEPT: [u64; 1] = [
    // A doubt of the life before kept what was aborted from being read again.
    1_662_797_235,
];

#[test]
fn old_seeds_of_snapshots_in_transactions_come_once() {
    for seed in KEPT.into_iter().chain(0..100) {
        check(&exact(random(seed)), seed);
    }
}

#[test]
fn random_snapshots_in_transactions_come_once() {
    fresh(|seed| exact(random(seed)), 3.0, |total| total.chunks > 0 && total.parked > 0);
}
