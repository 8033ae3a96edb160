//! Turns a seed into a schedule of network faults, and runs it against a proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use crate::proxy::{Control, Direction, Proxy};
use crate::seed::Seed;

/// One step of a schedule: a fault, how long it lasts, and the calm after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is injected.
    pub fault: Fault,
    /// How long, before all is healed.
    pub lasts: Duration,
    /// How long nothing is wrong afterwards.
    pub calm: Duration,
}

/// A fault that a schedule chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every connection reset once.
    Cut,
    /// Every connection reset, new ones too.
    Refuse,
    /// One direction held still.
    Stall(Direction),
    /// A peer that vanished.
    HalfOpen,
    /// Every byte late.
    Delay(Duration),
    /// A thin wire: bytes per second.
    Bandwidth(u64),
    /// A connection reset after so many more bytes.
    CutAfter(Direction, u64),
}

/// A schedule that is running. Stops and heals on drop.
#[derive(Debug)]
pub struct Chaos {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Step>>>,
}

/// The steps that a seed stands for, as many as fit into a duration.
pub fn schedule(seed: u64, duration: Duration) -> Vec<Step> {
    let mut seed = Seed::new(seed);
    let (mut steps, mut total) = (Vec::new(), Duration::ZERO);
    while total < duration {
        let direction = if seed.chance(0.5) { Direction::Up } else { Direction::Down };
        let fault = match seed.below(7) {
            0 => Fault::Cut,
            1 => Fault::Refuse,
            2 => Fault::Stall(direction),
            3 => Fault::HalfOpen,
            4 => Fault::Delay(Duration::from_millis(seed.between(1, 80))),
            5 => Fault::Bandwidth(seed.between(20_000, 2_000_000)),
            _ => Fault::CutAfter(direction, seed.between(1, 100_000)),
        };
        let lasts = Duration::from_millis(seed.between(20, 1_500));
        let calm = Duration::from_millis(seed.between(50, 1_000));
        total += lasts + calm;
        steps.push(Step { fault, lasts, calm });
    }
    steps
}

// === impl Proxy ===

impl Proxy {
    /// Injects the faults that a seed stands for, one after the other, for about so long; then heals.
    pub fn chaos(&self, seed: u64, duration: Duration) -> Chaos {
        println!("chaos on port {}: seed {seed} for {duration:?}", self.port());
        let (control, is_over) = (self.control(), Arc::new(AtomicBool::new(false)));
        let over = Arc::clone(&is_over);
        let thread = Some(spawn(move || run(&control, &over, schedule(seed, duration), duration)));
        Chaos { is_over, thread }
    }
}

// === impl Chaos ===

impl Chaos {
    /// Waits for the end of the schedule; answers what was injected.
    pub fn finish(mut self) -> Vec<Step> {
        let thread = self.thread.take().expect("a schedule is finished once");
        thread.join().expect("the schedule ran to its end")
    }

    /// Ends the schedule now and heals; answers what was injected.
    pub fn stop(self) -> Vec<Step> {
        self.is_over.store(true, Ordering::SeqCst);
        self.finish()
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(control: &Control, is_over: &AtomicBool, steps: Vec<Step>, duration: Duration) -> Vec<Step> {
    let end = Instant::now() + duration;
    let mut done = Vec::new();
    for step in steps {
        if is_over.load(Ordering::SeqCst) || Instant::now() >= end {
            break;
        }
        inject(control, step.fault);
        rest(is_over, step.lasts.min(end.saturating_duration_since(Instant::now())));
        control.heal();
        rest(is_over, step.calm.min(end.saturating_duration_since(Instant::now())));
        done.push(step);
    }
    control.heal();
    println!("chaos is over: {} faults, {:?}", done.len(), control.counts());
    done
}

fn inject(control: &Control, fault: Fault) {
    match fault {
        Fault::Cut => drop(control.cut()),
        Fault::Refuse => control.refuse(),
        Fault::Stall(direction) => control.stall(direction),
        Fault::HalfOpen => control.swallow(),
        Fault::Delay(delay) => control.set_delay(delay),
        Fault::Bandwidth(rate) => control.set_bandwidth(rate),
        Fault::CutAfter(direction, bytes) => control.set_cut_after(direction, bytes),
    }
}

fn rest(is_over: &AtomicBool, pause: Duration) {
    let end = Instant::now() + pause;
    while Instant::now() < end && !is_over.load(Ordering::SeqCst) {
        sleep(Duration::from_millis(10).min(end.saturating_duration_since(Instant::now())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_stands_for_one_schedule() {
        let minute = Duration::from_secs(60);
        assert_eq!(schedule(7, minute), schedule(7, minute));
        assert_ne!(schedule(7, minute), schedule(8, minute));
        assert!(schedule(7, minute).len() > 20);
    }
}
