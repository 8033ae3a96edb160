//! Exactly-once: the stream's raw frames since the last commit, kept to be read again after an abort without asking the server.
//!
//! The session decides what is kept ([`Session::kept`](relay_core::session::Session::kept)) and counts its bytes; here they lie, in one
//! buffer that keeps its capacity. A commit covers what was read by the time it was ordered; what was read meanwhile stays.

use super::pass::Place;
use super::transaction::Open;
use std::collections::VecDeque;

/// The kept frames.
#[derive(Debug, Default)]
pub(super) struct Ring {
    bytes: Vec<u8>,
    frames: VecDeque<Frame>,
    /// How many of the frames were read since the last replay, and their bytes; those behind them are to be read again.
    read: Extent,
    /// Where the frames begin.
    start: Beginning,
    /// What the commit under way covers, and where the frames behind it begin.
    mark: Option<(Extent, Beginning)>,
    /// The Begin message of the transaction being read; empty outside of one.
    begin: Vec<u8>,
    begin_place: Place,
    /// A replay begins inside a transaction: its Begin comes first.
    is_begin_due: bool,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    length: usize,
    place: Place,
}

/// The first so many frames.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    frames: usize,
    bytes: usize,
}

/// What is to be known where frames begin.
#[derive(Clone, Debug, Default)]
struct Beginning {
    /// The Begin message of the transaction that they begin in; empty where they begin outside of one.
    begin: Vec<u8>,
    place: Place,
    open: Open,
}

// === impl Ring ===

impl Ring {
    /// What a frame counts for besides its payload.
    pub(super) const FRAME_BYTES: usize = size_of::<Frame>();

    /// A frame from the socket was dealt with.
    #[inline]
    pub(super) fn keep(&mut self, place: Place, payload: &[u8], is_kept: bool) {
        self.follow(place, payload);
        if is_kept {
            self.bytes.extend_from_slice(payload);
            self.frames.push_back(Frame { length: payload.len(), place });
            self.read = Extent { frames: self.frames.len(), bytes: self.bytes.len() };
        } else {
            self.lose();
        }
    }

    /// What was read since the last commit is not whole any more, and of no use.
    #[cold]
    pub(super) fn lose(&mut self) {
        self.drop_first(self.read);
        self.mark = None;
    }

    /// Whether something is to be read again.
    #[inline]
    pub(super) fn is_replaying(&self) -> bool {
        self.is_begin_due || self.read.frames < self.frames.len()
    }

    /// What is to be read again next.
    pub(super) fn next(&self) -> Option<(Place, &[u8])> {
        if self.is_begin_due {
            return Some((self.start.place, &self.start.begin));
        }
        let frame = self.frames.get(self.read.frames)?;
        Some((frame.place, self.bytes.get(self.read.bytes..self.read.bytes + frame.length)?))
    }

    /// The Begin that came first was dealt with: what else is known of its transaction by then.
    pub(super) fn begun(&mut self) -> Option<Open> {
        if !std::mem::take(&mut self.is_begin_due) {
            return None;
        }
        self.begin.clone_from(&self.start.begin);
        self.begin_place = self.start.place;
        Some(self.start.open.clone())
    }

    /// The frame that was read again was dealt with.
    pub(super) fn passed(&mut self, is_kept: bool) {
        let Some(&Frame { length, place }) = self.frames.get(self.read.frames) else { return };
        let bytes = std::mem::take(&mut self.bytes);
        self.follow(place, bytes.get(self.read.bytes..self.read.bytes + length).unwrap_or_default());
        self.bytes = bytes;
        self.read = Extent { frames: self.read.frames + 1, bytes: self.read.bytes + length };
        if !is_kept {
            self.lose();
        }
    }

    /// A commit of all that was read is ordered.
    pub(super) fn mark(&mut self, open: &Open) {
        let beginning = Beginning { begin: self.begin.clone(), place: self.begin_place, open: open.clone() };
        self.mark = Some((self.read, beginning));
    }

    /// The commit is answered.
    pub(super) fn answered(&mut self, is_committed: bool) {
        let Some((extent, beginning)) = self.mark.take() else { return };
        if is_committed {
            self.drop_first(extent);
            self.start = beginning;
        }
    }

    /// All of it is to be read again; outside of a transaction, this is what is known there.
    pub(super) fn replay(&mut self) -> Option<Open> {
        self.mark = None;
        self.read = Extent::default();
        self.is_begin_due = !self.start.begin.is_empty();
        self.begin.clear();
        (!self.is_begin_due).then(|| self.start.open.clone())
    }

    /// The connection that the frames came by is gone.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
        self.read = Extent::default();
        self.mark = None;
        self.begin.clear();
        self.is_begin_due = false;
    }

    /// Remembers which transaction is being read.
    #[inline]
    fn follow(&mut self, place: Place, payload: &[u8]) {
        match payload.first() {
            Some(b'B') => {
                self.begin.clear();
                self.begin.extend_from_slice(payload);
                self.begin_place = place;
            }
            Some(b'C') => self.begin.clear(),
            _ => {}
        }
    }

    fn drop_first(&mut self, extent: Extent) {
        self.frames.drain(..extent.frames.min(self.frames.len()));
        self.bytes.drain(..extent.bytes.min(self.bytes.len()));
        self.read.frames -= extent.frames.min(self.read.frames);
        self.read.bytes -= extent.bytes.min(self.read.bytes);
    }
}
