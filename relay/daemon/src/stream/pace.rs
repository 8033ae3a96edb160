//! Tells a server that trickles from one that pours, so that batching can follow: at once when caught up, large when behind.

use super::Stream;
use std::time::{Duration, Instant};

/// The pace of the stream, by frames counted in short slots of time.
#[derive(Debug)]
pub(super) struct Pace {
    slot_began: Instant,
    frames: u32,
    calm_slots: u32,
    is_dense: bool,
}

/// Length of a slot.
const SLOT: Duration = Duration::from_millis(5);
/// Frames in one slot that make a stream dense: 50,000 a second.
const DENSE_FRAMES: u32 = 250;
/// Below this a slot is calm. Far below the other bound, because a server that is behind can be slow for want of a processor.
const CALM_FRAMES: u32 = 50;
/// Calm slots in a row that end a dense stream.
const CALM_SLOTS: u32 = 3;
/// How often the sink is nudged while rows come densely and fresh.
const DENSE_NUDGE: Duration = Duration::from_millis(10);
/// Transactions older than this, by both clocks, are a backlog. Clocks may differ by as much without harm.
const BEHIND_US: i64 = 1_000_000;

// === impl Pace ===

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { slot_began: now, frames: 0, calm_slots: 0, is_dense: false }
    }

    /// A frame was dealt with.
    #[inline]
    pub(super) fn count(&mut self) {
        self.frames += 1;
    }

    /// Whether the stream is dense now.
    #[inline]
    pub(super) fn is_dense(&mut self, now: Instant) -> bool {
        let since = now.duration_since(self.slot_began);
        if self.frames >= DENSE_FRAMES && since < SLOT * 2 {
            self.is_dense = true;
            self.calm_slots = 0;
            self.start_slot(now);
        } else if since >= SLOT {
            let slots = (since.as_micros() / SLOT.as_micros()) as u32;
            if self.frames / slots.max(1) < CALM_FRAMES {
                self.calm_slots = self.calm_slots.saturating_add(slots);
            } else {
                self.calm_slots = 0;
            }
            self.is_dense &= self.calm_slots < CALM_SLOTS;
            self.start_slot(now);
        }
        self.is_dense
    }

    fn start_slot(&mut self, now: Instant) {
        self.slot_began = now;
        self.frames = 0;
    }
}

// === impl Stream ===

impl Stream {
    /// What was enqueued need not wait for more.
    pub(super) fn nudge(&mut self) {
        if self.has_unnudged {
            self.has_unnudged = false;
            self.nudged_at = Instant::now();
            self.sink.nudge();
        }
    }

    /// The source has nothing more for the moment, and what came last was committed at that time. What comes densely is let go now and
    /// then, as long as it is fresh; a backlog travels in batches as large as the sink makes them: nobody sees the difference in its age.
    pub(super) fn nudge_at_pace(&mut self, is_dense: bool, commit_time_us: i64) {
        if is_time(is_dense, self.nudged_at.elapsed(), crate::status::unix_us() - commit_time_us) {
            self.nudge();
        }
    }
}

/// Whether to nudge now, so long after the last time, what is so old.
fn is_time(is_dense: bool, since: Duration, age_us: i64) -> bool {
    !is_dense || since >= DENSE_NUDGE && age_us < BEHIND_US
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts `frames` evenly over each of `slots` and asks after each.
    fn run(pace: &mut Pace, now: &mut Instant, slots: u32, frames: u32) -> bool {
        let mut is_dense = false;
        for _ in 0..slots {
            (0..frames).for_each(|_| pace.count());
            *now += SLOT;
            is_dense = pace.is_dense(*now);
        }
        is_dense
    }

    #[test]
    fn a_trickle_is_never_dense_and_a_slow_backlog_stays_dense() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        // 1,000 transactions of one row a second: 15 frames a slot.
        assert!(!run(&mut pace, &mut now, 100, 15));
        assert!(run(&mut pace, &mut now, 1, 600));
        // The server is starved, yet it goes on sending.
        assert!(run(&mut pace, &mut now, 100, 80));
        // One calm slot is a pause, three are the end of the backlog.
        assert!(run(&mut pace, &mut now, 2, 15));
        assert!(!run(&mut pace, &mut now, 1, 15));
    }

    #[test]
    fn a_trickle_leaves_at_once_a_fresh_flood_now_and_then_and_a_backlog_in_full_batches() {
        let (soon, later) = (DENSE_NUDGE / 2, DENSE_NUDGE);
        assert!(is_time(false, soon, 0) && is_time(false, soon, i64::MAX));
        assert!(!is_time(true, soon, 0) && is_time(true, later, BEHIND_US - 1));
        assert!(!is_time(true, later, BEHIND_US));
        // A server whose clock is ahead.
        assert!(is_time(true, later, -BEHIND_US));
    }

    #[test]
    fn a_long_silence_ends_a_dense_stream_at_once() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert!(run(&mut pace, &mut now, 1, 1_000));
        now += SLOT * 10;
        assert!(!pace.is_dense(now));
    }
}
