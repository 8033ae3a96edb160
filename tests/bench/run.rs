//! Turns what one contender did in one round into rates and costs a row.

use std::fmt;
use std::time::Duration;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// pg_recvlogical to /dev/null.
    Recvlogical,
    /// The daemon.
    Relay,
    /// The daemon, exactly-once.
    Exactly,
    /// librdkafka alone, sending the records that relay sent.
    Producer,
}

/// One contender in one round, or the sum of several.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Who.
    pub(crate) who: Contender,
    /// All rows.
    pub(crate) rows: u64,
    /// From the start of its process to the end of the work.
    pub(crate) whole: Duration,
    /// Rows counted after the first sign of work.
    pub(crate) flow_rows: u64,
    /// From the first sign of work to its end.
    pub(crate) flow: Duration,
    /// Its own CPU time.
    pub(crate) cpu: Duration,
    /// The server process that sent to it.
    pub(crate) walsender: Option<Duration>,
    /// The broker meanwhile.
    pub(crate) broker: Option<Duration>,
    /// The most memory resident.
    pub(crate) peak_rss_bytes: Option<u64>,
}

// === impl Contender ===

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Contender::Recvlogical => "pg_recvlogical",
            Contender::Relay => "relay",
            Contender::Exactly => "exactly-once",
            Contender::Producer => "bare producer",
        })
    }
}

// === impl Run ===

impl Run {
    /// Rows a second once work has begun; the first sign's own rows are left out with the time before it.
    pub(crate) fn flow_rate(&self) -> f64 {
        if self.flow_rows == 0 || self.flow.is_zero() {
            return self.whole_rate();
        }
        self.flow_rows as f64 / self.flow.as_secs_f64()
    }

    /// Rows a second with start-up.
    pub(crate) fn whole_rate(&self) -> f64 {
        self.rows as f64 / self.whole.as_secs_f64()
    }

    /// Microseconds a row of some CPU time.
    pub(crate) fn us_per_row(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.rows as f64
    }

    /// The sum of a contender's rounds; of memory the most.
    pub(crate) fn sum(runs: &[Run], who: Contender) -> Option<Run> {
        runs.iter().filter(|run| run.who == who).cloned().reduce(|a, b| Run {
            who,
            rows: a.rows + b.rows,
            whole: a.whole + b.whole,
            flow_rows: a.flow_rows + b.flow_rows,
            flow: a.flow + b.flow,
            cpu: a.cpu + b.cpu,
            walsender: a.walsender.zip(b.walsender).map(|(a, b)| a + b),
            broker: a.broker.zip(b.broker).map(|(a, b)| a + b),
            peak_rss_bytes: a.peak_rss_bytes.max(b.peak_rss_bytes),
        })
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |cpu: Option<Duration>| cpu.map_or("–".to_owned(), |cpu| format!("{:.2}", self.us_per_row(cpu)));
        let (flow, whole, own) = (self.flow_rate(), self.whole_rate(), us(Some(self.cpu)));
        let rss = self.peak_rss_bytes.map_or("–".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1_048_576.0));
        let (walsender, broker) = (us(self.walsender), us(self.broker));
        write!(f, "{:14} | {flow:9.0} | {whole:9.0} | {own:>6} | {walsender:>6} | {broker:>6} | {rss:>7}", self.who)
    }
}
