//! Exactly-once: the stream's raw frames since the last commit, kept to be read again after an abort without asking the server.
//!
//! The session decides what is kept ([`Session::kept`](relay_core::session::Session::kept)) and counts its bytes; here they lie, in one
//! buffer that keeps its capacity. A commit covers what was read by the time it was ordered, and what was read meanwhile stays.

use super::pass::Place;
use super::transaction::Open;
use std::collections::VecDeque;

/// The kept frames.
#[derive(Debug, Default)]
pub(super) struct Ring {
    bytes: Vec<u8>,
    frames: VecDeque<Frame>,
    /// How many of the frames were read since the last commit or replay; those behind them are to be read again.
    read: usize,
    /// Where the frames begin.
    start: Beginning,
    /// What the commit under way covers, and where the frames behind it begin.
    mark: Option<(usize, Beginning)>,
    /// The Begin message of the transaction being read; empty outside of one.
    begin: Vec<u8>,
    begin_place: Place,
    /// A replay begins inside a transaction, whose Begin comes first.
    is_begin_due: bool,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    length: usize,
    place: Place,
}

/// What is to be known where frames begin.
#[derive(Clone, Debug, Default)]
struct Beginning {
    /// The Begin message of the transaction that they begin in; empty where they begin outside of one.
    begin: Vec<u8>,
    place: Place,
    open: Open,
}

/// What a replay reads next.
#[derive(Debug)]
pub(super) enum Next<'a> {
    /// The Begin of a transaction whose head is committed already.
    Begin(Place, &'a [u8]),
    /// A frame.
    Frame(Place, &'a [u8]),
}

// === impl Ring ===

impl Ring {
    /// What one frame counts for besides its bytes.
    pub(super) const FRAME_BYTES: usize = size_of::<Frame>();

    /// A frame from the socket was dealt with.
    #[inline]
    pub(super) fn keep(&mut self, place: Place, payload: &[u8], is_kept: bool) {
        self.follow(place, payload.first().copied(), payload);
        if is_kept {
            self.bytes.extend_from_slice(payload);
            self.frames.push_back(Frame { length: payload.len(), place });
            self.read = self.frames.len();
        } else {
            self.drop_read();
        }
    }

    /// A frame from the socket was dealt with that cannot be kept.
    pub(super) fn lose(&mut self) {
        self.drop_read();
    }

    /// Whether there is something to read again.
    #[inline]
    pub(super) fn is_replaying(&self) -> bool {
        self.is_begin_due || self.read < self.frames.len()
    }

    /// What is to be read again next.
    pub(super) fn next(&self) -> Option<Next<'_>> {
        if self.is_begin_due {
            return Some(Next::Begin(self.start.place, &self.start.begin));
        }
        let frame = self.frames.get(self.read)?;
        let from: usize = self.frames.range(..self.read).map(|frame| frame.length).sum();
        self.bytes.get(from..from + frame.length).map(|payload| Next::Frame(frame.place, payload))
    }
}
