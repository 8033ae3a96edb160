//! Whole messages over a channel, with deadlines: the conversation before copy-both.

use std::time::Instant;

use crate::buffer::ReadBuffer;
use crate::channel::Channel;
use crate::error::Error;
use crate::message::{HEADER, Message, announced};

/// A channel and what was read from it ahead.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) channel: Channel,
    pub(crate) input: ReadBuffer,
    /// Size of the message handed out last, consumed before the next.
    handed_out: usize,
}

/// Enough for the whole start-up; a walsender's stream gets a larger one later.
const INPUT_BYTES: usize = 16 * 1024;

// === impl Wire ===

impl Wire {
    pub(crate) fn new(channel: Channel) -> Self {
        Wire { channel, input: ReadBuffer::new(INPUT_BYTES), handed_out: 0 }
    }

    /// Sends `bytes`, waiting for room until `deadline`; `false` when that came first.
    pub(crate) fn send(&mut self, bytes: &[u8], deadline: Option<Instant>) -> Result<bool, Error> {
        self.channel.queue(bytes);
        loop {
            self.channel.flush();
            if self.channel.write_failed() || !self.channel.is_blocked() {
                // After a failed write the next read tells why.
                return Ok(true);
            }
            let Some(left) = left(deadline) else { return Ok(false) };
            let ready = self.channel.wait(left)?;
            if ready.read && !ready.write {
                // A server that does not read because it waits for us to read first; rare, and never worth a buffer here.
                std::thread::sleep(left.min(std::time::Duration::from_millis(1)));
            }
        }
    }

    /// The next message of at most `limit` body bytes; `None` when `deadline` comes first, and then nothing is lost.
    pub(crate) fn message(&mut self, limit: usize, deadline: Option<Instant>) -> Result<Option<Message<'_>>, Error> {
        self.release();
        let (tag, size) = loop {
            let needed = match announced(self.input.filled())? {
                Some((tag, length)) if length > limit => return Err(Error::MessageTooLong { tag, length, limit }),
                Some((tag, length)) if self.input.len() >= HEADER + length => break (tag, HEADER + length),
                Some((_, length)) => HEADER + length,
                None => HEADER,
            };
            self.channel.flush();
            let received = self.channel.read(self.input.room(needed))?;
            self.input.advance(received.bytes);
            if received.closed {
                return Err(Error::Closed);
            }
            if received.bytes > 0 {
                continue;
            }
            let Some(left) = left(deadline) else { return Ok(None) };
            self.channel.wait(left)?;
        };
        self.handed_out = size;
        let body = self.input.filled().get(HEADER..size).unwrap_or_default();
        Ok(Some(Message { tag, body }))
    }

    /// Consumes the message handed out last.
    pub(crate) fn release(&mut self) {
        self.input.consume(std::mem::take(&mut self.handed_out));
    }
}

/// Time until `deadline`; `None` when it has passed. No deadline is a long time.
fn left(deadline: Option<Instant>) -> Option<std::time::Duration> {
    match deadline {
        None => Some(std::time::Duration::from_secs(3600)),
        Some(deadline) => Some(deadline.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero()),
    }
}
