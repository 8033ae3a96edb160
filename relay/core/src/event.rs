//! What will be sent: one reusable buffer that holds a record's topic, key, value and headers.

/// A record on its way to the sink. The buffer is cleared and written again for every change, so that the steady state allocates
/// nothing. Pieces are appended to [`Event::out`] and then closed by the method that names them.
///
/// ```
/// # use relay_core::Event;
/// let mut event = Event::default();
/// event.clear();
/// event.out().extend_from_slice(b"orders");
/// event.end_topic();
/// event.out().extend_from_slice(b"{}");
/// event.end_value();
/// event.header("id", Some(b"1"));
/// assert_eq!((event.topic(), event.key(), event.value()), ("orders", None, Some(&b"{}"[..])));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Event {
    bytes: Vec<u8>,
    /// Where the piece being written began.
    open: usize,
    /// Bytes of buffer that the next record needs, when it is a huge one.
    expected: usize,
    topic: Span,
    key: Option<Span>,
    value: Option<Span>,
    headers: Vec<(Span, Option<Span>)>,
    /// Record timestamp in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Explicit partition; `None` leaves it to the partitioner.
    pub partition: Option<i32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: usize,
    end: usize,
}

// === impl Event ===

impl Event {
    /// Bytes of buffer kept between events; one huge row must not pin its size for ever.
    const KEEP_BYTES: usize = 1 << 20;

    /// The next record is built of so many bytes of row: a huge one gets its buffer in one piece, because growth by doubling would hold
    /// three times as much for a moment. To be said before each record.
    #[inline]
    pub fn expect(&mut self, row_bytes: usize) {
        self.expected = if row_bytes > Self::KEEP_BYTES { row_bytes + row_bytes / 8 } else { 0 };
    }

    /// Forgets the record, keeps the buffers.
    pub fn clear(&mut self) {
        self.bytes.clear();
        let wanted = self.expected.max(Self::KEEP_BYTES);
        if self.bytes.capacity() > wanted {
            self.bytes.shrink_to(wanted);
        }
        self.bytes.reserve_exact(self.expected);
        self.open = 0;
        self.topic = Span::default();
        self.key = None;
        self.value = None;
        self.headers.clear();
        self.timestamp_ms = 0;
        self.partition = None;
    }

    /// The buffer to append the next piece to.
    #[inline]
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes of the piece being written.
    #[must_use]
    pub fn open_piece(&self) -> &[u8] {
        &self.bytes[self.open..]
    }

    /// Drops the piece being written.
    pub fn abandon_piece(&mut self) {
        self.bytes.truncate(self.open);
    }

    /// What was appended since the last piece is the topic.
    pub fn end_topic(&mut self) {
        self.topic = self.close();
    }

    /// What was appended since the last piece is the key.
    pub fn end_key(&mut self) {
        self.key = Some(self.close());
    }

    /// What was appended since the last piece is the value.
    pub fn end_value(&mut self) {
        self.value = Some(self.close());
    }

    /// What was appended since the last piece is the value of the header `name`.
    pub fn end_header(&mut self, name: &str) {
        let value = self.close();
        self.bytes.extend_from_slice(name.as_bytes());
        let name = self.close();
        self.headers.push((name, Some(value)));
    }

    /// Adds a header whose value is at hand; `None` is Kafka's null value.
    pub fn header(&mut self, name: &str, value: Option<&[u8]>) {
        self.bytes.extend_from_slice(name.as_bytes());
        let name = self.close();
        let value = value.map(|value| {
            self.bytes.extend_from_slice(value);
            self.close()
        });
        self.headers.push((name, value));
    }

    /// The topic; empty until it was written, or when it is not UTF-8.
    #[must_use]
    pub fn topic(&self) -> &str {
        std::str::from_utf8(self.piece(self.topic)).unwrap_or_default()
    }

    /// The record key.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.map(|span| self.piece(span))
    }

    /// The record value; `None` is a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.value.map(|span| self.piece(span))
    }

    /// Headers in order: name (UTF-8 unless a row chose it) and value.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> {
        self.headers.iter().map(|&(name, value)| (self.piece(name), value.map(|span| self.piece(span))))
    }

    /// Bytes of key, value and headers together: what the size limits count.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory that the record costs until it is acknowledged, at most: one as large as a batch is held by a client as it was
    /// given and, compressed, in its request.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let size = self.size_bytes();
        if size > Self::KEEP_BYTES { 2 * size } else { size }
    }

    fn piece(&self, span: Span) -> &[u8] {
        &self.bytes[span.start..span.end]
    }

    fn close(&mut self) -> Span {
        let span = Span { start: self.open, end: self.bytes.len() };
        self.open = span.end;
        span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_their_bounds_and_null_differs_from_empty() {
        let mut event = Event::default();
        for _ in 0..2 {
            event.clear();
            event.out().extend_from_slice(b"t");
            event.end_topic();
            event.end_key();
            event.out().extend_from_slice(b"abc");
            event.abandon_piece();
            event.out().extend_from_slice(b"v");
            event.end_value();
            event.header("a", None);
            event.header("b", Some(b""));
            event.out().extend_from_slice(b"x");
            event.end_header("c");
            assert_eq!((event.topic(), event.key(), event.value()), ("t", Some(&b""[..]), Some(&b"v"[..])));
            let headers: Vec<_> = event.headers().collect();
            assert_eq!(headers, [(&b"a"[..], None), (&b"b"[..], Some(&b""[..])), (&b"c"[..], Some(&b"x"[..]))]);
        }
    }

    #[test]
    fn a_huge_record_gets_its_buffer_in_one_piece_and_the_next_one_gives_it_back() {
        let mut event = Event::default();
        event.expect(16 << 20);
        event.clear();
        let capacity = event.out().capacity();
        event.out().resize(17 << 20, b'v');
        event.end_value();
        assert_eq!((event.out().capacity(), event.held_bytes()), (capacity, 34 << 20));
        event.expect(100);
        event.clear();
        assert!(event.out().capacity() <= Event::KEEP_BYTES);
    }
}
