//! Chunks between watermarks: the marks in the log, and the rows read between them, kept until the second mark comes by.

use super::shape::Shape;
use super::tables::{Found, Tables};
use super::{WATERMARK_PREFIX, refused};
use crate::error::Error;
use crate::source::Source;
use relay_core::Snapshot;
use relay_core::checkpoint::Tid;
use relay_core::session::{Chunk, ChunkRead, Look};
use relay_pgwire::{Answer, Connection, Rows, quote_literal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Rows of a chunk: lines of COPY with each row's place in front, one behind the other.
#[derive(Debug, Default)]
pub struct ChunkRows {
    bytes: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
}

/// Where a chunk's reader lays the shape of its rows, before its first watermark is in the log: whoever sees that finds the shape there.
#[derive(Clone, Debug, Default)]
pub struct Desk(Arc<Mutex<Option<Laid>>>);

type Laid = (u64, Arc<Shape>);

/// The connections that read chunks between watermarks.
#[derive(Debug)]
pub struct Chunker {
    source: Source,
    control: Connection,
    reader: Option<Rows>,
    shape: Option<(Arc<str>, Arc<Shape>)>,
}

/// Bytes of a chunk at most, but for its last row.
const BYTES_MAX: usize = 16 << 20;

// === impl ChunkRows ===

impl ChunkRows {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Place and values of a row.
    #[must_use]
    pub fn row(&self, at: usize) -> Option<(Tid, &[u8])> {
        let end = *self.ends.get(at)?;
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let line = self.bytes.get(start..end)?;
        let (place, values) = match memchr::memchr(b'\t', line) {
            Some(tab) => (&line[..tab], &line[tab + 1..]),
            None => (line.strip_suffix(b"\n").unwrap_or(line), &[][..]),
        };
        Some((std::str::from_utf8(place).ok()?.parse().ok()?, values))
    }

    fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
    }
}

// === impl Desk ===

impl Desk {
    fn lay(&self, chunk: u64, shape: Arc<Shape>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((chunk, shape));
    }

    /// The shape of that chunk's rows.
    #[must_use]
    pub fn shape(&self, chunk: u64) -> Option<Arc<Shape>> {
        let desk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        desk.as_ref().filter(|(number, _)| *number == chunk).map(|(_, shape)| Arc::clone(shape))
    }
}

// === impl Chunker ===

impl Source {
    /// Connects for chunks.
    ///
    /// # Errors
    /// As [`Source::connect`].
    pub fn chunker(&self) -> Result<Chunker, Error> {
        let control = self.connect_snapshot()?;
        Ok(Chunker { source: self.clone(), control, reader: None, shape: None })
    }
}

impl Chunker {
    /// Lists the tables.
    ///
    /// # Errors
    /// As [`Source::find_captured`].
    pub fn list(&mut self, names: &[String], wanted: &dyn Fn(&str) -> bool) -> Result<Tables, Error> {
        self.source.list_captured(&mut self.control, names, wanted, false)
    }

    /// What a query sees now.
    ///
    /// # Errors
    /// What the server says; a standby gives out no transaction id.
    pub fn look(&mut self, takes_id: bool) -> Result<Look, Error> {
        const WHAT: &str = "the snapshot";
        let id = if takes_id { "pg_current_xact_id()" } else { "NULL" };
        let rows = self.control.query(&format!("SELECT pg_current_snapshot(), {id}"))?;
        let look = rows.first().and_then(|row| {
            let id = row.get(1).map(str::parse).transpose().ok()?;
            Some(Look { snapshot: row.get(0)?.parse().ok()?, id })
        });
        look.ok_or(Error::Answer { query: WHAT })
    }

    /// Sets a mark in the log.
    ///
    /// # Errors
    /// What the server says.
    pub fn mark(&mut self, text: &str) -> Result<(), Error> {
        let prefix = quote_literal(WATERMARK_PREFIX);
        self.control.query(&format!("SELECT pg_logical_emit_message(true, {prefix}, {})", quote_literal(text)))?;
        Ok(())
    }

    /// Lays the shape of the chunk's rows on the desk, sets its first mark, and then reads it.
    ///
    /// # Errors
    /// When the server cannot be reached, the table may not be read, or its shape changes just now.
    pub fn read(&mut self, chunk: &Chunk, found: &Found, mark: &str, desk: &Desk) -> Result<(ChunkRead, ChunkRows), Error> {
        let gone = Ok((ChunkRead::Gone, ChunkRows::default()));
        let source = self.source.clone();
        let publication = source.config().publication.as_str();
        let known = self.shape.as_ref().filter(|(table, _)| *table == chunk.table).map(|(_, shape)| shape);
        let Some(shape) = Shape::read(&mut self.control, found, publication, known)? else { return gone };
        self.shape = Some((Arc::clone(&chunk.table), Arc::clone(&shape)));
        desk.lay(chunk.number, Arc::clone(&shape));
        self.mark(mark)?;
        let read = match self.read_rows(chunk, found, &shape) {
            Ok(read) => read,
            Err(Error::Wire(error)) => {
                self.reader = None;
                // The table is gone or new, or it cannot be read.
                if error.sqlstate() != Some("42P01") {
                    return Err(refused(&error, &chunk.table, self.source.role()).unwrap_or(error.into()));
                }
                None
            }
            Err(error) => return Err(error),
        };
        // A file is never used again, so the one found now is the one that was read.
        let rows = self.control.query(&format!(
            "SELECT pg_relation_filenode(oid), pg_relation_size(oid) / current_setting('block_size')::int FROM pg_class \
             WHERE oid = {}",
            found.leaf
        ))?;
        let number = |at: usize| rows.first().and_then(|row| row.get(at)?.parse::<u32>().ok());
        let (Some(file), Some(blocks)) = (number(0), number(1)) else { return gone };
        if chunk.file != 0 && file != chunk.file {
            return Ok((ChunkRead::Rewritten { file, blocks }, ChunkRows::default()));
        }
        let Some((end, snapshot, rows)) = read else { return gone };
        if !shape.is_still(&mut self.control, found, publication)? {
            return Err(Error::Altered(chunk.table.to_string()));
        }
        Ok((ChunkRead::Rows { end, rows: rows.len() as u64, snapshot }, rows))
    }

    fn read_rows(&mut self, chunk: &Chunk, found: &Found, shape: &Shape) -> Result<Option<(Tid, Snapshot, ChunkRows)>, Error> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.source.connect_snapshot()?.into_rows(),
        };
        let range = range(chunk);
        let conditions: Vec<&str> = range.as_deref().into_iter().chain(chunk.filter.as_deref()).collect();
        reader.ask(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_current_snapshot(); {}; COMMIT",
            shape.copy(found, true, &conditions)
        ))?;
        let mut rows = ChunkRows::default();
        let mut snapshot: Option<Snapshot> = None;
        let unread = Error::Answer { query: "the rows of a chunk" };
        loop {
            match reader.peek()? {
                Some(Answer::Row(body)) => {
                    // One value of text: its length in four bytes, behind the number of values in two.
                    let text = body.get(6..).and_then(|text| std::str::from_utf8(text).ok());
                    snapshot = text.and_then(|text| text.parse().ok());
                }
                Some(Answer::Line(line)) => {
                    if rows.bytes.len() + line.len() > BYTES_MAX && !rows.is_empty() && chunk.file != 0 {
                        // What is still to come is given up together with the connection.
                        let Some((last, _)) = rows.row(rows.len() - 1) else { return Err(unread) };
                        return snapshot.map(|snapshot| Some((last.next(), snapshot, rows))).ok_or(unread);
                    }
                    rows.push(line);
                }
                Some(Answer::Complete(_)) => {}
                Some(Answer::Idle) => break,
                None => {
                    reader.fill(Duration::from_secs(1))?;
                    continue;
                }
            }
            reader.consume();
        }
        self.reader = Some(reader);
        snapshot.map(|snapshot| Some((chunk.to, snapshot, rows))).ok_or(unread)
    }
}

/// SQL of the chunk's places; `None` where rows have none to go by.
pub(super) fn range(chunk: &Chunk) -> Option<String> {
    (chunk.file != 0).then(|| format!("ctid >= '{}'::tid AND ctid < '{}'::tid", chunk.from, chunk.to))
}
