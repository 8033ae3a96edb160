//! One growing read buffer: bytes arrive at its tail, frames are parsed in place and consumed at its head.

/// Bytes received and not yet consumed, in one piece of memory.
#[derive(Debug)]
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The size it has without a large frame in it.
    base: usize,
}

/// What is moved to the front without a thought: the usual beginning of a frame cut by a read.
const SMALL: usize = 4 * 1024;

/// Less room than this at the tail is worth a move.
const ROOM_MIN: usize = 64 * 1024;

// === impl ReadBuffer ===

impl ReadBuffer {
    pub(crate) fn new(base: usize) -> Self {
        ReadBuffer { bytes: vec![0; base], start: 0, end: 0, base }
    }

    /// Makes `base` the ordinary size, growing at once when needed.
    pub(crate) fn set_base(&mut self, base: usize) {
        self.base = base;
        if self.bytes.len() < base {
            self.bytes.resize(base, 0);
        }
    }

    /// What has been received and not consumed.
    #[inline]
    pub(crate) fn filled(&self) -> &[u8] {
        // `start <= end <= len` always holds; `get` keeps a mistake here from becoming a panic.
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Bytes received and not consumed.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Forgets the first `size` bytes, at most those that are there; says how many.
    #[inline]
    pub(crate) fn consume(&mut self, size: usize) -> usize {
        let taken = size.min(self.len());
        self.start += taken;
        taken
    }

    /// Room at the tail for the next read, for a frame at the head that needs `needed` bytes in all (0: unknown).
    ///
    /// Grows by doubling, and only when what is there fills the buffer: memory follows what was received, never what a
    /// length word announced. Empty only if the buffer is full of frames the caller has not consumed.
    pub(crate) fn room(&mut self, needed: usize) -> &mut [u8] {
        let held = self.len();
        if held == 0 {
            self.start = 0;
            self.end = 0;
        }
        if self.bytes.len() > self.base && needed <= self.base && held <= self.base / 2 {
            let mut smaller = vec![0; self.base];
            if let (Some(front), Some(kept)) = (smaller.get_mut(..held), self.bytes.get(self.start..self.end)) {
                front.copy_from_slice(kept);
            }
            self.bytes = smaller;
            self.start = 0;
            self.end = held;
        }
        let tail = self.bytes.len() - self.end;
        let fits = needed.saturating_sub(held) <= tail;
        if self.start > 0 && (held <= SMALL || !fits || tail < ROOM_MIN.min(self.base / 2)) {
            self.bytes.copy_within(self.start..self.end, 0);
            self.start = 0;
            self.end = held;
        }
        if self.end == self.bytes.len() && needed > self.bytes.len() {
            let larger = needed.min(self.bytes.len().saturating_mul(2));
            self.bytes.resize(larger, 0);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// `count` bytes were read into what [`ReadBuffer::room`] gave.
    pub(crate) fn advance(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Bytes of memory held.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(buffer: &mut ReadBuffer, needed: usize, bytes: &[u8]) -> usize {
        let room = buffer.room(needed);
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        buffer.advance(count);
        count
    }

    #[test]
    fn grows_with_what_arrives_and_shrinks_back() {
        let mut buffer = ReadBuffer::new(16);
        let frame: Vec<u8> = (0..200).collect();
        let mut sent = 0;
        while sent < frame.len() {
            let before = buffer.capacity();
            sent += put(&mut buffer, frame.len(), &frame[sent..]);
            assert!(buffer.capacity() <= (2 * before).min(200));
        }
        assert_eq!(buffer.filled(), frame);
        assert_eq!(buffer.consume(1000), 200);
        assert_eq!(buffer.room(0).len(), 16);
        assert_eq!(buffer.capacity(), 16);
    }

    #[test]
    fn a_cut_frame_moves_to_the_front() {
        let mut buffer = ReadBuffer::new(16);
        assert_eq!(put(&mut buffer, 0, b"0123456789abcdef"), 16);
        assert!(buffer.room(0).is_empty(), "full of unconsumed bytes and nothing needed");
        buffer.consume(10);
        assert_eq!(put(&mut buffer, 16, b"XY"), 2);
        assert_eq!(buffer.filled(), b"abcdefXY");
        assert_eq!(buffer.room(0).len(), 8);
    }
}
