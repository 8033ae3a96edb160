//! Plays a scenario of any of the model worlds: once, with a crash right behind each output, or with fresh seeds for a while.

use crate::model::journal::Journal;
use std::any::Any;
use std::fmt::Debug;
use std::ops::{AddAssign, Range};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// A course of events in a model world, and where its run keeps what is common to all worlds.
pub(crate) trait Scene {
    type Run;
    type Figures: Copy + Debug + Default + AddAssign;

    fn name(&self) -> &'static str;
    /// The events, as whoever looks at a failure sees them.
    fn plan(&self) -> &dyn Debug;
    /// The world before anything happens; what chance decides in it comes from the seed.
    fn world(&self, seed: u64, is_traced: bool) -> Self::Run;
    /// All that happens; panics where a promise is broken.
    fn happen(&self, run: &mut Self::Run);
    fn figures(run: &Self::Run) -> Self::Figures;
    /// Outputs so far, of all processes.
    fn outputs(run: &Self::Run) -> u64;
    /// The output behind which a process dies; `None` once it did.
    fn crash_at(run: &mut Self::Run) -> &mut Option<u64>;
    fn journal(run: &Self::Run) -> &Journal;
}

fn play<S: Scene>(scene: &S, seed: u64, crash_at: Option<u64>, is_traced: bool) -> (S::Run, Result<(), Box<dyn Any + Send>>) {
    let mut run = scene.world(seed, is_traced);
    *S::crash_at(&mut run) = crash_at;
    let result = catch_unwind(AssertUnwindSafe(|| scene.happen(&mut run)));
    (run, result)
}

fn check_with<S: Scene>(scene: &S, seed: u64, crash_at: Option<u64>) -> S::Run {
    let (run, result) = play(scene, seed, crash_at, false);
    if let Err(panic) = result {
        let name = scene.name();
        eprintln!("scenario `{name}` fails with seed {seed}, crash at {crash_at:?}; the end of its trace:");
        let (run, _) = play(scene, seed, crash_at, true);
        S::journal(&run).print();
        eprintln!("{:?}\nscenario `{name}`, seed {seed}, crash at {crash_at:?}", scene.plan());
        resume_unwind(panic);
    }
    run
}

/// Plays it, and a failure once more with its trace.
pub(crate) fn check<S: Scene>(scene: &S, seed: u64) -> S::Figures {
    S::figures(&check_with(scene, seed, None))
}

/// Plays it once, then once for each output with a crash right behind it.
pub(crate) fn crash_everywhere<S: Scene>(scene: &S, seeds: Range<u64>) -> S::Figures {
    let mut total = S::Figures::default();
    for seed in seeds {
        let clean = check_with(scene, seed, None);
        total += S::figures(&clean);
        for at in 1..=S::outputs(&clean) {
            let mut crashed = check_with(scene, seed, Some(at));
            assert_eq!(*S::crash_at(&mut crashed), None, "output {at} of seed {seed} is reached");
            total += S::figures(&crashed);
        }
    }
    println!("{}: {total:?}", scene.name());
    total
}

/// Plays fresh seeds for so many seconds, and on until all of it was met that they are there for: the figures and the seconds that it took.
/// `RELAY_SIM_SEED` replays one, `RELAY_SIM_SECONDS` goes on for longer.
pub(crate) fn fresh<S: Scene>(
    build: impl Fn(u64) -> S,
    seconds: f64,
    is_enough: impl Fn(&S::Figures) -> bool,
) -> (S::Figures, f64) {
    let began = Instant::now();
    let mut total = S::Figures::default();
    if let Some(seed) = number("RELAY_SIM_SEED") {
        total += check(&build(seed), seed);
        return (total, began.elapsed().as_secs_f64());
    }
    let limit = Duration::from_secs_f64(number("RELAY_SIM_SECONDS").map_or(seconds, |seconds| seconds as f64));
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let first = (nanos >> 10) % 1_000_000_000;
    let (mut seed, name) = (first, build(first).name());
    while began.elapsed() < limit || !is_enough(&total) {
        total += check(&build(seed), seed);
        seed += 1;
        assert!(seed < first + 1_000_000, "{name}: something is never met: {total:?}");
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{name}: seeds {first}..{seed} in {seconds:.1} s: {total:?}");
    (total, seconds)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}
