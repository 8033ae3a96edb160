//! Simple queries: SQL in, rows of text out; the connection stays usable after an error of the server.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relay_core::Oid;

use crate::connect::Connection;
use crate::copy_both::CopyBoth;
use crate::error::Error;
use crate::message::{Fields, Message, Truncated};

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_oid: Oid,
    /// Type modifier, -1 for none.
    pub type_modifier: i32,
}

/// A row of text values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    columns: Arc<[Column]>,
    values: Vec<Option<String>>,
}

/// A row still in the read buffer.
#[derive(Debug)]
pub struct RawRow<'a> {
    columns: &'a Arc<[Column]>,
    body: &'a [u8],
    values: &'a [Option<Range<usize>>],
}

/// What running a statement gave, besides rows.
#[derive(Debug, Default)]
struct Outcome {
    /// Rows that the last statement touched.
    affected: u64,
    copy_both: bool,
}

// === impl Row ===

impl Row {
    /// The text in column `index`; `None` for NULL, and for a column that is not there.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        self.values.get(index)?.as_deref()
    }

    /// The text in the first column of that name; `None` for NULL, and for a column that is not there.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&str> {
        self.get(self.columns.iter().position(|column| column.name == name)?)
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The values.
    #[must_use]
    pub fn values(&self) -> &[Option<String>] {
        &self.values
    }

    /// The values, owned.
    #[must_use]
    pub fn into_values(self) -> Vec<Option<String>> {
        self.values
    }
}

// === impl RawRow ===

impl RawRow<'_> {
    /// The columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        self.columns
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it is a row of no columns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The bytes in column `index`; `None` for NULL, and for a column that is not there.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.body.get(self.values.get(index)?.clone()?)
    }

    fn to_row(&self) -> Result<Row, Error> {
        let mut values = Vec::with_capacity(self.values.len());
        for index in 0..self.values.len() {
            let text = self.get(index).map(std::str::from_utf8).transpose().map_err(|_| Error::NotUtf8 {
                column: self.columns.get(index).map_or_else(String::new, |column| column.name.clone()),
            })?;
            values.push(text.map(str::to_owned));
        }
        Ok(Row { columns: Arc::clone(self.columns), values })
    }
}

// === impl Connection: statements ===

impl Connection {
    /// Runs SQL (or a replication command on a replication connection) and gives the rows of all its statements.
    ///
    /// An ERROR of the server is the error, and the connection can be used again; after any other error it cannot.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Row>, Error> {
        let (mut rows, mut failed) = (Vec::new(), None);
        self.query_each(sql, |row| collect(row, &mut rows, &mut failed))?;
        failed.map_or(Ok(rows), Err)
    }

    /// As [`Connection::query`], but shows each row where it was received, so that memory holds no more than one.
    pub fn query_each(&mut self, sql: &str, mut each: impl FnMut(&RawRow<'_>)) -> Result<(), Error> {
        let outcome = self.run(sql, &mut each, None)?;
        self.refuse_stream(&outcome)
    }

    /// As [`Connection::query`], for commands that may wait long: each time that `every` passes without an answer, `watch`
    /// is told for how long it has been, and says whether to go on. When it does not, the connection is unusable.
    pub fn query_watched(
        &mut self,
        sql: &str,
        every: Duration,
        mut watch: impl FnMut(Duration) -> bool,
    ) -> Result<Vec<Row>, Error> {
        let (mut rows, mut failed) = (Vec::new(), None);
        let outcome = self.run(sql, &mut |row| collect(row, &mut rows, &mut failed), Some((every, &mut watch)))?;
        self.refuse_stream(&outcome)?;
        failed.map_or(Ok(rows), Err)
    }

    /// Runs SQL and drops its rows; the number of rows that the last statement touched.
    pub fn execute(&mut self, sql: &str) -> Result<u64, Error> {
        let outcome = self.run(sql, &mut |_| {}, None)?;
        self.refuse_stream(&outcome)?;
        Ok(outcome.affected)
    }

    /// Has the server parse and analyse one statement, and runs nothing of it. A text that holds several statements is an error.
    pub fn analyse(&mut self, sql: &str) -> Result<(), Error> {
        let outcome = self.exchange(&parse_messages(sql)?, &mut |_| {}, None)?;
        self.refuse_stream(&outcome)
    }

    /// How long a statement may take to answer, and again between any two of its rows; `None` is for ever. 60 s at first.
    pub fn set_query_timeout(&mut self, limit: Option<Duration>) {
        self.query_timeout = limit;
    }

    /// Sends `START_REPLICATION …` and turns the connection into its stream.
    pub fn start_replication(mut self, sql: &str) -> Result<CopyBoth, Error> {
        let outcome = self.run(sql, &mut |_| {}, None)?;
        if !outcome.copy_both {
            return Err(Error::protocol("the server did not start to stream"));
        }
        Ok(self.into_copy_both())
    }

    /// START_REPLICATION where only rows can be taken.
    fn refuse_stream(&mut self, outcome: &Outcome) -> Result<(), Error> {
        if outcome.copy_both {
            self.broken = true;
            return Err(Error::UnexpectedMessage { tag: b'W', during: "running a query" });
        }
        Ok(())
    }

    fn run(
        &mut self,
        sql: &str,
        each: &mut dyn FnMut(&RawRow<'_>),
        watch: Option<(Duration, &mut dyn FnMut(Duration) -> bool)>,
    ) -> Result<Outcome, Error> {
        self.exchange(&query_message(sql)?, each, watch)
    }

    fn exchange(
        &mut self,
        packet: &[u8],
        each: &mut dyn FnMut(&RawRow<'_>),
        mut watch: Option<(Duration, &mut dyn FnMut(Duration) -> bool)>,
    ) -> Result<Outcome, Error> {
        if self.broken {
            return Err(Error::Closed);
        }
        let began = Instant::now();
        // Until the answer has been read whole nobody knows where in it we stand.
        self.broken = true;
        let mut answer = Answer::default();
        let mut deadline = self.deadline();
        if !self.wire.send(packet, deadline)? {
            return Err(Error::QueryTimeout(began.elapsed()));
        }
        loop {
            let look = watch.as_ref().map(|(every, _)| Instant::now() + *every);
            let until = [deadline, look].into_iter().flatten().min();
            let Some(message) = self.wire.message(self.max_message, until)? else {
                let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                if !late && watch.as_mut().is_some_and(|(_, watch)| watch(began.elapsed())) {
                    continue;
                }
                return Err(Error::QueryTimeout(began.elapsed()));
            };
            deadline = self.query_timeout.map(|limit| Instant::now() + limit);
            match message.tag {
                b'N' => self.session.notice(message),
                b'S' => self.session.parameter(message)?,
                b'A' => self.notified = true,
                b'Z' => break,
                b'W' => {
                    answer.outcome.copy_both = true;
                    break;
                }
                // FATAL: the server closes after it and no ReadyForQuery comes.
                _ => answer.step(message, each)?,
            }
        }
        self.wire.release();
        self.broken = false;
        answer.error.map_or(Ok(answer.outcome), Err)
    }

    fn deadline(&self) -> Option<Instant> {
        self.query_timeout.map(|limit| Instant::now() + limit)
    }
}

/// A Query message.
pub(crate) fn query_message(sql: &str) -> Result<Vec<u8>, Error> {
    statement_message(b'Q', "", sql, "")
}

/// A Parse message of the unnamed statement without parameters, and a Sync.
fn parse_messages(sql: &str) -> Result<Vec<u8>, Error> {
    let mut packet = statement_message(b'P', "\0", sql, "\0\0")?;
    packet.extend(b"S\0\0\0\x04");
    Ok(packet)
}

/// A message that holds a statement, with what stands before and behind it.
fn statement_message(tag: u8, before: &str, sql: &str, behind: &str) -> Result<Vec<u8>, Error> {
    if sql.contains('\0') {
        return Err(Error::Unsendable("a statement holds a NUL byte"));
    }
    let size = 4 + before.len() + sql.len() + 1 + behind.len();
    let length = i32::try_from(size).map_err(|_| Error::Unsendable("a statement is longer than the protocol allows"))?;
    let mut packet = Vec::with_capacity(size + 6);
    packet.push(tag);
    packet.extend(length.to_be_bytes());
    for part in [before, sql, "\0", behind] {
        packet.extend_from_slice(part.as_bytes());
    }
    Ok(packet)
}

/// Adds a row, or the first reason why one cannot be text.
fn collect(row: &RawRow<'_>, rows: &mut Vec<Row>, failed: &mut Option<Error>) {
    match row.to_row() {
        Ok(row) if failed.is_none() => rows.push(row),
        Ok(_) => {}
        Err(error) => *failed = failed.take().or(Some(error)),
    }
}

/// An answer as it comes in.
#[derive(Default)]
struct Answer {
    columns: Arc<[Column]>,
    values: Vec<Option<Range<usize>>>,
    outcome: Outcome,
    error: Option<Error>,
}

// === impl Answer ===

impl Answer {
    fn step(&mut self, message: Message<'_>, each: &mut dyn FnMut(&RawRow<'_>)) -> Result<(), Error> {
        match message.tag {
            b'T' => {
                self.columns = columns(message.fields()).map_err(|Truncated| Error::protocol("RowDescription is too short"))?
            }
            b'D' => {
                self.values.clear();
                data_row(message.body, &mut self.values).map_err(|Truncated| Error::protocol("DataRow is too short"))?;
                each(&RawRow { columns: &self.columns, body: message.body, values: &self.values });
            }
            b'C' => {
                let tag = message.fields().cstr().unwrap_or_default();
                let number = tag.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
                self.outcome.affected = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
            }
            b'E' => {
                let error = Error::from_response(message.body);
                if !matches!(&error, Error::Server(error) if !error.is_fatal()) {
                    return Err(error);
                }
                self.error = Some(error);
            }
            // EmptyQueryResponse, ParseComplete.
            b'I' | b'1' => {}
            tag => return Err(Error::UnexpectedMessage { tag, during: "running a query" }),
        }
        Ok(())
    }
}

/// RowDescription: name, table, attribute, type, type length, type modifier and format of each column.
pub(crate) fn columns(mut fields: Fields<'_>) -> Result<Arc<[Column]>, Truncated> {
    let count = fields.u16()?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let name = String::from_utf8_lossy(fields.cstr()?).into_owned();
        fields.bytes(4 + 2)?;
        let type_oid = Oid(fields.u32()?);
        fields.bytes(2)?;
        let type_modifier = fields.i32()?;
        fields.bytes(2)?;
        columns.push(Column { name, type_oid, type_modifier });
    }
    Ok(columns.into())
}

/// DataRow: where in `body` each value stands.
fn data_row(body: &[u8], values: &mut Vec<Option<Range<usize>>>) -> Result<(), Truncated> {
    let mut fields = Fields::new(body);
    for _ in 0..fields.u16()? {
        let Ok(length) = usize::try_from(fields.i32()?) else {
            values.push(None);
            continue;
        };
        let start = body.len() - fields.rest().len();
        fields.bytes(length)?;
        values.push(Some(start..start + length));
    }
    Ok(())
}

/// Reads an answer out of arbitrary messages.
pub(crate) fn fuzz_answer<'a>(messages: impl Iterator<Item = Message<'a>>) {
    let mut answer = Answer::default();
    for message in messages {
        let mut touched = 0;
        let step = answer.step(message, &mut |row| {
            touched += (0..=row.len()).filter_map(|index| row.get(index)).map(<[u8]>::len).sum::<usize>();
            let _ = row.to_row();
        });
        assert!(touched <= message.body.len());
        if step.is_err() {
            return;
        }
    }
}
