//! Turns the ledger at the end into a summary and an exit code.

use std::time::Duration;

use super::display::milliseconds;
use super::latency::Latencies;
use super::ledger::Balance;

/// How the demo went.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) balance: Balance,
    pub(super) latencies: Latencies,
    /// How long the service wrote.
    pub(super) wrote_for: Duration,
    /// Exit code of the pipeline.
    pub(super) pipeline: u8,
}

// === impl Summary ===

impl Summary {
    /// 0 when everything that was committed arrived, and nothing else.
    pub(super) fn code(&self) -> u8 {
        match (self.pipeline, self.balance.is_good()) {
            (0, true) => 0,
            (0, false) => 1,
            (code, _) => code,
        }
    }

    pub(super) fn text(&self) -> String {
        let Balance { committed, rolled_back, received, missing, duplicates, extra, reordered } = self.balance;
        let [p50, p99] = [50, 99].map(|percent| milliseconds(self.latencies.percentile_us(percent)));
        let verdict = match self.code() {
            0 => "every committed row arrived, in order",
            _ if self.pipeline != 0 => "relay ended with an error",
            _ if missing > 0 => "not every committed row arrived",
            _ => "something arrived that should not have, or not in that order",
        };
        format!(
            "summary: {verdict}\n  \
               rows committed   {committed} in {seconds:.1} s ({rolled_back} more were rolled back)\n  \
               events received  {received} ({rate:.0}/s)\n  \
               missing {missing}, duplicates {duplicates}, not committed {extra}, out of order {reordered}\n  \
               latency from insert to consumer: p50 {p50}, p99 {p99}",
            seconds = self.wrote_for.as_secs_f64(),
            rate = self.rate(),
        )
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let balance = &self.balance;
        serde_json::json!({ "summary": {
            "committed": balance.committed, "rolled_back": balance.rolled_back, "received": balance.received,
            "missing": balance.missing, "duplicates": balance.duplicates, "extra": balance.extra,
            "reordered": balance.reordered, "seconds": self.wrote_for.as_secs_f64(), "rate": self.rate(),
            "p50_us": self.latencies.percentile_us(50), "p99_us": self.latencies.percentile_us(99), "code": self.code(),
        }})
    }

    fn rate(&self) -> f64 {
        self.balance.received as f64 / self.wrote_for.as_secs_f64().max(0.001)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_follows_what_is_missing() {
        let with =
            |balance, pipeline| Summary { balance, latencies: Latencies::default(), wrote_for: Duration::from_secs(5), pipeline };
        let good = Balance { committed: 1_000, received: 1_000, duplicates: 2, ..Balance::default() };
        let summary = with(good, 0);
        assert_eq!(summary.code(), 0);
        assert!(summary.text().contains("missing 0, duplicates 2,") && summary.text().contains("(200/s)"), "{}", summary.text());
        assert_eq!(with(Balance { missing: 1, ..good }, 0).code(), 1);
        assert_eq!(with(Balance { extra: 1, ..good }, 0).code(), 1);
        assert_eq!(with(good, 69).code(), 69);
    }
}
