//! Turns single latencies into percentiles, in little and constant memory.

/// Counts by size: exact below 16 µs, then 16 steps for each doubling, so that no answer is off by more than 1/16.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    counts: Vec<u64>,
    total: u64,
    max_us: u64,
}

/// Steps a doubling, as a power of two.
const STEP_BITS: u32 = 4;
const STEPS: u64 = 1 << STEP_BITS;

// === impl Latencies ===

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; index(u64::MAX) + 1], total: 0, max_us: 0 }
    }
}

impl Latencies {
    pub(super) fn add(&mut self, latency_us: u64) {
        if let Some(count) = self.counts.get_mut(index(latency_us)) {
            *count += 1;
        }
        self.total += 1;
        self.max_us = self.max_us.max(latency_us);
    }

    pub(super) fn clear(&mut self) {
        self.counts.fill(0);
        (self.total, self.max_us) = (0, 0);
    }

    /// The latency in microseconds that `percent` of all do not exceed; `None` without any.
    pub(super) fn percentile_us(&self, percent: u32) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        let wanted = (self.total * u64::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Some(upper(index).min(self.max_us));
            }
        }
        Some(self.max_us)
    }
}

/// The place of a latency.
fn index(latency_us: u64) -> usize {
    if latency_us < STEPS {
        return latency_us as usize;
    }
    let doublings = latency_us.ilog2() - STEP_BITS;
    let step = (latency_us >> doublings) - STEPS;
    (u64::from(doublings + 1) * STEPS + step) as usize
}

/// The greatest latency of a place.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let (doublings, step) = (index / STEPS - 1, index % STEPS);
    // In this order nothing overflows at the last place.
    ((STEPS + step) << doublings) + ((1 << doublings) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_begins_where_the_one_before_ends() {
        let last = index(u64::MAX);
        assert_eq!(upper(last), u64::MAX);
        for place in 0..last {
            assert_eq!(index(upper(place)), place);
            assert_eq!(index(upper(place) + 1), place + 1);
        }
    }

    #[test]
    fn percentiles_are_near_the_true_ones() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile_us(50), None);
        (1..=10_000).for_each(|us| latencies.add(us));
        for (percent, truth) in [(1, 100), (50, 5_000), (99, 9_900), (100, 10_000)] {
            let found = latencies.percentile_us(percent).unwrap();
            assert!(found >= truth && found <= truth + truth / 16, "p{percent}: {found}");
        }
        latencies.clear();
        latencies.add(7);
        assert_eq!((latencies.percentile_us(1), latencies.percentile_us(99)), (Some(7), Some(7)));
    }
}
