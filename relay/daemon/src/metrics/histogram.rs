//! Counts observations by upper bound in fixed memory, without a lock and without upkeep.
//!
//! The exporter's own histogram keeps each sample until the next scrape; nobody may ever scrape.

use std::sync::atomic::{AtomicU64, Ordering};

/// Observed durations. Observing is two atomic additions.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One a bound, not cumulative, and one for what is above them all.
    counts: Box<[AtomicU64]>,
    sum_us: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observed {
    /// Observations up to each bound, cumulative.
    pub(crate) buckets: Vec<(f64, u64)>,
    pub(crate) count: u64,
    pub(crate) sum_seconds: f64,
}

// === impl Histogram ===

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum_us: AtomicU64::new(0) }
    }

    /// Adds one observation; what is not a positive number counts as 0.
    pub(crate) fn observe(&self, seconds: f64) {
        let seconds = seconds.max(0.0);
        let at = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add((seconds * 1e6).round() as u64, Ordering::Relaxed);
    }

    pub(crate) fn observed(&self) -> Observed {
        let Self { bounds, counts, sum_us } = self;
        let mut count = 0;
        let mut buckets = Vec::with_capacity(bounds.len());
        for (at, each) in counts.iter().enumerate() {
            count += each.load(Ordering::Relaxed);
            buckets.extend(bounds.get(at).map(|bound| (*bound, count)));
        }
        Observed { buckets, count, sum_seconds: sum_us.load(Ordering::Relaxed) as f64 / 1e6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_on_a_bound_belongs_to_it() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for seconds in [0.05, 0.1, 0.101, 1.0, 5.0, -1.0, f64::NAN] {
            histogram.observe(seconds);
        }
        let observed = histogram.observed();
        assert_eq!(observed.buckets, [(0.1, 4), (1.0, 6)]);
        assert_eq!(observed.count, 7);
        assert!((observed.sum_seconds - 6.251).abs() < 1e-9);
    }
}
