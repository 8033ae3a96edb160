//! The snapshot that a new slot exports, and the connections that read tables in it.

use super::chunk::range;
use super::shape::Shape;
use super::tables::Tables;
use crate::error::Error;
use crate::source::Source;
use relay_core::Lsn;
use relay_core::session::{Chunk, Exported, Tick};
use relay_pgwire::{Answer, Connection, Rows, quote_literal};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A new slot, and the connection that keeps its snapshot.
#[derive(Debug)]
pub struct ExportedSlot {
    /// As the session takes it.
    pub exported: Exported,
    exporter: Connection,
    name: String,
}

/// Tables listed and locked in an exported snapshot.
#[derive(Debug)]
pub struct Exporting {
    /// The tables.
    pub tables: Tables,
    /// How their rows look.
    pub shapes: HashMap<String, Arc<Shape>>,
    /// Connections that are in the snapshot.
    pub readers: Vec<ExportReader>,
    /// Keeps the tables as they are.
    #[expect(dead_code, reason = "held until the export ends")]
    lock: Connection,
}

/// One connection in the snapshot; the next chunk is asked for before the last one is read.
#[derive(Debug)]
pub struct ExportReader {
    rows: Rows,
    chunks: VecDeque<Chunk>,
}

/// What stands at the head of a reader.
#[derive(Debug)]
pub enum ReaderHead<'a> {
    /// A row: its line, and whether it is the last of its chunk.
    Row(&'a [u8], bool),
    /// The chunk is read to its end.
    End,
    /// Nothing has come yet.
    Pending,
    /// Nothing was asked for.
    Idle,
}

/// Chunks that one reader has before it at most: one being read, one on its way.
const CHUNKS_MAX: usize = 2;

// === impl Source ===

impl Source {
    /// Creates the slot and keeps its snapshot; `None` when the slot is there already. Waits for every transaction that is open; `pid` is
    /// told the backend that waits.
    ///
    /// # Errors
    /// When the role may not, or no slot is free.
    pub fn create_slot_for_snapshot(&self, pid: impl FnOnce(i32)) -> Result<Option<ExportedSlot>, Error> {
        const WHAT: &str = "CREATE_REPLICATION_SLOT";
        let mut exporter = self.connect_replication()?;
        pid(exporter.backend_pid());
        exporter.set_query_timeout(None);
        exporter.query("SET idle_in_transaction_session_timeout = 0")?;
        exporter.query("SET statement_timeout = 0")?;
        let rows = match exporter.query(&self.create_slot_command(&exporter, true)) {
            Ok(rows) => rows,
            // Two first starts at once: go on as if it had been there.
            Err(error) if error.sqlstate() == Some("42710") => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let slot = rows.first().and_then(|row| Some((row.get(1)?.parse::<Lsn>().ok()?, row.get(2)?.to_owned())));
        let (consistent, name) = slot.ok_or(Error::Answer { query: WHAT })?;
        let mut reader = self.connect_in(&name)?;
        let rows = reader.query("SELECT pg_current_snapshot(), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")?;
        let tick = rows.first().and_then(|row| {
            Some(Tick { snapshot: row.get(0)?.parse().ok()?, wal_end: consistent, time_us: row.get(1)?.parse().ok()? })
        });
        let tick = tick.ok_or(Error::Answer { query: "the exported snapshot" })?;
        Ok(Some(ExportedSlot { exported: Exported { tick, consistent }, exporter, name }))
    }

    fn connect_in(&self, snapshot: &str) -> Result<Connection, Error> {
        let mut connection = self.connect_snapshot()?;
        connection.query(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            quote_literal(snapshot)
        ))?;
        Ok(connection)
    }
}

// === impl ExportedSlot ===

impl ExportedSlot {
    /// Lists the tables as the snapshot has them, sees to it that they stay so, and connects the readers.
    ///
    /// # Errors
    /// As [`Source::list_captured`], and when the snapshot is gone.
    pub fn begin(&self, source: &Source, wanted: &dyn Fn(&str) -> bool, threads: usize) -> Result<Exporting, Error> {
        debug_assert!(!self.exporter.is_broken());
        let mut lock = source.connect_in(&self.name)?;
        lock.query("SET LOCAL lock_timeout = '30s'")?;
        let mut tables = source.list_captured(&mut lock, &[], wanted, true)?;
        let mut shapes = HashMap::new();
        for (name, found) in &mut tables.0 {
            // Locked by now: a file that is another one than the snapshot knows is of rows that it does not see.
            let rows = lock.query(&format!("SELECT pg_relation_filenode({})", found.leaf))?;
            let file = rows.first().and_then(|row| row.get(0)?.parse::<u32>().ok());
            found.listed.is_rewritten |= found.listed.file != 0 && file != Some(found.listed.file);
            found.listed.file = if found.listed.file == 0 { 0 } else { file.unwrap_or(found.listed.file) };
            if let Some(shape) = Shape::read(&mut lock, found, &source.config().publication, None)? {
                shapes.insert(name.clone(), shape);
            }
        }
        let count = threads.min(tables.0.len().max(1) * 64).max(1);
        let readers = (0..count).map(|_| self.reader(source, &tables)).collect::<Result<_, Error>>()?;
        Ok(Exporting { readers, tables, shapes, lock })
    }

    /// A reader with every table locked. One that came to a table later would stand behind whoever wants to change it, who waits for our
    /// other connections: the server sees no deadlock there. Whoever is in the way now waits for us, too, so there is nothing to wait for.
    fn reader(&self, source: &Source, tables: &Tables) -> Result<ExportReader, Error> {
        let mut connection = source.connect_in(&self.name)?;
        let names: Vec<String> = tables.0.values().map(|found| format!("ONLY {}", found.quoted)).collect();
        if !names.is_empty() {
            connection.query(&format!("LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT", names.join(", ")))?;
        }
        Ok(ExportReader { rows: connection.into_rows(), chunks: VecDeque::new() })
    }

    /// The snapshot's name, for the log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

// === impl Exporting ===

impl Exporting {
    /// Sends the question for a chunk of one of these tables to a reader.
    ///
    /// # Errors
    /// When its connection is gone.
    pub fn ask(&mut self, reader: usize, tables: &Tables, chunk: Chunk) -> Result<(), Error> {
        let (Some(found), Some(shape)) = (tables.0.get(&*chunk.table), self.shapes.get(&*chunk.table)) else {
            return Err(Error::Altered(chunk.table.to_string()));
        };
        let Some(reader) = self.readers.get_mut(reader) else { return Ok(()) };
        let range = range(&chunk);
        let conditions: Vec<&str> = range.as_deref().into_iter().collect();
        reader.rows.ask(&shape.copy(found, false, &conditions))?;
        reader.chunks.push_back(chunk);
        Ok(())
    }
}

// === impl ExportReader ===

impl ExportReader {
    /// Whether another chunk may be asked for.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.chunks.len() < CHUNKS_MAX
    }

    /// The chunk whose rows stand at the head.
    #[must_use]
    pub fn chunk(&self) -> Option<&Chunk> {
        self.chunks.front()
    }

    /// What stands at the head.
    ///
    /// # Errors
    /// What the server says, or when the connection is gone.
    #[inline]
    pub fn head(&mut self) -> Result<ReaderHead<'_>, Error> {
        if self.chunks.is_empty() {
            return Ok(ReaderHead::Idle);
        }
        let is_last = match self.rows.peek()? {
            Some(Answer::Line(_)) => self.rows.is_last_line(),
            Some(Answer::Complete(_)) => return Ok(ReaderHead::End),
            // Between the answers of two questions.
            Some(Answer::Row(_) | Answer::Idle) | None => return Ok(ReaderHead::Pending),
        };
        let Some(is_last) = is_last else { return Ok(ReaderHead::Pending) };
        Ok(match self.rows.peek()? {
            Some(Answer::Line(line)) => ReaderHead::Row(line, is_last),
            _ => ReaderHead::Pending,
        })
    }

    /// The row that stands at the head, and its chunk.
    ///
    /// # Errors
    /// As [`ExportReader::head`].
    #[inline]
    pub fn row(&mut self) -> Result<Option<(&Chunk, &[u8])>, Error> {
        let Some(chunk) = self.chunks.front() else { return Ok(None) };
        Ok(match self.rows.peek()? {
            Some(Answer::Line(line)) => Some((chunk, line)),
            _ => None,
        })
    }

    /// Moves past the row shown last.
    #[inline]
    pub fn consume(&mut self) {
        self.rows.consume();
    }

    /// Moves past the chunk's end, which was shown last.
    pub fn end_chunk(&mut self) -> Option<Chunk> {
        self.rows.consume();
        self.chunks.pop_front()
    }

    /// Reads once, waiting at most so long; bytes read.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn fill(&mut self, wait: Duration) -> Result<usize, Error> {
        Ok(self.rows.fill(wait)?)
    }
}
