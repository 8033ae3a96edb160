//! Turns one number into a repeatable stream of choices.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator (SplitMix64); equal seeds choose equally on every machine.
#[derive(Clone, Debug)]
pub struct Seed(u64);

// === impl Seed ===

impl Seed {
    /// A stream of its own for a number.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The number a run starts from: `RELAY_TEST_SEED`, else one from the clock. Print it.
    pub fn fresh() -> u64 {
        if let Ok(text) = std::env::var("RELAY_TEST_SEED") {
            return text.parse().unwrap_or_else(|_| panic!("RELAY_TEST_SEED is not a number: {text:?}"));
        }
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
        Seed::new(nanos ^ u64::from(std::process::id())).number() >> 24
    }

    /// The next 64 bits.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which must not be zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True once in `1 / share` asks.
    pub fn chance(&mut self, share: f64) -> bool {
        ((self.number() >> 11) as f64 / (1_u64 << 53) as f64) < share
    }
}
