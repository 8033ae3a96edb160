//! A running replication stream: one read buffer, frames in place, status updates that never block.

use std::time::{Duration, Instant};

use relay_core::Lsn;

use crate::buffer::ReadBuffer;
use crate::channel::Channel;
use crate::error::Error;
use crate::frame::{Body, Frame};
use crate::status::Status;

/// A connection in copy-both mode. One thread reads and reports with it; dropping it closes the socket at once.
///
/// The loop is: `fill`, then `peek` and `consume` until there is no complete frame, and now and then `send_status`. While
/// the sink pushes back, `fill` is not called: `flush` goes on sending what `send_status` queued.
#[derive(Debug)]
pub struct CopyBoth {
    channel: Channel,
    input: ReadBuffer,
    /// Bytes of an oversize frame still to be thrown away as they arrive.
    discard: usize,
    max_message: usize,
    /// The latest status update that has not begun to be sent.
    pending: Option<(Status, i64)>,
    backend_pid: i32,
}

/// What one `fill` brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Bytes read; 0 after a time-out or a signal.
    pub bytes: usize,
    /// The socket was empty afterwards: the server has no more for now.
    pub drained: bool,
}

/// The read buffer's ordinary size.
const INPUT_BYTES: usize = 1 << 20;

/// CopyDone and Terminate.
const COPY_DONE: &[u8] = b"c\0\0\0\x04";
const TERMINATE: &[u8] = b"X\0\0\0\x04";

// === impl CopyBoth ===

impl CopyBoth {
    pub(crate) fn new(channel: Channel, mut input: ReadBuffer, max_message: usize, backend_pid: i32) -> Self {
        input.set_base(INPUT_BYTES);
        CopyBoth { channel, input, discard: 0, max_message, pending: None, backend_pid }
    }

    /// Sends what waits to be sent, waits until the server has something (not at all with a zero `wait`), and reads it
    /// with one non-blocking read of as much as fits. A signal ends the wait early.
    ///
    /// What was read before stays; a partial frame is never lost. With a buffer full of frames that nobody consumed
    /// nothing is read.
    pub fn fill(&mut self, wait: Duration) -> Result<Fill, Error> {
        self.flush();
        if !wait.is_zero() && !self.channel.has_read_ahead() && !self.wait_readable(wait)? {
            return Ok(Fill { bytes: 0, drained: true });
        }
        let needed = Frame::needed(self.input.filled(), self.max_message);
        let room = self.input.room(needed);
        if room.is_empty() {
            return Ok(Fill::default());
        }
        let received = self.channel.read(room)?;
        self.input.advance(received.bytes);
        if self.discard > 0 {
            self.discard -= self.input.consume(self.discard);
        }
        if received.closed || (received.bytes == 0 && self.channel.write_failed()) {
            return Err(Error::Closed);
        }
        Ok(Fill { bytes: received.bytes, drained: received.drained })
    }

    /// Waits for something to read, writing meanwhile; `false` after a time-out or a signal.
    fn wait_readable(&mut self, limit: Duration) -> Result<bool, Error> {
        let deadline = Instant::now() + limit;
        let mut left = limit;
        loop {
            let ready = self.channel.wait(left)?;
            if ready.write {
                self.flush();
            }
            if ready.read || ready.interrupted {
                return Ok(ready.read);
            }
            left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
        }
    }

    /// The next frame, if it is complete; it stays until it is consumed. The server's ErrorResponse is the error.
    #[inline]
    pub fn peek(&self) -> Result<Option<Frame<'_>>, Error> {
        Frame::parse(self.input.filled(), self.max_message)
    }

    /// Moves past the frame of this `size`; what of an oversize one has not arrived is thrown away when it does.
    #[inline]
    pub fn consume(&mut self, size: usize) {
        let taken = self.input.consume(size);
        self.discard += size - taken;
    }

    /// Queues a status update and sends what can be sent without waiting. Of those that a server which does not read has
    /// not taken, only the latest is kept, so this neither blocks nor grows.
    pub fn send_status(&mut self, status: Status, now_us_since_2000: i64) {
        let asked = self.pending.is_some_and(|(earlier, _)| earlier.reply_requested);
        let status = Status { reply_requested: status.reply_requested || asked, ..status };
        self.pending = Some((status, now_us_since_2000));
        self.flush();
    }

    /// Sends what can be sent without waiting and without reading. A failure shows at the next `fill`.
    pub fn flush(&mut self) {
        self.channel.flush();
        if !self.channel.is_blocked()
            && let Some((status, now)) = self.pending.take()
        {
            self.channel.queue(&status.encode(now));
            self.channel.flush();
        }
    }

    /// Whether a status update, or part of one, waits for the server to read.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.pending.is_some() || self.channel.is_blocked()
    }

    /// Whether received bytes wait to be consumed or decrypted.
    #[must_use]
    pub fn has_buffered(&self) -> bool {
        self.input.len() > 0 || self.channel.has_read_ahead()
    }

    /// Process id of the walsender.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// The flushed position of the status update that still waits, if one does.
    #[must_use]
    pub fn unsent_flushed(&self) -> Option<Lsn> {
        self.pending.map(|(status, _)| status.flushed)
    }

    /// Ends the stream in the protocol's way: the last status update, CopyDone, then everything up to the server's
    /// ReadyForQuery is read and dropped, for at most `within`. The server has taken the last update when this is `Ok`.
    pub fn finish(mut self, within: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + within;
        self.flush();
        if let Some((status, now)) = self.pending.take() {
            self.channel.queue(&status.encode(now));
        }
        self.channel.queue(COPY_DONE);
        loop {
            while let Some(Frame { size, body }) = self.peek()? {
                let ended = matches!(body, Body::ReadyForQuery);
                self.consume(size);
                if ended {
                    self.channel.queue(TERMINATE);
                    self.channel.flush();
                    return Ok(());
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::QueryTimeout(within));
            }
            self.fill(left)?;
        }
    }

    /// Bytes of memory that the read buffer takes: 1 MiB, and more only while a larger frame is in it.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.input.capacity()
    }
}
