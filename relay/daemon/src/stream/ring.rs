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
        (!self.is_begin_due).then(|| self.start.open.again())
    }

    /// A connection begins outside of a transaction; this is what is known there.
    pub(super) fn begin(&mut self, open: &Open) {
        self.start = Beginning { open: open.clone(), ..Beginning::default() };
    }

    /// The connection that the frames came by is gone. The next one sends the transaction at hand from its Begin on.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
        self.read = Extent::default();
        self.start = Beginning::default();
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

#[cfg(test)]
mod tests {
    use super::*;
    use relay_core::Lsn;

    fn place(at: u64) -> Place {
        Place { lsn: Lsn(at), send_time_us: 7 }
    }

    /// Frames from the socket, each at the LSN of its number.
    fn keep(ring: &mut Ring, frames: &[(u64, &str)]) {
        for &(at, payload) in frames {
            ring.keep(place(at), payload.as_bytes(), true);
        }
    }

    /// Reads so many frames again, keeping them: where each stands and what it is.
    fn read(ring: &mut Ring, count: usize) -> Vec<(u64, String)> {
        let mut frames = Vec::new();
        while frames.len() < count
            && let Some((place, payload)) = ring.next()
        {
            assert_eq!(place.send_time_us, 7);
            frames.push((place.lsn.0, String::from_utf8(payload.to_vec()).expect("text")));
            if ring.begun().is_none() {
                ring.passed(true);
            }
        }
        frames
    }

    fn texts(frames: &[(u64, &str)]) -> Vec<(u64, String)> {
        frames.iter().map(|&(at, payload)| (at, payload.to_owned())).collect()
    }

    #[test]
    fn a_replay_gives_the_same_bytes_and_places_and_begins_with_the_begin_of_a_split_transaction() {
        let mut ring = Ring::default();
        let first = [(1, "B one"), (2, "I a"), (3, "C"), (4, "B two"), (5, "I b")];
        keep(&mut ring, &first);
        assert!(!ring.is_replaying());
        assert!(ring.replay().is_some(), "it begins outside of a transaction");
        assert_eq!(read(&mut ring, 9), texts(&first));

        // Committed inside of `two`; what came while the commit was under way stays.
        let mut open = Open::default();
        open.previous_end = Some(Lsn(3));
        ring.mark(&open);
        open.previous_end = Some(Lsn(9));
        keep(&mut ring, &[(6, "I c"), (7, "C")]);
        ring.answered(true);
        let rest = texts(&[(4, "B two"), (6, "I c"), (7, "C")]);
        for _ in 0..2 {
            assert!(ring.replay().is_none() && ring.is_replaying());
            assert_eq!(read(&mut ring, 2), rest[..2]);
        }
        assert!(ring.is_replaying(), "broken off in the middle, it begins anew and then goes on");
        assert_eq!(read(&mut ring, 9), rest[2..]);
        ring.replay();
        ring.next();
        assert_eq!(ring.begun().and_then(|open| open.previous_end), Some(Lsn(3)), "as it was at the commit");
    }

    #[test]
    fn a_commit_in_the_middle_of_a_replay_covers_what_was_read_again() {
        let mut ring = Ring::default();
        keep(&mut ring, &[(1, "B one"), (2, "I a"), (3, "I b"), (4, "C"), (5, "B two"), (6, "I c")]);
        ring.replay();
        assert_eq!(read(&mut ring, 2).len(), 2);
        ring.mark(&Open::default());
        ring.answered(true);
        assert_eq!(read(&mut ring, 9), texts(&[(3, "I b"), (4, "C"), (5, "B two"), (6, "I c")]));
        ring.replay();
        assert_eq!(read(&mut ring, 9), texts(&[(1, "B one"), (3, "I b"), (4, "C"), (5, "B two"), (6, "I c")]));
        // One that failed covers nothing.
        ring.mark(&Open::default());
        ring.answered(false);
        ring.replay();
        assert_eq!(read(&mut ring, 9).len(), 5);
    }

    #[test]
    fn what_is_not_kept_takes_what_was_read_along_and_leaves_what_is_still_to_be_read() {
        let mut ring = Ring::default();
        keep(&mut ring, &[(1, "B one"), (2, "I a"), (3, "I b"), (4, "C")]);
        ring.replay();
        assert_eq!(read(&mut ring, 1).len(), 1);
        ring.passed(false);
        assert_eq!(read(&mut ring, 9), texts(&[(3, "I b"), (4, "C")]));
        ring.keep(place(5), b"B two", false);
        assert!(!ring.is_replaying() && ring.bytes.is_empty() && ring.frames.is_empty());
        // What follows the next commit is whole again.
        ring.mark(&Open::default());
        keep(&mut ring, &[(6, "I c")]);
        ring.answered(true);
        ring.replay();
        assert_eq!(read(&mut ring, 9), texts(&[(5, "B two"), (6, "I c")]));
        ring.clear();
        ring.replay();
        assert!(ring.bytes.is_empty());
    }

    /// A commit came between a message's begin in the window and its record, for which there was no room.
    #[test]
    fn a_message_outside_of_transactions_begins_anew() {
        let mut ring = Ring::default();
        let mut open = Open::default();
        *open.split().2 = Some(Lsn(5));
        ring.mark(&open);
        ring.answered(true);
        keep(&mut ring, &[(5, "M")]);
        let mut again = ring.replay().expect("outside of a transaction");
        assert_eq!(*again.split().2, None);
    }

    /// The last commit was inside of a transaction, which the next connection sends from its Begin on.
    #[test]
    fn another_connection_begins_where_nothing_is_open() {
        let mut ring = Ring::default();
        keep(&mut ring, &[(1, "B one"), (2, "I a")]);
        ring.mark(&Open::default());
        ring.answered(true);
        ring.clear();
        let again = [(1, "B one"), (2, "I a"), (3, "I b")];
        keep(&mut ring, &again);
        assert!(ring.replay().is_some());
        assert_eq!(read(&mut ring, 9), texts(&again), "one Begin, and not another before it");
    }
}
