//! Turns the pieces of one direction of a connection into when they may go on.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The faults of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lane {
    pub(crate) is_stalled: bool,
    pub(crate) is_swallowing: bool,
    pub(crate) delay: Duration,
    pub(crate) bytes_per_second: Option<u64>,
    pub(crate) cut_after: Option<u64>,
}

/// Bytes read and not yet forwarded, each with the time it may go.
#[derive(Debug)]
pub(crate) struct Line {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// When the wire is free again under a bandwidth limit.
    free_at: Option<Instant>,
}

/// More than this in one direction is left in the sender's socket, as a real network's buffers would.
const FULL: usize = 4 * 1024 * 1024;

// === impl Line ===

impl Line {
    pub(crate) fn new() -> Self {
        Self { pieces: VecDeque::new(), bytes: 0, free_at: None }
    }

    /// Takes bytes in; true when a fault holds them up.
    pub(crate) fn push(&mut self, now: Instant, bytes: &[u8], lane: &Lane) -> bool {
        // Under a limit pieces are a fiftieth of a second long, so that the flow is even.
        let size = lane.bytes_per_second.map_or(bytes.len(), |rate| usize::try_from(rate / 50).unwrap_or(usize::MAX));
        for piece in bytes.chunks(size.max(1)) {
            self.pieces.push_back((now + lane.delay, piece.to_vec()));
        }
        self.bytes += bytes.len();
        lane.bytes_per_second.is_some() || !lane.delay.is_zero()
    }

    /// The next piece that may go now.
    pub(crate) fn due(&mut self, now: Instant, lane: &Lane) -> Option<Vec<u8>> {
        let rate = lane.bytes_per_second;
        let is_busy = rate.is_some() && self.free_at.is_some_and(|at| at > now);
        if is_busy || self.pieces.front()?.0 > now {
            return None;
        }
        let (_, piece) = self.pieces.pop_front()?;
        self.bytes -= piece.len();
        self.free_at = rate.map(|rate| {
            let start = self.free_at.map_or(now, |at| at.max(now - Duration::from_millis(50)));
            start + Duration::from_nanos(piece.len() as u64 * 1_000_000_000 / rate)
        });
        Some(piece)
    }

    /// How long nothing will be due, at most `limit`.
    pub(crate) fn pause(&self, now: Instant, limit: Duration) -> Duration {
        let Some((due, _)) = self.pieces.front() else { return limit };
        let due = self.free_at.map_or(*due, |free| free.max(*due));
        due.saturating_duration_since(now).clamp(Duration::from_micros(200), limit)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= FULL
    }
}
