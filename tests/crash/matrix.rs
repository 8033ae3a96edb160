//! The kill matrix: relay dies at each failpoint in each mode, again and again, and an oracle judges what that has cost.
//!
//! `cargo test --test crash matrix -- --nocapture` goes once through the table; `RELAY_KILLS=500` spreads so many kills over it.

mod bootstrap;
mod cost;
mod flow;
mod refusal;
mod snapshot;
mod takeover;

use crate::story::Mode::{self, ExactlyOnce, Log, Poll};
use relay_tests::relay::{self, Fired, Relay};
use relay_tests::wait::secs;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

/// What must go on for a point to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// Rows are written and published.
    Flow,
    /// A first start, of a pipeline that has nothing yet.
    Bootstrap,
    /// A second instance waits.
    Takeover,
    /// The broker refuses a record.
    Refusal,
    /// A table is read as a whole.
    Snapshot,
}

/// A point, what makes relay pass it, the latest pass to die at, and the modes that have it.
struct Row {
    point: &'static str,
    scene: Scene,
    passes: u64,
    modes: &'static [Mode],
}

const fn row(point: &'static str, scene: Scene, passes: u64, modes: &'static [Mode]) -> Row {
    Row { point, scene, passes, modes }
}

const ALL: &[Mode] = &[Log, ExactlyOnce, Poll];
const LOGS: &[Mode] = &[Log, ExactlyOnce];

/// The matrix.
const MATRIX: &[Row] = &[
    row("after-read", Scene::Flow, 600, ALL),
    row("before-produce", Scene::Flow, 400, ALL),
    row("after-produce", Scene::Flow, 400, ALL),
    row("before-delivery-report", Scene::Flow, 300, ALL),
    row("after-delivery-report", Scene::Flow, 300, ALL),
    row("before-checkpoint", Scene::Flow, 4, ALL),
    row("after-checkpoint", Scene::Flow, 4, ALL),
    row("before-status", Scene::Flow, 4, LOGS),
    row("after-status", Scene::Flow, 4, LOGS),
    row("epoch-write", Scene::Flow, 1, ALL),
    row("tombstone-write", Scene::Flow, 1, ALL),
    row("tick-read", Scene::Flow, 10, &[Poll]),
    row("tick-page", Scene::Flow, 10, &[Poll]),
    row("before-begin", Scene::Flow, 5, &[ExactlyOnce]),
    row("after-begin", Scene::Flow, 5, &[ExactlyOnce]),
    row("before-commit", Scene::Flow, 5, &[ExactlyOnce]),
    row("during-commit", Scene::Flow, 5, &[ExactlyOnce]),
    row("after-commit", Scene::Flow, 5, &[ExactlyOnce]),
    row("marker-write", Scene::Flow, 1, &[ExactlyOnce]),
    row("bootstrap-record", Scene::Bootstrap, 1, LOGS),
    row("publication-create", Scene::Bootstrap, 1, LOGS),
    row("slot-create", Scene::Bootstrap, 1, LOGS),
    row("takeover-wait", Scene::Takeover, 1, ALL),
    row("rewind", Scene::Refusal, 1, ALL),
    row("isolate", Scene::Refusal, 1, ALL),
    row("snapshot-chunk", Scene::Snapshot, 3, LOGS),
    row("low-watermark", Scene::Snapshot, 3, LOGS),
    row("high-watermark", Scene::Snapshot, 3, LOGS),
];

/// What was seen at a point in a mode.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cell {
    kills: u64,
    /// Passes of the point, counted by relay itself until it died.
    hits: u64,
    duplicates: u64,
    /// The most duplicates that one kill has cost.
    worst: u64,
}

/// What all scenes have seen.
#[derive(Debug, Default)]
pub(crate) struct Book {
    cells: BTreeMap<(Mode, &'static str), Cell>,
    lost: u64,
    reordered: u64,
}

/// One kill to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kill {
    point: &'static str,
    /// The latest pass to die at.
    passes: u64,
}

// === impl Book ===

impl Book {
    /// relay has died where it should.
    fn killed(&mut self, mode: Mode, point: &'static str, fired: &Fired) {
        assert!(fired.line.starts_with(&format!("{point}: abort at pass ")), "{point}: {}", fired.line);
        let cell = self.cells.entry((mode, point)).or_default();
        cell.kills += 1;
        cell.hits += fired.passes[point];
    }

    fn cost(&mut self, mode: Mode, point: &'static str, duplicates: u64) {
        let cell = self.cells.entry((mode, point)).or_default();
        cell.duplicates += duplicates;
        cell.worst = cell.worst.max(duplicates);
    }

    fn add(&mut self, other: Book) {
        for (key, seen) in other.cells {
            let cell = self.cells.entry(key).or_default();
            cell.kills += seen.kills;
            cell.hits += seen.hits;
            cell.duplicates += seen.duplicates;
            cell.worst = cell.worst.max(seen.worst);
        }
        self.lost += other.lost;
        self.reordered += other.reordered;
    }

    fn kills(&self) -> u64 {
        self.cells.values().map(|cell| cell.kills).sum()
    }
}

impl fmt::Display for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:12} {:24} {:>6} {:>8} {:>11} {:>6}", "mode", "failpoint", "kills", "hits", "duplicates", "worst")?;
        for ((mode, point), Cell { kills, hits, duplicates, worst }) in &self.cells {
            writeln!(f, "{:12} {point:24} {kills:>6} {hits:>8} {duplicates:>11} {worst:>6}", mode.name())?;
        }
        write!(f, "{} kills, {} lost, {} out of order", self.kills(), self.lost, self.reordered)
    }
}

/// The kills of a scene in a mode, when a table of so many cells has `total` of them: each of its points at least once, the later rounds
/// first where the division leaves a rest.
fn kills(scene: Scene, mode: Mode, total: usize) -> Vec<Kill> {
    let cells: Vec<(&Row, Mode)> = MATRIX.iter().flat_map(|row| row.modes.iter().map(move |&mode| (row, mode))).collect();
    let mut kills: Vec<(usize, Kill)> = Vec::new();
    for (at, (row, its)) in cells.iter().enumerate() {
        let rounds = total / cells.len() + usize::from(at < total % cells.len());
        if row.scene == scene && *its == mode {
            kills.extend((0..rounds.max(1)).map(|round| (round, Kill { point: row.point, passes: row.passes })));
        }
    }
    // Round by round: two kills at one point do not follow each other.
    kills.sort_by_key(|(round, _)| *round);
    kills.into_iter().map(|(_, kill)| kill).collect()
}

/// Starts it with a plan to die there, and waits for that.
#[track_caller]
fn die(relay: &mut Relay, point: &str, pass: u64) -> Fired {
    relay.plan(&format!("{point}=abort@{pass}"));
    relay.start_again();
    died(relay, point)
}

/// Waits for a planned death.
#[track_caller]
fn died(relay: &mut Relay, point: &str) -> Fired {
    relay.until_aborted(secs(120)).unwrap_or_else(|| {
        panic!("{point} was not passed within a minute: {:?}\n{}", relay.try_status(), relay.process().log_tail())
    })
}

#[test]
fn no_kill_at_any_failpoint_loses_or_reorders() {
    let cells: usize = MATRIX.iter().map(|row| row.modes.len()).sum();
    let total = std::env::var("RELAY_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(cells);
    let started = Instant::now();
    let book = std::thread::scope(|scope| {
        let modes = Mode::all();
        let lanes: Vec<_> = modes.map(|mode| scope.spawn(move || lane(mode, total))).collect();
        lanes.into_iter().fold(Book::default(), |mut book, lane| {
            match lane.join() {
                Ok(seen) => book.add(seen),
                Err(panic) => std::panic::resume_unwind(panic),
            }
            book
        })
    });
    println!("{book} in {:.0?}", started.elapsed());
    assert!(book.kills() >= total.max(cells) as u64, "every cell was met, {total} kills were made");
    assert_eq!((book.lost, book.reordered), (0, 0));
    let repeated: u64 = book.cells.iter().filter(|((mode, _), _)| *mode == ExactlyOnce).map(|(_, cell)| cell.duplicates).sum();
    assert_eq!(repeated, 0, "exactly once under read_committed");
}

/// All scenes of a mode, one after the other.
fn lane(mode: Mode, total: usize) -> Book {
    let mut book = Book::default();
    flow::run(mode, &kills(Scene::Flow, mode, total), &mut book);
    bootstrap::run(mode, &kills(Scene::Bootstrap, mode, total), &mut book);
    takeover::run(mode, &kills(Scene::Takeover, mode, total), &mut book);
    refusal::run(mode, &kills(Scene::Refusal, mode, total), &mut book);
    snapshot::run(mode, &kills(Scene::Snapshot, mode, total), &mut book);
    book
}

#[test]
#[ignore = "builds relay once more"]
fn a_build_without_the_feature_has_no_failpoint() {
    assert!(relay::has_failpoints(&relay::binary(&[])), "the tests' own has them");
    assert!(!relay::has_failpoints(&relay::plain_binary()));
}

#[test]
fn the_matrix_has_every_failpoint() {
    let source = include_str!("../../relay/failpoint/src/points.rs");
    let list = source.split("NAMES: [&str;").nth(1).and_then(|rest| rest.split("];").next()).expect("the list of names");
    let mut names: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    let mut rows: Vec<&str> = MATRIX.iter().map(|row| row.point).collect();
    names.sort_unstable();
    rows.sort_unstable();
    assert_eq!(rows, names);
}
