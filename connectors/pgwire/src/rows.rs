//! Rows taken one by one where they were received: statements go out without waiting, answers are peeked at and consumed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use relay_core::Cell;

use crate::connect::Connection;
use crate::error::Error;
use crate::message::{Fields, HEADER, Message, Truncated, announced};
use crate::query::{Column, columns, query_message};

/// A connection whose answers are read at the caller's pace: while nobody reads, TCP holds the server back.
///
/// The loop is: `ask`, then `peek` and `consume` until there is no whole message, and `fill`. Several statements may be under way; their
/// answers come in order. After an error the connection is of no more use.
#[derive(Debug)]
pub struct Rows {
    connection: Connection,
    columns: Arc<[Column]>,
    /// Statements not yet answered whole.
    under_way: usize,
    /// Size of the message shown last.
    shown: usize,
}

/// What stands at the head of the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A row: the DataRow's body, for [`cells`].
    Row(&'a [u8]),
    /// A line of COPY … TO STDOUT, with its line feed; the server sends each row as one.
    Line(&'a [u8]),
    /// A command is done and touched or returned so many rows.
    Complete(u64),
    /// Everything asked was answered.
    Idle,
}

/// The read buffer's ordinary size.
const INPUT_BYTES: usize = 1 << 20;

// === impl Connection ===

impl Connection {
    /// From here on answers are taken row by row.
    #[must_use]
    pub fn into_rows(mut self) -> Rows {
        self.wire.input.set_base(INPUT_BYTES);
        Rows { connection: self, columns: Arc::default(), under_way: 0, shown: 0 }
    }

    /// Waits at most so long for a notification (LISTEN); whether one came, now or since the last call.
    ///
    /// # Errors
    /// When the connection is gone, or the server sends what nobody asked for.
    pub fn wait_notified(&mut self, limit: Duration) -> Result<bool, Error> {
        let deadline = Instant::now() + limit;
        while !self.notified {
            let Some(message) = self.wire.message(self.max_message, Some(deadline))? else { break };
            match message.tag {
                b'A' => self.notified = true,
                b'N' => self.session.notice(message),
                b'S' => self.session.parameter(message)?,
                b'E' => return Err(Error::from_response(message.body)),
                tag => return Err(Error::UnexpectedMessage { tag, during: "waiting for notifications" }),
            }
        }
        self.wire.release();
        Ok(std::mem::take(&mut self.notified))
    }
}

// === impl Rows ===

impl Rows {
    /// Sends statements; a cursor's FETCH may be sent before the last one was read.
    ///
    /// # Errors
    /// A statement with a NUL byte, or a connection that takes nothing for a minute.
    pub fn ask(&mut self, sql: &str) -> Result<(), Error> {
        let packet = query_message(sql)?;
        let limit = Duration::from_secs(60);
        if !self.connection.wire.send(&packet, Some(Instant::now() + limit))? {
            return Err(Error::QueryTimeout(limit));
        }
        self.under_way += 1;
        Ok(())
    }

    /// Process id of the server process.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.connection.backend_pid()
    }

    /// Shape of the rows now shown.
    #[must_use]
    pub fn columns(&self) -> &Arc<[Column]> {
        &self.columns
    }

    /// Messages up to this size are taken.
    pub fn set_max_message(&mut self, bytes: usize) {
        self.connection.max_message = bytes;
    }

    /// Reads once, waiting at most so long; bytes read.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn fill(&mut self, wait: Duration) -> Result<usize, Error> {
        let wire = &mut self.connection.wire;
        wire.channel.flush();
        if !wait.is_zero() && !wire.channel.has_read_ahead() && !wire.channel.wait(wait)?.read {
            return Ok(0);
        }
        let needed = match announced(wire.input.filled())? {
            Some((tag, length)) if length > self.connection.max_message => {
                return Err(Error::MessageTooLong { tag, length, limit: self.connection.max_message });
            }
            // And the head of what follows: whether a line is the last one is told by that.
            Some((_, length)) => HEADER + length + HEADER,
            None => HEADER,
        };
        let room = wire.input.room(needed);
        if room.is_empty() {
            return Ok(0);
        }
        let received = wire.channel.read(room)?;
        wire.input.advance(received.bytes);
        if received.closed || (received.bytes == 0 && wire.channel.write_failed()) {
            return Err(Error::Closed);
        }
        Ok(received.bytes)
    }

    /// The head of the answers, if it is there whole; it stays until it is consumed.
    ///
    /// # Errors
    /// What the server says, or what is not its protocol.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Answer<'_>>, Error> {
        loop {
            let Some((tag, length)) = announced(self.connection.wire.input.filled())? else {
                return Ok((self.under_way == 0).then_some(Answer::Idle));
            };
            let size = HEADER + length;
            if self.connection.wire.input.len() < size {
                return Ok(None);
            }
            if tag == b'D' {
                self.shown = size;
                return Ok(Some(Answer::Row(self.connection.wire.input.filled().get(HEADER..size).unwrap_or_default())));
            }
            if tag == b'd' {
                self.shown = size;
                return Ok(Some(Answer::Line(self.connection.wire.input.filled().get(HEADER..size).unwrap_or_default())));
            }
            if let Some(rows) = self.other(tag, size)? {
                self.shown = size;
                return Ok(Some(Answer::Complete(rows)));
            }
            self.connection.wire.input.consume(size);
        }
    }

    /// Whether the line shown last is the last one of its COPY; `None` as long as what follows has not come.
    #[inline]
    #[must_use]
    pub fn is_last_line(&self) -> Option<bool> {
        self.connection.wire.input.filled().get(self.shown).map(|tag| *tag != b'd')
    }

    /// Moves past what was shown last.
    #[inline]
    pub fn consume(&mut self) {
        self.connection.wire.input.consume(std::mem::take(&mut self.shown));
    }

    /// Whatever is no row; the number of rows when a command is done.
    fn other(&mut self, tag: u8, size: usize) -> Result<Option<u64>, Error> {
        let body = self.connection.wire.input.filled().get(HEADER..size).unwrap_or_default();
        let message = Message { tag, body };
        match tag {
            b'T' => {
                let columns = columns(message.fields()).map_err(|Truncated| Error::protocol("RowDescription is too short"))?;
                if columns != self.columns {
                    self.columns = columns;
                }
            }
            b'C' => {
                let tag = message.fields().cstr().unwrap_or_default();
                let number = tag.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
                let rows = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok());
                return Ok(Some(rows.unwrap_or(0)));
            }
            b'Z' => self.under_way = self.under_way.saturating_sub(1),
            b'N' => self.connection.session.notice(message),
            b'S' => self.connection.session.parameter(message)?,
            b'E' => return Err(Error::from_response(message.body)),
            // CopyOutResponse and CopyDone: the lines tell.
            b'H' | b'c' => {}
            b'I' | b'A' => {}
            tag => return Err(Error::UnexpectedMessage { tag, during: "reading rows" }),
        }
        Ok(None)
    }
}

/// Finds the values of a DataRow's body.
///
/// # Errors
/// When the body ends before its values do.
#[inline]
pub fn cells(body: &[u8], cells: &mut Vec<Cell>) -> Result<(), Error> {
    cells.clear();
    let parse = |cells: &mut Vec<Cell>| -> Result<(), Truncated> {
        let mut fields = Fields::new(body);
        for _ in 0..fields.u16()? {
            let length = fields.i32()?;
            let Ok(len) = u32::try_from(length) else {
                cells.push(Cell::Null);
                continue;
            };
            let start = (body.len() - fields.rest().len()) as u32;
            fields.bytes(len as usize)?;
            cells.push(Cell::Text { start, len });
        }
        Ok(())
    };
    parse(cells).map_err(|Truncated| Error::protocol("DataRow is too short"))
}
