//! How far a long work is, for whoever watches: a bar on a terminal, else a line of the log now and then.

use relay_core::session::SnapshotProgress;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Tells of snapshots.
#[derive(Debug)]
pub(crate) struct Reporter {
    is_terminal: bool,
    told_at: Instant,
    /// Rows and blocks when it was told last, for the rate.
    before: (u64, u64),
    rate: f64,
    has_bar: bool,
}

/// Time between two lines of the log.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Time between two looks of the bar.
const BAR_INTERVAL: Duration = Duration::from_millis(250);
const BAR_WIDTH: usize = 24;

// === impl Reporter ===

impl Reporter {
    pub(crate) fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { is_terminal, told_at: Instant::now(), before: (0, 0), rate: 0.0, has_bar: false }
    }

    /// Tells, if it is time to, how far it is; `None`: nothing is under way.
    pub(crate) fn report(&mut self, progress: Option<&SnapshotProgress>, rows: u64) {
        let interval = if self.is_terminal { BAR_INTERVAL } else { LINE_INTERVAL };
        let Some(progress) = progress else {
            if std::mem::take(&mut self.has_bar) {
                let _ = writeln!(std::io::stderr());
            }
            (self.told_at, self.before) = (Instant::now(), (rows, 0));
            return;
        };
        let elapsed = self.told_at.elapsed();
        if elapsed < interval {
            return;
        }
        self.rate = (rows - self.before.0) as f64 / elapsed.as_secs_f64();
        let blocks = progress.blocks_done.saturating_sub(self.before.1) as f64 / elapsed.as_secs_f64();
        let left = (blocks > 0.0).then(|| (progress.blocks - progress.blocks_done.min(progress.blocks)) as f64 / blocks);
        (self.told_at, self.before) = (Instant::now(), (rows, progress.blocks_done));
        if self.is_terminal {
            self.has_bar = true;
            let _ = write!(std::io::stderr(), "\r{}\x1b[K", bar(progress, rows, self.rate, left));
            return;
        }
        tracing::info!(
            event = "snapshot.progress",
            snapshot = progress.job,
            table = progress.table.as_deref().unwrap_or_default(),
            tables_remaining = progress.tables_remaining,
            rows,
            rows_per_second = self.rate as u64,
            seconds_left = left.map(|left| left as u64),
            rereads = progress.rereads,
            "{}",
            sentence(progress, self.rate, left)
        );
    }
}

fn sentence(progress: &SnapshotProgress, rate: f64, left: Option<f64>) -> String {
    let share = progress.blocks_done as f64 * 100.0 / progress.blocks.max(1) as f64;
    let left = left.map_or_else(|| "time left unknown".to_owned(), |left| format!("{} left", span(left)));
    format!("snapshot {}: {share:.0} % of {} tables, {rate:.0} rows/s, {left}", progress.job, progress.tables_remaining)
}

/// `[#####     ]  23 %  public.orders  120000 rows/s  2m10s left`.
fn bar(progress: &SnapshotProgress, rows: u64, rate: f64, left: Option<f64>) -> String {
    let share = (progress.blocks_done as f64 / progress.blocks.max(1) as f64).min(1.0);
    let full = (share * BAR_WIDTH as f64) as usize;
    let table = progress.table.as_deref().unwrap_or_default();
    let left = left.map_or_else(String::new, |left| format!("  {} left", span(left)));
    format!(
        "[{}{}] {:3.0} %  {table}  {rows} rows  {rate:.0} rows/s{left}",
        "#".repeat(full),
        " ".repeat(BAR_WIDTH - full),
        share * 100.0
    )
}

fn span(seconds: f64) -> String {
    let seconds = seconds as u64;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_far_how_fast_and_how_long() {
        let progress = SnapshotProgress {
            job: 3,
            table: Some("public.orders".into()),
            tables: Some(5),
            tables_remaining: 2,
            blocks: 400,
            blocks_done: 100,
            ..SnapshotProgress::default()
        };
        assert_eq!(
            bar(&progress, 5_000, 1_200.4, Some(130.0)),
            "[######                  ]  25 %  public.orders  5000 rows  1200 rows/s  2m10s left"
        );
        assert_eq!(sentence(&progress, 0.0, None), "snapshot 3: 25 % of 2 tables, 0 rows/s, time left unknown");
        assert_eq!((span(59.9), span(3_661.0)), ("59s".to_owned(), "1h01m".to_owned()));
    }
}
